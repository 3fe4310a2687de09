"""Random numbers that protect keys, from the operating system and never from a seed."""

import math
import os

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

# Pairs of samples that are drawn at once, so that they fit the cache.
_BLOCK = 2**14


def random_words(size: int) -> npt.NDArray[np.uint64]:
    """Returns independent uniform 64-bit words, (size,).

    They are the key stream of ChaCha20 under a fresh 256-bit key from the operating
    system, which is four times as fast as reading every word from there.
    """
    cipher = Cipher(algorithms.ChaCha20(os.urandom(32), bytes(16)), mode=None)
    words = np.empty(size, np.uint64)
    stream = words.view(np.uint8).data
    cipher.encryptor().update_into(bytes(words.nbytes), stream)
    return words


def gaussian(size: int, std: float) -> npt.NDArray[np.float64]:
    """Returns independent samples of N(0, std^2), (size,) float64.

    Samples are drawn in pairs by the polar method (Marsaglia and Bray, "A Convenient
    Method for Generating Normal Variables", SIAM Review 6, 1964). A pair is a uniform
    point of the unit disc, moved along its radius. Both coordinates have 64 random
    bits, and a float64 holds the more of them the closer a point is to the centre,
    where the farthest samples come from. So the tail reaches 12 standard deviations,
    and 2^69 points lead beyond 9 of them. Inverting a single word would leave holes
    from 6 deviations on.
    """
    samples = np.empty((2, (size + 1) // 2))
    filled, pairs = 0, samples.shape[1]
    while filled < pairs:
        points, squares = _in_unit_disc(min(pairs - filled, _BLOCK))
        # In place: new memory costs more than the arithmetic that fills it.
        factors = np.log(squares)
        factors *= -2 * std**2
        factors /= squares
        np.sqrt(factors, out=factors)
        into = samples[:, filled : filled + len(squares)]
        np.multiply(points[:, : into.shape[1]], factors[: into.shape[1]], out=into)
        filled += into.shape[1]
    return samples.reshape(-1)[:size]


def _in_unit_disc(
    count: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns uniform points (2, about count) of the disc, and their squared radii."""
    # A point of the square is in the disc with probability pi / 4.
    drawn = math.ceil(count * 4 / math.pi + 5 * math.sqrt(count))
    points = random_words(2 * drawn).view(np.int64).astype(np.float64)
    points += 0.5  # as likely as its negative, and never 0
    points *= 2.0**-63
    points = points.reshape(2, drawn)
    squares = points[0] ** 2
    squares += points[1] ** 2
    inside = np.flatnonzero(squares < 1)
    return points.take(inside, axis=1), squares.take(inside)


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
    samples = gaussian(size, math.ldexp(std, -shift))
    high = np.rint(samples, out=samples).astype(np.int64)
    low = np.zeros(size, np.uint64)
    for _ in range(2 if shift else 0):
        words = random_words(size)
        words >>= np.uint64(64 - shift)
        low += words
    return high.reshape(shape), low.reshape(shape), shift
