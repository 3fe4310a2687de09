"""The search, on scores that are known."""

import dataclasses
import math

import pytest

from experiments.settings.search import search
from fedjax_private.runs import Spec

PLAIN = Spec(arm="fl").hyperparameters
NOISED = Spec(arm="private_ai").hyperparameters


def trials_of(usual, best, fixed=(), trials=40):
    """What is tried where the score falls with the distance from `best`, and best."""
    tried = []

    def score(values):
        whole = dataclasses.replace(usual, **values)
        distance = sum(
            abs(math.log(getattr(whole, name) / value)) for name, value in best.items()
        )
        return -distance, 0.0

    def taken(values):
        tried.append(values)
        return score(values)

    search(usual, taken, fixed=fixed, trials=trials)
    return tried, max(tried, key=score)


def test_learning_rates_are_found_from_far_away():
    for factor in (1 / 16, 1 / 3, 1.0, 9.0):
        target = PLAIN.learning_rate * factor
        tried, best = trials_of(PLAIN, {"learning_rate": target})
        assert tried[0] == {}
        found = best.get("learning_rate", PLAIN.learning_rate)
        assert 2**-0.5 <= found / target <= 2**0.5
        assert len({tuple(sorted(values.items())) for values in tried}) == len(tried)


def test_noised_steps_also_search_clip_norms_and_rounds():
    tried, best = trials_of(NOISED, {"clip_norm": 1.0, "rounds": 160})
    assert best["clip_norm"] == 1.0 and best["rounds"] == 160
    (first,) = [v for v in tried if v.get("clip_norm") == 1.0][:1]
    # A step's length, learning rate times clip norm, stays.
    assert first["learning_rate"] == pytest.approx(NOISED.learning_rate / 10)
    assert not any("momentum" in values for values in tried)


def test_what_was_given_keeps_its_value_and_trials_are_bounded():
    tried, _ = trials_of(PLAIN, {"learning_rate": 1.0}, fixed=("learning_rate",))
    assert len(tried) > 1
    assert not any("learning_rate" in values for values in tried)
    tried, _ = trials_of(PLAIN, {"learning_rate": 1.0}, trials=3)
    assert len(tried) == 3
    tried, _ = trials_of(PLAIN, {"learning_rate": 1.0}, trials=1)
    assert tried == [{}]


def test_failed_trials_are_passed_over():
    tried = []

    def score(values):
        tried.append(values)
        return None if values.get("learning_rate", 1.0) > 0.3 or not values else (1.0,)

    search(PLAIN, score, trials=40)
    assert len(tried) > 5
