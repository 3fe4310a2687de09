import math
from dataclasses import replace

import numpy as np
import pytest

from fedjax_private.encryption.math.plaintexts import decode, encode
from fedjax_private.encryption.math.rings import Ring
from fedjax_private.encryption.parameters import Scheme, derive
from tests.encryption.fixtures import sum_request

# What OpenFHE takes for these parameters.
PRIMES = {
    (2048, 45): (35184371884033,),
    (2048, 53): (9007199254614017,),
    (4096, 60): (1152921504606830593,),
    (4096, 106): (9007199254429697, 9007199254364161),
    (4096, 105): (9007199254429697, 4503599627542529),
}


def case(scheme, **changes):
    holders = 3 if scheme.threshold else 1
    parameters = derive(sum_request(scheme, 5000, 4, holders, **changes))
    key = parameters.ring_dimension, parameters.modulus_bits
    return parameters, Ring(parameters.ring_dimension, PRIMES[key])


def integers(residues, ring):
    """The polynomials' coefficients, as Python's integers between -q/2 and q/2."""
    q, total = math.prod(ring.moduli), 0
    for limb, prime in enumerate(ring.moduli):
        rest = q // prime
        unit = rest * pow(rest, -1, prime)
        total = total + residues[:, limb].astype(object) * unit
    total = total % q
    return np.where(total > q // 2, total - q, total)


def residues_of(numbers, ring):
    rows = [(numbers % q).astype(np.uint64) for q in ring.moduli]
    return np.stack(rows, axis=1)


EXACT = [
    (Scheme.EXACT, {}),
    (Scheme.EXACT, {"quantization_bits": 24}),
    (Scheme.THRESHOLD_EXACT, {}),
]


@pytest.fixture(params=EXACT, ids=str)
def exact(request):
    scheme, changes = request.param
    parameters, ring = case(scheme, **changes)
    t = parameters.plaintext_modulus
    rows = np.random.default_rng(0).integers(0, t, (3, parameters.slots))
    rows[0, :5] = 0, 1, t // 2, t // 2 + 1, t - 1
    return parameters, ring, rows


def test_whole_numbers_become_coefficients(exact):
    parameters, ring, rows = exact
    found = integers(encode(rows, parameters, ring), ring)
    t, q = parameters.plaintext_modulus, math.prod(ring.moduli)
    if parameters.request.scheme is Scheme.EXACT:
        expected = np.where(rows > t // 2, rows - t, rows).astype(object)
    else:
        scaled = (2 * q * rows.astype(object) + t) // (2 * t)  # rounded, by integers
        expected = np.where(scaled > q // 2, scaled - q, scaled)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("sign", [1, -1])
def test_noise_up_to_half_a_step_is_removed_and_more_is_not(exact, sign):
    parameters, ring, rows = exact
    t, q = parameters.plaintext_modulus, math.prod(ring.moduli)
    message = integers(encode(rows, parameters, ring), ring)
    # BGV's noise is a multiple of t, with the message within q / 2; BFV's is anything.
    step, most = (t, q // t // 2) if ring.limbs == 1 else (1, q // t // 2)
    near = 2 + most // 2**40  # a float64 tells no closer numbers apart
    for noise, right in ((most - near, True), (most + near, False)):
        found = decode(
            residues_of(message + sign * step * noise, ring), parameters, ring
        )
        assert found.dtype == np.int64
        assert (found.min() >= 0) and (found.max() < t)
        assert (found == rows).all() == right


def test_sums_of_messages_are_messages_of_sums(exact):
    parameters, ring, rows = exact
    total = ring.reduce(encode(rows, parameters, ring).sum(axis=0, keepdims=True))
    expected = rows.sum(axis=0) % parameters.plaintext_modulus
    np.testing.assert_array_equal(decode(total, parameters, ring)[0], expected)


CKKS = [
    {"protect": False},
    {"protect": False, "precision": 1e-10},
    {},
    {"precision": 1e-9},
    {"packing": "real"},
]


@pytest.fixture(params=CKKS, ids=str)
def ckks(request):
    parameters, ring = case(Scheme.CKKS, **request.param)
    rng, bound = np.random.default_rng(0), parameters.request.sum_bound
    rows = rng.uniform(-bound, bound, (3, parameters.slots, 2))
    rows[0, 0] = bound, -bound
    if not parameters.request.complex_packing:
        return parameters, ring, rows[..., 0].copy()
    return parameters, ring, rows.view(np.complex128)[..., 0]


def test_slots_are_values_of_the_polynomial(ckks):
    parameters, ring, rows = ckks
    coefficients = integers(encode(rows, parameters, ring), ring)
    size = ring.dimension
    for slot in (0, 1, 500, size // 2 - 1):
        point = np.exp(
            1j * np.pi / size * ((4 * slot + 1) * np.arange(size) % (2 * size))
        )
        values = (coefficients.astype(np.float64) * point).sum(
            axis=1
        ) / parameters.scale
        tolerance = 1e-11 + size / parameters.scale
        np.testing.assert_allclose(values, rows[:, slot], rtol=0, atol=tolerance)


def test_slots_come_back_with_the_noise_that_was_added(ckks):
    parameters, ring, rows = ckks
    message = integers(encode(rows, parameters, ring), ring)
    rng = np.random.default_rng(1)
    deviation = parameters.scale * 1e-6
    noise = np.vectorize(int, otypes=[object])(rng.normal(0, deviation, message.shape))
    found = decode(residues_of(message + noise, ring), parameters, ring)
    assert found.dtype == rows.dtype
    error = (found - rows).view(np.float64)
    expected = 1e-6 * math.sqrt(ring.dimension / 2)
    assert error.std() == pytest.approx(expected, rel=0.05)
    bare = decode(encode(rows, parameters, ring), parameters, ring)
    rounding = math.sqrt(ring.dimension / 24) / parameters.scale + 1e-15
    assert np.abs(bare - rows).max() < 8 * rounding


def test_another_scale_would_be_noticed(ckks):
    parameters, ring, rows = ckks
    other = replace(parameters, scale=1.001 * parameters.scale)
    found = decode(encode(rows, parameters, ring), other, ring)
    assert np.abs(found - rows).max() > 1e-4
