import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from fedjax_private import algorithms, simulation
from fedjax_private.algorithms.truex import (
    claimed_event,
    truex,
    truex_plan,
)
from fedjax_private.privacy import (
    FlatClipping,
    GaussianNoise,
    PoissonSampling,
    PrivacyPlan,
    gaussian,
    shared,
)
from fedjax_private.privacy.accounting import (
    Gaussian,
    Neighbors,
    Poisson,
    RdpAccountant,
    Repeated,
)
from fedjax_private.trust import Adversary, Decryptor, Trust
from tests.algorithms.closed_forms import gaussian_epsilon
from tests.algorithms.quadratics import START, loss, rounds, shards, sums, weights

DELTA = 1e-5
# Three parties with one record each: at w = 1 the gradients are 1 x (1 - 3), clipped to
# -1, 1 x (1 - 1) = 0 and 2 x (1 + 1), clipped to 1.
DATA = shards([(1, 3)], [(1, 1)], [(2, -1)])


def parties(count, honest):
    """The paper's: as many key holders decrypt as are more than can collude."""
    return Trust(count, Decryptor.HOLDERS, honest, count - honest + 1)


def epsilon(event):
    return RdpAccountant(neighbors=Neighbors.ADD_REMOVE).compose(event).epsilon(DELTA)


def make(noise_multiplier, probability=1.0):
    return PrivacyPlan(
        PoissonSampling(probability),
        FlatClipping(1.0),
        GaussianNoise(noise_multiplier),
        3 * probability,
        Neighbors.ADD_REMOVE,
    )


def trained(noise_multiplier, number):
    algorithm = truex(
        loss,
        truex_plan(make, noise_multiplier, parties(3, 2)),
        algorithms.server_optimizer("sgd", 0.3),
        sums(1, 3).codec,
        START,
    )
    schedule = simulation.cohorts(0, number, 3)
    return weights(rounds(algorithm, DATA, schedule, vector_size=1))


def test_the_step_is_the_sum_of_all_parties_answers():
    root = simulation.root_keys(0, 0).noise

    # With 2 of 3 honest, each adds all of sigma C, and sums carry sqrt(3) of it.
    @jax.jit
    @jax.vmap
    def noise(party):
        key = algorithms.client_key(root, 1, party)
        return gaussian(jax.random.fold_in(key, 0), (), 2.0)

    total = float(noise(jnp.arange(3)).sum())
    (got,) = trained(2.0, 1)
    assert got == pytest.approx(1 - 0.3 * (-1 + 0 + 1 + total) / 3, abs=3e-5)
    assert abs(got - 1) > 0.01


@pytest.mark.parametrize(("count", "honest"), [(3, 2), (4, 3)])
def test_a_sum_carries_the_noise_of_the_formula(count, honest):
    plan = truex_plan(make, 2.0, parties(count, honest))
    share = jax.jit(lambda key: plan.share(key, jnp.zeros(1_000_000), ())[0])
    slots = [np.asarray(share(jax.random.key(k))) for k in range(count)]
    # In units of C q N = 3.
    one = 2.0**2 / (honest - 1) / 3**2
    assert np.var(slots[0]) == pytest.approx(one, rel=0.02)
    assert np.var(sum(slots)) == pytest.approx(count * one, rel=0.02)


def test_dividing_by_one_less_than_the_honest_turns_2_9_into_1_97():
    sigma = optimize.brentq(lambda s: gaussian_epsilon(s, 80) - 2.9, 1, 100)
    plan = truex_plan(make, sigma, parties(4, 3))
    claimed = epsilon(claimed_event(plan, 80))
    assert claimed == pytest.approx(2.9, rel=1e-3)
    # Four shares of sigma^2 / 2, and three of them.
    outsiders = epsilon(plan.event(80, Adversary.OUTSIDERS))
    assert outsiders == pytest.approx(gaussian_epsilon(sigma * math.sqrt(2), 80), 1e-3)
    assert outsiders == pytest.approx(1.97, abs=0.01)
    insiders = epsilon(plan.event(80, Adversary.INSIDERS))
    assert insiders == pytest.approx(gaussian_epsilon(sigma * math.sqrt(1.5), 80), 1e-3)
    # Shares of sigma^2 / 3 would have met the target against insiders.
    fair = shared(make, sigma, parties(4, 3), Adversary.INSIDERS)
    met = epsilon(fair.event(80, Adversary.INSIDERS))
    assert met == pytest.approx(claimed, rel=1e-9)


def test_what_is_claimed_is_sigma_on_poisson_samples():
    plan = truex_plan(lambda s: make(s, 0.25), 3.0, parties(5, 2))
    assert claimed_event(plan, 7) == Repeated(Poisson(0.25, Gaussian(3.0)), 7)
    assert plan.event(7) == Repeated(Poisson(0.25, Gaussian(3.0 * math.sqrt(5))), 7)


@pytest.mark.parametrize(
    ("trust", "message"),
    [
        (Trust(4, Decryptor.HOLDERS, 1), "honest must lie"),
        (Trust(2, Decryptor.HOLDERS), "honest must lie"),
        (Trust(4, Decryptor.HOLDERS, 2, quorum=2), "let a key authority decrypt"),
        (Trust(4, Decryptor.EVERY_CLIENT, 3), "let a key authority decrypt"),
        (Trust(4, Decryptor.NOBODY_NEEDED, 3), "let a key authority decrypt"),
    ],
)
def test_trust_models_without_the_guarantee_are_refused(trust, message):
    with pytest.raises(ValueError, match=message):
        truex_plan(make, 1.0, trust)
    optimizer, codec = algorithms.server_optimizer("sgd", 0.3), sums(1, 3).codec
    with pytest.raises(ValueError, match=message):
        truex(loss, shared(make, 1.0, trust), optimizer, codec, START)
