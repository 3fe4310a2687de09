"""Sums by OpenFHE's bindings alone, and the default path against them."""

import dataclasses

import numpy as np
import pytest

from fedjax_private.aggregation import SCHEMES, OpenFHEAggregation, describe, trust_of
from fedjax_private.encryption import RefusedError
from fedjax_private.encryption.math import plaintexts
from fedjax_private.encryption.parties import authority
from tests.aggregation.sums import ENCRYPTED, decoded, encoded, made, released

OPENFHE = {"arithmetic": "openfhe", "server": "semi_honest"}
SIZE = 3000


def of_openfhe(name, uploads=3, size=SIZE, **settings):
    return made(name, uploads, size, {**OPENFHE, **settings})


def vectors(uploads=3, size=SIZE, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (uploads, size))


@pytest.mark.needs_openfhe
class TestSums:
    @pytest.mark.parametrize("name", ENCRYPTED)
    def test_both_paths_release_the_same_sum(self, name):
        ours, theirs = made(name, 3, SIZE), of_openfhe(name)
        assert isinstance(theirs, OpenFHEAggregation)
        assert theirs.parameters == ours.parameters
        rows = vectors()
        slots = encoded(theirs, rows)
        np.testing.assert_array_equal(slots, encoded(ours, rows))
        found, report = released(theirs, slots)
        default, default_report = released(ours, slots)
        if SCHEMES.find(name).exact:
            np.testing.assert_array_equal(found, default)
            assert report.max_error == default_report.max_error == 0.0
        else:
            std = ours.parameters.error_std(3)
            assert (found - default).std() == pytest.approx(2**0.5 * std, rel=0.15)
            assert np.abs(found - default).max() < 12 * std
            assert 2 * std < report.max_error < 8 * std
        assert report.saturated == default_report.saturated
        error = np.abs(decoded(theirs, found) - rows.sum(axis=0)).max()
        assert error < 1e-3

    @pytest.mark.filterwarnings("ignore:entries of a released sum are wrong")
    @pytest.mark.parametrize("name", ["exact", "threshold_exact"])
    def test_both_paths_release_the_same_residues(self, name):
        """As where clients share noise: the true sum leaves the range and wraps."""
        slots = np.random.default_rng(0).integers(-(2**16), 2**16, (3, SIZE), np.int32)
        totals = [
            released(made(name, 3, SIZE, settings, residues=True), slots)[0]
            for settings in ({}, OPENFHE)
        ]
        np.testing.assert_array_equal(*totals)
        assert np.abs(slots.sum(axis=0)).max() > 2**15 > np.abs(totals[0]).max()

    def test_several_rounds_and_chunks(self):
        aggregation = of_openfhe("exact")
        rows = vectors(5)
        for round_number in (1, 4):
            session = aggregation.open(round_number)
            slots = encoded(aggregation, rows, round_number)
            session.add(np.array([7, 2]), slots[:2])
            session.add(np.array([0]), slots[2:3])
            total, report = session.release()
            assert report.uploads == 3 and report.max_error == 0.0
            np.testing.assert_array_equal(total, slots[:3].sum(axis=0))
            assert (report.seconds_keys > 0) is (round_number == 1)
            assert report.seconds_encrypt > 0 and report.seconds_add > 0
            assert report.seconds_decrypt > 0
        # OpenFHE's words of 64 bits, and what it writes around them.
        parameters = aggregation.parameters
        words = 2 * 8 * parameters.ring_dimension * parameters.rows
        assert words < report.upload_bytes_per_client < 1.1 * words

    def test_keys_are_rotated(self):
        for settings in {"query_budget": 2}, {"key_rounds": 2}:
            aggregation = of_openfhe("threshold_ckks", 2, 10, **settings)
            for round_number in range(5):
                _, report = released(aggregation, np.zeros((2, 10)), None, round_number)
                assert (report.seconds_keys > 0) is (round_number % 2 == 0)

    def test_no_key_decrypts_more_than_its_noise_protects(self):
        aggregation = of_openfhe("ckks", 2, 10, query_budget=1)
        sessions = [aggregation.open(round_number) for round_number in range(2)]
        for session in sessions:
            session.add(np.arange(2), np.zeros((2, 10)))
        sessions[0].release()
        with pytest.raises(RefusedError, match="as many sums as its noise protects"):
            sessions[1].release()

    @pytest.mark.parametrize("name", ENCRYPTED)
    def test_too_few_uploads_are_never_decrypted(self, name):
        session = of_openfhe(name, 3, 10).open(0)
        session.add(np.arange(2), np.zeros((2, 10), np.int32))
        with pytest.raises(RefusedError, match="at least 3"):
            session.release()

    def test_a_client_or_a_round_comes_once(self):
        aggregation = of_openfhe("exact", 2, 10)
        slots = np.zeros((2, 10), np.int32)
        session = aggregation.open(0)
        session.add(np.arange(2), slots)
        with pytest.raises(RefusedError, match="twice"):
            session.add(np.arange(1, 3), slots)
        with pytest.raises(RefusedError, match="0 has been opened"):
            aggregation.open(0)
        session.release()
        with pytest.raises(RuntimeError, match="released already"):
            session.release()

    def test_sums_of_too_many_uploads_are_never_decrypted(self):
        session = of_openfhe("exact", 2, 10).open(0)
        session.add(np.arange(2), np.zeros((2, 10), np.int32))
        with pytest.raises(RefusedError, match="at most 2"):
            session.add(np.array([2]), np.zeros((1, 10), np.int32))

    def test_what_cannot_be_encrypted_is_refused(self):
        for value, sentence in ((2.1, "with the codec"), (np.nan, "learning_rate")):
            session = of_openfhe("ckks", 2, 10).open(0)
            with pytest.raises(ValueError, match=sentence):
                session.add(np.arange(2), np.full((2, 10), value))
            # Nothing of the chunk has been added.
            session.add(np.arange(2), np.full((2, 10), 0.5))
            total, report = session.release()
            assert report.uploads == 2
            np.testing.assert_allclose(total, 1.0, atol=1e-3)

    @pytest.mark.filterwarnings("ignore:entries of a released sum are wrong")
    @pytest.mark.parametrize("place", ["encoding", "decoding", "lanes"])
    def test_a_fault_in_our_arithmetic_is_found(self, place, monkeypatch):
        name = "exact" if place == "lanes" else "ckks"
        aggregation = of_openfhe(name)
        slots = encoded(aggregation, vectors())
        expected, _ = released(aggregation, slots)
        module, attribute = {
            "encoding": (plaintexts, "encode"),
            "decoding": (plaintexts, "decode"),
            "lanes": (authority, "unpack"),
        }[place]
        right = getattr(module, attribute)

        def wrong(rows, parameters, *ring):
            if place != "lanes":
                scale = parameters.scale * 1.001
                return right(rows, dataclasses.replace(parameters, scale=scale), *ring)
            request = parameters.request
            settings = dataclasses.replace(request.settings, quantization_bits=15)
            request = dataclasses.replace(request, settings=settings)
            return right(rows, dataclasses.replace(parameters, request=request))

        monkeypatch.setattr(module, attribute, wrong)
        found, _ = released(made(name, 3, SIZE), slots)
        assert np.abs(found - expected).max() > 20 * aggregation.parameters.error_std(3)


def test_what_is_said_of_it():
    for name in ENCRYPTED:
        scheme = SCHEMES.choose(name, OPENFHE)
        assert scheme.entry.protects(scheme.settings)
        trust = trust_of(scheme, uploads=6)
        text = describe(scheme, vector_size=10, trust=trust)
        assert text.endswith(
            "REFERENCE: OpenFHE's bindings alone compute, in one process without "
            "authentication; its serialised ciphertexts are larger."
        )
        if name.startswith("threshold"):
            # All must decrypt, so all but one may collude.
            assert trust.quorum == 6
            assert "none can stand in for another" in text


def test_noise_that_openfhe_cannot_narrow_is_refused_beforehand():
    settings = {**OPENFHE, "statistical_bits": 1, "query_budget": 1}
    scheme = SCHEMES.choose("threshold_exact", settings)
    with pytest.raises(ValueError, match="give more statistical_bits"):
        describe(scheme, vector_size=1, trust=trust_of(scheme, uploads=3))


def test_entries_in_the_clear_are_refused():
    with pytest.raises(ValueError, match="encrypts every entry"):
        made("ckks", 3, 4, OPENFHE, encrypted=np.array([True, True, False, False]))
