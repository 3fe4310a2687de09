"""The accountant, the conversion and calibration: properties, limits and speed."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fedjax_private.privacy.accounting import (
    DEFAULT_ORDERS,
    Approximate,
    Composed,
    Gaussian,
    Laplace,
    Neighbors,
    NoPrivacy,
    Poisson,
    Pure,
    RandomizedResponse,
    RdpAccountant,
    Repeated,
    WithoutReplacement,
    ZCdp,
    conversion,
    price,
)

ADD, REPLACE, ZERO = Neighbors.ADD_REMOVE, Neighbors.REPLACE_ONE, Neighbors.ZERO_OUT

relations = st.sampled_from(list(Neighbors))
sigmas = st.floats(0.4, 50)
probabilities = st.floats(1e-5, 1)
steps = st.integers(1, 20_000)
deltas = st.floats(-9, -2).map(lambda power: 10**power)
light = settings(max_examples=25, deadline=None)
leaves = st.one_of(
    sigmas.map(Gaussian),
    st.floats(0.5, 50).map(Laplace),
    st.floats(0, 2).map(Pure),
    st.floats(0, 0.5).map(ZCdp),
    st.builds(RandomizedResponse, st.floats(0.1, 1), st.integers(2, 10)),
    st.builds(Poisson, probabilities, sigmas.map(Gaussian)),
    st.builds(Poisson, probabilities, st.floats(0.5, 50).map(Laplace)),
    st.builds(
        WithoutReplacement, st.just(1000), st.integers(1, 999), sigmas.map(Gaussian)
    ),
)
events = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Repeated, inner, st.integers(0, 5)),
        st.lists(inner, max_size=3).map(lambda parts: Composed(tuple(parts))),
    ),
    max_leaves=4,
)


def epsilon(event, neighbors, delta):
    return RdpAccountant(neighbors=neighbors).compose(event).spent(delta).epsilon


def dp_sgd(q, sigma, count):
    return Repeated(Poisson(q, Gaussian(sigma)), count)


@light
@given(relations, probabilities, sigmas, steps, deltas, st.floats(1.05, 3))
def test_epsilon_is_monotone(neighbors, q, sigma, count, delta, more):
    base = epsilon(dp_sgd(q, sigma, count), neighbors, delta)
    slack = 1 + 2e-4  # the order is refined on a finite grid
    fewer_steps = max(1, int(count / more))
    assert epsilon(dp_sgd(q, sigma * more, count), neighbors, delta) <= base * slack
    assert epsilon(dp_sgd(q / more, sigma, count), neighbors, delta) <= base * slack
    assert epsilon(dp_sgd(q, sigma, fewer_steps), neighbors, delta) <= base * slack
    larger = min(0.5, delta * more)
    assert epsilon(dp_sgd(q, sigma, count), neighbors, larger) <= base * slack


@light
@given(probabilities, sigmas, steps, deltas)
def test_relations_are_ordered(q, sigma, count, delta):
    added = epsilon(dp_sgd(q, sigma, count), ADD, delta)
    assert epsilon(dp_sgd(q, sigma, count), ZERO, delta) == added
    assert epsilon(dp_sgd(q, sigma, count), REPLACE, delta) >= added * (1 - 1e-4)
    assert epsilon(Gaussian(2 * sigma), REPLACE, delta) == pytest.approx(
        epsilon(Gaussian(sigma), ADD, delta)
    )


@light
@given(relations, probabilities, sigmas)
def test_rdp_grows_with_the_order(neighbors, q, sigma):
    orders = np.array(DEFAULT_ORDERS)
    rdp = price(Poisson(q, Gaussian(sigma)), orders, neighbors)
    assert np.all(np.diff(rdp) >= -1e-8 * rdp[1:])
    # Sampling never costs more than not sampling.
    assert np.all(rdp <= price(Gaussian(sigma), orders, neighbors) * (1 + 1e-9))


@light
@given(events, st.integers(0, 6), deltas)
def test_composing_n_times_is_a_count_of_n(event, count, delta):
    once = RdpAccountant(neighbors=REPLACE)
    for _ in range(count):
        assert once.compose(event) is once
    counted = RdpAccountant(neighbors=REPLACE).compose(event, count)
    repeated = RdpAccountant(neighbors=REPLACE).compose(Repeated(event, count))
    assert once.events == counted.events == repeated.events
    assert once.spent(delta) == counted.spent(delta) == repeated.spent(delta)


@light
@given(events, events, deltas)
def test_composition_commutes_and_costs(first, second, delta):
    one = RdpAccountant(neighbors=REPLACE).compose(first).compose(second)
    other = RdpAccountant(neighbors=REPLACE).compose(Composed((second, first)))
    assert one.events == other.events
    both = one.spent(delta).epsilon
    assert both == pytest.approx(other.spent(delta).epsilon, rel=1e-12)
    assert both >= epsilon(first, REPLACE, delta) * (1 - 1e-4)


@light
@given(events, deltas)
def test_delta_undoes_epsilon(event, delta):
    books = RdpAccountant(neighbors=REPLACE).compose(event)
    spent = books.spent(delta).epsilon
    assert books.delta(spent) <= delta * (1 + 1e-3)
    if spent > 0:
        assert books.delta(spent * 1.01) <= delta


def test_gaussian_is_never_below_its_exact_profile():
    """delta(epsilon) of one Gaussian (Balle, Wang 2018) is a floor."""
    from scipy.stats import norm

    for sigma in (0.5, 1.0, 4.0):
        books = RdpAccountant(neighbors=ADD).compose(Gaussian(sigma))
        for delta in (1e-3, 1e-6, 1e-10):
            e = books.spent(delta).epsilon
            left = norm.cdf(0.5 / sigma - e * sigma)
            exact = left - math.exp(e) * norm.cdf(-0.5 / sigma - e * sigma)
            assert exact <= delta
        e = books.spent(1e-6).epsilon
        assert books.delta(e) <= 1e-6 * 1.001


def test_pure_composition_at_delta_zero():
    books = RdpAccountant(neighbors=ADD).compose(Pure(0.5), 3).compose(Laplace(2))
    assert books.epsilon(0) == pytest.approx(2.0)
    assert books.epsilon(1e-300) <= 2.0
    assert books.delta(2.0) == 0.0
    assert 0 < books.delta(1.0) < 1
    sampled = RdpAccountant(neighbors=ADD).compose(Poisson(0.1, Pure(1.0)))
    assert sampled.epsilon(0) == pytest.approx(math.log1p(0.1 * math.expm1(1.0)))
    replaced = RdpAccountant(neighbors=REPLACE).compose(Poisson(0.1, Pure(1.0)))
    assert replaced.epsilon(0) == 1.0
    assert RdpAccountant(neighbors=ADD).compose(Gaussian(1)).epsilon(0) == math.inf
    assert RdpAccountant(neighbors=ADD).epsilon(0) == 0.0
    response = RdpAccountant(neighbors=REPLACE).compose(RandomizedResponse(0.5, 2))
    assert response.epsilon(0) == pytest.approx(math.log(3))
    drawn = RdpAccountant(neighbors=REPLACE).compose(WithoutReplacement(10, 1, Pure(1)))
    assert drawn.epsilon(0) == pytest.approx(math.log1p(0.1 * math.expm1(1.0)))


def test_failures_are_taken_off_delta_by_hand():
    """At epsilon = 1.0 and delta = 1e-5, (1 + e^epsilon) F is 3.7 F."""
    exact = RdpAccountant(neighbors=ADD).compose(Gaussian(4.0))
    assert exact.epsilon(1e-5) == pytest.approx(1.0, abs=0.03)
    for failure, left in ((0.0, 1.0), (1e-9, 0.999), (1e-6, 0.5)):
        books = RdpAccountant(neighbors=ADD).compose(
            Approximate(Gaussian(4.0), failure)
        )
        found = books.epsilon(1e-5)
        assert found == exact.epsilon(left * 1e-5)
        assert exact.delta(found) + (1 + math.exp(found)) * failure <= 1e-5 * 1.001
        assert books.delta(0.7) == exact.delta(0.7) + (1 + math.exp(0.7)) * failure
    for failure in (2e-6, 1e-5, 1.0):  # more than half of delta
        books = RdpAccountant(neighbors=ADD).compose(
            Approximate(Gaussian(4.0), failure)
        )
        assert books.epsilon(1e-5) == math.inf
        assert books.delta(1e9) == 1.0


def test_failures_come_with_the_counts_of_compositions():
    failing = Approximate(Gaussian(9.0), 1e-8)
    run = Composed((Gaussian(9.0), Repeated(Composed((failing, failing)), 3), failing))
    books = RdpAccountant(neighbors=ADD).compose(Repeated(run, 2), 2)
    assert books.events == {Gaussian(9.0): 4, failing: 28}
    exact = RdpAccountant(neighbors=ADD).compose(Gaussian(9.0), 32)
    right = exact.delta(2.0) + (1 + math.exp(2.0)) * 28 * 1e-8
    assert books.delta(2.0) == pytest.approx(right, rel=1e-12)
    assert books.copy().spent(1e-5) == books.spent(1e-5)
    assert RdpAccountant(neighbors=ADD).compose(failing, 0).epsilon(0) == 0


def test_pure_guarantees_end_with_a_failure():
    for failure, left in ((0.0, 0.5), (1e-7, math.inf)):
        books = RdpAccountant(neighbors=ADD).compose(Approximate(Pure(0.5), failure))
        assert books.epsilon(0) == left
        assert books.delta(0.5) == pytest.approx((1 + math.exp(0.5)) * failure)


def test_the_edge_of_the_grid_is_told():
    books = RdpAccountant(neighbors=ADD, orders=[2, 3, 4]).compose(Gaussian(10))
    assert books.spent(1e-5).at_edge
    with pytest.warns(UserWarning, match="edge of the grid"):
        value = books.epsilon(1e-5)
    inside = RdpAccountant(neighbors=ADD).compose(Gaussian(10))
    assert not inside.spent(1e-5).at_edge
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert inside.epsilon(1e-5) < value
        assert RdpAccountant(neighbors=ADD).epsilon(1e-5) == 0
        assert (
            RdpAccountant(neighbors=ADD).compose(NoPrivacy()).epsilon(0.1) == math.inf
        )


def test_the_default_grid_is_wide_enough():
    for event in (
        dp_sgd(0.1, 0.5, 10_000),
        dp_sgd(1e-4, 10.0, 1000),
        Gaussian(300),
        dp_sgd(1.0, 0.5, 500),
    ):
        spent = RdpAccountant(neighbors=ADD).compose(event).spent(1e-5)
        assert not spent.at_edge, (event, spent)


def test_refining_the_order_only_gains():
    run = dp_sgd(250 / 60000, 1.3, 720)
    coarse = RdpAccountant(neighbors=ADD, orders=[2, 4, 8, 16, 32, 64]).compose(run)
    dense = np.arange(1.5, 64, 0.05)
    best = conversion.epsilon(dense, price(run, dense, ADD), 1e-5).min()
    assert coarse.spent(1e-5).epsilon == pytest.approx(best, rel=0.02)
    fine = RdpAccountant(neighbors=ADD).compose(run).spent(1e-5)
    assert fine.epsilon == pytest.approx(best, rel=1e-3)


def test_the_relation_is_required():
    with pytest.raises(TypeError):
        RdpAccountant()
    with pytest.raises(TypeError, match="Neighbors"):
        RdpAccountant(neighbors="add_remove")
    for orders in ([], [1.0], [math.inf]):
        with pytest.raises(ValueError, match="orders"):
            RdpAccountant(neighbors=ADD, orders=orders)
    with pytest.raises(ValueError, match="count"):
        RdpAccountant(neighbors=ADD).compose(Gaussian(1), -1)
