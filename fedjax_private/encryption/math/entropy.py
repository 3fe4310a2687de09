"""Random numbers that protect keys, from the operating system and never from a seed."""

import math
import os

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms


def random_words(size: int) -> npt.NDArray[np.uint64]:
    """Returns independent uniform 64-bit words, (size,).

    They are the key stream of ChaCha20 under a fresh 256-bit key from the operating
    system, which is four times as fast as reading every word from there.
    """
    cipher = Cipher(algorithms.ChaCha20(os.urandom(32), bytes(16)), mode=None)
    return np.frombuffer(cipher.encryptor().update(bytes(8 * size)), np.uint64)


def gaussian(size: int, std: float) -> npt.NDArray[np.float64]:
    """Returns independent samples of N(0, std^2), (size,) float64.

    Samples are drawn in pairs (Box and Muller, Annals of Mathematical Statistics 29,
    1958). The radius has 63 random bits, so the tail reaches 9 standard deviations. The
    angle has 64, so that many words reach every small interval even there. Inverting a
    single word would leave holes from 6 deviations on.
    """
    half = (size + 1) // 2
    # In place: new memory costs more than the arithmetic that fills it.
    radius = (random_words(half) >> np.uint64(1)).astype(np.float64)
    radius += 0.5
    radius *= 2.0**-63
    np.log(radius, out=radius)
    radius *= -2 * std**2
    np.sqrt(radius, out=radius)
    angle = random_words(half) * (2 * np.pi * 2.0**-64)
    samples = np.empty((2, half))
    np.cos(angle, out=samples[0])
    np.sin(angle, out=samples[1])
    samples *= radius
    return samples.reshape(-1)[:size]


def wide_gaussian(
    shape: tuple[int, ...], std: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64], int]:
    """Returns independent Gaussian integers of any width, each in two words.

    A float64 has 53 bits, so wide noise made from one would leave the lowest bits of
    the masked value in the clear. Here the upper word is Gaussian with a standard
    deviation of at most 2^30, and the lower word is the sum of two uniform numbers. The
    density is then linear between upper words: it has no step that would reveal a small
    shift.

    Args:
        shape: the shape of each array.
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
        low += random_words(size) >> np.uint64(64 - shift)
    return high.reshape(shape), low.reshape(shape), shift
