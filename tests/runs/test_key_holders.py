"""Runs whose key holders vanish: the same models, and void rounds that are counted."""

import numpy as np
import pytest

from fedjax_private.aggregation import SCHEMES
from fedjax_private.encryption.parties.attendance import DropOut

pytestmark = pytest.mark.needs_openfhe


def settings_of(probability, **more):
    scheme = SCHEMES.choose("threshold_exact", {"holder_drop_out": probability, **more})
    return {"arm": "fl_he", "clients": 4, "encryption": scheme, "rounds": 3}


def outcome(seed, number, probability, quorum=3, holders=4):
    """What a round comes to, where nobody vanishes while it stands in for others."""
    answers = DropOut(probability, seed).answers(number, range(holders))
    missing = sum(count == 0 for count in answers.values())
    if any(count == 1 for count in answers.values()):
        return None
    return "void" if holders - missing < quorum else missing


def seed_with(probability, wanted):
    """The first seed whose rounds come to what is wanted, in any order."""
    for seed in range(20_000):
        if sorted(map(str, wanted)) == sorted(
            str(outcome(seed, number, probability)) for number in (1, 2, 3)
        ):
            return seed
    raise AssertionError


def test_a_model_does_not_depend_on_holders_that_vanish(train):
    seed = seed_with(0.1, (0, 1, 1))
    lost = train(seed=seed, **settings_of(0.1))
    whole = train(seed=seed, **settings_of(0.0))
    for one, other in zip(lost.rows, whole.rows, strict=True):
        assert (one["void"], other["void"]) == (False, False)
        assert one["max_aggregation_error"] == other["max_aggregation_error"] == 0
    assert (lost.row["recovered_holders"], whole.row["recovered_holders"]) == (2, 0)
    np.testing.assert_array_equal(
        lost.params["Dense_0"]["kernel"], whole.params["Dense_0"]["kernel"]
    )


def test_rounds_with_too_few_holders_are_void_and_the_run_goes_on(train):
    seed = seed_with(0.3, (0, 1, "void"))
    result = train(seed=seed, **settings_of(0.3))
    expected = [outcome(seed, number, 0.3) for number in (1, 2, 3)]
    for row, kind in zip(result.rows, expected, strict=True):
        assert row["void"] is (kind == "void")
        assert row["recovered_holders"] == (None if kind == "void" else kind)
        assert row["lost"] == 0
    assert result.row["void_rounds"] == 1
    assert result.row["recovered_holders"] == 1


def test_a_run_whose_holders_always_vanish_is_no_result(train):
    with pytest.raises(ValueError, match=r"every round .* lower holder_drop_out\.$"):
        train(**settings_of(0.99))


def test_other_schemes_have_no_holders_to_count(train):
    assert (
        train(arm="fl_he", clients=4, encryption="exact", rounds=1).row[
            "recovered_holders"
        ]
        is None
    )
