"""Shamir's T-of-n secret sharing of polynomials given by residues. NumPy only.

Source: Shamir, "How to share a secret", Communications of the ACM 22(11), 1979. A
secret is an array (L, N), uint64: row l holds residues modulo the prime q_l. Each
residue s is the constant term of a polynomial of its own,

    f(x) = s + c_1 x + ... + c_(T-1) x^(T-1)  modulo q_l,

with uniform c_k, and the share of party i = 1..n is f(i). Any T shares give f(0) = s.
Shares at the same points can be added, and multiplied by a constant: the results are
shares of the sum and of the multiple.

Formal guarantees: for uniform c_k, any T - 1 shares together are uniform and
independent of the secret, whatever the computing power of those who hold them. Here
the c_k are as good as the operating system's generator. This holds for parties that
follow the protocol: shares are not authenticated, so a wrong share gives a wrong secret
that nothing here detects. Memory that held secrets is not erased.
"""

import operator
import os
from collections.abc import Mapping, Sequence

import numpy as np

from fedjax_private.encryption.math.modular import LIMIT, lazy_product, quotients
from fedjax_private.encryption.math.rings import Residues


def share(
    secret: Residues, moduli: Sequence[int], threshold: int, count: int
) -> Residues:
    """Returns shares of `secret`, any `threshold` of which recover it.

    Each call draws fresh randomness from the operating system.

    Formal guarantees: any `threshold` - 1 of the shares are uniform and independent of
    the secret (see the module). A threshold of 1 hides nothing.

    Args:
        secret: residues (L, N), uint64, row l below the l-th modulus.
        moduli: L distinct primes below 2^63.
        threshold: T, the number of shares that recover the secret.
        count: n, the number of shares.

    Returns:
        Shares (count, L, N), uint64: entry i is the share at point i + 1.

    Raises:
        ValueError: if the threshold is outside 1..count, if a modulus is not above
            `count` or has a factor up to it, or if the secret has another dtype, shape
            or range.
    """
    primes = _checked_moduli(moduli)
    if not 1 <= threshold <= count:
        raise ValueError(
            f"threshold must lie between 1 and the {count} shares, got {threshold}."
        )
    # Shares at points that agree modulo a factor of q would be related.
    if any(q % factor == 0 for q in primes for factor in range(2, count + 1)):
        raise ValueError(
            f"{count} shares need moduli that are primes above {count}, got {primes}."
        )
    secret = _checked_residues(secret, primes)

    column = _column(primes)
    coefficients = np.empty((threshold - 1, *secret.shape), np.uint64)
    for row, q in enumerate(primes):
        target = coefficients[:, row]
        target[...] = _uniform(target.size, q).reshape(target.shape)
    terms = [secret, *coefficients]
    shares = np.empty((count, *secret.shape), np.uint64)
    for point in range(1, count + 1):
        constant = _precomputed([point] * len(primes), primes)
        value = terms[-1]
        for term in reversed(terms[:-1]):
            value = _add(_multiply(value, *constant, column), term, column)
        shares[point - 1] = value
    return shares


def lagrange_at_zero(points: Sequence[int], modulus: int) -> tuple[int, ...]:
    """Returns the coefficients with which the shares at `points` sum to the secret.

    The coefficient of point x_i is the product over j != i of x_j / (x_j - x_i),
    modulo the prime `modulus`; it lies in [0, modulus).

    Raises:
        ValueError: if there are no points, if two are equal or one is zero modulo
            `modulus`, or if a difference has no inverse because `modulus` is no
            prime.
    """
    modulus = operator.index(modulus)
    residues = [operator.index(point) % modulus for point in points]
    if not residues or 0 in residues or len(set(residues)) != len(residues):
        raise ValueError(
            f"points must be distinct and not zero modulo {modulus}, got "
            f"{list(points)}."
        )
    coefficients = []
    for point in residues:
        numerator = denominator = 1
        for other in residues:
            if other != point:
                numerator = numerator * other % modulus
                denominator = denominator * (other - point) % modulus
        coefficients.append(numerator * pow(denominator, -1, modulus) % modulus)
    return tuple(coefficients)


