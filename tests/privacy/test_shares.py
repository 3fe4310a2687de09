"""Noise that clients share: its amount in a sum, its cost, its keys.

Functions that return a truth value are detectors: each must pass the code as it is, and
the last test asserts that each fails once a fault is planted.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private.algorithms import client_key
from fedjax_private.clients import sharing_noise
from fedjax_private.datasets import ClientData
from fedjax_private.privacy import (
    AdaptiveClipping,
    BandedNoise,
    DiscreteGaussianNoise,
    FlatClipping,
    GaussianNoise,
    PoissonSampling,
    PrivacyPlan,
    SharedPlan,
    bits_for,
    noise,
    on_grid,
    shares,
)
from fedjax_private.privacy.accounting import (
    Approximate,
    Neighbors,
    RdpAccountant,
    Repeated,
    Unsupported,
)
from fedjax_private.quantization import NOT_FINITE, Grid, dequantize, quantize
from fedjax_private.trust import Adversary, Decryptor, Trust
from fedjax_private.typing import ClientKeys

ADD = Neighbors.ADD_REMOVE
OUTSIDERS, INSIDERS = Adversary.OUTSIDERS, Adversary.INSIDERS
C, SIGMA, BATCH, DELTA = 0.7, 2.0, 40.0, 1e-5


def gaussian_plan(noise_multiplier, q=1.0):
    return PrivacyPlan(
        PoissonSampling(q), FlatClipping(C), GaussianNoise(noise_multiplier), BATCH, ADD
    )


def discrete_plan(noise_multiplier, q=1.0, dimension=1000, bits=16):
    plan = gaussian_plan(noise_multiplier, q)
    return on_grid(plan, dimension, sum_bound=1.875, bits=bits)


def coarse_plan(noise_multiplier):
    """On a grid so coarse (0.59 C) that rounding adds visibly to the variance."""
    return discrete_plan(noise_multiplier, bits=8)


def authority(uploads, honest=None):
    return Trust(uploads, Decryptor.KEY_AUTHORITY, honest)


def spent(event):
    return RdpAccountant(neighbors=ADD).compose(event).epsilon(DELTA)


def gaussian_epsilon(sigma, steps):
    """Of that many Gaussian steps with everyone in each; Canonne et al., prop. 12."""
    a = 1 + np.geomspace(1e-3, 1e3, 200_000)
    correction = np.log1p(-1 / a) - (math.log(DELTA) + np.log(a)) / (a - 1)
    return float((steps * a / (2 * sigma**2) + correction).min())


def inflated(norm, size):
    """Norm (in steps) of a rounded vector, but for probability 2^-64."""
    deviation = math.sqrt(2 * 64 * math.log(2)) * (norm + math.sqrt(size) / 2)
    return min(norm + math.sqrt(size), math.sqrt(norm * norm + size / 4 + deviation))


# Detectors.


def a_sum_carries_its_noise(make, trust, against=OUTSIDERS):
    """A million draws' variance is what the adversary is said to face, within 2 %."""
    plan = shares.shared(make, SIGMA, trust, against)
    count, size = trust.uploads, 1_000_000 // trust.uploads
    totals = jax.random.uniform(jax.random.key(1), (count, size), minval=-3, maxval=3)

    @jax.jit
    def slots_of(keys):
        return jax.vmap(lambda key, total: plan.share(key, total, ())[0])(keys, totals)

    slots = np.asarray(slots_of(jax.random.split(jax.random.key(0), count)))
    rounding = 0.0
    if isinstance(plan.plan.noise, DiscreteGaussianNoise):
        grid = plan.plan.noise.grid
        total = np.asarray(dequantize(slots.sum(axis=0, dtype=np.int64), grid)) * C
        rounding = count * (grid.step * C) ** 2 / 6  # of uniform fractions
    else:
        total = slots.sum(axis=0, dtype=np.float64) * plan.unit
    found = np.var(total - np.asarray(totals, np.float64).sum(axis=0)) - rounding
    known = trust.shares(against) / count  # a share of the variance
    return abs(found * known / (SIGMA * C) ** 2 - 1) < 0.02


