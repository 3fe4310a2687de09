"""OpenFHE's own path, and our arithmetic against it, with the same keys."""

import dataclasses

import numpy as np
import pytest

from fedjax_private.encryption.math import packing, plaintexts, polynomials
from fedjax_private.encryption.math.polynomials import Factor
from fedjax_private.encryption.openfhe import reference
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.parameters import Scheme
from tests.encryption.openfhe.cases import CKKS_SETS, parameters_of
from tests.encryption.openfhe.crossing import (
    ckks_order,
    coefficients_of,
    parsed,
    residues,
    slots_of,
)

pytestmark = pytest.mark.needs_openfhe

UPLOADS = 4  # of `parameters_of`

# Every scheme, every ring, and both packings.
CASES = {
    "exact": (Scheme.EXACT, {}),
    "exact, large ring": (Scheme.EXACT, {"quantization_bits": 23}),
    "threshold exact": (Scheme.THRESHOLD_EXACT, {}),
    "threshold exact, wide noise": (
        Scheme.THRESHOLD_EXACT,
        {"statistical_bits": 60, "quantization_bits": 8},
    ),
    "ckks": (Scheme.CKKS, {}),
    "ckks, real": (Scheme.CKKS, {"packing": "real"}),
    "threshold ckks": (Scheme.THRESHOLD_CKKS, {}),
    **{f"ckks {bits}": (Scheme.CKKS, each) for bits, each in CKKS_SETS.items()},
}


