import jax
import numpy as np
import pytest

from fedjax_private import simulation


def test_cohorts_are_drawn_without_replacement_by_seed():
    schedule = simulation.cohorts(3, 200, 10, 4)
    again = simulation.cohorts(3, 200, 10, 4)
    other = simulation.cohorts(4, 200, 10, 4)
    assert all(np.array_equal(a, b) for a, b in zip(schedule, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(schedule, other, strict=True))
    assert all(len(np.unique(cohort)) == 4 for cohort in schedule)
    counts = np.bincount(np.concatenate(schedule), minlength=10)
    assert counts.min() > 50 and counts.max() < 110
    for size in (0, 11):
        with pytest.raises(ValueError, match="cohort must lie"):
            simulation.cohorts(0, 1, 10, size)


def test_drop_outs_are_drawn_by_seed():
    schedule = simulation.cohorts(3, 2000, 10, 4)
    dropped = simulation.drop_outs(5, schedule, 0.3)
    again = simulation.drop_outs(5, schedule, 0.3)
    other = simulation.drop_outs(6, schedule, 0.3)
    assert all(np.array_equal(a, b) for a, b in zip(dropped, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(dropped, other, strict=True))
    assert all(np.isin(d, c).all() for d, c in zip(dropped, schedule, strict=True))
    # 8,000 draws; how many of four drop out is binomial.
    counts = np.bincount([len(ids) for ids in dropped], minlength=5) / 2000
    binomial = [0.2401, 0.4116, 0.2646, 0.0756, 0.0081]
    np.testing.assert_allclose(counts, binomial, atol=0.05)
    assert np.mean([len(ids) for ids in dropped]) == pytest.approx(1.2, abs=0.08)
    assert not any(map(len, simulation.drop_outs(5, schedule, 0.0)))
    for probability in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="drop_out must lie"):
            simulation.drop_outs(5, schedule, probability)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: simulation.cohorts(0, 2.0, 4), "rounds must be a whole number from 1"),
        (lambda: simulation.cohorts(0, 2, "4"), "clients must be a whole .* got '4'"),
        (lambda: simulation.cohorts(-1, 2, 4), "seed must be a whole number from 0 on"),
        (lambda: simulation.root_keys(0.5), "seed must be a whole number.*got 0.5"),
        (
            lambda: simulation.root_keys(jax.random.key(0)),
            "seed must be a whole number",
        ),
    ],
)
def test_what_is_no_whole_number_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