def both_epsilons_are_those_of_the_noise(trust, against=OUTSIDERS, steps=60):
    plan = shares.shared(gaussian_plan, SIGMA, trust, against)
    one = SIGMA / math.sqrt(trust.shares(against))  # of one share
    right = [
        gaussian_epsilon(one * math.sqrt(count), steps)
        for count in (trust.uploads, trust.honest_clients)
    ]
    found = [spent(plan.event(steps, adversary)) for adversary in (OUTSIDERS, INSIDERS)]
    return found == pytest.approx(right, rel=1e-4)


def no_record_moves_the_integers_further(trials=2000):
    """Sums with and without a record, rounded with the same offsets."""
    size, generator = 400, np.random.default_rng(0)
    on = on_grid(gaussian_plan(SIGMA), size, sum_bound=1.0, bits=10).noise
    length = 1 / on.grid.step  # of the largest contribution, in steps
    spread = generator.normal(size=(trials, size))
    few = np.where(generator.random((trials, size)) < 0.02, spread, 0.0)
    one = np.eye(size)[generator.integers(size, size=trials)]
    alike = np.sign(spread)  # 0.64 of a step in every entry
    for shape in (spread, few, one, alike):
        norms = np.maximum(np.linalg.norm(shape, axis=1, keepdims=True), 1e-9)
        record = shape / norms * length
        # Some entries lie beyond the grid's ends.
        total = generator.uniform(-1.1, 1.1, (trials, size)) * on.grid.most
        offsets = generator.random((trials, size))
        rounded = [
            np.floor(np.clip(values, -on.grid.most, on.grid.most) + offsets)
            for values in (total, total + record)
        ]
        moved = np.linalg.norm(rounded[1] - rounded[0], axis=1)
        if moved.max() > on.sensitivity:
            return False
    return True


def every_client_and_round_has_a_share_of_its_own(make):
    plan = shares.shared(make, SIGMA, authority(3))
    update = sharing_noise(lambda params, inputs, labels: inputs @ params, plan)
    nobody = ClientData(jnp.zeros((2, 4000)), jnp.zeros(2, int), jnp.zeros(2, bool))
    roots = ClientKeys(jax.random.key(1), jax.random.key(2))

    @jax.jit
    @jax.vmap
    def one(client, number):
        keys = ClientKeys(*(client_key(root, number, client) for root in roots))
        return update(jnp.zeros(4000), (), nobody, keys)[0].update

    clients, rounds = np.meshgrid(np.arange(3), np.arange(1, 4))
    slots = np.asarray(one(clients.ravel(), rounds.ravel()), np.float64)
    if isinstance(plan.plan.noise, DiscreteGaussianNoise):
        grid = plan.plan.noise.grid
        slots = (slots + grid.most) % (1 << grid.bits) - grid.most  # signed
    return np.abs(np.corrcoef(slots) - np.eye(9)).max() < 0.1


# How much noise.


@pytest.mark.parametrize("make", [gaussian_plan, coarse_plan])
@pytest.mark.parametrize(
    ("trust", "against"),
    [
        (authority(2), OUTSIDERS),
        (authority(8), OUTSIDERS),
        (authority(8, 5), INSIDERS),
    ],
    ids=["2", "8", "5 of 8 honest"],
)
def test_a_sum_carries_the_noise_of_one_release(make, trust, against):
    assert a_sum_carries_its_noise(make, trust, against)


@pytest.mark.parametrize("make", [gaussian_plan, coarse_plan])
def test_shares_are_fresh(make):
    assert every_client_and_round_has_a_share_of_its_own(make)


def test_a_slot_is_a_multiple_of_the_unit():
    total, key = jnp.linspace(-2.0, 2.0, 50), jax.random.key(3)

    def both(make):
        plan = shares.shared(make, SIGMA, authority(4))
        noisy = plan.plan.noise.add
        run = jax.jit(lambda t: (plan.share(key, t, ())[0], noisy(key, t, C, ())[0]))
        return run(total)

    slots, noisy = both(gaussian_plan)
    np.testing.assert_allclose(slots * C * BATCH, noisy, rtol=1e-6)
    slots, noisy = both(coarse_plan)
    # The grid of whoever decodes is that of the plan, over the expected batch.
    found = dequantize(slots, Grid(8, 1.875)) * C * BATCH
    np.testing.assert_allclose(found, noisy, rtol=1e-5, atol=1e-5)
    assert np.std(np.asarray(noisy - total)) > C * SIGMA / 4


