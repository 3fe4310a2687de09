"""Masked sums as a round takes them."""

import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private.aggregation import MaskedAggregation
from fedjax_private.aggregation.types import InformedSession
from fedjax_private.encryption import RefusedError
from fedjax_private.encryption.errors import VoidRoundError
from fedjax_private.encryption.masking import graphs
from fedjax_private.quantization import NOT_FINITE
from fedjax_private.trust import Decryptor, Trust
from tests.aggregation.sums import decoded, encoded, made, released


def rows_of(clients, size=10, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (clients, size))


@pytest.mark.parametrize("server", ["malicious", "semi_honest"])
def test_sums_are_those_of_the_exact_grid(server):
    aggregation = made("masks", 3, settings={"server": server})
    assert isinstance(aggregation, MaskedAggregation)
    rows = rows_of(3)
    slots = encoded(aggregation, rows)
    assert slots.dtype == np.int32
    session = aggregation.open(0)
    session.add(np.array([7, 2]), slots[:2])
    session.add(np.array([5]), slots[2:])
    total, report = session.release()
    np.testing.assert_array_equal(total, slots.sum(axis=0))
    np.testing.assert_allclose(decoded(aggregation, total), rows.sum(axis=0), atol=1e-3)
    assert (report.uploads, report.max_error, report.wrapped) == (3, 0.0, 0)
    assert report.saturated == 0
    total, _ = released(aggregation, slots, round_number=1)
    np.testing.assert_array_equal(total, slots.sum(axis=0))


def test_sums_at_the_ends_of_the_range_do_not_wrap():
    settings = {"quantization_bits": 8, "value_bound": 1.0}
    aggregation = made("masks", 5, settings=settings)
    assert aggregation.facts.bits == 8 + 3
    slots = encoded(aggregation, np.full((5, 10), -3.0))
    total, report = released(aggregation, slots)
    np.testing.assert_array_equal(total, -5 * 127)
    assert (report.saturated, report.max_error, report.wrapped) == (50, 0.0, 0)
    np.testing.assert_allclose(decoded(aggregation, total), -5.0)


def test_a_bound_of_sums_saves_bits_and_counts_what_wraps():
    settings = {"quantization_bits": 8, "value_bound": 1.0, "sum_bound": 1.0}
    aggregation = made("masks", 5, settings=settings)
    assert aggregation.facts.bits == 8
    rows = np.full((5, 10), 0.1)
    rows[:, 0] = 0.5
    total, report = released(aggregation, slots := encoded(aggregation, rows))
    assert report.wrapped == 1
    np.testing.assert_array_equal(total[1:], slots.sum(axis=0)[1:])
    np.testing.assert_array_equal((total - slots.sum(axis=0)) % 256, 0)


def test_sums_wider_than_any_ciphertext_holds():
    settings = {"quantization_bits": 24}
    aggregation = made("masks", 2, settings=settings, most_uploads=60_000)
    assert aggregation.facts.bits == 24 + 16
    slots = np.full((2, 10), 2**23 - 1, np.int32)
    total, report = released(aggregation, slots)
    np.testing.assert_array_equal(total, 2**24 - 2)
    assert report.wrapped == 0 and report.saturated == 20


def test_residues_are_summed_mod_2_to_the_b_and_wraps_are_counted():
    aggregation = made("masks", 3, settings={"quantization_bits": 8}, residues=True)
    assert aggregation.facts.bits == 8
    slots = np.zeros((3, 10), np.int32)
    slots[:, 0] = 60, 70, 300
    slots[:, 1] = 60, 70, -20
    total, report = released(aggregation, slots)
    np.testing.assert_array_equal(total[:3], [430 - 512, 110, 0])
    assert report.wrapped == 1
    assert report.max_error > 0


def test_what_is_not_finite_is_refused():
    aggregation = made("masks", 2)
    slots = encoded(aggregation, [[np.nan] + [0.0] * 9, [0.0] * 10])
    assert slots[0, 0] == NOT_FINITE
    with pytest.raises(ValueError, match="client 4"):
        aggregation.open(0).add(np.array([4, 6]), slots)


