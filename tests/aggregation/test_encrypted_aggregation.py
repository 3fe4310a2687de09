import gc
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private.aggregation import SCHEMES, TOPOLOGIES, Options, make
from fedjax_private.encryption import OpenFHEUnavailable, RefusedError
from fedjax_private.trust import Decryptor, Trust

ENCRYPTED = [name for name in SCHEMES if name != "none"]
needs_openfhe = pytest.mark.needs_openfhe


def trust(name, uploads):
    return Trust(uploads, SCHEMES[name])


def made(name, uploads=3, size=10, **arguments):
    return make(name, vector_size=size, trust=trust(name, uploads), **arguments)


def encoded(aggregation, rows, seed=0):
    keys = jax.random.split(jax.random.key(seed), len(rows))
    encode = jax.vmap(aggregation.codec.encode)
    return np.asarray(encode(keys, jnp.asarray(rows, jnp.float32)))


def released(aggregation, slots, ids=None, round_number=0):
    session = aggregation.open(round_number)
    session.add(np.arange(len(slots)) if ids is None else ids, slots)
    return session.release()


def decoded(aggregation, total):
    return np.asarray(aggregation.codec.decode(jnp.asarray(total)))


def test_missing_openfhe_ends_with_the_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "openfhe", None)
    with pytest.raises(OpenFHEUnavailable, match="plain arms run without it"):
        made("ckks", 2)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("ckks", Options(value_bound=1e30), "smaller value bound"),
        ("exact", Options(quantization_bits=40), "bits must lie between 2 and 24"),
        ("exact", Options(query_budget=0), "query_budget must lie"),
        ("threshold_ckks", Options(recovery_threshold=1), "more than half"),
        ("threshold_exact", Options(recovery_threshold=4), "at most all"),
        ("ckks", Options(topology="line"), "unknown topology 'line'"),
        ("ckks", Options(topology="tree", fan_out=0), "at least one client"),
    ],
)
def test_impossible_options_are_refused(name, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        made(name, options=options)


def test_names_and_trust_must_agree():
    with pytest.raises(ValueError, match="unknown encryption 'rot13'"):
        make("rot13", vector_size=2, trust=trust("ckks", 2))
    with pytest.raises(ValueError, match="needs the decryptor 'holders'"):
        make("threshold_exact", vector_size=2, trust=trust("ckks", 2))
    with pytest.raises(ValueError, match="at least two holders"):
        made("threshold_ckks", 1)


@needs_openfhe
class TestSums:
    # Around the edges of ciphertexts: 2048 slots of two values, and of three lanes.
    @pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 12_288, 12_289, 26_010])
    @pytest.mark.parametrize("name", ["ckks", "exact"])
    def test_mean_equals_the_plain_one(self, name, size):
        rows = 0.1 * np.random.default_rng(size).normal(size=(4, size))
        aggregation = made(name, 4, size)
        slots = encoded(aggregation, rows)
        session = aggregation.open(0)
        ids = np.array([11, 3, 0, 8])
        session.add(ids[:3], jnp.asarray(slots[:3]))
        session.add(ids[3:], slots[3:])
        total, report = session.release()
        error = np.abs(decoded(aggregation, total) - rows.sum(axis=0)).max()
        if name == "exact":
            assert report.max_error == 0.0
            assert error < 4 * aggregation.grid.step
        else:
            assert report.max_error < 6 * aggregation.parameters.error_std(4)
            assert error < 6 * aggregation.parameters.error_std(4) + 1e-6

    @pytest.mark.parametrize("name", ENCRYPTED)
    def test_every_scheme_over_several_rounds(self, name):
        aggregation = made(name, 3, 5000)
        for round_number in (1, 2, 7):
            rows = np.random.default_rng(round_number).uniform(-0.3, 0.3, (3, 5000))
            slots = encoded(aggregation, rows, round_number)
            total, report = released(aggregation, slots, round_number=round_number)
            assert report.max_error < 1e-3
            np.testing.assert_allclose(
                decoded(aggregation, total), rows.sum(axis=0), atol=1e-3
            )

    @pytest.mark.parametrize("name", ["ckks", "exact", "threshold_exact"])
    def test_topologies_give_equal_sums(self, name):
        rows = np.random.default_rng(0).uniform(-0.3, 0.3, (5, 3000))
        totals, links = {}, {}
        for topology in TOPOLOGIES:
            options = Options(topology=topology, fan_out=2)
            aggregation = made(name, 5, 3000, options=options)
            slots = encoded(aggregation, rows)
            totals[topology], report = released(aggregation, slots)
            links[topology] = {
                link
                for link in report.link_bytes
                if "authority" not in link and "holder" not in link
            }
            sizes = [report.link_bytes[link] for link in links[topology]]
            # A sum is as long as an upload, but for the clients' numbers.
            assert max(sizes) - min(sizes) <= 8 * 4
        assert links == {
            "star": {"client to server"},
            "tree": {"client to edge", "edge to server"},
            "ring": {"client to client", "client to server"},
        }
        for total in totals.values():
            if name == "ckks":  # the flooding noise differs
                np.testing.assert_allclose(total, totals["star"], atol=1e-3)
            else:
                np.testing.assert_array_equal(total, totals["star"])

    def test_overflow_wraps_and_saturation_is_counted(self):
        aggregation = made("exact", 3, 4, options=Options(value_bound=1.0))
        rows = np.array([[0.5, 0.5, 9.0, 0.0]] * 3)
        total, report = released(aggregation, encoded(aggregation, rows))
        assert report.saturated == 3
        step = aggregation.grid.step
        expected = (1.5 + 1.0) % 2.0 - 1.0
        found = decoded(aggregation, total)
        np.testing.assert_allclose(found[:2], expected, atol=8 * step)
        assert abs(found[2]) < 1.0 + step
        assert found[3] == 0.0

    def test_partial_sums_down_to_the_fewest(self):
        rows = np.full((2, 10), 0.25)
        aggregation = made("exact", 2, most_uploads=5)
        total, report = released(aggregation, encoded(aggregation, rows))
        assert report.uploads == 2
        np.testing.assert_allclose(decoded(aggregation, total), 0.5, atol=1e-3)

    def test_report(self):
        aggregation = made("ckks", 2, 5000)
        rows = np.ones((2, 5000), np.float32)
        _, report = released(aggregation, rows)
        assert report.uploads == 2
        ciphertexts = 2 * 2 * aggregation.parameters.polynomial_bytes
        assert 0 < report.upload_bytes_per_client - ciphertexts < 150
        assert report.download_bytes_per_client == 20_000
        assert report.seconds_encrypt > 0
        assert report.seconds_add > 0
        assert report.seconds_decrypt > 0
        assert report.seconds_keys > 0
        assert released(aggregation, rows, round_number=1)[1].seconds_keys == 0
        assert list(report.link_bytes) == [
            "client to server",
            "server to authority",
            "authority to server",
        ]

    @pytest.mark.parametrize("name", ENCRYPTED)
    def test_too_few_uploads_are_never_decrypted(self, name):
        aggregation = made(name)
        session = aggregation.open(0)
        session.add(np.arange(2), encoded(aggregation, np.zeros((2, 10))))
        with pytest.raises(RefusedError, match="at least 3"):
            session.release()
        with pytest.raises(RefusedError, match="no upload"):
            aggregation.open(1).release()

    @pytest.mark.parametrize("name", ["exact", "threshold_exact"])
    def test_a_round_is_released_once(self, name):
        aggregation = made(name, 2)
        slots = encoded(aggregation, np.zeros((2, 10)))
        session = aggregation.open(0)
        session.add(np.arange(2), slots)
        session.release()
        with pytest.raises(RuntimeError, match="released already"):
            session.release()
        with pytest.raises(RefusedError, match="decrypted already"):
            released(aggregation, slots)

    def test_a_discarded_round_does_not_release_a_later_one(self):
        aggregation = made("exact", 2)
        slots = encoded(aggregation, np.full((2, 10), 0.25))
        old, new = aggregation.open(0), aggregation.open(1)
        new.add(np.arange(2), slots)
        with pytest.raises(RuntimeError, match="round 0 was discarded"):
            old.release()
        total, _ = new.release()
        np.testing.assert_allclose(decoded(aggregation, total), 0.5, atol=1e-3)

    def test_keys_are_rotated_when_the_budget_is_used_up(self):
        for name in ("ckks", "threshold_ckks", "threshold_exact"):
            aggregation = made(name, 2, options=Options(query_budget=2))
            names, slots = [], encoded(aggregation, np.zeros((2, 10)))
            for round_number in range(5):
                _, report = released(aggregation, slots, round_number=round_number)
                names.append(aggregation.key_id)
                assert (report.seconds_keys > 0) is (round_number % 2 == 0)
            assert names[0] == names[1] != names[2] == names[3] != names[4]

    def test_duplicates_are_refused(self):
        session = made("ckks").open(0)
        session.add(np.array([0]), np.zeros((1, 10)))
        with pytest.raises(RefusedError, match="twice"):
            session.add(np.array([0]), np.zeros((1, 10)))

    def test_diverged_and_outlying_updates_are_refused(self):
        session = made("ckks", 2).open(0)
        with pytest.raises(ValueError, match=r"client 5: .*not finite"):
            session.add(np.array([5]), np.full((1, 10), np.nan))
        with pytest.raises(ValueError, match=r"client 6: .*bound of 2"):
            session.add(np.array([6]), np.full((1, 10), -2.1))
        aggregation = made("exact", 2)
        slots = encoded(aggregation, np.array([[0.1] * 10, [np.nan] + [0.1] * 9]))
        with pytest.raises(ValueError, match=r"client 8: .*not a number"):
            aggregation.open(0).add(np.array([7, 8]), slots)

    def test_descriptions_say_what_is_released_and_who_decrypts(self):
        text = made("ckks").description
        for part in ("4096", "60 bits", "128-bit", "3 uploads", "key authority", "KL"):
            assert part in text
        assert "UNPROTECTED" in made("ckks", options=Options(protect=False)).description
        text = made("threshold_exact").description
        for part in ("BFV", "All 3 holders", "2 of them can stand in", "mod 2^16"):
            assert part in text

    @pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
    def test_memory_stays_flat(self):
        def resident():
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

        # Keys of 20 rounds each.
        aggregation = made("ckks", 2, 5000, options=Options(query_budget=40))
        rows = np.ones((2, 5000), np.float32)

        def rounds(first, count):
            for number in range(first, first + count):
                released(aggregation, rows, round_number=number)

        rounds(0, 100)
        before = resident()
        rounds(100, 500)
        # One upload kept a round would be 59 MiB, a key pair a rotation 5 MiB.
        assert resident() - before < 4


