"""Random numbers that protect keys: from the operating system, never from a seed."""

import math
import os

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from scipy import special


def words(size: int) -> npt.NDArray[np.uint64]:
    """Independent uniform 64-bit words, (size,).

    The key stream of ChaCha20 under a fresh key of the operating system's: as good
    (256 bits), and four times as fast as reading them all from there.
    """
    cipher = Cipher(algorithms.ChaCha20(os.urandom(32), bytes(16)), mode=None)
    return np.frombuffer(cipher.encryptor().update(bytes(8 * size)), np.uint64)


def gaussian(size: int, std: float) -> npt.NDArray[np.float64]:
    """Independent samples of N(0, std^2), (size,) float64.

    By inversion of 63 random bits a side, so that the tail reaches 9 standard
    deviations; the last bit of a word is the sign.
    """
    random = words(size)
    tail = (random >> np.uint64(1)).astype(np.float64)
    tail += 0.5
    tail *= 2.0**-64
    magnitude = special.ndtri(tail, out=tail)
    magnitude *= np.where(random & np.uint64(1), std, -std)
    return np.asarray(magnitude)


def wide_gaussian(
    shape: tuple[int, ...], std: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64], int]:
    """Independent Gaussian integers of any width, in two words.

    A float64 ends after 53 bits: wide noise made of one would leave the lowest bits of
    what it is added to in the clear. So the upper word is Gaussian, of a deviation of
    2^39 to 2^40, and the bits below it are uniform: a density that is constant on steps
    of 2^-39 deviations, whose logarithm differs from the Gaussian's by less than 2^-35
    within the 9 deviations that there are.

    Args:
        shape: of each array.
        std: the standard deviation, up to 2^103.

    Returns:
        high (int64), low (uint64, below 2^shift) and shift, up to 63; the integers are
        `high 2^shift + low`.
    """
    shift = max(0, math.ceil(math.log2(std)) - 40) if std else 0
    size = math.prod(shape)
    high = np.rint(gaussian(size, math.ldexp(std, -shift))).astype(np.int64)
    low = words(size) >> np.uint64(64 - shift) if shift else np.zeros(size, np.uint64)
    return high.reshape(shape), low.reshape(shape), shift