def test_reports_count_what_every_client_sends():
    aggregation = made("masks", 4, 1000)
    _, report = released(aggregation, encoded(aggregation, rows_of(4, 1000)))
    frame = 58 + 32
    # 16 bits, and two more for the sum of four.
    vector, shares = 2 * 1000 + 125 * 2, 16 + 3 * 16 + 16 + 3 * 48
    assert report.link_bytes == {
        "client to server: shares": frame + shares,
        "server to client: shares": frame + 1 + 3 * 48,
        "client to server: vector": frame + vector,
        "client to server: consents": frame + 3 * 16,
        "client to server: opening": frame + 4 * 16,
    }
    assert report.upload_bytes_per_client == (
        4 * frame + vector + shares + 3 * 16 + 4 * 16
    )
    assert report.download_bytes_per_client == 4000
    honest = made("masks", 4, 1000, {"server": "semi_honest"})
    _, less = released(honest, encoded(honest, rows_of(4, 1000)))
    assert report.upload_bytes_per_client - less.upload_bytes_per_client == frame + 48
    for seconds in ("seconds_keys", "seconds_encrypt", "seconds_add"):
        assert getattr(report, seconds) > 0


def test_rounds_are_opened_once_and_one_at_a_time():
    aggregation = made("masks", 2, most_uploads=4)
    slots = encoded(aggregation, rows_of(2))
    first = aggregation.open(3)
    first.add(np.arange(2), slots)
    aggregation.open(4)
    with pytest.raises(RuntimeError, match="discarded by a later one"):
        first.release()
    with pytest.raises(RefusedError, match="opened before"):
        aggregation.open(3)
    with pytest.raises(RuntimeError, match="released already"):
        first.add(np.arange(2), slots)


def test_too_few_too_many_and_repeated_uploads_are_refused():
    aggregation = made("masks", 3, most_uploads=4)
    slots = encoded(aggregation, rows_of(5))
    session = aggregation.open(0)
    session.add(np.arange(2), slots[:2])
    with pytest.raises(RefusedError, match="uploaded twice"):
        session.add(np.array([1]), slots[:1])
    with pytest.raises(ValueError, match="vector_size"):
        session.add(np.array([2]), slots[:1, :9])
    with pytest.raises(RefusedError, match="at least 3 uploads"):
        session.release()
    session = aggregation.open(1)
    with pytest.raises(RefusedError, match="at most 4 uploads"):
        session.add(np.arange(5), slots)
    session.add(np.arange(4), slots[:4])
    total, _ = session.release()
    np.testing.assert_array_equal(total, slots[:4].sum(axis=0))


@pytest.mark.parametrize("server", ["malicious", "semi_honest"])
def test_masks_of_clients_that_are_lost_are_removed(server):
    aggregation = made("masks", 4, settings={"server": server}, most_uploads=9)
    assert isinstance(aggregation.open(0), InformedSession)
    slots = encoded(aggregation, rows_of(4))
    session = aggregation.open(1)
    session.add(np.array([5, 1]), slots[:2])
    session.lose(np.array([9]))
    session.add(np.array([3, 7]), slots[2:])
    session.lose(np.array([], int))
    total, report = session.release()
    np.testing.assert_array_equal(total, slots.sum(axis=0))
    assert (report.uploads, report.max_error) == (4, 0.0)
    # Four of these clients opened masks with the fifth.
    assert report.link_bytes["client to server: opening"] == 58 + 32 + 5 * 16
    session = aggregation.open(2)
    session.add(np.arange(4), slots)
    session.lose(np.arange(4, 9))
    if server == "malicious":  # T = 3 + 3 of nine
        with pytest.raises(RefusedError, match="round 2 is void: 4 clients have upl"):
            session.release()
    else:
        np.testing.assert_array_equal(session.release()[0], slots.sum(axis=0))


@pytest.mark.parametrize("server", ["malicious", "semi_honest"])
def test_clients_that_vanish_after_their_upload_stay_in_the_sum(server):
    settings = {"server": server, "holder_drop_out": 0.15}
    aggregation, again = (
        made("masks", 4, settings=settings, most_uploads=8) for _ in range(2)
    )
    assert "after its upload with probability 0.15" in aggregation.description
    slots = encoded(aggregation, rows_of(8))

    def ended(sums, number):
        try:
            total, report = released(sums, slots, round_number=number)
        except VoidRoundError:
            return False
        np.testing.assert_array_equal(total, slots.sum(axis=0))
        return report.uploads == 8

    outcomes = [ended(aggregation, number) for number in range(12)]
    assert True in outcomes
    assert (False in outcomes) is (server == "malicious")  # T = 3 + 2, or 3, of eight
    assert [ended(again, number) for number in range(12)] == outcomes  # of the seed


