import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from fedjax_private import algorithms, simulation
from fedjax_private.algorithms.truex import (
    claimed_event,
    quorum,
    truex,
    truex_epsilons,
    truex_plan,
    truex_trust,
)
from fedjax_private.encryption.parties.joint_key import check_quorum
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
        truex_plan(make, noise_multiplier, truex_trust(3, 2)),
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


@pytest.mark.parametrize(("parties", "honest"), [(3, 2), (4, 3)])
def test_a_sum_carries_the_noise_of_the_formula(parties, honest):
    plan = truex_plan(make, 2.0, truex_trust(parties, honest))
    share = jax.jit(lambda key: plan.share(key, jnp.zeros(1_000_000), ())[0])
    slots = [np.asarray(share(jax.random.key(k))) for k in range(parties)]
    # In units of C q N = 3.
    one = 2.0**2 / (honest - 1) / 3**2
    assert np.var(slots[0]) == pytest.approx(one, rel=0.02)
    assert np.var(sum(slots)) == pytest.approx(parties * one, rel=0.02)


def test_dividing_by_one_less_than_the_honest_turns_2_9_into_1_97():
    sigma = optimize.brentq(lambda s: gaussian_epsilon(s, 80) - 2.9, 1, 100)
    got = truex_epsilons(truex_plan(make, sigma, truex_trust(4, 3)), 80, DELTA)
    assert got.claimed == pytest.approx(2.9, rel=1e-3)
    # Four shares of sigma^2 / 2, and three of them.
    assert got.outsiders == pytest.approx(
        gaussian_epsilon(sigma * math.sqrt(2), 80), 1e-3
    )
    assert got.insiders == pytest.approx(
        gaussian_epsilon(sigma * math.sqrt(1.5), 80), 1e-3
    )
    assert got.outsiders == pytest.approx(1.97, abs=0.01)
    # Shares of sigma^2 / 3 would have met the target against insiders.
    fair = shared(make, sigma, truex_trust(4, 3), Adversary.INSIDERS)
    books = RdpAccountant(neighbors=Neighbors.ADD_REMOVE)
    books.compose(fair.event(80, Adversary.INSIDERS))
    assert books.epsilon(DELTA) == pytest.approx(got.claimed, rel=1e-9)


def test_what_is_claimed_is_sigma_on_poisson_samples():
    plan = truex_plan(lambda s: make(s, 0.25), 3.0, truex_trust(5, 2))
    assert claimed_event(plan, 7) == Repeated(Poisson(0.25, Gaussian(3.0)), 7)
    assert plan.event(7) == Repeated(Poisson(0.25, Gaussian(3.0 * math.sqrt(5))), 7)


def test_a_quorum_is_one_more_than_can_collude():
    # Nine parties: 7 honest of them need 3, but a majority is 5.
    assert [quorum(9, t) for t in (2, 3, 7, 9)] == [8, 7, 3, 1]
    assert [truex_trust(9, t).quorum for t in (2, 3, 7, 9)] == [8, 7, 5, 5]
    for parties in range(2, 9):
        for honest in range(2, parties + 1):
            trust = truex_trust(parties, honest)
            check_quorum(trust.quorum, parties)
            assert trust.quorum > parties - honest
            assert not trust.insiders_read_uploads


@pytest.mark.parametrize("honest", [-1, 0, 1, 5])
def test_noise_cannot_be_divided_by_so_few_or_more_than_all(honest):
    for refused in (quorum, truex_trust):
        with pytest.raises(ValueError, match="honest must lie between 2 and the 4"):
            refused(4, honest)


@pytest.mark.parametrize(
    ("trust", "message"),
    [
        (Trust(4, Decryptor.HOLDERS, 1), "honest must lie"),
        (Trust(2, Decryptor.HOLDERS), "honest must lie"),
        (Trust(4, Decryptor.HOLDERS, 2, quorum=2), "truex_trust"),
        (Trust(4, Decryptor.EVERY_CLIENT, 3), "truex_trust"),
        (Trust(4, Decryptor.NOBODY_NEEDED, 3), "truex_trust"),
    ],
)
def test_trust_models_without_the_guarantee_are_refused(trust, message):
    with pytest.raises(ValueError, match=message):
        truex_plan(make, 1.0, trust)


def test_plans_and_physical_batches_that_do_not_fit():
    optimizer, codec = algorithms.server_optimizer("sgd", 0.3), sums(1, 3).codec
    one_honest = shared(make, 1.0, Trust(3, Decryptor.HOLDERS, 1))
    with pytest.raises(ValueError, match="honest must lie"):
        truex(loss, one_honest, optimizer, codec, START)
    plan = truex_plan(make, 1.0, truex_trust(3, 2))
    with pytest.raises(ValueError, match="physical batch"):
        truex(loss, plan, optimizer, codec, START, physical_batch_size=0)
