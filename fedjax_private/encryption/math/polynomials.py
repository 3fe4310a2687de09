"""Evaluation, interpolation and products of polynomials of R_q, in batches, by XLA.

A polynomial of Z_q[X] / (X^N + 1) is represented, as in OpenFHE, by its values at the
odd powers of a 2N-th root of unity modulo each prime. Sums and products are then entry
by entry. The root is the least one and the order is bit-reversed, as in OpenFHE, which
`openfhe.schemes` verifies. The transforms between values and coefficients are
number-theoretic with decimation in frequency (Gentleman and Sande, AFIPS 1966), on
residues below 4 q that are reduced at the end (Harvey, "Faster arithmetic for
number-theoretic transforms", Journal of Symbolic Computation 60, 2014).

All results are exact and deterministic. The computation runs on the host's processor,
whatever accelerator JAX trains on, because a factor may be a secret key.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.math.modular import quotients
from fedjax_private.encryption.math.rings import Residues, Ring

# Rows of N residues in one call of a kernel; XLA compiles a kernel for each size.
_BATCH_SIZES = (4, 8, 32, 64)

# Rows, and places of rows, that are transposed together: what they touch fits the
# cache, although rows lie at distances of a power of two.
_ROWS, _PLACES = 8, 128

_Words = npt.NDArray[np.uint64]


@dataclasses.dataclass(frozen=True, eq=False)
class Factor:
    """A polynomial prepared as a factor of products.

    Attributes:
        residues: its values, (L, N).
        quotients: their Shoup quotients, (L, N); see `modular`.
    """

    residues: Residues
    quotients: Residues

    @classmethod
    def of(cls, residues: Residues, ring: Ring) -> "Factor":
        """Prepares the polynomial (L, N)."""
        pairs = zip(residues, ring.moduli, strict=True)
        return cls(residues, np.stack([quotients(row, q) for row, q in pairs]))


def evaluate(coefficients: Residues, ring: Ring) -> Residues:
    """Returns the values (M, L, N) of polynomials with the coefficients (M, L, N)."""
    return _transformed("evaluate", coefficients, ring, _powers)


def interpolate(values: Residues, ring: Ring) -> Residues:
    """Returns the coefficients (M, L, N) of polynomials with the values (M, L, N)."""
    return _transformed("interpolate", values, ring, _inverse_powers)


def multiply(polynomials: Residues, factor: Factor, ring: Ring) -> Residues:
    """Returns the products (M, L, N) of polynomials (M, L, N) with one factor."""
    result = np.empty_like(polynomials)
    for limb, q in enumerate(ring.moduli):
        factors = factor.residues[limb], factor.quotients[limb]
        _multiply(result[:, limb], polynomials[:, limb], q, *factors)
    return result


def residues(
    high: npt.NDArray[np.int64], low: _Words, shift: int, ring: Ring
) -> Residues:
    """Returns the residues (M, L, N) of the integers `high 2^shift + low` (M, N).

    Args:
        high: int64.
        low: uint64, below 2^(shift + 1).
        shift: up to 62.
        ring: the ring of the polynomials.
    """
    result = np.empty((len(high), ring.limbs, ring.dimension), np.uint64)
    largest = max(int(high.max(initial=0)), -int(high.min(initial=0)))
    if (largest + 2) << shift < min(ring.moduli):
        # They fit a word, as all but the widest do; this takes a quarter of the time.
        whole = high << shift
        whole += low.view(np.int64)
        below_zero = whole >> 63  # all bits, or none
        for limb, q in enumerate(ring.moduli):
            np.add(whole, below_zero & q, out=result[:, limb].view(np.int64))
        return result
    negative, size = high < 0, np.abs(high).view(np.uint64)
    for limb, q in enumerate(ring.moduli):
        upper = remainder(size, q, 1 << shift)
        np.subtract(np.uint64(q), upper, out=upper, where=negative)
        total = upper + remainder(low, q)
        np.minimum(total, total - np.uint64(q), out=result[:, limb])
    return result


def remainder(integers: _Words, modulus: int, factor: int = 1) -> _Words:
    """Returns `integers * factor` (M, N), uint64, modulo a `modulus` below 2^63."""
    products = np.empty_like(integers)
    factor %= modulus
    (quotient,) = quotients([factor], modulus)
    _multiply(products, integers, modulus, np.uint64(factor), quotient)
    return products


def _multiply(into: _Words, rows: _Words, modulus: int, *factors: Any) -> None:
    """Fills `into` with rows (M, N) times a constant, or a polynomial (N,)."""
    kernels = _kernels()
    on_host = kernels.on_host(modulus)
    with kernels.x64():
        for batch, size in _batches(len(rows)):
            padded = rows[batch]
            if len(padded) < size:
                padding = np.zeros((size - len(padded), rows.shape[1]), np.uint64)
                padded = np.concatenate([padded, padding])
            result = np.asarray(kernels.multiply(padded, *factors, on_host))
            into[batch] = result[: len(into[batch])]


def _transformed(
    name: str, polynomials: Residues, ring: Ring, constants: Callable[..., Any]
) -> Residues:
    """Returns what a kernel makes of polynomials (M, L, N), limb by limb."""
    result, kernels = np.empty_like(polynomials), _kernels()
    kernel = getattr(kernels, name)
    with kernels.x64():
        for batch, size in _batches(len(polynomials)):
            for limb, q in enumerate(ring.moduli):
                columns = _columns(polynomials[batch, limb], size)
                of_limb = constants(ring.dimension, q)
                columns = kernel(columns, *of_limb, kernels.on_host(q))
                _fill(result[batch, limb], np.asarray(columns))
    return result


def _batches(count: int) -> Iterator[tuple[slice, int]]:
    """Yields slices of `count` rows and the sizes of their batches."""
    size = next((s for s in _BATCH_SIZES if count <= s), _BATCH_SIZES[-1])
    for first in range(0, count, size):
        yield slice(first, first + size), size


def _columns(rows: _Words, size: int) -> _Words:
    """Returns rows (M, N) as columns (N, size), the last ones zero."""
    count = len(rows)
    columns = np.empty((rows.shape[1], size), np.uint64)
    columns[:, count:] = 0
    for first in range(0, count, _ROWS):
        some = slice(first, min(first + _ROWS, count))
        columns[:, some] = rows[some].T
    return columns


def _fill(rows: _Words, columns: _Words) -> None:
    """Fills rows (M, N) from columns (N, size)."""
    for first in range(0, len(columns), _PLACES):
        some = slice(first, first + _PLACES)
        rows[:, some] = columns[some, : len(rows)].T


def host() -> object:
    """Returns the device that may multiply a secret key: see `kernels.host`."""
    return _kernels().host()


def _kernels() -> Any:
    from fedjax_private.encryption.math import kernels

    return kernels


@functools.lru_cache(maxsize=32)
def _powers(dimension: int, modulus: int) -> tuple[Any, ...]:
    """Returns the powers of the root and their quotients, on the host."""
    powers = _powers_of(_least_root(2 * dimension, modulus), dimension, modulus)
    return _constants(powers, modulus)


@functools.lru_cache(maxsize=32)
def _inverse_powers(dimension: int, modulus: int) -> tuple[Any, ...]:
    """Returns bit-reversed powers of 1/root, their quotients, and 1/N, on the host."""
    root = pow(_least_root(2 * dimension, modulus), -1, modulus)
    powers, bits = _powers_of(root, dimension, modulus), dimension.bit_length() - 1
    ordered = [powers[int(f"{i:0{bits}b}"[::-1], 2)] for i in range(dimension)]
    inverse = pow(dimension, -1, modulus)
    last = np.array([inverse, *quotients([inverse], modulus)], np.uint64)
    return *_constants(ordered, modulus), _kernels().put(last)


def _constants(powers: Sequence[int], modulus: int) -> tuple[Any, ...]:
    put = _kernels().put
    return put(np.array(powers, np.uint64)), put(quotients(powers, modulus))


def _powers_of(root: int, count: int, modulus: int) -> list[int]:
    powers = [1]
    for _ in range(count - 1):
        powers.append(powers[-1] * root % modulus)
    return powers


def _least_root(order: int, modulus: int) -> int:
    """Returns the least number of multiplicative order `order`, a power of two."""
    base = 2
    while pow(base, (modulus - 1) // 2, modulus) != modulus - 1:
        base += 1
    root = least = pow(base, (modulus - 1) // order, modulus)
    square = root * root % modulus
    for _ in range(order // 2 - 1):
        root = root * square % modulus
        least = min(least, root)
    return least
