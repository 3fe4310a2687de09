"""Whether sums are as precise, and hold as much, as `derive` computes."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from fedjax_private.encryption.math.packing import pack, unpack
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.parameters import Scheme, derive
from tests.encryption.fixtures import sum_request

pytestmark = pytest.mark.needs_openfhe

VALUES = 12_000
BOUND = 4.0
CKKS = {
    "protected": {},
    "protected, small ring": {"precision": 1e-2},
    "protected, two limbs": {"precision": 1e-9},
    "protected, real": {"packing": "real"},
    "protected, more bits": {"statistical_bits": 40, "precision": 1e-2},
    "unprotected": {"protect": False},
    "unprotected, 53 bits": {"protect": False, "precision": 1e-9},
    "unprotected, real": {"protect": False, "packing": "real"},
}


def ckks(uploads, **changes):
    bounds = {"value_bound": BOUND, "sum_bound": BOUND}
    wanted = {"values": VALUES, "uploads": uploads, **bounds}
    return sum_request(Scheme.CKKS, **{**wanted, **changes})


def exact(uploads, bits, values=VALUES):
    return sum_request(Scheme.EXACT, values, uploads, quantization_bits=bits)


@pytest.mark.parametrize("kind", CKKS)
@pytest.mark.parametrize("uploads", [1, 8])
def test_errors_are_as_large_as_computed(network, kind, uploads):
    net = network(ckks(8, **CKKS[kind]), least=1)
    vectors = net.vectors(uploads)
    plain = np.array([math.fsum(column) for column in vectors.T])
    errors = net.sum(vectors) - plain
    expected = net.parameters.error_std(uploads)
    assert errors.std() == pytest.approx(expected, rel=0.1)
    assert abs(errors.mean()) < 6 * expected / math.sqrt(VALUES)
    # No entry sticks out: neither the first nor the second of a slot, nor the last.
    # (Unprotected errors are sums of products of Gaussians: their tails are heavier.)
    widest = 6.5 if net.request.settings.protect else 16
    assert np.abs(errors).max() < widest * expected
    halves = errors[0::2].std(), errors[1::2].std()
    assert halves[0] == pytest.approx(halves[1], rel=0.1)


@pytest.mark.parametrize("kind", ["protected", "protected, real"])
def test_protected_errors_are_gaussian(network, kind):
    net = network(ckks(2, **CKKS[kind]))
    vectors = net.vectors()
    errors = (net.sum(vectors) - vectors.sum(axis=0)) / net.parameters.error_std(2)
    assert stats.kstest(errors, stats.norm.cdf).pvalue > 1e-7
    # Neighbours share a slot or a ciphertext, not noise.
    assert stats.pearsonr(errors[0::2], errors[1::2]).pvalue > 1e-7


@pytest.mark.parametrize("kind", ["protected", "unprotected", "unprotected, real"])
def test_errors_do_not_depend_on_the_values(network, kind):
    net = network(ckks(2, **CKKS[kind]))
    for scale in (0.0, 1e-6, 1.0):
        vectors = scale * net.vectors()
        errors = net.sum(vectors) - vectors.sum(axis=0)
        assert errors.std() == pytest.approx(net.parameters.error_std(2), rel=0.1)


def worst_cases(packed):
    """Vectors up to the bound that put all they have into one coefficient."""
    yield np.full(VALUES, BOUND)
    yield np.full(VALUES, -BOUND)
    if packed:
        # X^(N / 4) is a root of unity of order 8 in every slot, and its negative in
        # every other: both parts of a slot are at the bound, and it is sqrt(2) of it.
        signs = np.tile([1.0, 1.0, -1.0, -1.0], VALUES // 4)
        yield BOUND * signs
        yield -BOUND * signs


@pytest.mark.parametrize("kind", CKKS)
def test_sums_at_the_bound_do_not_wrap_around(network, kind):
    net = network(ckks(2, **CKKS[kind]), least=1)
    for total in worst_cases(net.request.complex_packing):
        for vectors in ((total,), (0.75 * total, 0.25 * total)):
            # Of one sign, and against each other.
            net.assert_sum(net.sum(vectors), vectors)
        net.assert_sum(net.sum((total, -total)), (total, -total))


@pytest.mark.parametrize("kind", ["protected", "unprotected", "unprotected, real"])
def test_sums_beyond_the_bound_do(network, kind):
    # Or the bound would waste what it leaves.
    net = network(ckks(2, **CKKS[kind]))
    *_, total = worst_cases(net.request.complex_packing)
    vectors = np.stack([total, 0.02 * total])
    with pytest.raises(AssertionError):
        net.assert_sum(net.sum(vectors), vectors)


@pytest.mark.parametrize(
    ("uploads", "bits"),
    [(1, 2), (1, 24), (2, 16), (3, 7), (4, 9), (8, 9), (16, 13), (17, 24), (32, 16)],
)
def test_full_sums_of_the_largest_integers_are_exact(network, uploads, bits):
    net = network(exact(uploads, bits))
    full = np.full((uploads, VALUES), 2 ** (bits - 1) - 1)
    net.assert_sum(net.sum(full), full)
    # Neighbouring lanes as different as they can be.
    full[:, ::2] *= -1
    net.assert_sum(net.sum(full), full)
    vectors = net.vectors()
    net.assert_sum(net.sum(vectors), vectors)


def margin(parameters):
    """How many deviations of its noise a full sum tolerates, by the nominal modulus."""
    request = parameters.request
    fresh = 3.19 * math.sqrt((1 + 4 * parameters.ring_dimension / 3) * request.uploads)
    return 2.0**parameters.modulus_bits / (2 * parameters.plaintext_modulus * fresh)


def tightest(most):
    found = [
        derive(exact(uploads, bits))
        for uploads in range(1, most + 1)
        for bits in range(2, 25)
    ]
    return sorted(found, key=margin)


def test_the_tightest_noise_budget_suffices(network):
    tight = tightest(33)[0]
    assert 14 <= margin(tight) < 40
    net = network(tight.request)
    bits = net.request.bits
    full = np.full((net.request.uploads, VALUES), 2 ** (bits - 1) - 1)
    for _ in range(3):
        net.assert_sum(net.sum(full), full)


@pytest.mark.parametrize(("uploads", "bits"), [(64, 4), (256, 3)])
def test_past_the_noise_budget_sums_are_wrong(uploads, bits):
    # What keeping it is good for: as many lanes as there is room for before the noise.
    p = derive(exact(uploads, bits))
    for lanes, right in ((p.lanes, True), (p.lanes + 1, False)):
        scheme = HomomorphicScheme(dataclasses.replace(p, lanes=lanes))
        most = 2 ** (bits - 1) - 1
        vector = np.random.default_rng(0).integers(-most, most + 1, VALUES)
        public, secret = scheme.generate_keys()
        key = scheme.public_key(public)
        messages = scheme.encode(pack(vector, scheme.parameters))
        total = sum(scheme.encrypt(key, messages) for _ in range(uploads))
        rows = scheme.decrypt(secret, scheme.ring.reduce(total))
        got = unpack(rows, scheme.parameters)
        assert (got == uploads * vector).all() == right
