"""Transforms and shares in Python's integers, independent of the package.

OpenFHE takes the least primitive 2N-th root of unity psi of each prime, and gives the
values of a polynomial at psi^(2 i + 1) in bit-reversed order.
"""

import functools
import math

import numpy as np


@functools.cache
def inverse_powers(dimension, modulus):
    base = 2
    while pow(base, (modulus - 1) // 2, modulus) != modulus - 1:
        base += 1
    root = pow(base, (modulus - 1) // (2 * dimension), modulus)
    odd = [root]
    for _ in range(dimension - 1):
        odd.append(odd[-1] * root * root % modulus)
    inverse = pow(min(odd), -1, modulus)
    powers = [1]
    for _ in range(dimension - 1):
        powers.append(powers[-1] * inverse % modulus)
    bits = dimension.bit_length() - 1
    order = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(dimension)]
    return np.array([powers[i] for i in order], object)


def inverse_transform(values, modulus):
    """Coefficients (N,) of the polynomial with those values (N,), modulo the prime."""
    dimension = values.size
    powers, half, values = inverse_powers(dimension, modulus), 1, values.astype(object)
    while half < dimension:
        count = dimension // (2 * half)
        pairs = values.reshape(count, 2, half)
        left, right = pairs[:, 0], pairs[:, 1]
        turned = (left - right) * powers[count : 2 * count, None] % modulus
        values = np.stack([(left + right) % modulus, turned], axis=1).reshape(-1)
        half *= 2
    return values * pow(dimension, -1, modulus) % modulus


def coefficients(polynomial, ring):
    """Coefficients (N,) of a polynomial (L, N), integers around zero."""
    whole, total = math.prod(ring.moduli), 0
    for row, q in zip(polynomial, ring.moduli, strict=True):
        cofactor = whole // q
        total += inverse_transform(row, q) * (cofactor * pow(cofactor, -1, q))
    total %= whole
    return np.where(total > whole // 2, total - whole, total)


def product(left, right, ring):
    """The product of two polynomials (L, N)."""
    column = np.array(ring.moduli, object)[:, None]
    return (left.astype(object) * right % column).astype(np.uint64)


def noise_of(parts, seconds, key, ring):
    """The noise (R, N) in partial decryptions (R, L, N) of `seconds` with a key."""
    moduli = np.array(ring.moduli, np.uint64)[:, None]
    return np.stack(
        [
            coefficients(
                ring.reduce(part + moduli - product(second, key, ring)), ring
            ).astype(np.float64)
            for part, second in zip(parts, seconds, strict=True)
        ]
    )


def at_zero(points, point, modulus):
    """The Lagrange coefficient at zero of one of the points."""
    value = 1
    for other in points:
        if other != point:
            value = value * other * pow(other - point, -1, modulus) % modulus
    return value


def combine(shares, moduli, threshold):
    """The secret (L, N) of the first shares, point -> share, in Python integers."""
    used = dict(list(shares.items())[:threshold])
    rows = [
        sum(
            share[row].astype(object) * at_zero(used, point, q)
            for point, share in used.items()
        )
        % q
        for row, q in enumerate(moduli)
    ]
    return np.stack(rows).astype(np.uint64)
