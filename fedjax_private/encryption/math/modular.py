"""Exact products modulo a word-sized prime in 64-bit words, for NumPy and for JAX.

Each product is by a constant w < q, whose Shoup quotient is computed beforehand
(Harvey, "Faster arithmetic for number-theoretic transforms", Journal of Symbolic
Computation 60, 2014). Let w' = floor(2^64 w / q). For any x < 2^64 and
p = floor(w' x / 2^64),

    0 <= w x / q - w' x / 2^64 < x / 2^64 < 1,  hence  0 <= w x - p q < 2 q.

A p that is too small by at most 2 saves a quarter of the work and leaves a remainder
below 4 q. With q < 2^62 it fits 64 bits, so uint64 arithmetic, which is modulo 2^64,
computes it exactly. Two conditional subtractions complete the reduction.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

_HALF = np.uint64(32)
_LOW = np.uint64(2**32 - 1)


def quotients(factors: Iterable[int], modulus: int) -> npt.NDArray[np.uint64]:
    """Returns the Shoup quotients w' (uint64) of factors w below the modulus."""
    return np.array([(int(w) << 64) // modulus for w in factors], np.uint64)


def lazy_product(values: Any, factors: Any, quotients: Any, modulus: Any) -> Any:
    """Returns `values * factors` modulo `modulus`, plus it up to three times.

    Args:
        values: uint64, of any size.
        factors: uint64, below the modulus; broadcasts.
        quotients: the Shoup quotients of the factors.
        modulus: uint64, below 2^62; broadcasts.
    """
    # The upper word of values * quotients, by halves. The lowest product is left out,
    # and two are cut, so three fractions are lost, which are below 3 together.
    high, low = values >> _HALF, values & _LOW
    quotient_high, quotient_low = quotients >> _HALF, quotients & _LOW
    cut = (high * quotient_low >> _HALF) + (low * quotient_high >> _HALF)
    return values * factors - (high * quotient_high + cut) * modulus


def reduced(values: Any, modulus: Any, minimum: Any) -> Any:
    """Returns residues of `values` below 4 times the modulus.

    Args:
        values: uint64.
        modulus: uint64, below 2^62; broadcasts.
        minimum: that of NumPy, or of JAX.
    """
    # Where a number is below what is subtracted, the difference wraps and is larger.
    values = minimum(values, values - (modulus + modulus))
    return minimum(values, values - modulus)
