"""Random numbers that protect keys, from the operating system and never from a seed."""

import math
import os

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

# Pairs of samples that are drawn at once, so that they fit the cache.
_BLOCK = 2**14

# Bits of the standard deviation of what is rounded, in wide noise.
_ROUNDED_BITS = 4

# Bits of each uniform number in the lower word of wide noise.
_LOW_BITS = 62


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

    An integer is `(k - 1) 2^shift` plus two uniform numbers below 2^shift, with k a
    rounded Gaussian of standard deviation sigma = std / 2^shift, at most 16. So no bit
    of it comes from the end of a float, and its law P is a known one: between multiples
    of 2^shift it is linear, without a step that would reveal a small shift. Its mean is
    -1, and its variance that of the Gaussian and 2^(2 shift) / 4 more, 0.4 % at most.

    Formal guarantees: of n of these integers, and the same with integers e added, the
    statistical distance is at most |e| / (2 std), up to a factor of 1 + 2^-25, for any
    e, and for an e that depends on earlier ones. Derivation. The laws have finite
    support, so that Kullback-Leibler divergences of shifted ones are infinite; their
    Hellinger distances are not. Let I be 4 times the sum over x of
    (sqrt P(x+1) - sqrt P(x))^2. By the triangle inequality the squared Hellinger
    distance of P from P shifted by e_i is at most e_i^2 I / 8. These add up over
    coordinates, and the statistical distance is at most the root of twice the sum:
    |e| sqrt(I) / 2. It remains to bound I by 1 / std^2. Where P rises or falls from
    a / M to b / M in M = 2^shift equal steps, (sqrt x - sqrt y)^2 is at most
    (x - y) ln(x / y) / 4 for every step (the logarithmic mean is at most that of the
    arithmetic and the geometric one). The sum over steps is
    (a - b) ln(a / b) / (4 M^2), so that I is at most 1 / M^2 times the symmetric
    divergence of k from k + 1. For rounded Gaussians that is at most 1 / sigma^2, the
    divergence of Gaussians themselves, because rounding is applied afterwards. Float64
    arithmetic moves a sample of up to 9 deviations by less than 2^-45 of one, near the
    ends of the intervals that are rounded to one k. So it changes the probability of
    every such k by a factor within 1 +- 2^-38, and all others have 2^-61 together:
    sqrt(I) grows by the factor 1 + 2^-25 at most. Without bits to shift (std below 16),
    the integers are rounded Gaussians, for which the same holds.

    Args:
        shape: the shape of each array.
        std: the standard deviation, up to 2^92.

    Returns:
        high (int64), low (uint64, below 2^(shift + 1)) and the lower word's shift, up
        to 62; the integers are `high 2^shift + low`.
    """
    shift = max(0, math.ceil(math.log2(std)) - _ROUNDED_BITS) if std else 0
    size = math.prod(shape)
    samples = gaussian(size, math.ldexp(std, -shift))
    high = np.rint(samples, out=samples).astype(np.int64)
    below = min(shift, _LOW_BITS)
    if shift:
        high -= 1  # the mean of two uniform numbers
    if shift > below:  # which reach into the upper word
        high <<= shift - below
        high += _two_uniform(size, shift - below).view(np.int64)
    low = _two_uniform(size, below)
    return high.reshape(shape), low.reshape(shape), below


def _two_uniform(size: int, bits: int) -> npt.NDArray[np.uint64]:
    """Returns sums (size,) of two independent uniform numbers below 2^bits."""
    total = np.zeros(size, np.uint64)
    for _ in range(2 if bits else 0):
        words = random_words(size)
        words >>= np.uint64(64 - bits)
        total += words
    return total
