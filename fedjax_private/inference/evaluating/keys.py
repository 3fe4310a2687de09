"""Evaluation keys on the wire: half of their residues, and a seed for the other half.

In order: the public key, the key that relinearises products, one key for each rotation.
Key switching keys hold one pair (b, a) for each prime of the modulus.
"""

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.math.rings import Residues, Ring
from fedjax_private.encryption.openfhe.templates import Mould, UnexpectedLayoutError
from fedjax_private.encryption.workers import Workers
from fedjax_private.inference.evaluating.ckks import Ckks
from fedjax_private.inference.evaluating.expansion import (
    SEED_BYTES,
    fresh_seed,
    reseeded,
    uniform,
)

# OpenFHE's classes carry no type stubs; these names say which one is meant.
PublicKey = Any
SecretKey = Any
KeyPair = Any


def key_bytes(ring: Ring, rotations: int) -> int:
    """Bytes of a seed and all keys' residues."""
    return SEED_BYTES + ring.polynomial_bytes * (1 + ring.limbs * (1 + rotations))


@functools.lru_cache(maxsize=32)
def _order(dimension: int, exponent: int) -> npt.NDArray[np.intp]:
    """Where X -> X^exponent takes values at roots of unity from.

    OpenFHE keeps a polynomial as its values at w^(2 r(j) + 1), with w of order 2 N and
    r the reversal of the bits of j.
    """
    bits = dimension.bit_length() - 1
    places = np.arange(dimension)
    reversed_bits = np.zeros(dimension, np.int64)
    for bit in range(bits):
        reversed_bits |= (places >> bit & 1) << (bits - 1 - bit)
    # Reversal is its own inverse.
    turned = (2 * reversed_bits + 1) * exponent % (2 * dimension)
    return np.asarray(reversed_bits[(turned - 1) // 2])


def automorphism(polynomial: Residues, exponent: int) -> Residues:
    """p(X^exponent) of polynomials (..., N) in OpenFHE's order; `exponent` odd."""
    return polynomial[..., _order(polynomial.shape[-1], exponent % 2**62)]


def write_keys(
    ckks: Ckks, pair: KeyPair, rotations: tuple[int, ...], workers: Workers
) -> bytes:
    """The evaluation keys of a key pair, as bytes for `load_keys`."""
    context, ring = ckks.context, ckks.ring
    secret = ckks.secret_residues(pair.secretKey)
    moduli = np.array(ring.moduli, np.uint64)[:, None]
    seed = fresh_seed()
    public = ckks.public_mould.read(ckks.serialised(pair.publicKey))
    first = ring.pack(reseeded(ring, secret, public, uniform(seed, 0, ring))[None])

    def packed(number: int) -> bytes:
        """The key of the numbered rotation, or that of products, number 0."""
        # OpenFHE's own generators would also keep the keys, for the whole process.
        if number:
            index = context.FindAutomorphismIndex(rotations[number - 1])
            under = automorphism(secret, pow(index, -1, 2 * ring.dimension))
            keys = context.KeySwitchGen(pair.secretKey, ckks.secret_key(under))
        else:
            squared, under = ckks.secret_key(secret * secret % moduli), secret
            keys = context.KeySwitchGen(squared, pair.secretKey)
        data = ckks.serialised(keys)
        residues = Mould.of(data, ring, 2 * ring.limbs).read(data)
        digits = residues.reshape(2, ring.limbs, ring.limbs, ring.dimension)
        fixed = [
            reseeded(
                ring,
                under,
                np.stack([digits[1, digit], digits[0, digit]]),
                uniform(seed, 1 + number * ring.limbs + digit, ring),
            )
            for digit in range(ring.limbs)
        ]
        return ring.pack(np.stack(fixed))

    parts = workers.map(packed, 1 + len(rotations))
    return b"".join((seed, first, *parts))


class KeyRing:
    """One client's keys at a server, under a name of the server's own.

    OpenFHE keeps evaluation keys in maps of the whole process, by the name of the key
    that they belong to, and empties these as a whole only: one client a process.
    """

    def __init__(self, ckks: Ckks, rotations: tuple[int, ...]) -> None:
        self._ckks, self._rotations = ckks, rotations
        ckks.backend.check_process()
        pair = ckks.context.KeyGen()
        self.tag: str = pair.secretKey.GetKeyTag()
        ring, context = ckks.ring, ckks.context
        digits = 2 * ring.limbs
        made = context.KeySwitchGen(pair.secretKey, pair.secretKey)
        self._squares = Mould.of(ckks.serialised(made), ring, digits)
        self._public = Mould.of(ckks.serialised(pair.publicKey), ring, 2)
        _turn_mould(ckks)  # in this thread: it is made once

    def load(self, data: memoryview, workers: Workers) -> PublicKey:
        """Makes keys of checked length usable; returns the public key.

        Raises:
            WireError: if a residue is not below its prime.
        """
        ckks, ring = self._ckks, self._ckks.ring
        seed, body = bytes(data[:SEED_BYTES]), data[SEED_BYTES:]
        size = ring.polynomial_bytes

        def keys(number: int) -> Residues:
            start = size * (1 + number * ring.limbs)
            b = ring.unpack(body[start : start + size * ring.limbs])
            first = 1 + number * ring.limbs
            a = [uniform(seed, first + digit, ring) for digit in range(ring.limbs)]
            return np.concatenate([np.stack(a), b])

        # All is unpacked, and so checked, before OpenFHE gets any of it.
        binary = ckks.openfhe.BINARY

        def parsed(number: int) -> Any:
            if not number:
                data = self._squares.filled(keys(0))
                return ckks.openfhe.DeserializeEvalKeyString(data, binary)
            step = self._rotations[number - 1]
            index = ckks.context.FindAutomorphismIndex(step)
            mould, start = _turn_mould(ckks)
            data, end = mould.filled(keys(number)), start + 4
            data = data[:start] + index.to_bytes(4, "little") + data[end:]
            return ckks.openfhe.DeserializeEvalKeyMapString(data, binary)

        public = np.concatenate(
            [ring.unpack(body[:size]), uniform(seed, 0, ring)[None]]
        )
        squares, *turns = workers.map(parsed, 1 + len(self._rotations))
        ckks.context.InsertEvalMultKey([squares], self.tag)
        for turn in turns:
            ckks.context.InsertEvalAutomorphismKey(turn, self.tag)
        filled = self._public.filled(public)
        return ckks.openfhe.DeserializePublicKeyString(filled, binary)


def forget_keys(ckks: Ckks) -> None:
    """Frees every client's evaluation keys in this process."""
    ckks.openfhe.ClearEvalMultKeys()
    ckks.openfhe.CryptoContext.ClearEvalAutomorphismKeys()


@functools.lru_cache(maxsize=4)
def _turn_mould(ckks: Ckks) -> tuple[Mould, int]:
    """A map of one rotation's key, and where it holds the rotation's index.

    OpenFHE keeps two keys of nobody's for this, once in a process.
    """
    context, ring = ckks.context, ckks.ring
    indices = [context.FindAutomorphismIndex(step) for step in (1, 2)]
    # Of two keys: OpenFHE would add the second to the first one's map.
    made = [
        context.EvalAutomorphismKeyGen(context.KeyGen().secretKey, [index])
        for index in indices
    ]
    moulds = [Mould.of(ckks.serialised(map_), ring, 2 * ring.limbs) for map_ in made]
    # The two differ, residues apart, in the index only.
    heads = [mould.data[: mould.starts[0]] for mould in moulds]
    places = [i for i, (x, y) in enumerate(zip(*heads, strict=True)) if x != y]
    if places and all(
        int.from_bytes(head[places[0] : places[0] + 4], "little") == index
        for head, index in zip(heads, indices, strict=True)
    ):
        return moulds[0], places[0]
    raise UnexpectedLayoutError(
        "this version of OpenFHE serialises rotation keys otherwise than the tested "
        "ones do: install the version that pyproject.toml names."
    )
