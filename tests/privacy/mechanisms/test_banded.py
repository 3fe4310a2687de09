"""Bands and groups against the expected batch."""

import dataclasses

import pytest

from fedjax_private.privacy import MECHANISMS, MechanismSettings, make_plan
from fedjax_private.privacy.accounting import Neighbors

SETTINGS = MechanismSettings(0.25, 0.7, 2.0, 40.0, Neighbors.ADD_REMOVE, 80)


def plan_of(probability, **own):
    settings = dataclasses.replace(SETTINGS, sampling_probability=probability)
    return make_plan(MECHANISMS.choose("banded", own), settings)


@pytest.mark.parametrize(
    ("q", "bands", "probability"),
    [(0.25, 4, 1.0), (0.3, 3, 0.9), (1 / 3, 3, 1.0), (0.6, 1, 0.6), (1e-3, 80, 0.08)],
)
def test_the_banded_mechanism_keeps_the_expected_batch(q, bands, probability):
    plan = plan_of(q)
    assert plan.sampler.groups == bands
    assert plan.sampler.probability == pytest.approx(probability)
    assert plan.sampler.probability / bands == pytest.approx(q)
    assert len(plan.noise.coefficients) == bands
    assert plan.expected_batch_size == SETTINGS.expected_batch_size


def test_fewer_bands_can_be_chosen():
    plan = plan_of(0.1, bands=3)
    assert plan.sampler.groups == len(plan.noise.coefficients) == 3
    assert plan.sampler.probability == pytest.approx(0.3)


@pytest.mark.parametrize(("q", "bands"), [(0.25, 5), (0.6, 2), (1e-3, 81), (0.25, 0)])
def test_bands_that_do_not_fit_are_refused(q, bands):
    with pytest.raises(ValueError, match="bands must be at"):
        plan_of(q, bands=bands)
