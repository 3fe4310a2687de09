import gc
import itertools
import math
import struct
import types
from dataclasses import replace

import numpy as np
import pytest

from fedjax_private.encryption import contexts, schemes
from fedjax_private.encryption.backend import load
from fedjax_private.encryption.contexts import ring_of
from fedjax_private.encryption.moulds import UnexpectedLayoutError
from fedjax_private.encryption.parameters import Scheme, SumRequest, derive
from fedjax_private.encryption.rings import Ring
from fedjax_private.encryption.schemes import HomomorphicScheme

pytestmark = pytest.mark.needs_openfhe

VALUES = 5000


def parameters_of(scheme, **changes):
    fields = {"uploads": 4, "holders": 3 if scheme.threshold else 1}
    return derive(SumRequest(scheme, VALUES, **{**fields, **changes}))


def random_row(parameters, rng, uploads=None):
    """Slots of an upload over the whole range; so that a sum of `uploads` fits."""
    request, slots = parameters.request, parameters.slots
    uploads = uploads or request.uploads
    if request.scheme.exact:
        lanes = rng.integers(0, 2**request.bits, (parameters.lanes, slots))
        lanes[:, 0] = 2**request.bits - 1
        return (
            lanes << parameters.lane_bits * np.arange(parameters.lanes)[:, None]
        ).sum(axis=0)
    bound = request.sum_bound / uploads
    parts = rng.uniform(-bound, bound, (2, slots))
    parts[:, 0] = bound
    return parts[0] + 1j * parts[1] if request.complex_packing else parts[0]


def keys_of(scheme):
    public, secret = scheme.generate_keys()
    return scheme.public_key(public), secret


# Encryption and decryption


CKKS_SETS = {
    (45,): {"protect": False},
    (53,): {"protect": False, "precision": 1e-10},
    (60,): {"protect": False, "precision": 1e-12},
    (53, 53): {"precision": 1e-9},
}


@pytest.fixture(scope="module", params=CKKS_SETS, ids=lambda bits: f"{bits}")
def ckks_set(request):
    return request.param, CKKS_SETS[request.param]


@pytest.mark.parametrize("packed", [True, False], ids=["complex", "real"])
def test_what_is_decrypted_is_what_was_encrypted(ckks_set, packed):
    limbs, changes = ckks_set
    parameters = parameters_of(Scheme.CKKS, complex_packing=packed, **changes)
    assert parameters.limb_bits == limbs
    scheme, rng = HomomorphicScheme(parameters), np.random.default_rng(0)
    public, secret = keys_of(scheme)
    # Errors of one fresh encryption; the flooding is added by who releases the sum.
    expected = replace(parameters, flooding_std=0.0).error_std(1)
    for row in (
        random_row(parameters, rng, uploads=1),
        np.full(parameters.slots, parameters.request.sum_bound * (1 + packed * 1j)),
        np.full(parameters.slots, -parameters.request.sum_bound),
    ):
        row = row + 0j if packed else row.real.copy()
        found = scheme.decrypt(secret, scheme.encrypt(public, row))
        assert found.dtype == row.dtype
        error = (found - row).view(np.float64)
        if expected > 1e-14:  # the rest is rounding
            assert error.std() == pytest.approx(expected, rel=0.15)
        assert np.abs(error).max() < max(8 * expected, 1e-12)


# Plaintext moduli from the smallest to the largest that requests lead to.
EXACT_REQUESTS = [
    (Scheme.EXACT, 2**16, 4, 21),
    (Scheme.EXACT, 4, 24, 27),
    (Scheme.EXACT, 2**20, 10, 31),
    (Scheme.EXACT, 256, 23, 32),
    (Scheme.EXACT, 2**16, 16, 33),
    (Scheme.EXACT, 4, 11, 40),
    (Scheme.EXACT, 1, 2, 47),
    (Scheme.THRESHOLD_EXACT, 4, 24, 27),
    (Scheme.THRESHOLD_EXACT, 256, 23, 32),
    (Scheme.THRESHOLD_EXACT, 256, 24, 33),
    (Scheme.THRESHOLD_EXACT, 2**20, 23, 44),
    (Scheme.THRESHOLD_EXACT, 1, 2, 51),
]


