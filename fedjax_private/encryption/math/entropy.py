"""Random numbers that protect keys: from the operating system, never from a seed."""

import math
import os

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms


def words(size: int) -> npt.NDArray[np.uint64]:
    """Independent uniform 64-bit words, (size,).

    The key stream of ChaCha20 under a fresh key of the operating system's: as good
    (256 bits), and four times as fast as reading them all from there.
    """
    cipher = Cipher(algorithms.ChaCha20(os.urandom(32), bytes(16)), mode=None)
    return np.frombuffer(cipher.encryptor().update(bytes(8 * size)), np.uint64)


def gaussian(size: int, std: float) -> npt.NDArray[np.float64]:
    """Independent samples of N(0, std^2), (size,) float64.

    By pairs (Box and Muller, Annals of Mathematical Statistics 29, 1958): 63 random
    bits of radius, so that the tail reaches 9 standard deviations, and 64 of angle, so
    that even there every small interval is reached from many words. Inverting a single
    word would leave holes from 6 deviations on.
    """
    half = (size + 1) // 2
    # In place: memory that is new to the process costs more than what fills it.
    radius = (words(half) >> np.uint64(1)).astype(np.float64)
    radius += 0.5
    radius *= 2.0**-63
    np.log(radius, out=radius)
    radius *= -2 * std**2
    np.sqrt(radius, out=radius)
    angle = words(half) * (2 * np.pi * 2.0**-64)
    both = np.empty((2, half))
    np.cos(angle, out=both[0])
    np.sin(angle, out=both[1])
    both *= radius
    return both.reshape(-1)[:size]


def wide_gaussian(
    shape: tuple[int, ...], std: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64], int]:
    """Independent Gaussian integers of any width, in two words.

    A float64 ends after 53 bits: wide noise made of one would leave the lowest bits of
    what it is added to in the clear. So the upper word is Gaussian, of a deviation of
    at most 2^30, and what is below it the sum of two uniform numbers. The density is
    then linear between the upper words: it has no step that would show a small shift.

    Args:
        shape: of each array.
        std: the standard deviation, up to 2^92.

    Returns:
        high (int64), low (uint64, below 2^(shift + 1)) and shift, up to 62; the
        integers are `high 2^shift + low`.
    """
    shift = max(0, math.ceil(math.log2(std)) - 30) if std else 0
    size = math.prod(shape)
    high = np.rint(gaussian(size, math.ldexp(std, -shift))).astype(np.int64)
    low = np.zeros(size, np.uint64)
    for _ in range(2 if shift else 0):
        low += words(size) >> np.uint64(64 - shift)
    return high.reshape(shape), low.reshape(shape), shift
