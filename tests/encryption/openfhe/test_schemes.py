import gc
import itertools
import math
import struct
import types
from dataclasses import replace

import numpy as np
import pytest

from fedjax_private.encryption.errors import UnexpectedLayoutError
from fedjax_private.encryption.math import polynomials as arithmetic
from fedjax_private.encryption.math.polynomials import Factor
from fedjax_private.encryption.openfhe import contexts, schemes
from fedjax_private.encryption.openfhe.backend import load
from fedjax_private.encryption.openfhe.contexts import ring_of
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.parameters import Scheme, derive
from tests.encryption.fixtures import sum_request

pytestmark = pytest.mark.needs_openfhe

VALUES = 5000


def parameters_of(scheme, values=VALUES, **changes):
    fields = {"uploads": 4, "holders": 3 if scheme.threshold else 1}
    return derive(sum_request(scheme, values, **{**fields, **changes}))


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


def encrypted(scheme, public, row):
    return scheme.encrypt(public, scheme.encode(row[None]))[0]


def decrypted(scheme, secret, ciphertext):
    return scheme.decrypt(secret, ciphertext[None])[0]


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
    packing = "complex" if packed else "real"
    parameters = parameters_of(Scheme.CKKS, packing=packing, **changes)
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
        found = decrypted(scheme, secret, encrypted(scheme, public, row))
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
    # Of so many values that as many as possible fill a ciphertext.
    parameters = parameters_of(scheme, 10**6, uploads=uploads, quantization_bits=bits)
    modulus = parameters.plaintext_modulus
    assert modulus.bit_length() == modulus_bits
    scheme, rng = HomomorphicScheme(parameters), np.random.default_rng(0)
    public, secret = keys_of(scheme)
    row = rng.integers(0, modulus, parameters.slots)
    row[:4] = 0, 1, modulus // 2, modulus // 2 + 1
    row[-1] = modulus - 1
    found = decrypted(scheme, secret, encrypted(scheme, public, row))
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, row)