@pytest.mark.parametrize(("scheme", "uploads", "bits", "modulus_bits"), EXACT_REQUESTS)
def test_integers_below_the_plaintext_modulus_come_back(
    scheme, uploads, bits, modulus_bits
):
    parameters = parameters_of(scheme, uploads=uploads, bits=bits)
    modulus = parameters.plaintext_modulus
    assert modulus.bit_length() == modulus_bits
    scheme, rng = HomomorphicScheme(parameters), np.random.default_rng(0)
    public, secret = keys_of(scheme)
    row = rng.integers(0, modulus, parameters.slots)
    row[:4] = 0, 1, modulus // 2, modulus // 2 + 1
    row[-1] = modulus - 1
    found = scheme.decrypt(secret, scheme.encrypt(public, row))
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, row)


@pytest.mark.parametrize(
    ("scheme", "changes"),
    [
        (Scheme.CKKS, {}),
        (Scheme.CKKS, {"complex_packing": False}),
        (Scheme.CKKS, {"protect": False}),
        (Scheme.EXACT, {}),
        (Scheme.THRESHOLD_EXACT, {}),
        (Scheme.THRESHOLD_CKKS, {}),
    ],
)
def test_another_key_decrypts_to_nothing(scheme, changes):
    parameters = parameters_of(scheme, **changes)
    scheme, rng = HomomorphicScheme(parameters), np.random.default_rng(0)
    public, _ = keys_of(scheme)
    _, other = scheme.generate_keys()
    row = random_row(parameters, rng)
    try:
        found = scheme.decrypt(other, scheme.encrypt(public, row))
    except RuntimeError:
        return  # OpenFHE notices in real CKKS
    if parameters.request.scheme.exact:
        assert np.count_nonzero(found == row) < 5
    else:
        assert np.abs(found - row).std() > parameters.request.sum_bound
    limit = 5.5 / math.sqrt(parameters.slots)
    assert abs(np.corrcoef(found.real, row.real)[0, 1]) < limit


@pytest.mark.parametrize("kind", list(Scheme))
def test_equal_rows_give_different_ciphertexts(kind):
    parameters = parameters_of(kind)
    scheme = HomomorphicScheme(parameters)
    public, _ = keys_of(scheme)
    row = random_row(parameters, np.random.default_rng(0))
    first, second = scheme.encrypt(public, row), scheme.encrypt(public, row)
    assert not (first == second).any()


@pytest.mark.parametrize("kind", [Scheme.THRESHOLD_CKKS, Scheme.THRESHOLD_EXACT])
def test_what_was_done_before_does_not_change_a_ciphertext(kind):
    parameters = parameters_of(kind)
    scheme = HomomorphicScheme(parameters)
    public, secret = keys_of(scheme)
    scheme.noise()
    row = random_row(parameters, np.random.default_rng(0))
    ciphertext = scheme.encrypt(public, row)
    assert ciphertext.shape == (2, scheme.ring.limbs, scheme.ring.dimension)
    found = scheme.decrypt(secret, ciphertext)
    np.testing.assert_allclose(found, row, atol=parameters.error_std(1))


@pytest.mark.parametrize("kind", list(Scheme))
def test_a_secret_key_goes_out_and_comes_back(kind):
    parameters = parameters_of(kind)
    scheme = HomomorphicScheme(parameters)
    public, secret = keys_of(scheme)
    again = scheme.secret_key(scheme.secret_residues(secret))
    row = random_row(parameters, np.random.default_rng(0))
    ciphertext = scheme.encrypt(public, row)
    found, expected = (scheme.decrypt(key, ciphertext) for key in (again, secret))
    np.testing.assert_allclose(found, expected, atol=parameters.error_std(1))


# Every parameter set


