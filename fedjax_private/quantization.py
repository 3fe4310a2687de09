"""Rounding of reals to an integer grid and back, and sums mod 2^b.

All functions are pure, and work under jit and vmap without 64-bit types; the grid, the
bits and the bounds are Python values, fixed when a function is traced.
"""

import dataclasses
import fractions
import math
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from fedjax_private.typing import Array, PRNGKey

T = TypeVar("T", Array, npt.NDArray[np.int64])

_TINY = float(np.finfo(np.float32).tiny)

# The integer in the place of NaN and infinities. No other value becomes it, noisy or
# not, so that a client recognises such a vector before it encrypts.
NOT_FINITE = int(np.iinfo(np.int32).min)

_DIGIT = 16  # bits: 2^16 digits of 16 bits and a carry add up to less than 2^32


@dataclasses.dataclass(frozen=True)
class Grid:
    """Which integers of b bits stand for which reals: i for i times the step.

    The signed range -(2^(b-1) - 1) ... 2^(b-1) - 1 covers +-bound; -2^(b-1), which b
    bits could hold too, stands for no real. A true sum of integers may be beyond the
    range of one. A sum that is taken mod 2^b is right within +-bound, even where
    partial sums were not; beyond, it is wrong by a multiple of 2^b steps.

    Attributes:
        bits: b, from 2 to 24: float32 holds each of these integers exactly.
        bound: in the units of the values, the largest absolute entry of one vector; of
            a sum of clients' vectors where sums are taken mod 2^b.

    Raises:
        ValueError: if a value lies outside its range.
    """

    bits: int
    bound: float

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 24:
            raise ValueError(
                "bits must lie between 2 and 24, so that float32 holds each integer, "
                f"got {self.bits}."
            )
        # The step and its inverse must be normal float32 numbers.
        if not _TINY * self.most <= self.bound <= 1 / _TINY:
            raise ValueError(
                "bound must be positive and finite, and float32 must hold it and a "
                f"grid step, got {self.bound}."
            )

    @property
    def most(self) -> int:
        """The largest integer: 2^(b-1) - 1."""
        return (1 << self.bits - 1) - 1

    @property
    def step(self) -> float:
        """The width of a grid step: bound / (2^(b-1) - 1), in units of values."""
        return self.bound / self.most


def _scaled(vector: Array, grid: Grid) -> Array:
    """Returns the vector in grid steps, cut off at the ends of the range; float32.

    Multiplies by the inverse step: compiled code would turn a division into a product,
    and round differently from code that is not compiled.
    """
    return jnp.clip(vector * jnp.float32(1 / grid.step), -grid.most, grid.most)


def _round(key: PRNGKey, scaled: Array) -> Array:
    """Rounds away from zero with the probability that keeps the mean."""
    whole = jnp.trunc(scaled)
    rest = jnp.abs(scaled - whole)  # exact: fewer digits, of the same float
    threshold = (rest * 2.0**32).astype(jnp.uint32)
    away = jax.random.bits(key, scaled.shape, jnp.uint32) < threshold
    return whole.astype(jnp.int32) + jnp.sign(scaled).astype(jnp.int32) * away


def quantize(key: PRNGKey, vector: Array, grid: Grid) -> Array:
    """Rounds at random to one of the two neighbouring integers, without bias.

    The mean of the result, times the step, is the value: up to 2^-32 of a step and the
    float32 rounding of a value in steps, a few parts in 10^7. Entries are independent.

    Entries beyond the range saturate. NaN and infinities become `NOT_FINITE`, so that
    such an upload is recognised before it is added. `outside` counts all of these. How
    many saturate depends on the data, and is as secret as they are.

    Args:
        key: a fresh one for every call.
        vector: (P,) float32, in the units of the values.
        grid: the integers.

    Returns:
        (P,) int32, signed.
    """
    integers = _round(key, _scaled(vector, grid))
    return jnp.where(jnp.isfinite(vector), integers, NOT_FINITE)


def outside(vector: Array, grid: Grid) -> Array:
    """Returns how many entries of (P,) are beyond +-bound or NaN; () int32."""
    inside = jnp.abs(vector) <= jnp.float32(grid.bound)  # NaN compares as False
    return jnp.sum(~inside, dtype=jnp.int32)


def rounded_norm_bound(clip_norm: float, size: int, grid: Grid, beta: float) -> float:
    """Returns a bound on the L2 norm, in grid steps, of a vector rounded at random.

    With c = clip_norm / step and d = size, the smaller of

        c + sqrt(d)
        sqrt(c^2 + d/4 + sqrt(2 log(1/beta)) (c + sqrt(d)/2)).

    Randomised rounding keeps the first always, and the second with probability at least
    1 - beta (Kairouz, Liu, Steinke 2021, "The Distributed Discrete Gaussian Mechanism
    for Federated Learning with Secure Aggregation", theorem 1 and section 4.1, there
    for steps of size gamma). Times the step it is in the units of the values.

    Args:
        clip_norm: the largest L2 norm of a vector, in the units of the values.
        size: P, how many entries it has.
        grid: the integers.
        beta: in [0, 1): how likely a rounding may be rejected. 0 leaves the first bound
            only; the authors use e^(-1/2).

    Raises:
        ValueError: if an argument lies outside its range.
    """
    if not 0.0 < clip_norm < math.inf:
        raise ValueError(f"clip_norm must be positive and finite, got {clip_norm}.")
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}.")
    if not 0.0 <= beta < 1.0:
        raise ValueError(f"beta must lie in [0, 1), got {beta}.")
    norm, root = clip_norm / grid.step, math.sqrt(size)
    if beta == 0.0:
        return norm + root
    deviation = math.sqrt(-2 * math.log(beta)) * (norm + root / 2)
    return min(norm + root, math.sqrt(norm**2 + size / 4 + deviation))