def test_sums_that_are_not_finite_are_marked_and_large_ones_cut_before_noise():
    on, key = coarse_plan(SIGMA).noise, jax.random.key(0)
    totals = jnp.array([[0.0, 1, 2], [jnp.nan, 1, 2], [0, -jnp.inf, 2], [0, 1e30, 2]])
    sums = jax.jit(jax.vmap(lambda total: on.integers(key, total, C)))(totals)
    without, broken, endless, huge = np.asarray(sums)
    np.testing.assert_array_equal(broken, [NOT_FINITE, *without[1:]])
    np.testing.assert_array_equal(endless, [without[0], NOT_FINITE, without[2]])
    assert abs(huge[1] - on.grid.most) < 8 * on.scale
    noisy, _ = on.add(key, totals[1], C, ())
    np.testing.assert_array_equal(np.isnan(noisy), np.isnan(totals[1]))


@pytest.mark.parametrize("make", [gaussian_plan, coarse_plan])
def test_what_is_cut_before_noise_moves_sums_no_further_apart(make):
    """Of neighbours, with the same key: noise and rounding cancel."""
    free = shares.SharedPlan(make(SIGMA), authority(4))
    bounded = dataclasses.replace(free, value_bound=0.01)
    rng, end = np.random.default_rng(0), 0.01 * free.unit
    total = rng.normal(0, 2 * end, 300).astype(np.float32)
    record = rng.normal(size=300)
    record *= C / np.linalg.norm(record)
    pair = jnp.stack([jnp.asarray(total), jnp.asarray(total + record, jnp.float32)])

    @functools.partial(jax.jit, static_argnums=0)
    def slots(plan, totals):
        return jax.vmap(lambda t: plan.share(jax.random.key(3), t, ())[0])(totals)

    cut, same = slots(bounded, pair), slots(free, jnp.clip(pair, -end, end))
    np.testing.assert_allclose(cut, same, rtol=1e-6)
    apart = np.linalg.norm(np.diff(np.clip(pair, -end, end), axis=0))
    assert apart < np.linalg.norm(record)
    assert 0 < np.count_nonzero(np.abs(total) > end) < 300
    # NaN and infinities stay, for the client to refuse; the noise of others does too.
    broken = pair.at[1, :2].set(jnp.array([jnp.nan, jnp.inf]))
    found = np.asarray(slots(bounded, broken)[1])
    marked = found == NOT_FINITE if found.dtype == np.int32 else np.isnan(found)
    np.testing.assert_array_equal(marked, np.arange(300) < 2)
    np.testing.assert_array_equal(found[2:], np.asarray(cut)[1, 2:])


def test_shares_of_correlated_noise_add_up_to_correlated_noise():
    """The covariance of a sum's noise over steps is that of one client with sigma."""
    coefficients, count, steps, size = (1.0, 0.5, 0.375), 4, 4, 200_000

    def make(noise_multiplier):
        banded = BandedNoise(noise_multiplier, coefficients)
        return dataclasses.replace(gaussian_plan(1.0), noise=banded)

    plan = shares.shared(make, SIGMA, authority(count))

    @jax.jit
    def sums(key):
        def one(key):
            state, nothing, slots = plan.plan.init(jnp.zeros(size)), jnp.zeros(size), []
            for step in range(steps):
                one_key = jax.random.fold_in(key, step)
                slot, state = plan.share(one_key, nothing, state)
                slots.append(slot)
            return jnp.stack(slots), state.steps

        slots, taken = jax.vmap(one)(jax.random.split(key, count))
        return slots.sum(axis=0), taken

    slots, taken = sums(jax.random.key(0))
    assert taken.tolist() == [steps] * count
    found = np.cov(np.asarray(slots, np.float64) * plan.unit)
    toeplitz = sum(np.diag([c] * (steps - k), -k) for k, c in enumerate(coefficients))
    inverse = np.linalg.inv(toeplitz)
    right = inverse @ inverse.T * (SIGMA * C) ** 2
    np.testing.assert_allclose(found, right, atol=0.02 * right.max())
    assert plan.correlated
    assert plan.event(9) == make(SIGMA).event(9)


