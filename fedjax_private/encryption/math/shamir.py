"""Shamir's T-of-n secret sharing of polynomials given by residues. NumPy only.

Source: Shamir, "How to share a secret", Communications of the ACM 22(11), 1979. A
secret is an array (L, N), uint64: row l holds residues modulo the prime q_l. Each
residue s is the value at 0 of a polynomial of its own, in Newton's basis

    f(x) = s + c_1 binom(x, 1) + ... + c_(T-1) binom(x, T-1)  modulo q_l,

with uniform c_k, and the share of party i = 1..n is f(i). Any T shares give f(0) = s.
Shares at the same points can be added, and multiplied by a constant: the results are
shares of the sum and of the multiple.

The polynomials are those of uniform coefficients of powers of x: c_k is k! times the
k-th, plus a sum of multiples of the later ones, and no k! is 0 modulo a prime above n.
The c_k are the forward differences of f at 0, so values at one point after another
need additions only.

Formal guarantees: for uniform c_k, any T - 1 shares together are uniform and
independent of the secret, whatever the computing power of those who hold them. Here
the c_k are key stream of ChaCha20 under a fresh 256-bit key from the operating system,
so they look uniform to whoever cannot tell that cipher, or that key, from random. This
holds for parties that follow the protocol: shares are not authenticated, so a wrong
share gives a wrong secret that nothing here detects. Memory that held secrets is not
erased.
"""

import math
import os
from collections.abc import Sequence

import numpy as np

from fedjax_private.encryption.math.expansion import below, stream
from fedjax_private.encryption.math.modular import lazy_product, quotients, reduced
from fedjax_private.encryption.math.rings import Residues, Ring

# Residues whose polynomials are evaluated at once, so that differences fit the cache.
_BLOCK = 1024


def share(secret: Residues, ring: Ring, threshold: int, count: int) -> Residues:
    """Returns shares of `secret`, any `threshold` of which recover it.

    Each call draws a fresh key of ChaCha20 from the operating system.

    Formal guarantees: any `threshold` - 1 of the shares are uniform and independent of
    the secret, as far as the cipher's key stream is uniform (see the module). A
    threshold of 1 hides nothing.

    Args:
        secret: residues (L, N), uint64, row l below the l-th modulus.
        ring: the moduli, L distinct primes below 2^63.
        threshold: T, the number of shares that recover the secret.
        count: n, the number of shares.

    Returns:
        Shares (count, L, N), uint64: entry i is the share at point i + 1.

    Raises:
        ValueError: if the threshold is outside 1..count, if a modulus is not above
            `count` or has a factor up to it, or if the secret has another dtype, shape
            or range.
    """
    if not 1 <= threshold <= count:
        raise ValueError(
            f"threshold must lie between 1 and the {count} shares, got {threshold}."
        )
    # Shares at points that agree modulo a factor of q would be related.
    if any(q % factor == 0 for q in ring.moduli for factor in range(2, count + 1)):
        raise ValueError(
            f"{count} shares need moduli that are primes above {count}, got "
            f"{ring.moduli}."
        )
    if secret.dtype != np.uint64 or secret.shape != (ring.limbs, ring.dimension):
        raise ValueError(
            f"residues for {ring.limbs} moduli must be as many rows of uint64, got "
            f"shape {secret.shape} of {secret.dtype}."
        )
    if np.any(secret >= ring.column):
        raise ValueError("each row of residues must lie below its modulus.")
    shares = np.empty((count, *secret.shape), np.uint64)
    draw = stream(os.urandom(32))
    for row, q in enumerate(ring.moduli):
        drawn = below(q, (threshold - 1) * ring.dimension, draw)
        coefficients = drawn.reshape(-1, ring.dimension)
        for first in range(0, ring.dimension, _BLOCK):
            at = slice(first, first + _BLOCK)
            differences = np.vstack([secret[row, at], coefficients[:, at]])
            _evaluate(differences, np.uint64(q), shares[:, row, at])
    return shares


def _evaluate(differences: Residues, modulus: np.uint64, into: Residues) -> None:
    """Fills rows (n, N) with the values of polynomials at the points 1 to n.

    Args:
        differences: (T, N), the forward differences at 0, row k the k-th ones; they are
            overwritten.
        modulus: below 2^63.
        into: the rows.
    """
    sums, smaller = np.empty_like(differences[1:]), np.empty_like(differences[1:])
    for index, row in enumerate(into):
        # The later differences have no effect on the points that are left.
        depth = min(len(sums), len(into) - index)
        total, less = sums[:depth], smaller[:depth]
        np.add(differences[:depth], differences[1 : depth + 1], out=total)
        # Where a sum is below the prime, the difference wraps around and is larger.
        np.subtract(total, modulus, out=less)
        np.minimum(total, less, out=differences[:depth])
        row[:] = differences[0]


def lagrange_at_zero(points: Sequence[int], modulus: int) -> tuple[int, ...]:
    """Returns the coefficients with which the shares at `points` sum to the secret.

    The coefficient of point x_i is the product over j != i of x_j / (x_j - x_i),
    modulo the prime `modulus`; it lies in [0, modulus).

    Raises:
        ValueError: if there are no points, if two are equal or one is zero modulo
            `modulus`, or if a difference has no inverse because `modulus` is no
            prime.
    """
    residues = [point % modulus for point in points]
    if not residues or 0 in residues or len(set(residues)) != len(residues):
        raise ValueError(
            f"points must be distinct and not zero modulo {modulus}, got "
            f"{list(points)}."
        )
    coefficients = []
    for point in residues:
        others = [other for other in residues if other != point]
        inverse = pow(math.prod(other - point for other in others), -1, modulus)
        coefficients.append(math.prod(others) * inverse % modulus)
    return tuple(coefficients)


def scale(values: Residues, factors: Sequence[int], ring: Ring) -> Residues:
    """Returns residues (L, N) times one constant per modulus, exactly.

    Args:
        values: uint64, row l below the l-th modulus.
        factors: L integers of any size and sign, taken modulo their modulus.
        ring: the moduli.
    """
    pairs = [(w % q, q) for w, q in zip(factors, ring.moduli, strict=True)]
    constants = np.array([[w] for w, _ in pairs], np.uint64)
    shoup = np.stack([quotients([w], q) for w, q in pairs])
    product = lazy_product(values, constants, shoup, ring.column)
    return np.asarray(reduced(product, ring.column, np.minimum))
