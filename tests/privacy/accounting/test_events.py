"""Events as values: equality, JSON, and what they refuse."""

import dataclasses
import math

import numpy as np
import pytest

import fedjax_private.privacy.accounting as accounting
from fedjax_private.privacy.accounting import (
    Approximate,
    BandedMatrix,
    Composed,
    DistributedDiscreteGaussian,
    Event,
    Gaussian,
    Laplace,
    Poisson,
    Pure,
    RandomizedResponse,
    Repeated,
    WithoutReplacement,
    ZCdp,
    from_json,
    to_json,
)
from tests.privacy.accounting.every_event import EVERY_EVENT


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda e: type(e).__name__)
def test_events_are_values(event):
    text = to_json(event)
    assert from_json(text) == event
    assert hash(from_json(text)) == hash(event)
    assert to_json(from_json(text)) == text
    assert "\n" not in text
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.anything = 1


def test_the_list_above_is_complete():
    defined = {
        value
        for value in vars(accounting.events).values()
        if isinstance(value, type) and issubclass(value, Event) and value is not Event
    }
    assert {type(event) for event in EVERY_EVENT} == defined


def test_int_float_and_numpy_settings_are_alike():
    assert Gaussian(1) == Gaussian(1.0) == Gaussian(np.float32(1))
    assert hash(Gaussian(1)) == hash(Gaussian(1.0))
    assert to_json(Gaussian(1)) == to_json(Gaussian(np.int64(1)))
    assert Repeated(Gaussian(1), np.int64(3)) == Repeated(Gaussian(1.0), 3)
    assert BandedMatrix(1, [1, 2], 3, 2) == BandedMatrix(1.0, (1.0, 2.0), 3, 2)
    assert Composed([Gaussian(1)]) == Composed((Gaussian(1),))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Gaussian(-1),
        lambda: Gaussian(math.nan),
        lambda: Gaussian(math.inf),
        lambda: Laplace(-0.1),
        lambda: RandomizedResponse(1.1, 2),
        lambda: RandomizedResponse(0.5, 0),
        lambda: RandomizedResponse(0.5, 2.5),
        lambda: ZCdp(-1),
        lambda: Pure(math.nan),
        lambda: Poisson(1.0001, Gaussian(1)),
        lambda: Poisson(-0.1, Gaussian(1)),
        lambda: WithoutReplacement(10, 11, Gaussian(1)),
        lambda: WithoutReplacement(0, 0, Gaussian(1)),
        lambda: Repeated(Gaussian(1), -1),
        lambda: Repeated(Gaussian(1), 1.5),
        lambda: BandedMatrix(1, (), 3, 1),
        lambda: BandedMatrix(1, (math.nan,), 3, 1),
        lambda: BandedMatrix(1, (1,), 3, 0),
        lambda: DistributedDiscreteGaussian(0, 1, 1, 1),
        lambda: Approximate(Gaussian(1), -1e-9),
        lambda: Approximate(Gaussian(1), 1.5),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(ValueError, match=r"must|more than"):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Poisson(0.1, 1.0),
        lambda: Repeated("Gaussian", 1),
        lambda: Composed((1,)),
        lambda: Approximate(1e-6, 1e-6),
        lambda: to_json(3),
    ],
)
def test_only_events_nest(make):
    with pytest.raises(TypeError, match="event was expected"):
        make()


@pytest.mark.parametrize(
    "text",
    ['{"type":"Nobody"}', "{}", "[]", '{"type":"Gaussian"}', '{"type":"Pure","x":1}'],
)
def test_unknown_json_is_refused(text):
    with pytest.raises(ValueError, match=r"registered|description|Gaussian|Pure"):
        from_json(text)