# What it costs.


@pytest.mark.parametrize(
    ("trust", "against"),
    [
        (authority(1), OUTSIDERS),
        (authority(4), OUTSIDERS),
        (authority(10, 3), OUTSIDERS),
        (authority(10, 3), INSIDERS),
        (Trust(6, Decryptor.HOLDERS, 3, 4), INSIDERS),
    ],
    ids=str,
)
def test_both_epsilons_are_those_of_the_noise(trust, against):
    assert both_epsilons_are_those_of_the_noise(trust, against)


@pytest.mark.parametrize(
    ("trust", "bounded"),
    [
        (Trust(6, Decryptor.KEY_AUTHORITY), True),
        (Trust(6, Decryptor.KEY_AUTHORITY, 1), True),
        (Trust(6, Decryptor.EVERY_CLIENT), False),  # one shared key
        (Trust(6, Decryptor.NOBODY_NEEDED), False),
        (Trust(6, Decryptor.HOLDERS), True),
        (Trust(6, Decryptor.HOLDERS, 1), True),  # all six are needed
        (Trust(6, Decryptor.HOLDERS, 3, 4), True),
        (Trust(6, Decryptor.HOLDERS, 2, 4), False),
        (Trust(6, Decryptor.HOLDERS, 1, 4), False),
    ],
    ids=str,
)
def test_insiders_who_read_uploads_face_no_noise(trust, bounded):
    plan = shares.shared(gaussian_plan, SIGMA, trust)
    assert math.isfinite(spent(plan.event(10, INSIDERS))) is bounded
    assert spent(plan.event(10)) == pytest.approx(gaussian_epsilon(SIGMA, 10), rel=1e-4)


@pytest.mark.parametrize("honest", [0, -1, 7])
def test_honest_clients_are_among_those_of_a_sum(honest):
    with pytest.raises(ValueError, match="honest must lie between 1 and the 6 uploads"):
        authority(6, honest)
    with pytest.raises(ValueError, match="at least one upload"):
        authority(0)


def test_integer_noise_costs_its_sensitivity_and_its_failures():
    count, steps, size = 4, 2, 1000
    plan = shares.shared(discrete_plan, SIGMA, authority(count, 2))
    step = 1.875 * BATCH / (2**15 - 1)
    for adversary, number in ((OUTSIDERS, count), (INSIDERS, 2)):
        event = plan.event(steps, adversary)
        failing = event.event
        assert isinstance(failing, Approximate)
        scale = SIGMA / math.sqrt(count) / step
        tables = (13 * scale + 16) * 2.0**-95 * size * number
        assert failing.failure == pytest.approx(
            shares.ROUNDING_FAILURE + tables, rel=1e-12
        )
        total = scale * math.sqrt(number)
        right = gaussian_epsilon(total / inflated(1 / step, size), steps)
        exact = spent(Repeated(failing.event, steps))
        assert exact == pytest.approx(right, rel=1e-4)
        assert exact <= spent(event) <= 1.01 * exact


def test_failures_count_under_sampling_too():
    event = discrete_plan(SIGMA, q=0.3).event(6)
    exact = spent(Repeated(event.event.event, 6))
    assert exact < spent(event) <= 1.01 * exact


def test_too_little_noise_for_the_grid_is_refused():
    with pytest.raises(Unsupported, match=r"0\.5 or more"):
        coarse_plan(0.25)
    coarse_plan(0.35)


# Rounding.


def test_no_record_moves_the_integers_further_than_is_accounted_for():
    assert no_record_moves_the_integers_further()