GRID = [
    (scheme, {"uploads": uploads, "bits": bits, "protect": protect, **packing})
    for scheme in Scheme
    for uploads, protect in itertools.product((2, 4, 32, 256), (True, False))
    for bits in ((7, 9, 16, 20, 24) if scheme.exact else (16,))
    for packing in ({}, {"complex_packing": False})
    if (protect or scheme is Scheme.CKKS) and (scheme is Scheme.CKKS or not packing)
] + [
    # Much noise, for which the largest ring is.
    (
        Scheme.THRESHOLD_EXACT,
        {"uploads": 32, "bits": 20, "holders": 8, "statistical_bits": 50},
    ),
    (Scheme.THRESHOLD_CKKS, {"precision": 1e-9}),
]


def distinct_sets():
    """One request of the grid for every parameter set."""
    found = {}
    for scheme, changes in GRID:
        parameters = parameters_of(scheme, **changes)
        key = f"{scheme.value} {parameters.ring_dimension} {parameters.limb_bits}"
        key += f" {parameters.lanes} lanes" if scheme.exact else ""
        key += " real" if not parameters.request.complex_packing else ""
        found[key] = scheme, changes
    return found


@pytest.mark.parametrize("scheme", list(Scheme))
def test_rings_have_the_sizes_that_the_parameters_say(scheme):
    for changes in [changes for kind, changes in GRID if kind is scheme]:
        parameters = parameters_of(scheme, **changes)
        ring = ring_of(parameters)
        assert ring.dimension == parameters.ring_dimension
        assert ring.limbs == len(parameters.limb_bits)
        assert ring.polynomial_bytes == parameters.polynomial_bytes
        assert ring.modulus_bits == pytest.approx(parameters.modulus_bits, abs=0.01)
        assert all(q % (2 * ring.dimension) == 1 for q in ring.moduli)
        assert ring.modulus_bits < {2048: 54, 4096: 109, 8192: 218}[ring.dimension]


@pytest.mark.parametrize("case", distinct_sets().values(), ids=distinct_sets().keys())
def test_full_sums_of_full_range_values_decrypt(case):
    parameters = parameters_of(case[0], **case[1])
    request, scheme = parameters.request, HomomorphicScheme(parameters)
    rng, ring = np.random.default_rng(0), scheme.ring
    public, secret = scheme.generate_keys()
    secrets = [secret]
    if request.scheme.threshold:
        for _ in range(request.holders - 1):
            term, secret = scheme.generate_share(public[1])
            public[0] = ring.reduce(public[0] + term)
            secrets.append(secret)
    key = scheme.public_key(public)

    total, plain = 0, 0
    for _ in range(request.uploads):
        row = random_row(parameters, rng)
        total = ring.reduce(total + scheme.encrypt(key, row))
        plain = plain + row
    if request.scheme.threshold:
        whole, nothing = total[0], np.zeros_like(total[1])
        for secret in secrets:
            # A recovery adds as much noise again, at most.
            for second in (total[1], nothing):
                whole = ring.reduce(whole + scheme.partial(secret, second))
        found = scheme.decode(whole)
    else:
        found = scheme.decrypt(secret, total)
    if request.scheme.exact:
        np.testing.assert_array_equal(found, plain)
    else:
        tolerance = 10 * parameters.error_std(request.uploads)
        np.testing.assert_allclose(found, plain, rtol=1e-12, atol=tolerance)


# What a scheme keeps


def reachable(value):
    """Everything that an object leads to, but for classes and modules."""
    seen, waiting = {}, [value]
    while waiting:
        current = waiting.pop()
        opaque = (type, types.ModuleType, types.FunctionType)
        if id(current) not in seen and not isinstance(current, opaque):
            seen[id(current)] = current
            waiting += gc.get_referents(current)
    return list(seen.values())


