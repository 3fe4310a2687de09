"""Seeds of masks: drawn, expanded into masks, and shared among clients.

A seed is 8 numbers below the prime 65,521, in 16 bytes: 127.99 bits of entropy, so that
the bytes serve as a key of AES-128, and that shares of them have 16 bytes too. The
shares are Shamir's (see `math.shamir`, which shares polynomials modulo large primes):
here all shares of a client's secrets are one product of small matrices, exact in
float64, which takes a hundredth of the time.
"""

import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedjax_private.encryption.math.shamir import lagrange_at_zero

SEED_BYTES = 16
PRIME = 65_521  # the largest below 2^16
_LIMBS = SEED_BYTES // 2
_AFTER_CHECK = modes.CTR((1).to_bytes(16, "big"))  # block 0 is the check value

# Seeds or shares of seeds: (..., 8), each below PRIME.
Limbs = npt.NDArray[np.uint16]
Words = npt.NDArray[Any]  # unsigned integers of 16, 32 or 64 bits


def draw(count: int) -> Limbs:
    """Returns fresh seeds, (count, 8), uniform, from the operating system."""
    limbs = np.frombuffer(os.urandom(SEED_BYTES * count), "<u2")
    while (large := limbs >= PRIME).any():
        limbs = limbs.copy()
        limbs[large] = np.frombuffer(os.urandom(2 * int(large.sum())), "<u2")
    return limbs.reshape(count, _LIMBS)


def to_bytes(limbs: Limbs) -> bytes:
    """Returns the bytes of seeds or shares, 16 each."""
    return limbs.astype("<u2", copy=False).tobytes()


def from_bytes(data: bytes | memoryview) -> Limbs:
    """Returns what `to_bytes` wrote, (count, 8). Numbers may be PRIME or above."""
    return np.frombuffer(data, "<u2").reshape(-1, _LIMBS)


def split(secrets: Limbs, threshold: int, points: Sequence[int]) -> Limbs:
    """Returns Shamir shares (points, secrets, 8), any `threshold` of which recover.

    Formal guarantees: the shares at any `threshold` - 1 points are uniform and
    independent of the secrets, whatever the computing power of those who hold them
    (Shamir 1979), for a generator of the operating system that is perfect.

    Args:
        secrets: (secrets, 8), each below PRIME.
        threshold: T, at least 1.
        points: distinct, from 1 to PRIME - 1.
    """
    higher = draw(len(secrets) * (threshold - 1))
    coefficients = np.concatenate([secrets, higher]).reshape(threshold, -1)
    # Below 2^53, so exact: less than 2^21 products below 2^32.
    shares = _powers(tuple(points), threshold) @ coefficients.astype(np.float64)
    return (shares % PRIME).astype(np.uint16).reshape(-1, len(secrets), _LIMBS)


def combine(points: Sequence[int], shares: Limbs) -> Limbs:
    """Returns the secrets (secrets, 8) whose shares (points, secrets, 8) these are.

    The points are as many as the threshold; wrong shares give wrong secrets.
    """
    factors = np.array(lagrange_at_zero(points, PRIME), np.float64)
    total = factors @ shares.reshape(len(factors), -1).astype(np.float64)
    return (total % PRIME).astype(np.uint16).reshape(-1, _LIMBS)


@functools.lru_cache(maxsize=4)
def _powers(points: tuple[int, ...], count: int) -> npt.NDArray[np.float64]:
    """Returns x^0, ..., x^(count - 1) modulo PRIME for each point x, float64."""
    powers = np.ones((len(points), count), np.int64)
    for index in range(1, count):
        powers[:, index] = powers[:, index - 1] * points % PRIME
    return powers.astype(np.float64)


def check_value(seed: bytes) -> bytes:
    """Returns 16 bytes that tell a seed from others, and nothing about its mask.

    They are the block of the seed's key stream before those of the mask.
    """
    block = Cipher(algorithms.AES(seed), modes.ECB()).encryptor()
    return block.update(bytes(16))


class Expander:
    """Adds masks to a vector in place: the key streams of AES-128 in counter mode.

    AES-CTR with the processor's instructions makes 5 GB/s where ChaCha20 makes 4.3. The
    binding holds Python's lock meanwhile, so that threads would not be faster.

    Formal guarantees: if AES-128 is a pseudo-random permutation, the masks of distinct
    seeds are together indistinguishable from uniform vectors, up to B^2 / 2^129 for a
    mask of B blocks of 16 bytes: 2^-88 for ten million values of 16 bits.

    Args:
        vector: (values,), unsigned integers; changed by `add` and `subtract`, modulo
            the power of two of their type.
    """

    def __init__(self, vector: Words) -> None:
        self.vector = vector
        self._zeros = bytes(vector.nbytes)
        self._stream = bytearray(vector.nbytes + 15)  # as the cipher demands
        self._mask = np.frombuffer(self._stream, vector.dtype, vector.size)

    def add(self, seed: bytes) -> None:
        """Adds the mask of a seed."""
        self._fill(seed)
        self.vector += self._mask

    def subtract(self, seed: bytes) -> None:
        """Subtracts the mask of a seed."""
        self._fill(seed)
        self.vector -= self._mask

    def _fill(self, seed: bytes) -> None:
        cipher = Cipher(algorithms.AES(seed), _AFTER_CHECK)
        cipher.encryptor().update_into(self._zeros, self._stream)
