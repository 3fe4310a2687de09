"""Discrete Gaussian noise on the integers, from random bits and integer comparisons.

No floating-point number touches a sample, so the attack of Mironov (2012) does not
apply. The law is inexact by a known and tiny distance.
"""

import decimal
import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from fedjax_private.typing import Array, PRNGKey

_WORDS = 3
_BITS = 32 * _WORDS - 1  # of the magnitude; the last bit of the words is the sign
_MAX_SCALE = 50_000.0  # a table of half a million entries


@functools.lru_cache(maxsize=16)
def thresholds(scale: float) -> npt.NDArray[np.uint32]:
    """Returns the thresholds 2^95 P(|X| <= k), rounded down, for k < m: (m, 3) words.

    Each is shifted left by the sign bit and cut into words, highest first. Decimal
    arithmetic with 70 digits; a recurrence of m <= 6e5 steps loses twelve of them.
    """
    if scale == 0:
        return np.empty((0, _WORDS), np.uint32)
    with decimal.localcontext() as context:
        context.prec = 70
        ratio = (-1 / (2 * decimal.Decimal(scale) ** 2)).exp()  # of P(1) to P(0)
        squared = ratio * ratio
        negligible = decimal.Decimal(2) ** -(_BITS + 2)
        # P(k+1) = P(k) ratio^(2k+1). What lies beyond k is less than a geometric
        # series, against a total of at least 1.
        mass, step = [decimal.Decimal(1)], ratio
        while 2 * mass[-1] * step > negligible * (1 - step):
            mass.append(mass[-1] * step)
            step *= squared
        total = 2 * sum(mass) - 1
        unit = decimal.Decimal(1 << _BITS) / total
        below, ends = decimal.Decimal(-1), []
        for value in mass[:-1]:
            below += 2 * value
            ends.append(int(below * unit) << 1)
    shifts = range(32 * (_WORDS - 1), -1, -32)
    words = [[end >> shift & 0xFFFFFFFF for shift in shifts] for end in ends]
    return np.array(words, np.uint32).reshape(-1, _WORDS)


def _check(scale: float) -> None:
    if not 0.0 <= scale <= _MAX_SCALE:
        raise ValueError(
            f"scale must lie in [0, {_MAX_SCALE:g}] for discrete Gaussian noise, got "
            f"{scale}: use a coarser grid."
        )


def discrete_gaussian_distance(scale: float) -> float:
    """Returns a bound on the total variation between one sample and the exact law.

    Formal guarantees: a table of m thresholds, each within 2^-95 of its place, moves
    at most m 2^-95 of mass, and less than another 2^-95 lies beyond it: 2e-27 at scale
    5, 2e-24 at scale 5000, for ideal random bits. If a mechanism with exact noise is
    (epsilon, delta)-DP, then one that draws n samples is (epsilon, delta + (1 +
    e^epsilon) n distance)-DP, by the triangle inequality.
    """
    _check(scale)
    # No table is longer: 2^-97 of the mass lies beyond 12.5 scales.
    return (13 * scale + 16) * 2.0**-_BITS


def discrete_gaussian(key: PRNGKey, shape: tuple[int, ...], scale: float) -> Array:
    """Returns samples of N_Z(0, scale^2): P(x) proportional to e^(-x^2/2 scale^2).

    By inversion: 95 random bits, compared as whole numbers with a table of the exact
    cumulative probabilities, give the magnitude, and one more the sign.

    Args:
        key: a fresh one for every call.
        shape: of the result.
        scale: sigma, a Python number from 0 to 50,000; the variance is at most its
            square (Canonne, Kamath, Steinke 2020, corollary 9).

    Returns:
        int32.

    Formal guarantees: within `discrete_gaussian_distance(scale)` of the exact law in
    total variation, per sample; the discrete Gaussian mechanism then has the
    continuous one's RDP and zCDP (Canonne, Kamath, Steinke 2020, theorem 4), plus what
    the distance adds to delta. The generator (threefry2x32) has a 64-bit key.
    """
    _check(scale)
    rows = thresholds(float(scale))
    if not len(rows):  # anything but 0 is too unlikely
        return jnp.zeros(shape, jnp.int32)
    table = jnp.asarray(rows.T)  # (3, m)
    words = jax.random.bits(key, (_WORDS, *shape), jnp.uint32)
    depth = len(rows).bit_length()

    def halve(level: Array, count: Array) -> Array:
        """Refines by one bit how many thresholds do not exceed the words."""
        probe = count + (1 << (depth - 1 - level))
        high, middle, low = (row[jnp.minimum(probe, len(rows)) - 1] for row in table)
        reached = (high < words[0]) | (high == words[0]) & (
            (middle < words[1]) | (middle == words[1]) & (low <= words[2])
        )
        return jnp.where(reached & (probe <= len(rows)), probe, count)

    zeros = jnp.zeros(shape, jnp.int32)
    magnitude = jax.lax.fori_loop(0, depth, halve, zeros)
    return jnp.where(words[2] & 1 == 1, magnitude, -magnitude)
