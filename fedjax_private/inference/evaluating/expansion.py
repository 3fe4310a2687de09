"""Expands a seed to uniform polynomials, which halves what a client uploads.

A ciphertext under the secret key, an evaluation key and a public key consist of pairs
(b, a) with a uniform `a`. A client sends a seed of 32 bytes, fresh for each message, in
place of all of a message's `a`, which are public anyway.

Formal guarantees. With ChaCha20's key stream as a random oracle, every `a` is uniform
and independent, as in the schemes without seeds: their security is unchanged. This also
holds against an adversary who chooses the seed, since that does not choose `a`.
"""

import os

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from fedjax_private.encryption.math.rings import Residues, Ring
from fedjax_private.inference.planning.public import SEED_BYTES

# Candidates drawn for each residue at first. A candidate is below the prime with a
# probability of at least a half; where too few are, more are drawn.
_CANDIDATES = 2.1


def fresh_seed() -> bytes:
    """Random bytes (32,) for one message."""
    return os.urandom(SEED_BYTES)


def uniform(seed: bytes, index: int, ring: Ring) -> Residues:
    """The polynomial (L, N) number `index` of a seed, uniform in the ring.

    Residues are drawn by rejection, so that none is more likely than another.

    Args:
        seed: (32,) bytes.
        index: below 2^48.
        ring: with primes below 2^32.
    """
    rows = [_row(seed, index, limb, ring) for limb in range(ring.limbs)]
    return np.stack(rows).astype(np.uint64)


def _row(seed: bytes, index: int, limb: int, ring: Ring) -> npt.NDArray[np.uint32]:
    modulus, count = ring.moduli[limb], ring.dimension
    # The block counter, which starts at 0, then the nonce of this row's stream.
    nonce = bytes(8) + index.to_bytes(6, "little") + limb.to_bytes(2, "little")
    stream = Cipher(algorithms.ChaCha20(seed, nonce), mode=None).encryptor()
    mask = np.uint32((1 << (modulus - 1).bit_length()) - 1)
    residues = np.empty(0, np.uint32)
    while len(residues) < count:
        words = int(_CANDIDATES * count) if not len(residues) else count
        drawn = np.frombuffer(stream.update(bytes(4 * words)), "<u4") & mask
        residues = np.concatenate([residues, drawn[drawn < modulus]])
    return residues[:count]


def reseeded(
    ring: Ring, secret: Residues, pair: Residues, uniform_part: Residues
) -> Residues:
    """The `b` (L, N) that keeps b + a s unchanged when `a` is replaced.

    Args:
        ring: with primes below 2^31.
        secret: s, (L, N).
        pair: (b, a), (2, L, N).
        uniform_part: the new a, (L, N).
    """
    moduli = np.array(ring.moduli, np.uint64)[:, None]
    difference = (pair[1] + (moduli - uniform_part)) % moduli
    # Below 2^62: no product of two residues overflows.
    return np.asarray((pair[0] + difference * secret % moduli) % moduli)
