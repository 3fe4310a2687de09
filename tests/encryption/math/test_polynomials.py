"""Polynomials against Python's integers: values, products and residues."""

import numpy as np
import pytest

from fedjax_private.encryption.math.polynomials import (
    Factor,
    evaluate,
    interpolate,
    multiply,
    remainder,
    residues,
)
from fedjax_private.encryption.math.rings import Ring

# Primes that are 1 mod 2N: small ones, and those that OpenFHE takes.
RINGS = [
    Ring(8, (17,)),
    Ring(8, (97, 17)),
    Ring(2048, (9007199254614017,)),
    Ring(4096, (1152921504606830593,)),
    Ring(4096, (9007199254429697, 4503599627542529)),
]
rings = pytest.mark.parametrize("ring", RINGS, ids=lambda r: f"{r.dimension}x{r.limbs}")


def random(ring, count, seed=0):
    """Polynomials (count, L, N), the extremes among their residues."""
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, q, (count, ring.dimension), np.uint64) for q in ring.moduli]
    made = np.stack(rows, axis=1)
    made[0, :, 0] = 0
    made[-1] = np.array(ring.moduli, np.uint64)[:, None] - np.uint64(1)
    return made


def least_root(order, modulus):
    """The least number of multiplicative order `order`, a power of two."""
    base = 2
    while pow(base, (modulus - 1) // 2, modulus) == 1:
        base += 1
    root = pow(base, (modulus - 1) // order, modulus)
    return min(pow(root, odd, modulus) for odd in range(1, order, 2))


def horner(coefficients, point, modulus):
    value = 0
    for coefficient in reversed(coefficients.tolist()):
        value = (value * point + coefficient) % modulus
    return value


def reversed_bits(index, size):
    return int(f"{index:0{size.bit_length() - 1}b}"[::-1], 2)


def exactly(operation, ring, *arrays):
    """An operation on Python's integers, of any size."""
    column = np.array(ring.moduli, object)[:, None]
    return (operation(*(a.astype(object) for a in arrays)) % column).astype(np.uint64)


@rings
def test_values_are_those_at_odd_powers_of_the_least_root(ring):
    coefficients = random(ring, 2)
    values, size = evaluate(coefficients, ring), ring.dimension
    for limb, q in enumerate(ring.moduli):
        root = least_root(2 * size, q)
        for place in {0, 1, 2, size // 2, size // 3, size - 1}:
            point = pow(root, 2 * reversed_bits(place, size) + 1, q)
            for row in range(2):
                expected = horner(coefficients[row, limb], point, q)
                assert int(values[row, limb, place]) == expected


@rings
@pytest.mark.parametrize("count", [1, 8, 9, 64, 65, 130])
def test_interpolation_undoes_evaluation(ring, count):
    coefficients = random(ring, count)
    values = evaluate(coefficients, ring)
    assert values.shape == coefficients.shape
    assert (values < np.array(ring.moduli, np.uint64)[:, None]).all()
    np.testing.assert_array_equal(interpolate(values, ring), coefficients)
    np.testing.assert_array_equal(evaluate(interpolate(values, ring), ring), values)
    # Each by itself, in a kernel of another size.
    np.testing.assert_array_equal(evaluate(coefficients[-1:], ring), values[-1:])


@rings
def test_products_are_those_of_polynomials(ring):
    polynomials, other = random(ring, 3), random(ring, 1, seed=1)[0]
    factor = Factor.of(other, ring)
    products = multiply(polynomials, factor, ring)
    expected = exactly(np.multiply, ring, polynomials, other[None])
    np.testing.assert_array_equal(products, expected)
    # X^N = -1: what leaves at the top comes back at the bottom with its sign changed.
    shift = np.zeros((1, ring.limbs, ring.dimension), np.uint64)
    shift[..., 5] = 1
    values = evaluate(polynomials, ring)
    (by_x5,) = evaluate(shift, ring)
    turned = interpolate(multiply(values, Factor.of(by_x5, ring), ring), ring)
    np.testing.assert_array_equal(turned[..., 5:], polynomials[..., :-5])
    back = exactly(np.negative, ring, polynomials[..., -5:])
    np.testing.assert_array_equal(turned[..., :5], back)


@rings
def test_evaluation_is_linear(ring):
    left, right = random(ring, 2), random(ring, 2, seed=1)
    total = ring.add(left, right)
    np.testing.assert_array_equal(total, exactly(np.add, ring, left, right))
    apart = ring.add(evaluate(left, ring), evaluate(right, ring))
    np.testing.assert_array_equal(evaluate(total, ring), apart)


@rings
@pytest.mark.parametrize("shift", [0, 1, 6, 32, 62])
@pytest.mark.parametrize("largest", [1, 2**30, 2**62])
def test_residues_are_those_of_the_integers(ring, shift, largest):
    rng = np.random.default_rng(shift)
    high = rng.integers(-largest, largest, (3, ring.dimension), endpoint=True)
    low = rng.integers(0, 2 ** (shift + 1), (3, ring.dimension), np.uint64)
    last = 2 ** (shift + 1) - 1
    high[0, :5] = 0, -1, largest, -largest, -1
    low[0, :5] = 0, 0, last, 0, last
    integers = high.astype(object) * 2**shift + low.astype(object)
    found = residues(high, low, shift, ring)
    for limb, q in enumerate(ring.moduli):
        np.testing.assert_array_equal(found[:, limb].astype(object), integers % q)


@pytest.mark.parametrize("modulus", [2, 17, 9007199254614017, 2**62 - 57])
@pytest.mark.parametrize("factor", [0, 1, 5, -1, 2**70])
def test_remainders_are_those_of_the_integers(modulus, factor):
    integers = np.array([[0, 1, modulus - 1, modulus, 2**63, 2**64 - 1]], np.uint64)
    found = remainder(integers, modulus, factor)
    expected = integers.astype(object) * factor % modulus
    np.testing.assert_array_equal(found.astype(object), expected)
