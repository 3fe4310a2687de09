"""Calibrated settings meet their targets, and are the largest or least that do."""

import math

import pytest
from hypothesis import given, settings, strategies as st

from fedjax_private.privacy.accounting import (
    Approximate,
    Gaussian,
    Neighbors,
    NoPrivacy,
    Poisson,
    RdpAccountant,
    Repeated,
    calibrate_noise_multiplier,
    calibrate_steps,
)

ADD, REPLACE, ZERO = Neighbors.ADD_REMOVE, Neighbors.REPLACE_ONE, Neighbors.ZERO_OUT

relations = st.sampled_from(list(Neighbors))
sigmas = st.floats(0.4, 50)
steps = st.integers(1, 20_000)
deltas = st.floats(-9, -2).map(lambda power: 10**power)


def epsilon(event, neighbors, delta):
    return RdpAccountant(neighbors=neighbors).compose(event).spent(delta).epsilon


def dp_sgd(q, sigma, count):
    return Repeated(Poisson(q, Gaussian(sigma)), count)


@settings(max_examples=12, deadline=None)
@given(relations, st.floats(1e-4, 1), steps, st.floats(0.05, 20), deltas)
def test_calibrated_noise_lands_at_or_below_the_target(
    neighbors, q, count, target, delta
):
    sigma = calibrate_noise_multiplier(
        lambda s: dp_sgd(q, s, count), target, delta, neighbors
    )
    spent = epsilon(dp_sgd(q, sigma, count), neighbors, delta)
    assert spent <= target
    # A bound may jump past the target, where few steps meet little noise.
    less = epsilon(dp_sgd(q, sigma * (1 - 1e-6), count), neighbors, delta)
    assert spent >= target * 0.999 or less > target


@settings(max_examples=12, deadline=None)
@given(relations, sigmas, st.floats(1e-4, 0.3), st.floats(0.5, 20), deltas)
def test_calibrated_steps_are_the_most_that_fit(neighbors, sigma, q, target, delta):
    def cost(count):
        return epsilon(dp_sgd(q, sigma, count), neighbors, delta)

    if cost(1) > target:
        with pytest.raises(ValueError, match="single step"):
            calibrate_steps(lambda n: dp_sgd(q, sigma, n), target, delta, neighbors)
        return
    count = calibrate_steps(
        lambda n: dp_sgd(q, sigma, n), target, delta, neighbors, limit=10**6
    )
    assert cost(count) <= target
    assert count == 10**6 or cost(count + 1) > target


def test_calibration_refuses_what_it_can_not_reach():
    with pytest.raises(ValueError, match="no noise multiplier"):
        calibrate_noise_multiplier(lambda s: NoPrivacy(), 1.0, 1e-5, ADD)
    for target, delta in [(0, 1e-5), (math.inf, 1e-5), (1, 0), (1, 1)]:
        with pytest.raises(ValueError, match="must"):
            calibrate_noise_multiplier(Gaussian, target, delta, ADD)


def test_calibration_against_a_closed_form():
    """rho-zCDP at the best order, inverted by hand to four digits."""
    sigma = calibrate_noise_multiplier(Gaussian, 1.0, 1e-5, ADD)
    at = RdpAccountant(neighbors=ADD).compose(Gaussian(sigma * 0.9985)).epsilon(1e-5)
    assert at > 1.0
    doubled = calibrate_noise_multiplier(Gaussian, 1.0, 1e-5, REPLACE)
    assert doubled == pytest.approx(2 * sigma, rel=1e-3)


def test_calibration_pays_for_failures():
    def make(failure):
        return lambda s: Repeated(Approximate(Gaussian(s), failure), 20)

    exact, failing = (
        calibrate_noise_multiplier(make(failure), 2.0, 1e-5, ADD)
        for failure in (0.0, 1e-9)
    )
    assert exact < failing < 1.05 * exact
    assert epsilon(make(1e-9)(failing), ADD, 1e-5) <= 2.0


def test_an_event_that_ignores_its_noise_multiplier_says_so():
    sentence = "at delta 1e-05: epsilon must fall as the noise multiplier grows"
    with pytest.raises(ValueError, match=sentence):
        calibrate_noise_multiplier(lambda sigma: Gaussian(1.0), 0.5, 1e-5, REPLACE)
