"""Uniform polynomials from a seed, so that half of what is uploaded need not be.

A ciphertext (b, a) under the secret key, an evaluation key and a public key consist of
pairs with a uniform `a`; a seed of 32 bytes stands for all of them. That `a` is public
anyway, and a fresh seed is drawn for each message.

Formal guarantees. With ChaCha20's key stream as a random oracle, every `a` is uniform
and independent, as in the schemes without seeds: their security is unchanged. It also
holds against whoever chooses the seed, who cannot choose `a`.
"""

import os

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from fedjax_private.encryption.math.rings import Residues, Ring

SEED_BYTES = 32

# Words are drawn for so many candidates a residue, then as many again where too few are
# below the prime: half of them at worst, for a prime just above a power of two.
_CANDIDATES = 2.1


def fresh_seed() -> bytes:
    """32 random bytes, for one message."""
    return os.urandom(SEED_BYTES)


def uniform(seed: bytes, index: int, ring: Ring) -> Residues:
    """The polynomial (L, N) of that number, uniform in the ring, for primes below 2^32.

    By rejection: no residue is likelier than another.
    """
    rows = [_row(seed, index, limb, ring) for limb in range(ring.limbs)]
    return np.stack(rows).astype(np.uint64)


def _row(seed: bytes, index: int, limb: int, ring: Ring) -> npt.NDArray[np.uint32]:
    modulus, count = ring.moduli[limb], ring.dimension
    # Counter of blocks (0), then what makes the stream this row's.
    nonce = bytes(8) + index.to_bytes(6, "little") + limb.to_bytes(2, "little")
    stream = Cipher(algorithms.ChaCha20(seed, nonce), mode=None).encryptor()
    mask = np.uint32((1 << (modulus - 1).bit_length()) - 1)
    found = np.empty(0, np.uint32)
    while len(found) < count:
        words = int(_CANDIDATES * count) if not len(found) else count
        drawn = np.frombuffer(stream.update(bytes(4 * words)), "<u4") & mask
        found = np.concatenate([found, drawn[drawn < modulus]])
    return found[:count]


def reseeded(
    ring: Ring, secret: Residues, pair: Residues, uniform_part: Residues
) -> Residues:
    """The `b` (L, N) that goes with another `a`: b + a s does not change.

    Args:
        ring: with primes below 2^31.
        secret: s, (L, N).
        pair: (b, a), (2, L, N).
        uniform_part: the other a, (L, N).
    """
    moduli = np.array(ring.moduli, np.uint64)[:, None]
    difference = (pair[1] + (moduli - uniform_part)) % moduli
    # Below 2^62: no product of two residues overflows.
    return np.asarray((pair[0] + difference * secret % moduli) % moduli)
