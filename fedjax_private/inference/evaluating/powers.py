"""Monic polynomials of an encrypted number, with few products and fewer levels.

Paterson and Stockmeyer, "On the Number of Nonscalar Multiplications Necessary to
Evaluate Polynomials" (SIAM J. Comput. 1973), in its monic form: p = x^m q + r with m
the largest power of two below the degree, q monic, and r a sum of lower powers, which
are brought to the scale of the product by their coefficients and cost no level.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from fedjax_private.inference.evaluating.ckks import Number, Values


class Arithmetic(Protocol):
    """What of `Ckks` polynomials need."""

    def add(self, number: Number, values: Values | Number) -> Number:
        """See `Ckks.add`."""

    def lifted(self, number: Number, values: Values, scale: float) -> Number:
        """See `Ckks.lifted`."""

    def times(self, left: Number, right: Number) -> Number:
        """See `Ckks.times`."""

    def rescaled(self, number: Number, limbs: int) -> Number:
        """See `Ckks.rescaled`."""

    def dropped(self, number: Number, limbs: int) -> Number:
        """See `Ckks.dropped`."""


def monic(ckks: Arithmetic, x: Number, coefficients: Sequence[Values]) -> Number:
    """x^d + c_(d-1) x^(d-1) + ... + c_0, its last product not rescaled.

    Its scale is `schedule.top_bits`, and it has `schedule.squarings` primes fewer.

    Args:
        ckks: the arithmetic, its keys for products loaded.
        x: the number.
        coefficients: c_0, c_1, ..., c_(d-1).
    """
    return _monic(ckks, {1: x}, list(coefficients))


def _monic(ckks: Arithmetic, powers: dict[int, Number], rest: list[Values]) -> Number:
    degree = len(rest)
    if degree == 1:
        return _plus(ckks, powers[1], rest[0])
    half = 1 << (degree - 1).bit_length() - 1
    left = _power(ckks, powers, half)
    if degree == 2 * half and not any(np.any(c) for c in rest[half:]):
        right = left
    else:
        right = _monic(ckks, powers, rest[half:])
        if degree - half > 1:
            right = ckks.rescaled(right, right.limbs - 1)
    limbs = min(left.limbs, right.limbs)
    if right is not left:
        right = ckks.dropped(right, limbs)
    left = ckks.dropped(left, limbs) if right is not left else right
    total = ckks.times(left, right)
    for power, coefficient in enumerate(rest[1:half], 1):
        if np.any(coefficient):
            term = ckks.dropped(_power(ckks, powers, power), limbs)
            total = ckks.add(total, ckks.lifted(term, coefficient, total.scale))
    return _plus(ckks, total, rest[0])


def _plus(ckks: Arithmetic, number: Number, constant: Values) -> Number:
    return ckks.add(number, constant) if np.any(constant) else number


def _power(ckks: Arithmetic, powers: dict[int, Number], power: int) -> Number:
    """x^power, rescaled; `powers` remembers it."""
    if power not in powers:
        half = 1 << (power - 1).bit_length() - 1
        left, right = (_power(ckks, powers, p) for p in (half, power - half))
        limbs = min(left.limbs, right.limbs)
        if left is right:
            product = ckks.times(left, left)
        else:
            factors = (ckks.dropped(factor, limbs) for factor in (left, right))
            product = ckks.times(*factors)
        powers[power] = ckks.rescaled(product, limbs - 1)
    return powers[power]
