"""Ranges of uploads and sums: what fits is right, what does not is counted and said."""

import warnings

import numpy as np
import pytest

from fedjax_private.aggregation.sums import RangeWarning, grid_of
from fedjax_private.encryption import RefusedError
from tests.aggregation.sums import ENCRYPTED, decoded, encoded, made, released

pytestmark = pytest.mark.needs_openfhe


@pytest.mark.parametrize("name", ["exact", "threshold_exact"])
def test_exact_sums_beyond_an_upload_are_true(name):
    aggregation = made(name, 4, 4, settings={"value_bound": 2.0})
    rows = np.array([[0.9, -0.9, 9.0, 0.0]] * 4)
    with pytest.warns(RangeWarning, match="reached value_bound"):
        total, report = released(aggregation, encoded(aggregation, rows))
    step = grid_of(aggregation.request).step
    found = decoded(aggregation, total)
    np.testing.assert_allclose(found, [3.6, -3.6, 8.0, 0.0], atol=4 * step)
    assert (report.saturated, report.wrapped, report.max_error) == (4, 0, 0.0)


@pytest.mark.parametrize("name", ENCRYPTED)
def test_the_largest_uploads_add_up_to_the_largest_sum(name):
    # Equal entries put all they have into one coefficient of a ciphertext.
    aggregation = made(name, 8 if name != "threshold_ckks" else 4, 4096)
    count, rows = aggregation.request.uploads, np.full((1, 4096), 1.0)
    slots = encoded(aggregation, np.repeat(rows, count, axis=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        total, report = released(aggregation, slots)
    np.testing.assert_allclose(decoded(aggregation, total), count, atol=1e-2)
    assert (report.saturated, report.wrapped) == (0, 0)


@pytest.mark.parametrize("name", ["ckks", "threshold_ckks"])
def test_reals_are_cut_at_the_bound_of_uploads_and_counted(name):
    aggregation = made(name, 3, 5, settings={"value_bound": 0.3})
    rows = np.array([[0.2, 7.0, -1e30, 0.3001, 0.0]] * 3)
    with pytest.warns(RangeWarning, match="reached value_bound"):
        total, report = released(aggregation, encoded(aggregation, rows))
    expected = [0.6, 0.9, -0.9, 0.9, 0.0]
    np.testing.assert_allclose(decoded(aggregation, total), expected, atol=1e-3)
    assert (report.saturated, report.wrapped) == (9, 0)
    assert report.max_error < 1e-3


@pytest.mark.parametrize("name", ["ckks", "threshold_ckks"])
def test_sums_of_reals_beyond_an_own_range_are_counted(name):
    settings = {"value_bound": 1.0, "sum_bound": 1.0}
    aggregation = made(name, 3, 4096, settings=settings)
    slots = encoded(aggregation, np.full((3, 4096), 1.0) * 0.9)
    with pytest.warns(RangeWarning, match="a larger sum_bound"):
        _, report = released(aggregation, slots)
    assert report.saturated == 0
    assert report.wrapped > 2000
    assert report.max_error > 1


@pytest.mark.parametrize("name", ["exact", "threshold_exact"])
def test_exact_sums_within_an_own_range_take_smaller_lanes(name):
    settings = {"value_bound": 1.0, "sum_bound": 2.0}
    aggregation = made(name, 8, 20, settings=settings)
    assert aggregation.parameters.lane_bits == 17  # 19 for eight full uploads
    within, beyond = np.full((8, 20), 0.25), np.full((8, 20), 0.9)
    total, report = released(aggregation, encoded(aggregation, within))
    np.testing.assert_allclose(decoded(aggregation, total), 2.0, atol=1e-3)
    assert (report.wrapped, report.max_error) == (0, 0.0)
    with pytest.warns(RangeWarning, match="a larger sum_bound"):
        _, report = released(aggregation, encoded(aggregation, beyond), None, 1)
    assert report.wrapped == 20
    assert report.max_error > 1


@pytest.mark.parametrize("name", ENCRYPTED)
@pytest.mark.parametrize("seed", range(4))
def test_sums_are_those_of_the_codes_and_what_is_cut_is_counted(name, seed):
    rng = np.random.default_rng(seed)
    uploads, size = int(rng.integers(2, 9)), int(rng.integers(1, 200))
    bound = float(10 ** rng.uniform(-3, 3))
    settings = {"value_bound": bound, "precision": bound * 1e-4}
    if "exact" in name:
        settings = {
            "value_bound": bound,
            "quantization_bits": int(rng.integers(2, 20)),
        }
    aggregation = made(name, uploads, size, settings=settings)
    rows = rng.normal(0, bound, (uploads, size)).astype(np.float32)
    slots = encoded(aggregation, rows, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RangeWarning)
        total, report = released(aggregation, slots)
    cut = np.clip(rows.astype(float), -bound, bound).sum(axis=0)
    step = 0.0 if "exact" not in name else grid_of(aggregation.request).step
    error = uploads * step + 1e-3 * bound
    np.testing.assert_allclose(decoded(aggregation, total), cut, rtol=0, atol=error)
    assert report.wrapped == 0
    assert report.saturated >= np.count_nonzero(np.abs(rows) > bound)
    np.testing.assert_allclose(total, slots.sum(axis=0, dtype=float), atol=error)


@pytest.mark.parametrize("name", ENCRYPTED)
def test_a_refused_chunk_leaves_honest_clients_free_to_upload(name):
    aggregation = made(name, 2, 4, most_uploads=3)
    rows = np.full((3, 4), 0.25)
    broken = rows.copy()
    broken[1, 2] = np.nan
    slots, session = encoded(aggregation, rows), aggregation.open(0)
    with pytest.raises(ValueError, match=r"client 1: .*not finite.*learning_rate"):
        session.add(np.arange(3), encoded(aggregation, broken))
    session.add(np.array([0, 2]), slots[[0, 2]])
    total, report = session.release()
    np.testing.assert_allclose(decoded(aggregation, total), 0.5, atol=1e-3)
    assert report.uploads == 2
    assert report.max_error < 1e-3


@pytest.mark.parametrize("topology", ["star", "tree", "ring"])
def test_the_report_names_what_the_server_has_taken(topology):
    settings = {"topology": topology, "fan_out": 2}
    aggregation = made("exact", 2, 4, settings=settings, most_uploads=5)
    slots = encoded(aggregation, np.full((4, 4), 0.25))
    session = aggregation.open(0)
    aggregation._parties(1).once("uploaded", 0)  # it refuses to upload again
    with pytest.raises(RefusedError):
        session.add(np.arange(4), slots)
    with pytest.raises(RefusedError, match="twice"):
        session.add(np.array([0]), slots[:1])
    session.add(np.array([2, 3]), slots[2:])
    with pytest.raises(RefusedError, match="at most 5"):
        session.add(np.arange(4, 8), slots)
    total, report = session.release()
    np.testing.assert_allclose(decoded(aggregation, total), 0.75, atol=1e-3)
    assert (report.uploads, report.max_error) == (3, 0.0)


@pytest.mark.parametrize("name", ["exact", "threshold_exact"])
def test_noisy_sums_beyond_the_range_wrap_and_are_counted(name):
    aggregation = made(name, 3, 4, residues=True)
    grid = grid_of(aggregation.request)
    # The last one is beyond in an upload, and within the range in the sum.
    rows = [[20_000, -20_000, 5, 40_000]] * 2 + [[20_000, 0, 5, -70_000]]
    with pytest.warns(RangeWarning, match="a larger sum_bound"):
        total, report = released(aggregation, np.array(rows, np.int32))
    np.testing.assert_array_equal(total, [60_000 - 2**16, 2**16 - 40_000, 15, 10_000])
    assert (report.saturated, report.wrapped) == (0, 2)
    assert report.max_error == pytest.approx(2**16 * grid.step)