def combine(
    shares: Mapping[int, Residues], moduli: Sequence[int], threshold: int
) -> Residues:
    """Returns the secret of `shares`.

    Uses the first `threshold` shares in the order of the mapping. It ignores the
    others, so it does not check that they agree.

    Args:
        shares: point -> its share (L, N), uint64.
        moduli: L distinct primes below 2^63.
        threshold: T, as given to `share`.

    Returns:
        The secret (L, N), uint64.

    Raises:
        ValueError: if there are fewer shares than the threshold, if the threshold is
            not positive, if points coincide or are zero, or if a used share has another
            dtype, shape or range.
    """
    primes = _checked_moduli(moduli)
    if not 1 <= threshold <= len(shares):
        raise ValueError(
            f"{len(shares)} shares do not meet a threshold of {threshold}: it must be "
            "at least 1, and that many shares are needed."
        )
    used = {
        point: _checked_residues(values, primes)
        for point, values in list(shares.items())[:threshold]
    }
    if len({values.shape for values in used.values()}) != 1:
        raise ValueError("shares of one secret must have the same shape.")

    column = _column(primes)
    by_modulus = [lagrange_at_zero(list(used), q) for q in primes]
    secret = np.zeros_like(next(iter(used.values())))
    for values, factors in zip(
        used.values(), zip(*by_modulus, strict=True), strict=True
    ):
        product = _multiply(values, *_precomputed(factors, primes), column)
        secret = _add(secret, product, column)
    return secret


def scale(values: Residues, factors: Sequence[int], moduli: Sequence[int]) -> Residues:
    """Returns `values` times one constant per modulus, exactly.

    Args:
        values: residues (L, N), uint64, row l below the l-th modulus.
        factors: L integers of any size and sign, taken modulo their modulus.
        moduli: L distinct moduli below 2^63.

    Returns:
        The products (L, N), uint64, row l below the l-th modulus.

    Raises:
        ValueError: if there is not one factor per modulus, or if the values have
            another dtype, shape or range.
    """
    primes = _checked_moduli(moduli)
    values = _checked_residues(values, primes)
    if len(factors) != len(primes):
        raise ValueError(
            f"{len(primes)} moduli need a factor each, got {len(factors)}."
        )
    return _multiply(values, *_precomputed(factors, primes), _column(primes))


def _uniform(size: int, modulus: int) -> Residues:
    """Returns values (size,), uint64, uniform below `modulus`.

    Draws words with as many bits as the modulus and drops those that are too large.
    Reducing them instead would favour small values.
    """
    mask = np.uint64(2 ** (modulus - 1).bit_length() - 1)
    values = np.empty(0, np.uint64)
    while values.size < size:
        words = np.frombuffer(os.urandom(8 * (size - values.size)), np.uint64) & mask
        values = np.concatenate([values, words[words < np.uint64(modulus)]])
    return values


def _add(left: Residues, right: Residues, moduli: Residues) -> Residues:
    """Returns residues (L, N) plus residues, for `moduli` (L, 1)."""
    return _reduced(left + right, moduli)


def _multiply(
    values: Residues, factors: Residues, quotients: Residues, moduli: Residues
) -> Residues:
    """Returns residues (L, N) times `factors` (L, 1) with their Shoup `quotients`."""
    return _reduced(lazy_product(values, factors, quotients, moduli), moduli)


def _reduced(values: Residues, moduli: Residues) -> Residues:
    """Returns values below 2 q modulo q."""
    # Below q, the difference wraps around and is the larger one.
    return np.minimum(values, values - moduli)


def _precomputed(
    factors: Sequence[int], moduli: Sequence[int]
) -> tuple[Residues, Residues]:
    """Returns factors modulo q and their Shoup quotients, (L, 1) each."""
    reduced = [
        operator.index(factor) % q for factor, q in zip(factors, moduli, strict=True)
    ]
    shoup = [quotients([w], q) for w, q in zip(reduced, moduli, strict=True)]
    return _column(reduced), np.stack(shoup)


def _column(numbers: Sequence[int]) -> Residues:
    return np.array(numbers, np.uint64)[:, np.newaxis]


def _checked_moduli(moduli: Sequence[int]) -> list[int]:
    """Returns the moduli as Python integers, which do not overflow.

    Raises:
        ValueError: if there are none, if two are equal, or if one is out of range.
    """
    numbers = [operator.index(q) for q in moduli]
    in_range = all(2 <= q < LIMIT for q in numbers)
    if not numbers or not in_range or len(set(numbers)) != len(numbers):
        raise ValueError(f"moduli must be distinct primes below 2^63, got {numbers}.")
    return numbers


def _checked_residues(values: Residues, moduli: Sequence[int]) -> Residues:
    """Returns `values` as residues (L, N), uint64.

    Raises:
        ValueError: if they have another dtype or shape, or if a row is not below its
            modulus.
    """
    array = np.asarray(values)
    if array.dtype != np.uint64 or array.ndim != 2 or len(array) != len(moduli):
        raise ValueError(
            f"residues for {len(moduli)} moduli must be as many rows of uint64, got "
            f"shape {array.shape} of {array.dtype}."
        )
    if np.any(array >= _column(moduli)):
        raise ValueError("each row of residues must lie below its modulus.")
    return array