@pytest.mark.parametrize("kind", list(Scheme))
def test_a_scheme_keeps_no_secret_key(kind):
    parameters = parameters_of(kind)
    scheme = HomomorphicScheme(parameters)
    secret_type = load().openfhe.PrivateKey

    def kept():
        return [o for o in reachable(scheme) if isinstance(o, secret_type)]

    assert not kept()
    public, secret = keys_of(scheme)
    row = random_row(parameters, np.random.default_rng(0))
    ciphertext = scheme.encrypt(public, row)
    scheme.decrypt(secret, ciphertext)
    if kind.threshold:
        scheme.decode(scheme.partial(secret, ciphertext[1]))
    assert not kept()
    hidden = scheme.secret_residues(secret)
    for value in reachable(scheme):
        assert not isinstance(value, bytes) or hidden[0].tobytes() not in value
    scheme.remembered = [secret]
    assert kept() == [secret]


# OpenFHE's layout


def shortened(data, parameters):
    return data[: len(data) // 2]


def doubled(data, parameters):
    return data + data


def counted_in_32_bits(data, parameters):
    count = parameters.ring_dimension
    return data.replace(struct.pack("<Q", count), struct.pack("<I", count))


@pytest.fixture
def change_layout(monkeypatch):
    serialise = HomomorphicScheme._serialise

    def change(changed, parameters):
        monkeypatch.setattr(
            HomomorphicScheme,
            "_serialise",
            lambda self, value: changed(serialise(self, value), parameters),
        )

    return change


@pytest.mark.parametrize("changed", [shortened, doubled, counted_in_32_bits])
def test_another_layout_is_noticed_when_a_scheme_is_made(changed, change_layout):
    parameters = parameters_of(Scheme.THRESHOLD_CKKS)
    change_layout(changed, parameters)
    with pytest.raises(UnexpectedLayoutError):
        HomomorphicScheme(parameters)


@pytest.mark.parametrize("changed", [shortened, counted_in_32_bits])
def test_another_layout_gives_no_key(changed, change_layout):
    parameters = parameters_of(Scheme.CKKS)
    scheme = HomomorphicScheme(parameters)
    change_layout(changed, parameters)
    with pytest.raises(UnexpectedLayoutError, match="serialises polynomials otherwise"):
        scheme.generate_keys()


@pytest.mark.parametrize("kind", list(Scheme))
def test_another_ring_than_the_expected_one_is_noticed(kind, monkeypatch):
    # A request of its own: rings are remembered.
    parameters = replace(parameters_of(kind, query_budget=7), limb_bits=(51,))
    context = contexts.context_for
    other = parameters_of(kind)
    monkeypatch.setattr(
        contexts, "context_for", lambda openfhe, _: context(openfhe, other)
    )
    with pytest.raises(UnexpectedLayoutError, match="OpenFHE chose a ring"):
        ring_of(parameters)


# Integer polynomials in the exact scheme's ring


@pytest.fixture(scope="module")
def integral():
    return HomomorphicScheme(parameters_of(Scheme.THRESHOLD_EXACT))


def polynomial(scheme, **terms):
    """Coefficients (N,) with the given ones, such as x5=3."""
    coefficients = np.zeros(scheme.ring.dimension, np.int64)
    for power, coefficient in terms.items():
        coefficients[int(power[1:])] = coefficient
    return coefficients


def at(coefficients, point, modulus):
    """The value of a polynomial, by Horner's rule."""
    value = 0
    for coefficient in reversed(coefficients.tolist()):
        value = (value * point + coefficient) % modulus
    return value


def times(factor, residues, ring):
    column = np.array(ring.moduli, object)[:, None]
    return (residues.astype(object) * factor % column).astype(np.uint64)


def least_root(order, modulus):
    """The least number of multiplicative order `order`, a power of two."""
    base = 2
    while pow(base, (modulus - 1) // 2, modulus) == 1:
        base += 1
    root = pow(base, (modulus - 1) // order, modulus)
    return min(pow(root, odd, modulus) for odd in range(1, order, 2))


def test_residues_are_values_at_all_primitive_roots_of_unity(integral):
    ring = integral.ring
    points = integral._transform(polynomial(integral, x1=1))
    for row, q in zip(points, ring.moduli, strict=True):
        assert len(set(row.tolist())) == ring.dimension
        assert all(pow(int(x), ring.dimension, q) == q - 1 for x in row)
    # At the same places in all primes, in OpenFHE's order.
    for power in (1, 3, 2 * ring.dimension - 1):
        places = [
            np.flatnonzero(row == pow(least_root(2 * ring.dimension, q), power, q))
            for row, q in zip(points, ring.moduli, strict=True)
        ]
        assert all(place.size == 1 for place in places)
        assert len({int(place[0]) for place in places}) == 1


@pytest.mark.parametrize("bits", [1, 20, 27, 28, 29, 40, 54, 55])
def test_residues_are_those_of_the_polynomial(integral, bits):
    rng, ring = np.random.default_rng(bits), integral.ring
    largest = 2**bits - 1
    coefficients = rng.integers(-largest, largest, ring.dimension, endpoint=True)
    coefficients[:2], coefficients[-1] = (largest, -largest), -largest
    residues = integral._transform(coefficients)
    points = integral._transform(polynomial(integral, x1=1))
    assert residues.shape == (ring.limbs, ring.dimension)
    for place in (0, 1, 1234, ring.dimension - 1):
        for limb, q in enumerate(ring.moduli):
            expected = at(coefficients, int(points[limb, place]), q)
            assert int(residues[limb, place]) == expected


@pytest.mark.parametrize("constant", [0, 1, -1, 2**28 - 1, -(2**28), 2**54, -(2**54)])
def test_residues_of_a_constant_are_the_constant(integral, constant):
    residues = integral._transform(polynomial(integral, x0=constant))
    for row, q in zip(residues, integral.ring.moduli, strict=True):
        assert set(row.tolist()) == {constant % q}


def test_residues_add_and_multiply_like_polynomials(integral):
    rng, ring = np.random.default_rng(0), integral.ring
    left = rng.integers(-(2**40), 2**40, ring.dimension)
    right = rng.integers(-(2**40), 2**40, ring.dimension)
    transform = integral._transform
    total = ring.reduce(transform(left) + transform(right))
    np.testing.assert_array_equal(transform(left + right), total)
    # X^N = -1: what leaves at the top comes back at the bottom with its sign changed.
    turned = np.concatenate([-left[-5:], left[:-5]])
    shift = transform(polynomial(integral, x5=1))
    expected = times(shift.astype(object), transform(left), ring)
    np.testing.assert_array_equal(transform(turned), expected)


def test_a_scaled_polynomial_on_a_ciphertext_is_added_to_the_plaintext(integral):
    parameters, ring = integral.parameters, integral.ring
    rng, t = np.random.default_rng(0), parameters.plaintext_modulus
    step = math.prod(ring.moduli) // t
    points = integral.decode(
        times(step, integral._transform(polynomial(integral, x1=1)), ring)
    )
    assert len(set(points.tolist())) == ring.dimension
    assert all(pow(int(x), ring.dimension, t) == t - 1 for x in points)

    public, secret = keys_of(integral)
    row, message = rng.integers(0, t, (2, ring.dimension))
    ciphertext = integral.encrypt(public, row)
    added = times(step, integral._transform(message), ring)
    ciphertext[0] = ring.reduce(ciphertext[0] + added)
    found = integral.decrypt(secret, ciphertext)
    for place in (0, 1, 1234, ring.dimension - 1):
        expected = int(row[place]) + at(message, int(points[place]), t)
        assert int(found[place]) == expected % t


def test_the_helper_must_have_the_same_ring(integral, monkeypatch):
    moduli = tuple(q + 2 for q in integral.ring.moduli)
    other = types.SimpleNamespace(ring=Ring(integral.ring.dimension, moduli))
    monkeypatch.setattr(schemes, "small_context", lambda openfhe, parameters: other)
    with pytest.raises(UnexpectedLayoutError, match="two moduli"):
        integral.noise()
