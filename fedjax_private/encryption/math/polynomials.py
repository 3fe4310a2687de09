"""Polynomials of R_q evaluated, interpolated and multiplied, many at once, by XLA.

A polynomial of Z_q[X] / (X^N + 1) is held, as in OpenFHE, by its values at the odd
powers of a 2N-th root of unity modulo each prime, where sums and products are entry by
entry. The root is the least one and the order bit-reversed, which is OpenFHE's choice;
`schemes` verifies that it is. The transforms between values and coefficients are
number-theoretic ones with decimation in frequency (Gentleman and Sande, AFIPS 1966), on
residues below 2 q that are reduced at the end (Harvey, "Faster arithmetic for
number-theoretic transforms", Journal of Symbolic Computation 60, 2014).

All of it is exact, draws nothing at random, and runs on the host's processor whatever
accelerator JAX trains on: what is multiplied may be a secret key.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.math.modular import quotients
from fedjax_private.encryption.math.rings import Residues, Ring

# Rows of N residues that a kernel takes at once; XLA compiles one for each size.
_SIZES = (8, 64)

_Words = npt.NDArray[np.uint64]

# (rows (B, N), constants, modulus) -> rows, see `kernels`.
_Kernel = Callable[..., Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Factor:
    """A polynomial that others are multiplied with.

    Attributes:
        residues: (L, N).
        quotients: (L, N), see `modular`.
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
        ring: theirs.
    """
    made = np.empty((len(high), ring.limbs, ring.dimension), np.uint64)
    negative, size = high < 0, np.abs(high).view(np.uint64)
    if (int(size.max(initial=0)) + 2) << shift < min(ring.moduli):
        # They fit a word, as all but the widest do: a quarter of the time.
        whole = (high << shift).view(np.uint64) + low
        below_zero = whole.view(np.int64) < 0
        for limb, q in enumerate(ring.moduli):
            np.add(whole, below_zero * np.uint64(q), out=made[:, limb])
        return made
    for limb, q in enumerate(ring.moduli):
        upper = remainder(size, q, 1 << shift)
        np.subtract(np.uint64(q), upper, out=upper, where=negative)
        total = upper + remainder(low, q)
        np.minimum(total, total - np.uint64(q), out=made[:, limb])
    return made


def remainder(integers: _Words, modulus: int, factor: int = 1) -> _Words:
    """Returns `integers * factor` modulo `modulus`, below 2^63; uint64 (M, N)."""
    products = np.empty_like(integers)
    factor %= modulus
    (quotient,) = quotients([factor], modulus)
    constants = np.uint64(factor), quotient, np.uint64(modulus)
    _fill(products, _kernels().multiply, integers, *constants)
    return products


def _limb_by_limb(
    kernel: _Kernel, polynomials: Residues, constants: Iterable[Sequence[Any]]
) -> Residues:
    """Returns what a kernel makes of each limb with its constants, the modulus last."""
    made = np.empty_like(polynomials)
    for limb, own in enumerate(constants):
        _fill(made[:, limb], kernel, polynomials[:, limb], *own)
    return made


def _fill(into: _Words, kernel: _Kernel, rows: _Words, *constants: Any) -> None:
    """Fills `into` with what a kernel makes of rows (M, N), piece by piece."""
    size = next((s for s in _SIZES if len(rows) <= s), _SIZES[-1])
    kernels = _kernels()
    *others, modulus = constants
    pinned = kernels.on_the_host(int(modulus))
    with kernels.words():
        for first in range(0, len(rows), size):
            piece = rows[first : first + size]
            count = len(piece)
            if count < size:
                filling = np.zeros((size - count, piece.shape[1]), np.uint64)
                piece = np.concatenate([piece, filling])
            made = kernel(piece, *others, pinned)
            into[first : first + count] = np.asarray(made)[:count]


def host() -> object:
    """The device that may multiply a secret key: see `kernels.host`."""
    return _kernels().host()


def _kernels() -> Any:
    from fedjax_private.encryption.math import kernels

    return kernels


@functools.lru_cache(maxsize=32)
def _powers(dimension: int, modulus: int) -> tuple[_Words, _Words, np.uint64]:
    """The root's powers, their quotients, and the modulus."""
    powers = _powers_of(_least_root(2 * dimension, modulus), dimension, modulus)
    return np.array(powers, np.uint64), quotients(powers, modulus), np.uint64(modulus)


@functools.lru_cache(maxsize=32)
def _inverse_powers(
    dimension: int, modulus: int
) -> tuple[_Words, _Words, _Words, np.uint64]:
    """Those of the root's inverse, bit-reversed, and that of N; then as above."""
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
    """The least number of multiplicative order `order`, a power of two."""
    base = 2
    while pow(base, (modulus - 1) // 2, modulus) != modulus - 1:
        base += 1
    root = least = pow(base, (modulus - 1) // order, modulus)
    square = root * root % modulus
    for _ in range(order // 2 - 1):
        root = root * square % modulus
        least = min(least, root)
    return least