def test_the_most_sensitive_entries_are_chosen():
    from fedjax_private.aggregation import most_sensitive

    scores = np.array([0.1, 3.0, 2.0, 0.0])
    assert most_sensitive(scores, 0.5).tolist() == [False, True, True, False]
    assert most_sensitive(scores, 1e-9).tolist() == [False, True, False, False]
    assert most_sensitive(scores, 1.0).all()
    with pytest.raises(ValueError, match="lies in"):
        most_sensitive(scores, 0.0)


def test_sensitivity_is_that_of_a_linear_model_by_hand():
    from fedjax_private.aggregation import sensitivity

    # loss = -sum_c y_c log p_c with logits W x: the gradient for W_c is (p_c - y_c) x
    # times sum(y), so its derivative for y_d is (p_c - 1[c = d]) x at a one-hot y.
    weights = jnp.array([[0.3, -0.2], [0.1, 0.4]])  # (inputs, classes)
    x = jnp.array([[1.0, -2.0]])
    p = np.asarray(jax.nn.softmax(x[0] @ weights))
    found = sensitivity(lambda w, inputs: inputs @ w, weights, x, jnp.array([1]))
    per_class = [sum(abs(p[c] - (c == d)) for d in range(2)) for c in range(2)]
    expected = np.abs(np.outer(np.asarray(x[0]), per_class)).ravel()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@needs_openfhe
@pytest.mark.parametrize("name", ["ckks", "exact"])
def test_selective_sums_equal_whole_ones(name):
    rows = np.random.default_rng(0).uniform(-0.3, 0.3, (3, 20_000))
    mask = np.random.default_rng(1).random(20_000) < 0.2
    whole, part = made(name, 3, 20_000), made(name, 3, 20_000, encrypted=mask)
    slots = encoded(whole, rows)
    np.testing.assert_array_equal(encoded(part, rows), slots)
    (a, of_whole), (b, of_part) = released(whole, slots), released(part, slots)
    np.testing.assert_allclose(a, b, atol=0 if name == "exact" else 1e-3)
    assert of_part.upload_bytes_per_client < of_whole.upload_bytes_per_client
    assert (
        f"{1 - mask.mean():.1%} of the entries are sent in the clear"
        in part.description
    )


def test_trust_with_holders_needs_no_authority():
    assert Trust(2, Decryptor.HOLDERS).decryptor is SCHEMES["threshold_ckks"]