class Both:
    """OpenFHE's path and ours, under the same keys."""

    def __init__(self, kind, changes):
        self.parameters = parameters_of(kind, **changes)
        self.keys = reference.generate(self.parameters)
        self.scheme = HomomorphicScheme(self.parameters)
        self.ring = self.scheme.ring
        self.secrets = [
            Factor.of(residues(self.ring, secret, 1)[0], self.ring)
            for secret in self.keys.secrets
        ]
        rng, request = np.random.default_rng(0), self.parameters.request
        size = UPLOADS, request.values
        if request.scheme.exact:
            # The largest and the least fill a lane's range when all upload them.
            most = 2 ** (request.bits - 1) - 1
            self.vectors = rng.integers(-most, most + 1, size)
            self.vectors[:, 0], self.vectors[:, 1] = most, -most
        else:
            bound = request.sum_bound / UPLOADS
            self.vectors = rng.uniform(-bound, bound, size)
            self.vectors[:, 0], self.vectors[:, 1] = bound, -bound
        self.total = self.vectors.sum(axis=0)

    def to_ours(self, ciphertexts):
        """OpenFHE's ciphertexts as residues (M, 2, L, N)."""
        return np.stack([residues(self.ring, each, 2) for each in ciphertexts])

    def to_theirs(self, ciphertexts):
        """Residues (M, 2, L, N) as OpenFHE's ciphertexts."""
        vector = np.zeros(self.parameters.request.values, np.int64)
        like = reference.encrypt(self.keys, vector)[0]
        return [parsed(self.ring, like, each) for each in ciphertexts]

    def rows(self, vector):
        """A vector as our slots, which hold what OpenFHE's plaintexts of it hold."""
        parameters = self.parameters
        if parameters.request.scheme.exact:
            encoded = reference.encode(self.keys, vector)
            slots = np.stack([each.GetPackedValueArray() for each in encoded])
            return coefficients_of(slots, parameters)
        order = np.argsort(ckks_order(parameters.slots))
        return packing.pack(vector, parameters)[:, order]

    def vector(self, rows):
        """The vector that our slots hold, if OpenFHE encoded it."""
        parameters = self.parameters
        if not parameters.request.scheme.exact:
            rows = rows[:, ckks_order(parameters.slots)]
            return packing.unpack(np.ascontiguousarray(rows), parameters)
        t, slots = parameters.plaintext_modulus, slots_of(rows, parameters)
        centred = np.where(slots > t // 2, slots - t, slots)
        make = self.keys.context.MakePackedPlaintext
        return reference.decode(self.keys, [make(row) for row in centred])

    def check(self, found):
        """Raises AssertionError unless a vector is the sum, within the stated error."""
        error, std = found - self.total, self.parameters.error_std(UPLOADS)
        # Errors are products, whose tails are exponential where no noise floods them.
        assert np.abs(error).max() <= 20 * std
        if std > 1e-14:  # the rest is rounding
            assert error.std() == pytest.approx(std, rel=0.15)


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def both(request):
    return Both(*request.param)


def our_decryption(both, ciphertexts):
    """The sum that all secret keys decrypt, by our arithmetic, with its noise."""
    if not both.parameters.request.scheme.threshold:
        flooded = both.parameters.flooding_std > 0
        return both.scheme.decrypt(both.secrets[0], ciphertexts, flooded=flooded)
    total = ciphertexts[:, 0]
    for secret in both.secrets:
        part = both.scheme.partially_decrypt(secret, ciphertexts[:, 1])
        total = both.ring.add(total, part)
    return plaintexts.decode_values(total, both.parameters, both.ring)


def their_uploads(both):
    return [reference.encrypt(both.keys, vector) for vector in both.vectors]


def our_sum(both):
    """Residues of the sum of uploads that our arithmetic encrypts and adds."""
    messages = [both.scheme.encode(both.rows(vector)) for vector in both.vectors]
    public = both.scheme.public_key(residues(both.ring, both.keys.public, 2))
    uploads = [both.scheme.encrypt(public, each) for each in messages]
    total = uploads[0]
    for upload in uploads[1:]:
        total = both.ring.add(total, upload)
    return total


def test_openfhe_alone_adds(both):
    total = reference.add(both.keys, their_uploads(both))
    found = reference.decrypt(both.keys, total)
    assert found.dtype == (np.int64 if both.parameters.lanes else np.float64)
    both.check(found)


def test_our_arithmetic_decrypts_what_openfhe_encrypts(both):
    total = both.to_ours(reference.add(both.keys, their_uploads(both)))
    both.check(both.vector(our_decryption(both, total)))


def test_openfhe_decrypts_what_our_arithmetic_encrypts(both):
    both.check(reference.decrypt(both.keys, both.to_theirs(our_sum(both))))


@pytest.fixture(scope="module")
def threshold():
    """Cases whose keys exist in shares, and sums that OpenFHE added."""
    names = "threshold exact", "threshold exact, wide noise", "threshold ckks"
    cases = [Both(*CASES[name]) for name in names]
    return [(each, reference.add(each.keys, their_uploads(each))) for each in cases]


def test_openfhe_fuses_our_partial_decryptions(threshold):
    for both, total in threshold:
        seconds = both.to_ours(total)[:, 1]
        ours = [both.scheme.partially_decrypt(key, seconds) for key in both.secrets[1:]]
        decrypted = []
        for row, ciphertext in enumerate(total):
            lead = reference.partially_decrypt(both.keys, 0, ciphertext)
            parts = [parsed(both.ring, lead, part[row : row + 1]) for part in ours]
            decrypted.append(both.keys.context.MultipartyDecryptFusion([lead, *parts]))
        both.check(reference.decode(both.keys, decrypted))


def test_our_fusion_takes_partial_decryptions_of_openfhe(threshold):
    for both, total in threshold:
        holders = range(len(both.secrets))
        fused = np.zeros_like(both.to_ours(total)[:, 0])
        for row, ciphertext in enumerate(total):
            for holder in holders:
                part = reference.partially_decrypt(both.keys, holder, ciphertext)
                theirs = residues(both.ring, part, 1)[0]
                fused[row] = both.ring.add(fused[row], theirs)
        rows = plaintexts.decode_values(fused, both.parameters, both.ring)
        both.check(both.vector(rows))


@pytest.mark.parametrize("std", [2.0**24, 2.0**37.3, 2.0**38, 2.0**41.7, 2.0**65])
def test_partial_decryptions_carry_noise_of_the_stated_width(std):
    """Gaussian, as wide as stated, without gaps, and afresh for each holder and sum."""
    parameters = parameters_of(Scheme.THRESHOLD_CKKS, values=1, precision=1e-9)
    parameters = dataclasses.replace(parameters, flooding_std=std)
    keys = reference.generate(parameters)
    ring = HomomorphicScheme(parameters).ring
    (ciphertext,) = reference.encrypt(keys, np.zeros(1))
    c0, c1 = residues(ring, ciphertext, 2)
    noises = []
    for holder in (0, 0, 1, 2):
        part = reference.partially_decrypt(keys, holder, ciphertext)
        secret = Factor.of(residues(ring, keys.secrets[holder], 1)[0], ring)
        clean = polynomials.multiply(c1[None], secret, ring)[0]
        clean = clean if holder else ring.add(clean, c0)
        difference = ring.add(residues(ring, part, 1)[0], ring.column - clean)
        coefficients = polynomials.interpolate(difference[None] % ring.column, ring)
        noises.append(plaintexts.centred(coefficients, ring)[0])
    noise = np.stack(noises)
    # 16384 samples: six deviations of each estimate.
    assert noise.std() == pytest.approx(std, rel=0.034)
    assert abs(noise.mean()) < 6 * std / 128
    assert (noise**4).mean() / std**4 == pytest.approx(3, rel=0.25)
    correlations = np.corrcoef(noise) - np.eye(4)
    assert np.abs(correlations).max() < 6 / 64
    if std < 2**50:  # the rest is beyond a float64
        counts = np.bincount((noise % 16).astype(int).ravel(), minlength=16)
        assert np.abs(counts - 1024).max() < 6 * 32


def test_sums_that_need_less_noise_than_openfhe_adds_are_refused():
    changes = {"statistical_bits": 1, "query_budget": 1}
    parameters = parameters_of(Scheme.THRESHOLD_EXACT, values=1, **changes)
    with pytest.raises(ValueError, match=r"only: give more statistical_bits"):
        reference.generate(parameters)


@pytest.mark.parametrize("name", ["exact", "ckks"])
def test_vectors_beyond_the_declared_range_are_refused(name):
    both = Both(*CASES[name])
    vector = both.vectors[0].copy()
    vector[7] = 2**15 + 1 if name == "exact" else 2.1
    with pytest.raises(ValueError, match=r"entries within .* got one with"):
        reference.encrypt(both.keys, vector)
    with pytest.raises(ValueError, match=r"shape \(3,\) where \(5000,\)"):
        reference.encrypt(both.keys, vector[:3])
    if name == "ckks":
        vector[7] = np.nan
        with pytest.raises(ValueError, match="got one with nan"):
            reference.encrypt(both.keys, vector)


def test_sums_of_different_keys_are_refused():
    first, second = Both(*CASES["exact"]), Both(*CASES["exact"])
    uploads = [reference.encrypt(each.keys, each.total * 0) for each in (first, second)]
    with pytest.raises(RuntimeError, match="not encrypted with same keys"):
        reference.add(first.keys, uploads)


# Ours -> what a fault there makes of it. Each is found by the tests above.
FAULTS = {
    "a wrong scale": (
        Scheme.CKKS,
        {},
        lambda p: dataclasses.replace(p, scale=p.scale * (1 + 2**-12)),
    ),
    "too little noise": (
        Scheme.CKKS,
        {},
        lambda p: dataclasses.replace(p, flooding_std=p.flooding_std / 2),
    ),
    "another plaintext modulus": (
        Scheme.EXACT,
        {},
        lambda p: dataclasses.replace(p, lanes=p.lanes - 1),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_our_arithmetic_is_found(fault):
    kind, changes, planted = FAULTS[fault]
    both = Both(kind, changes)
    total = both.to_ours(reference.add(both.keys, their_uploads(both)))
    ciphertexts = our_sum(both)
    both.check(both.vector(our_decryption(both, total)))
    both.check(reference.decrypt(both.keys, both.to_theirs(ciphertexts)))
    both.scheme.parameters = planted(both.parameters)
    with pytest.raises(AssertionError):
        both.check(both.vector(our_decryption(both, total)))
    if fault != "too little noise":
        with pytest.raises(AssertionError):
            both.check(reference.decrypt(both.keys, both.to_theirs(our_sum(both))))
