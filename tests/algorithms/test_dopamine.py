"""Three hospitals that share noise, on records whose gradients are known by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private import algorithms, simulation
from fedjax_private.aggregation import PlainAggregation
from fedjax_private.datasets import ClientData
from fedjax_private.privacy import (
    FlatClipping,
    GaussianNoise,
    PoissonSampling,
    PrivacyPlan,
    gaussian,
    shared,
)
from fedjax_private.privacy.accounting import Neighbors, NoPrivacy, RdpAccountant
from fedjax_private.trust import Adversary, Decryptor, Trust
from tests.algorithms.closed_forms import gaussian_epsilon

# Of the three hospitals two do not collude.
TRUST = Trust(3, Decryptor.KEY_AUTHORITY, honest=2)
START = {"w": jnp.zeros(2)}
# All records lie on one line through the start: 5, 0.3 and 10 along this direction.
LINE = np.array([0.6, 0.8], np.float32)
RECORDS = np.array([5.0, 0.3, 10.0], np.float32)[:, None] * LINE
ROOTS = simulation.root_keys(0, 0)


def plan_of(noise_multiplier, trust=TRUST, *, probability=1.0, clip_norm=1.0):
    def make(share):
        return PrivacyPlan(
            PoissonSampling(probability),
            FlatClipping(clip_norm),
            GaussianNoise(share),
            3 * probability,
            Neighbors.ADD_REMOVE,
        )

    return shared(make, noise_multiplier, trust)


NOISY, QUIET = plan_of(1.5), plan_of(0.0)


def loss(params, inputs, labels):
    """Half the squared distance from w to the record."""
    return 0.5 * ((params["w"] - inputs.reshape(-1, 2)) ** 2).sum(axis=1)


def shards(*hospitals, length=3):
    """Each hospital's records, points (n, 2); padding would be noticed."""
    inputs = np.full((len(hospitals), length, 1, 1, 2), 99, np.float32)
    mask = np.zeros((len(hospitals), length), bool)
    for hospital, records in enumerate(hospitals):
        inputs[hospital, : len(records), 0, 0] = records
        mask[hospital, : len(records)] = True
    return ClientData(inputs, mask.astype(np.int32), mask)


ONE_EACH = shards(*np.split(RECORDS, 3))


def dopamine(plan, **options):
    codec = PlainAggregation(2, TRUST).codec
    options = {"learning_rate": 0.5, **options}
    return algorithms.dopamine(loss, plan, codec=codec, params_like=START, **options)


def trained(plan, data=ONE_EACH, rounds=2):
    """The weights after each round, (rounds, 2)."""
    done = simulation.simulate(
        dopamine(plan),
        PlainAggregation(2, TRUST),  # stands in for an encrypted sum
        data,
        START,
        simulation.cohorts(0, rounds, 3),
        ROOTS,
        evaluate=lambda params: simulation.Evaluation(np.zeros(1), np.zeros(1)),
    )
    return np.array([one.server_state.params["w"] for one in done])


# Along the line, clipped gradients at 0 are -1, -0.3 and -1, a mean of -23/30: w moves
# to 23/60. There they are -1, 23/60 - 0.3 = 1/12 and -1, a mean of -23/36, of which
# momentum makes -(0.9 x 23/30 + 23/36).
FIRST = 23 / 60
SECOND = FIRST + 0.5 * (0.9 * 23 / 30 + 23 / 36)


def test_two_rounds_without_noise_are_those_worked_out_by_hand():
    # Clipping keeps a margin of 1e-5.
    expected = np.outer((FIRST, SECOND), LINE)
    np.testing.assert_allclose(trained(QUIET), expected, rtol=2e-5)


def test_the_released_sum_is_central_dp_sgd_with_the_same_noise():
    steps = trained(NOISY)
    bounded = NOISY.plan.bounded_sum(loss)

    def share(key):
        return gaussian(jax.random.fold_in(key, 0), (2,), 1.5 / math.sqrt(3))

    @jax.jit
    def noisy_sum(params, number):
        keys = [algorithms.client_key(ROOTS.noise, number, k) for k in range(3)]
        noise = jax.vmap(share)(jnp.stack(keys)).sum(axis=0)
        every = np.zeros(3, np.int32), np.ones(3, bool)
        return bounded(params, RECORDS, *every, ())["w"] + noise

    params, momentum, expected = START, np.zeros(2), []
    for number in (1, 2):
        momentum = 0.9 * momentum + np.asarray(noisy_sum(params, number)) / 3
        params = {"w": params["w"] - 0.5 * momentum}
        expected.append(params["w"])
    np.testing.assert_allclose(steps, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(steps - np.outer((FIRST, SECOND), LINE)).max() > 0.05


@pytest.mark.parametrize(
    "parts",
    [
        [RECORDS, RECORDS[:0], RECORDS[:0]],
        [RECORDS[:0], RECORDS[:1], RECORDS[1:]],
    ],
)
def test_how_records_are_spread_does_not_matter(parts):
    got = trained(NOISY, shards(*parts))
    np.testing.assert_allclose(got, trained(NOISY), rtol=1e-5, atol=1e-6)


def test_the_shares_of_a_sum_carry_the_noise_of_central_dp():
    plan = plan_of(1.5, probability=0.5, clip_norm=0.5)
    share = jax.jit(lambda key: plan.share(key, jnp.zeros(1_000_000), ())[0])
    slots = [np.asarray(share(jax.random.key(k))) for k in range(3)]
    # sigma^2 C^2 = 1.5^2 x 0.5^2, over the unit C q N = 0.5 x 0.5 x 3.
    expected = 0.5625 / 0.75**2
    assert np.var(sum(slots)) == pytest.approx(expected, rel=0.02)
    assert np.var(slots[0]) == pytest.approx(expected / 3, rel=0.02)


@pytest.mark.parametrize(
    ("adversary", "noise_multiplier"),
    [
        (Adversary.OUTSIDERS, 12.0),
        (Adversary.INSIDERS, 12 * math.sqrt(2 / 3)),
    ],
)
def test_epsilon_against_each_adversary(adversary, noise_multiplier):
    event = plan_of(12.0).event(40, adversary)
    books = RdpAccountant(neighbors=Neighbors.ADD_REMOVE).compose(event)
    expected = gaussian_epsilon(noise_multiplier, 40)
    assert books.epsilon(1e-5) == pytest.approx(expected, rel=1e-3)


def test_insiders_with_the_secret_key_face_no_noise():
    plan = plan_of(1.5, Trust(3, Decryptor.EVERY_CLIENT))
    assert plan.event(2, Adversary.INSIDERS).event == NoPrivacy()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"momentum": -0.1}, "momentum"),
    ],
)
def test_a_server_step_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        dopamine(NOISY, **options)
