"""Evaluation, interpolation and products of polynomials of R_q, in batches, by XLA.

A polynomial of Z_q[X] / (X^N + 1) is represented, as in OpenFHE, by its values at the
odd powers of a 2N-th root of unity modulo each prime. Sums and products are then entry
by entry. The root is the least one and the order is bit-reversed, as in OpenFHE, which
`openfhe.schemes` verifies. The transforms between values and coefficients are
number-theoretic with decimation in frequency (Gentleman and Sande, AFIPS 1966), on
residues below 2 q that are reduced at the end (Harvey, "Faster arithmetic for
number-theoretic transforms", Journal of Symbolic Computation 60, 2014).

All results are exact and deterministic. The computation runs on the host's processor,
whatever accelerator JAX trains on, because a factor may be a secret key.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.math.modular import quotients
from fedjax_private.encryption.math.rings import Residues, Ring

# Rows of N residues in one call of a kernel; XLA compiles a kernel for each size.
_BATCH_SIZES = (8, 64)

_Words = npt.NDArray[np.uint64]

# (rows (B, N), constants, modulus) -> rows; see `kernels`.
_Kernel = Callable[..., Any]


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
    constants = [_powers(ring.dimension, q) for q in ring.moduli]
    return _limb_by_limb(_kernels().evaluate, coefficients, constants)


def interpolate(values: Residues, ring: Ring) -> Residues:
    """Returns the coefficients (M, L, N) of polynomials with the values (M, L, N)."""
    constants = [_inverse_powers(ring.dimension, q) for q in ring.moduli]
    return _limb_by_limb(_kernels().interpolate, values, constants)


def multiply(polynomials: Residues, factor: Factor, ring: Ring) -> Residues:
    """Returns the products (M, L, N) of polynomials (M, L, N) with one factor."""
    moduli = map(np.uint64, ring.moduli)
    constants = zip(factor.residues, factor.quotients, moduli, strict=True)
    return _limb_by_limb(_kernels().multiply, polynomials, constants)


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
    negative, size = high < 0, np.abs(high).view(np.uint64)
    if (int(size.max(initial=0)) + 2) << shift < min(ring.moduli):
        # They fit a word, as all but the widest do; this takes a quarter of the time.
        whole = (high << shift).view(np.uint64) + low
        below_zero = whole.view(np.int64) < 0
        for limb, q in enumerate(ring.moduli):
            np.add(whole, below_zero * np.uint64(q), out=result[:, limb])
        return result
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
    constants = np.uint64(factor), quotient, np.uint64(modulus)
    _fill(products, _kernels().multiply, integers, *constants)
    return products


def _limb_by_limb(
    kernel: _Kernel, polynomials: Residues, constants: Iterable[Sequence[Any]]
) -> Residues:
    """Returns a kernel's results for each limb and its constants, the modulus last."""
    result = np.empty_like(polynomials)
    for limb, of_limb in enumerate(constants):
        _fill(result[:, limb], kernel, polynomials[:, limb], *of_limb)
    return result


def _fill(into: _Words, kernel: _Kernel, rows: _Words, *constants: Any) -> None:
    """Fills `into` with a kernel's results for rows (M, N), batch by batch."""
    size = next((s for s in _BATCH_SIZES if len(rows) <= s), _BATCH_SIZES[-1])
    kernels = _kernels()
    *others, modulus = constants
    modulus_on_host = kernels.on_host(int(modulus))
    with kernels.x64():
        for first in range(0, len(rows), size):
            batch = rows[first : first + size]
            count = len(batch)
            if count < size:
                padding = np.zeros((size - count, batch.shape[1]), np.uint64)
                batch = np.concatenate([batch, padding])
            result = kernel(batch, *others, modulus_on_host)
            into[first : first + count] = np.asarray(result)[:count]


def host() -> object:
    """Returns the device that may multiply a secret key: see `kernels.host`."""
    return _kernels().host()


def _kernels() -> Any:
    from fedjax_private.encryption.math import kernels

    return kernels


@functools.lru_cache(maxsize=32)
def _powers(dimension: int, modulus: int) -> tuple[_Words, _Words, np.uint64]:
    """Returns the powers of the root, their quotients, and the modulus."""
    powers = _powers_of(_least_root(2 * dimension, modulus), dimension, modulus)
    return np.array(powers, np.uint64), quotients(powers, modulus), np.uint64(modulus)


@functools.lru_cache(maxsize=32)
def _inverse_powers(
    dimension: int, modulus: int
) -> tuple[_Words, _Words, _Words, np.uint64]:
    """Returns bit-reversed powers of 1/root, their quotients, 1/N, and the modulus."""
    root = pow(_least_root(2 * dimension, modulus), -1, modulus)
    powers, bits = _powers_of(root, dimension, modulus), dimension.bit_length() - 1
    ordered = [powers[int(f"{i:0{bits}b}"[::-1], 2)] for i in range(dimension)]
    table = np.array(ordered, np.uint64), quotients(ordered, modulus)
    inverse = pow(dimension, -1, modulus)
    last = np.array([inverse, *quotients([inverse], modulus)], np.uint64)
    return *table, last, np.uint64(modulus)


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
