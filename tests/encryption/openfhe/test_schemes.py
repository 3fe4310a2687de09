"""Schemes: encryption, decryption, the noise of both, and what they keep."""

import gc
import math
import types
from dataclasses import replace

import numpy as np
import pytest

from fedjax_private.encryption.errors import UnexpectedLayoutError
from fedjax_private.encryption.math import polynomials
from fedjax_private.encryption.math.entropy import wide_gaussian
from fedjax_private.encryption.math.plaintexts import decode_values
from fedjax_private.encryption.math.polynomials import Factor
from fedjax_private.encryption.openfhe import schemes
from fedjax_private.encryption.openfhe.backend import load
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.parameters import Scheme
from tests.encryption.openfhe.cases import (
    CKKS_SETS,
    GRID,
    decrypted,
    encrypted,
    keys_of,
    parameters_of,
    random_row,
)

pytestmark = pytest.mark.needs_openfhe


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
        # Sums of products of Gaussians have heavier tails than Gaussians.
        assert np.abs(error).max() < max(16 * expected, 1e-12)


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
            for part in scheme.partially_decrypt(secret, np.stack([total[1], nothing])):
                whole = ring.reduce(whole + part)
        (found,) = decode_values(whole[None], scheme.parameters, scheme.ring)
    else:
        found = decrypted(scheme, secret, total)
    if request.scheme.exact:
        np.testing.assert_array_equal(found, plain)
    else:
        widest = 10 if request.settings.protect else 16  # heavier tails: see above
        tolerance = widest * parameters.error_std(request.uploads)
        np.testing.assert_allclose(found, plain, rtol=1e-12, atol=tolerance)


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
        scheme.partially_decrypt(secret, ciphertext[1:])
    assert not kept()
    hidden = secret.residues[0].tobytes()
    for value in reachable(scheme):
        assert not isinstance(value, bytes) or hidden not in value
    scheme.remembered = [secret]
    assert kept() == [secret]


@pytest.mark.parametrize("kind", list(Scheme))
def test_another_order_of_values_is_noticed_when_a_scheme_is_made(kind, monkeypatch):
    # Ours is consistent in itself, but OpenFHE's noise is no small polynomial in it.
    evaluate, interpolate = polynomials.evaluate, polynomials.interpolate
    monkeypatch.setattr(
        polynomials, "evaluate", lambda x, ring: np.roll(evaluate(x, ring), 1, axis=-1)
    )
    monkeypatch.setattr(
        polynomials,
        "interpolate",
        lambda x, ring: interpolate(np.roll(x, -1, axis=-1), ring),
    )
    with pytest.raises(UnexpectedLayoutError, match="encrypts differently"):
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
        pytest.raises(UnexpectedLayoutError, match="encrypts differently"),
    ):
        HomomorphicScheme(parameters_of(kind))


@pytest.mark.parametrize("changes", [{}, {"packing": "real"}], ids=str)
def test_what_is_shown_is_a_function_of_whole_numbers(changes, monkeypatch):
    # Noise in a float64's last bits would not hide the error there.
    scheme = HomomorphicScheme(parameters_of(Scheme.CKKS, **changes))
    parameters, ring = scheme.parameters, scheme.ring
    public, secret = keys_of(scheme)
    row = random_row(parameters, np.random.default_rng(0))
    messages = scheme.encode(np.stack([row] * 3))
    ciphertexts = scheme.encrypt(public, messages)
    product = polynomials.multiply(ciphertexts[:, 1], secret, ring)
    opened, drawn = ring.add(ciphertexts[:, 0], product), []

    def recorded(shape, std):
        drawn.append(wide_gaussian(shape, std))
        return drawn[-1]

    monkeypatch.setattr(schemes, "wide_gaussian", recorded)
    found = scheme.decrypt(secret, ciphertexts, flooded=True)
    noise = polynomials.evaluate(polynomials.residues(*drawn[0], ring), ring)
    np.testing.assert_array_equal(
        found, decode_values(ring.add(opened, noise), scheme.parameters, ring)
    )
    error = (found - row).view(np.float64)
    assert error.std() == pytest.approx(parameters.error_std(1), rel=0.05)
    again = scheme.decrypt(secret, ciphertexts, flooded=True)
    assert not (found == again).any()