def quantize_bounded(
    key: PRNGKey,
    vector: Array,
    grid: Grid,
    norm_bound: float,
    *,
    tries: int = 64,
) -> Array:
    """Rounds at random until the L2 norm is within a bound.

    Conditional randomised rounding (Kairouz, Liu, Steinke 2021, section 4.1). After the
    last try entries are rounded towards zero, which makes no norm larger. With the
    bound `rounded_norm_bound(clip_norm, P, grid, beta)` and a vector within clip_norm,
    that happens with probability at most beta^tries. Otherwise the mean is off by at
    most beta / (1 - beta) sqrt(P) steps in L2 norm, as a rejected rounding is within
    sqrt(P) steps of the vector, and in practice by far less.

    A vector with an entry that is not finite becomes zero. So does a vector whose norm
    is beyond the bound even after rounding towards zero: clip first. An entry beyond
    the grid's range saturates.

    Formal guarantees: for every vector and key, finite or not, clipped or not, the
    result's L2 norm is at most norm_bound; it is compared in whole numbers, without
    rounding. A sum of such results then has L2 sensitivity norm_bound, in grid steps,
    where neighbouring data differ by one vector that is added, removed or zeroed out,
    and twice that where one is replaced. No such bound holds where a record changes a
    vector in part: two roundings of the same vector can already be sqrt(P) steps apart.
    For a guarantee per record, round each record's contribution before adding them. The
    number of tries depends on the vector, and must stay hidden, in timings too.

    Args:
        key: a fresh one for every call.
        vector: (P,) float32, in the units of the values; P < 2^31.
        grid: the integers.
        norm_bound: in grid steps; a Python number.
        tries: how many roundings are tried, at least one. Under vmap all vectors take
            as long as the one with the most tries.

    Returns:
        (P,) int32, signed.

    Raises:
        ValueError: if the bound is not positive and finite.
    """
    if not 0.0 < norm_bound < math.inf:
        raise ValueError(f"norm_bound must be positive and finite, got {norm_bound}.")
    limit = math.floor(fractions.Fraction(float(norm_bound)) ** 2)
    finite = jnp.isfinite(vector).all()
    scaled = _scaled(jnp.where(finite, vector, 0.0), grid)

    towards_zero = scaled.astype(jnp.int32)

    def rejected(state: tuple[Array, Array]) -> Array:
        attempts, integers = state
        within = squares_within(integers, limit)
        return (attempts == 0) | (attempts < tries) & ~within

    def again(state: tuple[Array, Array]) -> tuple[Array, Array]:
        attempts, _ = state
        return attempts + 1, _round(jax.random.fold_in(key, attempts), scaled)

    _, integers = jax.lax.while_loop(rejected, again, (jnp.int32(0), towards_zero))
    fallback = jnp.where(squares_within(towards_zero, limit), towards_zero, 0)
    return jnp.where(squares_within(integers, limit), integers, fallback)


def squares_within(integers: Array, limit: int) -> Array:
    """Returns whether the squares of (P,) int32 below 2^23 sum to at most `limit`.

    Exact: no sum is rounded.
    """
    size = jnp.abs(integers).astype(jnp.uint32)
    high, low = size >> 16, size & 0xFFFF
    square = size * size  # mod 2^32
    carried = (2 * high * low + (low * low >> 16)) >> 16
    # Numbers in digits to base 2^16, lowest first. The last digit takes the rest, which
    # fits: less than 2^31 squares below 2^46 are added.
    digits = [square & 0xFFFF, square >> 16, high * high + carried]
    digits.append(jnp.zeros_like(size))
    while (count := digits[0].size) > 1:
        block = min(count, 1 << _DIGIT)
        for place, digit in enumerate(digits):
            blocks = jnp.pad(digit, (0, -count % block)).reshape(-1, block)
            digits[place] = blocks.sum(axis=1, dtype=jnp.uint32)
        for place in range(len(digits) - 1):
            digits[place + 1] += digits[place] >> _DIGIT
            digits[place] &= 0xFFFF
    limit = min(limit, (1 << 79) - 1)  # beyond any sum of squares
    ends = [limit & 0xFFFF, limit >> 16 & 0xFFFF, limit >> 32 & 0xFFFF, limit >> 48]
    within = jnp.array(True)
    for digit, end in zip(digits, ends, strict=True):  # the highest one decides last
        within = (digit < end) | (digit == end) & within
    return within.all()  # of one sum, or of none


def wrap(integers: T, bits: int) -> T:
    """Reduces integers mod 2^bits to [-2^(bits-1), 2^(bits-1)); any shape.

    Args:
        integers: int64 of NumPy, or int32 of JAX, whose overflow does no harm: 2^bits
            divides 2^32.
        bits: from 2 to 24.
    """
    half = 1 << bits - 1
    return (integers + half & 2 * half - 1) - half


def dequantize(total: Array | npt.NDArray[Any], grid: Grid) -> Array:
    """Turns a sum of signed integers into reals.

    Args:
        total: (P,) whole numbers of any type: a true sum, or one mod 2^b that `wrap`
            has reduced.
        grid: the integers.

    Returns:
        (P,) float32: the sum times the step. Exact but for the rounding of the step and
        of the product, and of sums beyond 2^24 to float32.
    """
    return jnp.asarray(total, jnp.float32) * jnp.float32(grid.step)