def test_rounding_is_a_floor_after_a_uniform_offset():
    """Entry by entry: one of two integers, the upper with the fraction's chance."""
    values = np.array([-3.75, -1.3, -0.5, -1e-3, 0.0, 0.2, 0.999, 2.5, 7.0])
    grid, draws = Grid(8, 127.0), 40_000
    keys = jax.random.split(jax.random.key(0), draws)
    vector = jnp.asarray(values, jnp.float32)
    found = np.asarray(jax.jit(jax.vmap(lambda k: quantize(k, vector, grid)))(keys))
    offsets = np.random.default_rng(0).random((draws, 1))
    other = np.floor(values + offsets)
    for draw in (found, other):
        assert set(np.unique(draw - np.floor(values))) <= {0.0, 1.0}
        fraction = values - np.floor(values)
        variance = fraction * (1 - fraction)
        error = np.abs(draw.mean(axis=0) - values)
        assert np.all(error <= 5 * np.sqrt(variance / draws) + 1e-6)
        assert np.allclose(draw.var(axis=0), variance, atol=0.01)
    correlation = np.corrcoef(found[:, [0, 1, 2, 5, 7]].T)
    assert np.abs(correlation - np.eye(5)).max() < 0.03


@pytest.mark.parametrize("bound", [0.05, 1.3])
@pytest.mark.parametrize("batch", [40.0, 4000.0])
@pytest.mark.parametrize("size", [10, 7850, 1_000_000])
def test_bits_are_the_fewest_that_keep_rounding_below_ten_per_cent(bound, batch, size):
    def cost(bits):
        step = bound * batch / (2 ** (bits - 1) - 1)
        return inflated(1 / step, size) * step

    bits = bits_for(bound, batch, size)
    assert 8 <= bits <= 24
    assert bits == 24 or cost(bits) <= 1.1
    assert bits == 8 or cost(bits - 1) > 1.1


# What cannot be shared.


def test_what_cannot_be_shared_is_refused():
    adaptive = dataclasses.replace(gaussian_plan(1.0), clipping=AdaptiveClipping(C))
    with pytest.raises(ValueError, match=r"AdaptiveClipping.*noise=local"):
        SharedPlan(adaptive, authority(3))
    banded = dataclasses.replace(gaussian_plan(1.0), noise=BandedNoise(1.0))
    with pytest.raises(ValueError, match=r"BandedNoise.*encryption=ckks"):
        on_grid(banded, 10, 1.0, 16)

    @dataclasses.dataclass(frozen=True)
    class OwnNoise(GaussianNoise):
        summed = noise.Noise.summed

    own = dataclasses.replace(gaussian_plan(1.0), noise=OwnNoise(1.0))
    with pytest.raises(ValueError, match=r"OwnNoise cannot .*method summed\(count\)"):
        SharedPlan(own, authority(3))
    with pytest.raises(ValueError, match="OwnNoise"):
        on_grid(own, 10, 1.0, 16)


# Planted faults.


def divide_sigma_by_the_count(patch):
    patch.setattr(
        shares,
        "shared",
        lambda make, sigma, trust, against=OUTSIDERS: SharedPlan(
            make(sigma / trust.shares(against)), trust
        ),
    )


def let_every_client_add_all_of_it(patch):
    patch.setattr(
        shares,
        "shared",
        lambda make, sigma, trust, against=OUTSIDERS: SharedPlan(make(sigma), trust),
    )


def add_up_deviations(patch):
    patch.setattr(
        GaussianNoise,
        "summed",
        lambda self, count: GaussianNoise(self.noise_multiplier * count),
    )


def reuse_a_key(patch):
    share = SharedPlan.share
    patch.setattr(
        SharedPlan,
        "share",
        lambda self, key, total, state: share(self, jax.random.key(0), total, state),
    )


def leave_the_sensitivity_as_it_was(patch):
    patch.setattr(
        DiscreteGaussianNoise, "sensitivity", property(lambda self: 1 / self.grid.step)
    )


@pytest.mark.parametrize(
    ("detector", "arguments", "plant"),
    [
        (a_sum_carries_its_noise, (gaussian_plan, authority(8)), plant)
        for plant in (
            divide_sigma_by_the_count,
            let_every_client_add_all_of_it,
            reuse_a_key,
        )
    ]
    + [
        (both_epsilons_are_those_of_the_noise, (authority(4),), plant)
        for plant in (
            divide_sigma_by_the_count,
            add_up_deviations,
        )
    ]
    + [
        (every_client_and_round_has_a_share_of_its_own, (coarse_plan,), reuse_a_key),
        (no_record_moves_the_integers_further, (), leave_the_sensitivity_as_it_was),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_fault_is_found(detector, arguments, plant, monkeypatch):
    plant(monkeypatch)
    assert not detector(*arguments)
