"""Evaluation keys as bytes: half of their residues, and a seed for the other half.

The order is: the public key, the key that relinearises products, one key for each
rotation. Key switching keys hold one pair (b, a) for each prime of the modulus.
"""

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.errors import UnexpectedLayoutError
from fedjax_private.encryption.math.rings import Residues
from fedjax_private.encryption.openfhe.templates import Template
from fedjax_private.encryption.workers import Workers
from fedjax_private.inference.evaluating.ckks import Ckks
from fedjax_private.inference.evaluating.expansion import fresh_seed, reseeded, uniform
from fedjax_private.inference.planning.public import SEED_BYTES

# OpenFHE's classes carry no type stubs; these names say which one is meant.
PublicKey = Any
KeyPair = Any


@functools.lru_cache(maxsize=32)
def _order(dimension: int, exponent: int) -> npt.NDArray[np.intp]:
    """The permutation of values at roots of unity that X -> X^exponent amounts to.

    OpenFHE keeps a polynomial as its values at w^(2 r(j) + 1), with w of order 2 N and
    r the reversal of the bits of j.
    """
    bits = dimension.bit_length() - 1
    places = np.arange(dimension)
    reversed_bits = np.zeros(dimension, np.int64)
    for bit in range(bits):
        reversed_bits |= (places >> bit & 1) << (bits - 1 - bit)
    # Reversal is its own inverse.
    powers = (2 * reversed_bits + 1) * exponent % (2 * dimension)
    return np.asarray(reversed_bits[(powers - 1) // 2])


def automorphism(polynomial: Residues, exponent: int) -> Residues:
    """p(X^exponent) for polynomials p (..., N) in OpenFHE's order and odd exponents."""
    return polynomial[..., _order(polynomial.shape[-1], exponent % 2**62)]


def write_keys(
    ckks: Ckks, pair: KeyPair, rotations: tuple[int, ...], workers: Workers
) -> bytes:
    """The evaluation keys of a key pair, as bytes for `KeyRing.load`."""
    context, ring = ckks.context, ckks.ring
    secret = ckks.secret_residues(pair.secretKey)
    moduli = np.array(ring.moduli, np.uint64)[:, None]
    seed = fresh_seed()
    public = ckks.public_template.read(ckks.serialised(pair.publicKey))
    first = ring.pack(reseeded(ring, secret, public, uniform(seed, 0, ring))[None])

    def packed(number: int) -> bytes:
        """The key of products, number 0, or of the rotation of that number."""
        # OpenFHE's own generators would also keep the keys for the whole process.
        if number:
            index = context.FindAutomorphismIndex(rotations[number - 1])
            under = automorphism(secret, pow(index, -1, 2 * ring.dimension))
            keys = context.KeySwitchGen(pair.secretKey, ckks.secret_key(under))
        else:
            squared, under = ckks.secret_key(secret * secret % moduli), secret
            keys = context.KeySwitchGen(squared, pair.secretKey)
        data = ckks.serialised(keys)
        residues = Template.of(data, ring, 2 * ring.limbs).read(data)
        digits = residues.reshape(2, ring.limbs, ring.limbs, ring.dimension)
        expandable = [
            reseeded(
                ring,
                under,
                np.stack([digits[1, digit], digits[0, digit]]),
                uniform(seed, 1 + number * ring.limbs + digit, ring),
            )
            for digit in range(ring.limbs)
        ]
        return ring.pack(np.stack(expandable))

    parts = workers.map(packed, 1 + len(rotations))
    return b"".join((seed, first, *parts))


class KeyRing:
    """One client's evaluation keys at a server, under a tag of the server's.

    OpenFHE keeps evaluation keys in maps of the whole process, by the tag of the key
    that they belong to, and can only empty a whole map: one process serves one client.
    """

    def __init__(self, ckks: Ckks, rotations: tuple[int, ...]) -> None:
        self._ckks, self._rotations = ckks, rotations
        ckks.backend.check_process()
        pair = ckks.context.KeyGen()
        self.tag: str = pair.secretKey.GetKeyTag()
        ring, context = ckks.ring, ckks.context
        digits = 2 * ring.limbs
        key = context.KeySwitchGen(pair.secretKey, pair.secretKey)
        self._squares = Template.of(ckks.serialised(key), ring, digits)
        self._public = Template.of(ckks.serialised(pair.publicKey), ring, 2)
        _rotation_template(ckks)  # made here once, not in a worker thread

    def load(self, data: memoryview, workers: Workers) -> PublicKey:
        """Loads the keys into OpenFHE, and returns the public key.

        Args:
            data: what `write_keys` returns, its length checked.
            workers: threads.

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

        # Unpacking checks residues, so OpenFHE gets none that are out of range.
        binary = ckks.openfhe.BINARY

        def parsed(number: int) -> Any:
            if not number:
                data = self._squares.filled(keys(0))
                return ckks.openfhe.DeserializeEvalKeyString(data, binary)
            step = self._rotations[number - 1]
            index = ckks.context.FindAutomorphismIndex(step)
            template, start = _rotation_template(ckks)
            data, end = template.filled(keys(number)), start + 4
            data = data[:start] + index.to_bytes(4, "little") + data[end:]
            return ckks.openfhe.DeserializeEvalKeyMapString(data, binary)

        public = np.concatenate(
            [ring.unpack(body[:size]), uniform(seed, 0, ring)[None]]
        )
        squares, *rotations = workers.map(parsed, 1 + len(self._rotations))
        ckks.context.InsertEvalMultKey([squares], self.tag)
        for rotation in rotations:
            ckks.context.InsertEvalAutomorphismKey(rotation, self.tag)
        filled = self._public.filled(public)
        return ckks.openfhe.DeserializePublicKeyString(filled, binary)


def forget_keys(ckks: Ckks) -> None:
    """Frees all evaluation keys in this process."""
    ckks.openfhe.ClearEvalMultKeys()
    ckks.openfhe.CryptoContext.ClearEvalAutomorphismKeys()


@functools.lru_cache(maxsize=4)
def _rotation_template(ckks: Ckks) -> tuple[Template, int]:
    """A map with one rotation's key, and the byte where the rotation's index begins.

    This leaves two throwaway keys in OpenFHE, once in a process.
    """
    context, ring = ckks.context, ckks.ring
    indices = [context.FindAutomorphismIndex(step) for step in (1, 2)]
    # With two secret keys: OpenFHE would add a second rotation to the first one's map.
    maps = [
        context.EvalAutomorphismKeyGen(context.KeyGen().secretKey, [index])
        for index in indices
    ]
    digits = 2 * ring.limbs
    templates = [Template.of(ckks.serialised(map_), ring, digits) for map_ in maps]
    # Before the residues, the two maps differ in the index only.
    heads = [template.data[: template.starts[0]] for template in templates]
    places = [i for i, (x, y) in enumerate(zip(*heads, strict=True)) if x != y]
    if places and all(
        int.from_bytes(head[places[0] : places[0] + 4], "little") == index
        for head, index in zip(heads, indices, strict=True)
    ):
        return templates[0], places[0]
    raise UnexpectedLayoutError(
        "this version of OpenFHE serialises rotation keys differently from the tested "
        "ones: install the version that pyproject.toml names."
    )
