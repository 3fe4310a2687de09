"""Monic polynomials with few products and fewer levels, and the scale of their result.

Paterson and Stockmeyer, "On the Number of Nonscalar Multiplications Necessary to
Evaluate Polynomials" (SIAM J. Comput. 1973), in its monic form: p = x^m q + r with m
the largest power of two below the degree, q monic, and r a sum of lower powers, which
are brought to the scale of the product by their coefficients and cost no level.

`monic` runs on any `Arithmetic`: on ciphertexts when a server evaluates, and on scales
alone when a plan is made.
"""

from collections.abc import Sequence
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

# One number for all slots, or one for each: (slots,) float64.
Values: TypeAlias = float | npt.NDArray[np.float64]


class Scaled(Protocol):
    """A number with a scale and a modulus.

    Attributes:
        scale: what its values were multiplied by.
        limbs: primes left in its modulus.
    """

    @property
    def scale(self) -> float:
        """The factor on its values."""

    @property
    def limbs(self) -> int:
        """Primes left in its modulus."""


N = TypeVar("N", bound=Scaled)


class Arithmetic(Protocol[N]):
    """The operations that polynomials need; see `ckks.Ckks`."""

    def add(self, number: N, values: Values | N) -> N:
        """The sum with another number of the same scale and primes, or with values."""

    def lifted(self, number: N, values: Values, scale: float) -> N:
        """The product with values, at the larger scale `scale`."""

    def times(self, left: N, right: N) -> N:
        """The product of two numbers with equally many primes."""

    def rescaled(self, number: N, limbs: int) -> N:
        """The number divided by its last primes until `limbs` are left."""

    def dropped(self, number: N, limbs: int) -> N:
        """The number modulo its first `limbs` primes; its scale stays."""


def monic(arithmetic: Arithmetic[N], x: N, coefficients: Sequence[Values]) -> N:
    """x^d + c_(d-1) x^(d-1) + ... + c_0; the last product is not rescaled.

    The result has the scale `result_bits` and `inner_rescalings` primes fewer than x.

    Args:
        arithmetic: on ciphertexts, the keys for products must be loaded.
        x: the number.
        coefficients: c_0, c_1, ..., c_(d-1).
    """
    return _monic(arithmetic, {1: x}, list(coefficients))


def _monic(
    arithmetic: Arithmetic[N], powers: dict[int, N], coefficients: list[Values]
) -> N:
    degree = len(coefficients)
    if degree == 1:
        return _plus(arithmetic, powers[1], coefficients[0])
    half = 1 << (degree - 1).bit_length() - 1
    left = _power(arithmetic, powers, half)
    if degree == 2 * half and not any(np.any(c) for c in coefficients[half:]):
        right = left
    else:
        right = _monic(arithmetic, powers, coefficients[half:])
        if degree - half > 1:
            right = arithmetic.rescaled(right, right.limbs - 1)
    limbs = min(left.limbs, right.limbs)
    if right is not left:
        right = arithmetic.dropped(right, limbs)
    left = arithmetic.dropped(left, limbs) if right is not left else right
    total = arithmetic.times(left, right)
    for power, coefficient in enumerate(coefficients[1:half], 1):
        if np.any(coefficient):
            term = arithmetic.dropped(_power(arithmetic, powers, power), limbs)
            lifted = arithmetic.lifted(term, coefficient, total.scale)
            total = arithmetic.add(total, lifted)
    return _plus(arithmetic, total, coefficients[0])


def _plus(arithmetic: Arithmetic[N], number: N, constant: Values) -> N:
    return arithmetic.add(number, constant) if np.any(constant) else number


def _power(arithmetic: Arithmetic[N], powers: dict[int, N], power: int) -> N:
    """x^power, rescaled; `powers` remembers it."""
    if power not in powers:
        half = 1 << (power - 1).bit_length() - 1
        left, right = (_power(arithmetic, powers, p) for p in (half, power - half))
        limbs = min(left.limbs, right.limbs)
        if left is right:
            product = arithmetic.times(left, left)
        else:
            left, right = (
                arithmetic.dropped(factor, limbs) for factor in (left, right)
            )
            product = arithmetic.times(left, right)
        powers[power] = arithmetic.rescaled(product, limbs - 1)
    return powers[power]


def inner_rescalings(degree: int) -> int:
    """Primes that `monic` spends before its last product."""
    return max((max(degree, 1) - 1).bit_length() - 1, 0)


def result_bits(degree: int, bits: float, limb_bits: int) -> float:
    """The scale in bits of the result of `monic` on a number with a scale of `bits`."""
    if degree < 2:
        return bits
    power = 1 << (degree - 1).bit_length() - 1  # the largest power of two below degree
    even = bits
    for _ in range(power.bit_length() - 1):
        even = 2 * even - limb_bits
    rest = degree - power
    if rest == power and power > 1:
        return 2 * even
    # The other factor has fewer products behind it; each is rescaled as it comes.
    other = bits if rest == 1 else result_bits(rest, bits, limb_bits) - limb_bits
    return even + other


def argument_bits(degree: int, bits: float, limb_bits: int) -> float:
    """The inverse of `result_bits`, which is linear in the scale."""
    if degree < 2:
        return bits
    at_zero = result_bits(degree, 0.0, limb_bits)
    return (bits - at_zero) / (result_bits(degree, 1.0, limb_bits) - at_zero)