def test_who_takes_part_may_change():
    aggregation = made("masks", 2, most_uploads=3)
    slots = encoded(aggregation, rows_of(3))
    for number, ids in enumerate(([0, 1, 2], [2, 3, 9], [0, 9, 1])):
        total, _ = released(aggregation, slots, np.array(ids), number)
        np.testing.assert_array_equal(total, slots.sum(axis=0))


def test_settings_that_do_not_fit_are_refused():
    for settings, words in (
        ({"recovery_threshold": 4}, "recovery_threshold must lie between 2 and 3"),
        ({"server": "good"}, "server must be one of malicious, semi_honest"),
        ({"topology": "tree"}, "topology is no setting of .* masks"),
    ):
        with pytest.raises(ValueError, match=words):
            made("masks", 3, settings=settings)
    with pytest.raises(ValueError, match="more than half"):
        made("masks", 4, settings={"recovery_threshold": 2})
    with pytest.raises(ValueError, match="at least 2 uploads, got 1"):
        made("masks", 1)
    with pytest.raises(ValueError, match="masks hide every entry"):
        made("masks", 3, encrypted=np.arange(10) < 5)


def test_insiders_read_uploads_from_the_quorum_on():
    # Eight clients: T = 6, and 4 colluders open uploads with a malicious server.
    for honest, reads in ((8, False), (5, False), (4, True), (1, True)):
        trust = Trust(8, Decryptor.UPLOADERS, honest, 4)
        assert trust.insiders_read_uploads is reads


def test_reports_estimate_the_share_of_a_sum_that_is_rounding():
    rng = np.random.default_rng(0)
    rows = np.append(rng.standard_normal((4, 2000)), np.full((4, 1), 50.0), axis=1)
    for bound, least, most in ((60.0, 1e-8, 1e-5), (1e6, 0.8, 1.0)):
        settings = {"value_bound": bound, "quantization_bits": 16}
        aggregation = made("masks", 4, 2001, settings=settings)
        slots = encoded(aggregation, rows)
        _, report = released(aggregation, slots)
        assert least < report.rounding < most + 1e-9
        # The estimate against the true error, without the weight.
        step = bound / 32767
        wrong = slots.sum(axis=0) * step - rows.sum(axis=0)
        whole = (slots.sum(axis=0) * step)[:-1]
        share = min(1.0, (wrong[:-1] ** 2).sum() / (whole**2).sum())
        assert report.rounding == pytest.approx(share, rel=0.2)
    # Noise that has been priced on the grid is no error of it.
    aggregation = made("masks", 4, 2001, residues=True)
    assert released(aggregation, np.ones((4, 2001), np.int32))[1].rounding == 0.0
    # Nothing is left but the weight.
    nothing = np.append(np.zeros((4, 2000), np.int32), np.full((4, 1), 9), axis=1)
    aggregation = made("masks", 4, 2001)
    assert released(aggregation, nothing.astype(np.int32))[1].rounding == 1.0


def test_equal_grids_share_a_codec():
    one, other = made("masks", 3), made("masks", 4)
    assert one.codec is other.codec
    np.testing.assert_array_equal(
        one.codec.decode(jnp.array([32767])), np.float32([2.0])
    )


def test_many_clients_of_an_honest_server_mask_with_some():
    aggregation = made("masks", 120, 3, {"server": "semi_honest"}, most_uploads=125)
    assert aggregation.facts.sparse
    assert "in a random graph" in aggregation.description
    rows = rows_of(122, 3)
    slots = encoded(aggregation, rows)
    session = aggregation.open(0)
    session.add(np.arange(122), slots)
    session.lose(np.arange(122, 125))
    total, report = session.release()
    np.testing.assert_array_equal(total, slots.sum(axis=0))
    degree, _ = graphs.sparse(125)
    opening = report.link_bytes["client to server: opening"]
    assert opening == 58 + 32 + 16 * (degree + 1)
