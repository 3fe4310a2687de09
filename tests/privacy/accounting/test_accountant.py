"""The accountant, the conversion and calibration: properties, limits and speed."""

import json
import math
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_private.privacy.accounting import (
    DEFAULT_ORDERS,
    Approximate,
    Composed,
    Gaussian,
    Laplace,
    Ledger,
    Neighbors,
    NoPrivacy,
    Poisson,
    Pure,
    RandomizedResponse,
    RdpAccountant,
    Repeated,
    WithoutReplacement,
    ZCdp,
    calibrate_noise_multiplier,
    calibrate_sampling_probability,
    calibrate_steps,
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
@given(events, relations, deltas)
def test_json_round_trip(event, neighbors, delta):
    books = RdpAccountant(neighbors=neighbors, orders=[1.5, 2, 8, 64])
    try:
        books.compose(event, 3)
    except ValueError:
        return  # refused under this relation
    again = RdpAccountant.from_json(books.to_json())
    assert again.to_json() == books.to_json()
    assert again.neighbors is neighbors
    assert again.spent(delta) == books.spent(delta)


@light
@given(events, deltas)
def test_delta_undoes_epsilon(event, delta):
    books = RdpAccountant(neighbors=REPLACE).compose(event)
    spent = books.spent(delta).epsilon
    assert books.delta(spent) <= delta * (1 + 1e-3)
    if spent > 0:
        assert books.delta(spent * 1.01) <= delta


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
@given(relations, sigmas, steps, st.floats(0.05, 20), deltas)
def test_calibrated_sampling_lands_at_or_below_the_target(
    neighbors, sigma, count, target, delta
):
    def make(q):
        return dp_sgd(q, sigma, count)

    if epsilon(make(1e-11), neighbors, delta) > target:
        return  # too much noise is missing for any sampling to make up for
    q = calibrate_sampling_probability(make, target, delta, neighbors)
    spent = epsilon(dp_sgd(q, sigma, count), neighbors, delta)
    assert spent <= target
    more = epsilon(dp_sgd(min(1, q * (1 + 1e-6)), sigma, count), neighbors, delta)
    assert q == 1.0 or spent >= target * 0.999 or more > target


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
    with pytest.raises(ValueError, match="no sampling probability"):
        calibrate_sampling_probability(lambda q: NoPrivacy(), 1.0, 1e-5, ADD)
    for target, delta in [(0, 1e-5), (math.inf, 1e-5), (1, 0), (1, 1)]:
        with pytest.raises(ValueError, match="must"):
            calibrate_noise_multiplier(Gaussian, target, delta, ADD)
    assert calibrate_sampling_probability(lambda q: Gaussian(99), 1, 1e-5, ADD) == 1


def test_calibration_against_a_closed_form():
    """rho-zCDP at the best order, inverted by hand to four digits."""
    sigma = calibrate_noise_multiplier(Gaussian, 1.0, 1e-5, ADD)
    at = RdpAccountant(neighbors=ADD).compose(Gaussian(sigma * 0.9985)).epsilon(1e-5)
    assert at > 1.0
    doubled = calibrate_noise_multiplier(Gaussian, 1.0, 1e-5, REPLACE)
    assert doubled == pytest.approx(2 * sigma, rel=1e-3)


def test_conversion_by_hand():
    orders, rdp = np.array([3.0]), np.array([0.7])
    [value] = conversion.epsilon(orders, rdp, 1e-3)
    assert value == pytest.approx(
        0.7 + math.log(2 / 3) - (math.log(1e-3) + math.log(3)) / 2
    )
    [back] = conversion.delta(orders, rdp, value)
    assert back == pytest.approx(1e-3)
    assert back >= 1e-3
    for bad in (-1e-9, math.nan):
        with pytest.raises(ValueError, match="negative or undefined"):
            conversion.epsilon(orders, np.array([bad]), 1e-3)
        with pytest.raises(ValueError, match="negative or undefined"):
            conversion.delta(orders, np.array([bad]), 1.0)
    for delta in (0, 1, -1, math.nan):
        with pytest.raises(ValueError, match="delta"):
            conversion.epsilon(orders, rdp, delta)
    for epsilon in (-1, math.nan):
        with pytest.raises(ValueError, match="epsilon"):
            conversion.delta(orders, rdp, epsilon)


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
        assert books.would_exceed(Approximate(Gaussian(4.0), failure), found, 1e-5)
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
    assert RdpAccountant.from_json(books.to_json()).delta(2.0) == books.delta(2.0)
    assert books.copy().spent(1e-5) == books.spent(1e-5)
    assert RdpAccountant(neighbors=ADD).compose(failing, 0).epsilon(0) == 0


def test_pure_guarantees_end_with_a_failure():
    for failure, left in ((0.0, 0.5), (1e-7, math.inf)):
        books = RdpAccountant(neighbors=ADD).compose(Approximate(Pure(0.5), failure))
        assert books.epsilon(0) == left
        assert books.delta(0.5) == pytest.approx((1 + math.exp(0.5)) * failure)


def test_calibration_pays_for_failures():
    def make(failure):
        return lambda s: Repeated(Approximate(Gaussian(s), failure), 20)

    exact, failing = (
        calibrate_noise_multiplier(make(failure), 2.0, 1e-5, ADD)
        for failure in (0.0, 1e-9)
    )
    assert exact < failing < 1.05 * exact
    assert epsilon(make(1e-9)(failing), ADD, 1e-5) <= 2.0


def test_a_ledger_keeps_failures_and_says_whom_it_is_against(tmp_path):
    path, failing = tmp_path / "ledger.jsonl", Approximate(Gaussian(4.0), 1e-8)

    def opened():
        return Ledger(path, ADD, (3.0, 1e-5), adversary="the world and the server")

    def charge(ledger, number):
        return ledger.charge(
            clients=[3],
            round_number=number,
            event=Repeated(failing, 2),
            fingerprint=str(number),
            digest="d",
        )

    with opened() as ledger:
        assert charge(ledger, 1)
        before = ledger.epsilon(1e-5)
    header = json.loads(path.read_text().splitlines()[0])
    assert header["adversary"] == "the world and the server"
    assert header["neighbors"] == "add_remove"
    with opened() as ledger:
        assert ledger.epsilon(1e-5) == before
        assert not charge(ledger, 1)  # a replay
        assert charge(ledger, 2)
        assert ledger.events_of(3) == {failing: 4}
        assert ledger.epsilon(1e-5) == epsilon(Repeated(failing, 4), ADD, 1e-5)
        # A failure that leaves no epsilon is beyond any budget.
        assert ledger.would_exceed([3], Approximate(Gaussian(1e6), 1e-4))


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


def test_would_exceed_enters_nothing():
    books = RdpAccountant(neighbors=ADD).compose(Gaussian(10), 5)
    before = books.spent(1e-5)
    after = books.copy().compose(Gaussian(10), 5).spent(1e-5).epsilon
    assert books.would_exceed(Gaussian(10), after * 0.999, 1e-5, 5)
    assert not books.would_exceed(Gaussian(10), after, 1e-5, 5)
    assert books.spent(1e-5) == before
    assert books.events == {Gaussian(10): 5}


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


def fastest(function, repeats=7):
    """Seconds of the quickest run: the others measure the machine's neighbours."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def test_speed():
    orders = [1 + x / 10 for x in range(1, 101)] + list(range(12, 112))
    run = dp_sgd(0.01, 1.0, 100_000)

    def again():
        RdpAccountant(neighbors=ADD, orders=orders).compose(run).spent(1e-5)

    again()
    assert fastest(again) < 0.005

    targets = iter(np.linspace(1.5, 2.5, 100))
    for neighbors in Neighbors:

        def calibrate(neighbors=neighbors):
            calibrate_noise_multiplier(
                lambda s: dp_sgd(0.01, s, 1000), next(targets), 1e-5, neighbors
            )

        assert fastest(calibrate) < 0.1