@pytest.mark.parametrize(
    ("scheme", "changes"),
    [
        (Scheme.CKKS, {}),
        (Scheme.CKKS, {"packing": "real"}),
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
    found = decrypted(scheme, other, encrypted(scheme, public, row))
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
    messages = scheme.encode(np.stack([row, row]))
    first, second = scheme.encrypt(public, messages)
    third, _ = scheme.encrypt(public, messages)
    assert not (first == second).any()
    assert not (first == third).any()


@pytest.mark.parametrize("kind", list(Scheme))
def test_many_rows_are_the_same_as_each_by_itself(kind):
    # More of them than go through a kernel at once.
    parameters = parameters_of(kind)
    scheme, rng = HomomorphicScheme(parameters), np.random.default_rng(0)
    public, secret = keys_of(scheme)
    rows = np.stack([random_row(parameters, rng) for _ in range(67)])
    ciphertexts = scheme.encrypt(public, scheme.encode(rows))
    ring = scheme.ring
    assert ciphertexts.shape == (67, 2, ring.limbs, ring.dimension)
    found = scheme.decrypt(secret, ciphertexts)
    np.testing.assert_allclose(found, rows, atol=parameters.error_std(1))
    for index in (0, 63, 64, 66):
        alone = decrypted(scheme, secret, ciphertexts[index])
        np.testing.assert_array_equal(alone, found[index])


# Every parameter set


GRID = [
    (
        scheme,
        {"uploads": uploads, "quantization_bits": bits, "protect": protect, **packing},
    )
    for scheme in Scheme
    for uploads, protect in itertools.product((2, 4, 32, 256), (True, False))
    for bits in ((7, 9, 16, 20, 24) if scheme.exact else (16,))
    for packing in ({}, {"packing": "real"})
    if (protect or scheme is Scheme.CKKS) and (scheme is Scheme.CKKS or not packing)
] + [
    # Much noise, for which the largest ring is.
    (
        Scheme.THRESHOLD_EXACT,
        {"uploads": 32, "quantization_bits": 20, "holders": 8, "statistical_bits": 50},
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
        total = ring.reduce(total + encrypted(scheme, key, row))
        plain = plain + row
    if request.scheme.threshold:
        whole, nothing = total[0], np.zeros_like(total[1])
        for secret in secrets:
            # A recovery adds as much noise again, at most.
            for part in scheme.partial(secret, np.stack([total[1], nothing])):
                whole = ring.reduce(whole + part)
        (found,) = scheme.decode(whole[None])
    else:
        found = decrypted(scheme, secret, total)
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
    secret_types = load().openfhe.PrivateKey, Factor

    def kept():
        return [o for o in reachable(scheme) if isinstance(o, secret_types)]

    assert not kept()
    public, secret = keys_of(scheme)
    row = random_row(parameters, np.random.default_rng(0))
    ciphertext = encrypted(scheme, public, row)
    decrypted(scheme, secret, ciphertext)
    if kind.threshold:
        scheme.decode(scheme.partial(secret, ciphertext[1:]))
    assert not kept()
    hidden = secret.residues[0].tobytes()
    for value in reachable(scheme):
        assert not isinstance(value, bytes) or hidden not in value
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


@pytest.mark.parametrize("kind", list(Scheme))
def test_another_order_of_values_is_noticed_when_a_scheme_is_made(kind, monkeypatch):
    # Ours is consistent in itself, but OpenFHE's noise is no small polynomial in it.
    evaluate, interpolate = arithmetic.evaluate, arithmetic.interpolate
    monkeypatch.setattr(
        arithmetic, "evaluate", lambda x, ring: np.roll(evaluate(x, ring), 1, axis=-1)
    )
    monkeypatch.setattr(
        arithmetic,
        "interpolate",
        lambda x, ring: interpolate(np.roll(x, -1, axis=-1), ring),
    )
    with pytest.raises(UnexpectedLayoutError, match="encrypts otherwise"):
        HomomorphicScheme(parameters_of(kind))


@pytest.mark.parametrize("kind", list(Scheme))
@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0])
def test_other_noise_than_assumed_is_noticed(kind, factor, monkeypatch):
    # What hides it, and what fails by it, is sized for OpenFHE's usual deviation.
    monkeypatch.setattr(
        schemes, "fresh_variance", lambda n: factor * 3.19**2 * 4 * n / 3
    )
    with (
        np.errstate(divide="ignore"),
        pytest.raises(UnexpectedLayoutError, match="encrypts otherwise"),
    ):
        HomomorphicScheme(parameters_of(kind))


@pytest.mark.parametrize("changes", [{}, {"packing": "real"}], ids=str)
def test_what_is_shown_is_a_function_of_whole_numbers(changes):
    # Noise in a float64's last bits would not hide the error there.
    scheme = HomomorphicScheme(parameters_of(Scheme.CKKS, **changes))
    parameters, ring = scheme.parameters, scheme.ring
    public, secret = keys_of(scheme)
    row = random_row(parameters, np.random.default_rng(0))
    messages = scheme.encode(np.stack([row] * 3))
    ciphertexts = scheme.encrypt(public, messages)
    opened, made, drawn = scheme._opened(secret, ciphertexts), scheme._coefficients, []

    def noted(count):
        drawn.append(made(count))
        return drawn[-1]

    scheme._coefficients = noted
    found = scheme.flooded(secret, ciphertexts)
    noise = arithmetic.evaluate(drawn[0], ring)
    np.testing.assert_array_equal(found, scheme.decode(ring.add(opened, noise)))
    error = (found - row).view(np.float64)
    assert error.std() == pytest.approx(parameters.error_std(1), rel=0.05)
    again = scheme.flooded(secret, ciphertexts)
    assert not (found == again).any()


# Against OpenFHE's own encoding, encryption and decryption


def openfhes(kind, **changes):
    """A scheme, OpenFHE's key pair, and the secret key as the scheme has it."""
    scheme = HomomorphicScheme(parameters_of(kind, **changes))
    pair = scheme._context.KeyGen()
    return scheme, pair, scheme._secret(pair)


def parsed(scheme, pair, ciphertext):
    """OpenFHE's object with the polynomials (2, L, N)."""
    openfhe = scheme._openfhe
    zero = scheme._serialise(scheme._context.Encrypt(pair.publicKey, scheme._zero))
    data = Mould.of(zero, scheme.ring, 2).filled(ciphertext)
    return openfhe.DeserializeCiphertextString(data, openfhe.BINARY)


@pytest.mark.parametrize("changes", CKKS_SETS.values(), ids=str)
def test_slots_are_those_of_openfhe_in_another_order(changes):
    # Precise enough that what OpenFHE scales by, a power of two, is far above errors.
    scheme, pair, secret = openfhes(Scheme.CKKS, **changes)
    parameters, ring = scheme.parameters, scheme.ring
    rng = np.random.default_rng(0)
    row = random_row(parameters, rng, uploads=1)
    # OpenFHE's slot j is the value at zeta^(5^j), ours the one at zeta^(4 j + 1).
    powers = [pow(5, j, 2 * ring.dimension) // 4 for j in range(parameters.slots)]

    plaintext = scheme._context.MakeCKKSPackedPlaintext(row[powers])
    theirs = scheme._context.Encrypt(pair.publicKey, plaintext)
    found = decrypted(scheme, secret, scheme._residues(theirs, 2))
    ratio = theirs.GetScalingFactor() / parameters.scale
    tolerance = 1e-2 if ring.moduli[0] < 2**46 else 1e-5
    np.testing.assert_allclose(found / ratio, row, atol=tolerance)

    ours = parsed(scheme, pair, encrypted(scheme, pair.publicKey, row * ratio))
    plaintext = scheme._context.Decrypt(pair.secretKey, ours)
    plaintext.SetLength(parameters.slots)
    read = np.asarray(plaintext.GetCKKSPackedValueArray())
    np.testing.assert_allclose(read, row[powers], atol=tolerance)


@pytest.mark.parametrize("kind", [Scheme.EXACT, Scheme.THRESHOLD_EXACT])
def test_openfhe_decrypts_the_polynomial_that_was_encrypted(kind):
    scheme, pair, secret = openfhes(kind)
    t, size = scheme.parameters.plaintext_modulus, scheme.parameters.slots

    def by_openfhe(row):
        ours = parsed(scheme, pair, encrypted(scheme, pair.publicKey, row))
        plaintext = scheme._context.Decrypt(pair.secretKey, ours)
        plaintext.SetLength(size)
        return np.array(plaintext.GetPackedValueArray(), object) % t

    unit = np.eye(1, size, 1, dtype=np.int64)[0]
    points = by_openfhe(unit)  # the values of X, at which OpenFHE's slots are
    assert len(set(points.tolist())) == size
    assert all(pow(int(x), size, t) == t - 1 for x in points)
    row = np.random.default_rng(0).integers(0, t, size)
    values = by_openfhe(row)
    for place in (0, 1, 1234, size - 1):
        value = 0
        for coefficient in reversed(row.tolist()):
            value = (value * int(points[place]) + coefficient) % t
        assert value == values[place]

    packed = scheme._context.MakePackedPlaintext([t // 2 + 1 - t] * size)
    theirs = scheme._context.Encrypt(pair.publicKey, packed)
    found = decrypted(scheme, secret, scheme._residues(theirs, 2))
    assert found[0] == t // 2 + 1
    assert not found[1:].any()
