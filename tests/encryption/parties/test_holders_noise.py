"""The noise in the partial decryptions of holders, and the error that it hides."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fedjax_private.encryption.math.entropy import wide_gaussian
from fedjax_private.encryption.math.plaintexts import decode_values
from fedjax_private.encryption.messages.wire import Kind
from fedjax_private.encryption.openfhe import schemes
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.parameters import derive
from fedjax_private.encryption.parties.holders import decrypt_together
from fedjax_private.encryption.parties.recovery import Recovery, masks
from tests.encryption.federation import (
    CKKS,
    CLIENTS,
    EXACT,
    HOLDERS,
    LEAST_CLIENTS,
    SIGMAS,
    SIGNIFICANCE,
    Federation,
    request_of,
)
from tests.encryption.transforms import coefficients, noise_of, product

pytestmark = pytest.mark.needs_openfhe


def check_noise(noise, parameters, terms=1):
    """Fails unless noise (R, N) is Gaussian, as wide as it should be, everywhere."""
    std = math.sqrt(terms) * parameters.flooding_std
    scaled, size = noise / std, noise.size
    assert scaled.std() == pytest.approx(1, abs=SIGMAS / math.sqrt(2 * size))
    assert abs(scaled.mean()) < SIGMAS / math.sqrt(size)
    assert stats.kstest(scaled.ravel(), "norm").pvalue > SIGNIFICANCE
    # In the canonical embedding too no direction goes without.
    dimension = noise.shape[1]
    turns = np.exp(1j * np.pi * np.arange(dimension) / dimension)
    embedded = np.fft.fft(scaled * turns, axis=1) / math.sqrt(dimension / 2)
    for part in (embedded.real, embedded.imag):
        assert part.std() == pytest.approx(1, abs=SIGMAS / math.sqrt(size))


LITTLE = {"statistical_bits": 1, "query_budget": 99}
SMUDGED = {
    "ckks": (CKKS, {}),
    "ckks of two primes": (CKKS, {"precision": 1e-9}),
    "ckks with little noise": (CKKS, LITTLE),
    "exact": (EXACT, {}),
    "exact with wide lanes": (EXACT, {"quantization_bits": 24}),
    "exact with little noise": (EXACT, LITTLE),
}


@pytest.fixture(scope="module", params=SMUDGED.values(), ids=SMUDGED.keys())
def smudged(request):
    scheme, changes = request.param
    fields = {"holders": 3, **changes}
    one_row = derive(request_of(scheme, **fields)).values_per_ciphertext
    fields["values"] = 2 * one_row
    return Federation(request_of(scheme, **fields), (0, 1, 2), 2).with_key()


def test_partial_decryptions_carry_the_noise_that_the_parameters_say(smudged):
    fusion, _ = smudged.fusion(LEAST_CLIENTS)
    requests, noises, holders = fusion.requests(), [], smudged.holders
    alone = holders[0].partially_decrypt(requests[0])
    together = decrypt_together([holders[1], holders[2]], [requests[1], requests[2]])
    for number, data in enumerate([alone, *together]):
        parts = smudged.polynomials(data, Kind.PARTIAL)
        secret = smudged.secret(number)
        noise = noise_of(parts, smudged.seconds, secret, smudged.ring)
        check_noise(noise, smudged.parameters)
        noises += list(noise)
    # No two of them have anything in common: neither rows nor holders.
    correlations = np.corrcoef(noises) - np.eye(len(noises))
    assert np.abs(correlations).max() < SIGMAS / math.sqrt(smudged.ring.dimension)


def test_recoveries_carry_the_noise_that_the_parameters_say(smudged):
    fusion, _ = smudged.fusion(LEAST_CLIENTS)
    smudged.answer(fusion, (1, 2))
    total = np.zeros_like(smudged.seconds)
    recovery = Recovery((0,), (1, 2))
    for number, data in fusion.recovery_requests().items():
        reply = smudged.holders[number].stand_in(data)
        parts = smudged.polynomials(reply, Kind.RECOVERY)
        # As the other of the two that stand in could do.
        (other,) = {1, 2} - {number}
        opposite = masks(
            smudged.parties[other],
            recovery,
            smudged.ring,
            len(parts),
            smudged.material.key_id,
            fusion.round_number,
        )
        parts = smudged.ring.add(parts, opposite)
        key = smudged.helping_key(number, (1, 2), 0)
        noise = noise_of(parts, smudged.seconds, key, smudged.ring)
        check_noise(noise, smudged.parameters)
        total += parts
    total = smudged.ring.reduce(total)
    noise = noise_of(total, smudged.seconds, smudged.secret(0), smudged.ring)
    check_noise(noise, smudged.parameters, terms=2)


def test_the_noise_hides_the_error_that_sums_have(federation):
    # The divergence of all that one key decrypts, recoveries included, by the error
    # measured: tau |e|^2 / (2 sigma^2) is at most 2^-s.
    ring, parameters = federation.ring, federation.parameters
    joint = ring.reduce(sum(federation.secret(number) for number in HOLDERS))
    public = ring.unpack(federation.material.public_key)
    scheme, norms = federation.scheme, []
    for _ in range(4):
        total = 0
        for _ in CLIENTS:
            nothing = np.zeros((1, ring.limbs, ring.dimension), np.uint64)
            (ciphertext,) = scheme.encrypt(scheme.public_key(public), nothing)
            total = ring.reduce(total + ciphertext)
        error = ring.reduce(total[0] + product(total[1], joint, ring))
        norms.append((coefficients(error, ring).astype(float) ** 2).sum())
    request, variance = federation.request, parameters.flooding_std**2
    divergence = 2 * request.settings.query_budget * max(norms) / (2 * variance)
    assert divergence < 2.0**-request.settings.statistical_bits
    # Nor is there much more than it takes: 1.4 times, and what a key varies by.
    assert divergence > 2.0**-request.settings.statistical_bits / 1.6


@pytest.mark.parametrize("scheme", [CKKS, EXACT])
@pytest.mark.parametrize("fraction", [0.0, 0.9, 1.1])
def test_less_or_more_noise_would_be_noticed(scheme, fraction, monkeypatch):
    request = request_of(scheme, values=16000, holders=3)
    federation = Federation(request, (0, 1, 2), 2).with_key()

    def other_noise(shape, std):
        return wide_gaussian(shape, fraction * std)

    monkeypatch.setattr(schemes, "wide_gaussian", other_noise)
    fusion, _ = federation.fusion(LEAST_CLIENTS)
    data = federation.holders[0].partially_decrypt(fusion.requests()[0])
    parts = federation.polynomials(data, Kind.PARTIAL)[:2]
    secret, parameters = federation.secret(0), federation.parameters
    noise = noise_of(parts, federation.seconds[:2], secret, federation.ring)
    if fraction:
        std = fraction * parameters.flooding_std
        check_noise(noise, replace(parameters, flooding_std=std))
    else:
        assert not noise.any()
    with pytest.raises(AssertionError):
        check_noise(noise, parameters)


def test_answers_to_one_sum_differ_by_the_noise_of_both():
    # What a server can see by itself, in the slots that it decodes.
    scheme = HomomorphicScheme(derive(request_of(CKKS)))
    parameters, ring = scheme.parameters, scheme.ring
    _, key = scheme.generate_keys()
    moduli = np.array(ring.moduli, np.uint64)[:, None]
    words = np.random.default_rng(0).integers(0, 2**62, (4, 1, 4096), np.uint64)
    seconds = ring.reduce(words)
    first, again = (scheme.partially_decrypt(key, seconds) for _ in range(2))
    assert not (first == again).any()
    slots = decode_values(ring.reduce(first + moduli - again), scheme.parameters, ring)
    values = slots.view(np.float64).ravel()
    variance = 2 * parameters.flooding_std**2
    std = math.sqrt(parameters.ring_dimension / 2 * variance) / parameters.scale
    assert values.std() == pytest.approx(std, rel=SIGMAS / math.sqrt(2 * values.size))
    assert stats.kstest(values / std, "norm").pvalue > SIGNIFICANCE
