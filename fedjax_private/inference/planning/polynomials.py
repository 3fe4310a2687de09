"""Evaluates monic polynomials with few products and levels, tracking scales.

Paterson and Stockmeyer, "On the Number of Nonscalar Multiplications Necessary to
Evaluate Polynomials" (SIAM J. Comput. 1973), in its monic form: p = x^m q + r with m
the largest power of two below the degree, q monic, and r a sum of lower powers, which
are brought to the scale of the product by their coefficients and cost no level.

`monic` runs on any `Arithmetic`: on ciphertexts when a server evaluates, and on scales
alone when a plan is made.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

# One number for all slots, or one for each: (slots,) float64.
Values: TypeAlias = float | npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Number:
    """A ciphertext whose slots, divided by `scale`, are the encrypted values.

    Attributes:
        ciphertext: OpenFHE's object; None where only scales are computed.
        scale: the factor on the values.
        limbs: primes left in its modulus.
    """

    ciphertext: Any
    scale: float
    limbs: int


class Arithmetic(Protocol):
    """The operations that polynomials need; see `ckks.Ckks`."""

    def add(self, number: Number, values: Values | Number) -> Number:
        """The sum with another number of the same scale and primes, or with values."""

    def lifted(self, number: Number, values: Values, scale: float) -> Number:
        """The product with values, at the larger scale `scale`."""

    def times(self, left: Number, right: Number) -> Number:
        """The product of two numbers with equally many primes."""

    def rescaled(self, number: Number, limbs: int) -> Number:
        """The number divided by its last primes until `limbs` are left."""

    def dropped(self, number: Number, limbs: int) -> Number:
        """The number modulo its first `limbs` primes, itself if it has no others."""


def monic(arithmetic: Arithmetic, x: Number, coefficients: Sequence[Values]) -> Number:
    """x^d + c_(d-1) x^(d-1) + ... + c_0; the last product is not rescaled.

    The result has the scale `result_bits` and `inner_rescalings` primes fewer than x.

    Args:
        arithmetic: on ciphertexts, the keys for products must be loaded.
        x: the number.
        coefficients: c_0, c_1, ..., c_(d-1).
    """
    return _monic(arithmetic, {1: x}, list(coefficients))


def _monic(
    arithmetic: Arithmetic, powers: dict[int, Number], coefficients: list[Values]
) -> Number:
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
    total = _product(arithmetic, left, right)
    for power, coefficient in enumerate(coefficients[1:half], 1):
        if np.any(coefficient):
            term = _power(arithmetic, powers, power)
            term = arithmetic.dropped(term, total.limbs)
            lifted = arithmetic.lifted(term, coefficient, total.scale)
            total = arithmetic.add(total, lifted)
    return _plus(arithmetic, total, coefficients[0])


def _plus(arithmetic: Arithmetic, number: Number, constant: Values) -> Number:
    return arithmetic.add(number, constant) if np.any(constant) else number


def _product(arithmetic: Arithmetic, left: Number, right: Number) -> Number:
    """The product, modulo the primes that both have; not rescaled."""
    limbs = min(left.limbs, right.limbs)
    return arithmetic.times(
        arithmetic.dropped(left, limbs), arithmetic.dropped(right, limbs)
    )


def _power(arithmetic: Arithmetic, powers: dict[int, Number], power: int) -> Number:
    """x^power, rescaled; `powers` remembers it."""
    if power not in powers:
        half = 1 << (power - 1).bit_length() - 1
        left, right = (_power(arithmetic, powers, p) for p in (half, power - half))
        product = _product(arithmetic, left, right)
        powers[power] = arithmetic.rescaled(product, product.limbs - 1)
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
