import dataclasses
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fedjax_private import algorithms, clients, models, simulation
from fedjax_private.aggregation import make
from fedjax_private.algorithms.dp_fedavg import (
    ClientLevelPlan,
    dp_fedavg,
    joining_client,
)
from fedjax_private.clients import Trainer
from fedjax_private.clients.training import TrainState
from fedjax_private.datasets import (
    ClientData,
    Examples,
    client_data,
    load,
    partition,
)
from fedjax_private.privacy import GaussianNoise, noise_key, norm_clipping
from fedjax_private.privacy.accounting import (
    Gaussian,
    Neighbors,
    Poisson,
    RdpAccountant,
    Repeated,
)
from fedjax_private.trust import Decryptor, Trust
from tests.algorithms.closed_forms import sampled_epsilon

N, S, Z, Q = 1000, 0.5, 1.3, 0.1
PLAN = ClientLevelPlan(
    clip_norm=S, noise_multiplier=Z, sampling_probability=Q, clients=N
)
QUIET = dataclasses.replace(PLAN, noise_multiplier=0.0)
ALL = dataclasses.replace(QUIET, sampling_probability=1.0)
ROOTS = simulation.root_keys(0, 0)


def moving(state, data, keys):
    """A client's labels, in tenths, say how far its training moves each weight."""
    return state._replace(params=state.params + data.labels / jnp.float32(10)), {}


TRAINER = Trainer(lambda params: TrainState(params, ()), moving)


def released(plan, tenths, schedule, trainer=TRAINER):
    """Each round's step of the model times q W, float64: the noisy sum of that round.

    Args:
        tenths: (clients, P) int32, how far clients' trainings move.
    """
    count, size = tenths.shape
    trust = Trust(len(schedule[0]), Decryptor.NOBODY_NEEDED)
    scheme = make("none", vector_size=size, trust=trust)
    done = simulation.simulate(
        dp_fedavg(
            trainer,
            plan,
            algorithms.server_optimizer("sgd", 1.0),
            scheme.codec,
            jnp.zeros(size),
            server_key=lambda: noise_key(1, "server"),
        ),
        scheme,
        ClientData(
            np.zeros((count, size, 1, 1, 1), np.uint8),
            tenths.astype(np.int32),
            np.ones((count, size), bool),
        ),
        jnp.zeros(size),
        schedule,
        ROOTS,
        evaluate=lambda stack: simulation.Evaluation(np.zeros(1), np.zeros(1)),
        chunk_size=256,
    )
    models = [np.zeros(size), *(np.asarray(one.server_state.params) for one in done)]
    return np.diff(np.asarray(models, np.float64), axis=0) * plan.expected_cohort


def everybody(rounds, count=N):
    return simulation.cohorts(0, rounds, count)


def clipped(vectors):
    return vectors * np.minimum(1, S / np.linalg.norm(vectors, axis=1))[:, None]


def test_clipping_bounds_whatever_it_is_given():
    clip = jax.jit(norm_clipping(S))
    far, near = np.array([30.0, -40.0], np.float32), np.array([0.1, 0.2], np.float32)
    np.testing.assert_allclose(clip(far), [0.3, -0.4], rtol=1e-4)
    np.testing.assert_array_equal(clip(near), near)
    for bad in (np.nan, np.inf, -np.inf):
        np.testing.assert_array_equal(clip(np.array([bad, 1.0], np.float32)), [0, 0])
    for size in (1, 1000, 1_000_000):
        for scale in (1e-30, 1.0, 1e15, 1e38):
            vector = np.asarray(clip(np.full(size, scale, np.float32)), np.float64)
            assert np.linalg.norm(vector) <= S


def test_the_sum_over_a_thousand_clients_equals_numpy():
    tenths = np.random.default_rng(0).integers(-4, 5, (N, 7))
    (got,) = released(ALL, tenths, everybody(1))
    tenths[~tenths.any(axis=1), 0] = 1e-30
    np.testing.assert_allclose(got, clipped(tenths / 10).sum(axis=0), atol=1e-3)


def test_clients_that_diverge_move_the_sum_by_the_bound_at_most():
    wild = {7: np.nan, 8: np.inf, 9: 1e15}

    def diverging(state, data, keys):
        off = sum(jnp.where(data.labels[0] == k, wild[k], 0.0) for k in wild)
        return state._replace(params=state.params + off), {}

    trainer = dataclasses.replace(TRAINER, train=diverging)
    tenths = np.zeros((40, 3), np.int32)
    tenths[:3] = np.array([[7], [8], [9]])
    (got,) = released(ALL, tenths, everybody(1, 40), trainer)
    # Those whose norm is no number count as zero; the third is cut to S.
    np.testing.assert_allclose(got, np.full(3, S / np.sqrt(3)), rtol=1e-4)


def a_client_moves_the_sum_by_at_most_the_bound():
    """Neighbours: the same clients but for one, which is far from all others."""
    tenths = np.random.default_rng(1).integers(-4, 5, (40, 3))
    tenths[7] = 10**6
    (whole,) = released(ALL, tenths, everybody(1, 40))
    (without,) = released(ALL, tenths, [np.delete(np.arange(40), 7)])
    return np.linalg.norm(whole - without) <= S + 1e-5


def noise_has_its_scale():
    nothing = np.zeros((2, 40_000))
    first, second = released(PLAN, nothing, everybody(2, 2))
    right = [
        stats.kstest(sample, stats.norm(scale=Z * S).cdf).pvalue > 1e-6
        and abs(sample.std() / (Z * S) - 1) < 0.02
        for sample in (first, second)
    ]
    return all(right) and abs(np.corrcoef(first, second)[0, 1]) < 0.03


def the_divisor_is_public():
    """Where all move alike the release shows how many joined."""
    count = 200
    plan = dataclasses.replace(QUIET, clients=count)
    counts = released(plan, np.full((count, 1), 50), everybody(60, count))[:, 0] / S
    whole = np.abs(counts - np.rint(counts)).max() < 0.01
    return whole and 0.5 < counts.var() / (count * Q * (1 - Q)) < 1.7


def halve_the_noise(patch):
    add = GaussianNoise.add
    patch.setattr(
        GaussianNoise,
        "add",
        lambda self, key, total, bound, state: add(self, key, total, bound / 2, state),
    )


def reuse_the_round_s_key(patch):
    release = ClientLevelPlan.release
    patch.setattr(
        ClientLevelPlan,
        "release",
        lambda self, key, total: release(self, jax.random.key(0), total),
    )


def leave_out_the_clip(patch):
    clipping = norm_clipping(1e9)
    # By its path the package has the function of the module's name.
    module = sys.modules["fedjax_private.algorithms.dp_fedavg"]
    patch.setattr(module, "norm_clipping", lambda norm: clipping)


def divide_by_the_realised_cohort(patch):
    release = ClientLevelPlan.release

    def divide(self, key, total):
        realised = jnp.maximum(jnp.abs(total[0]) / S, 1.0)
        return release(self, key, total) * self.expected_cohort / realised

    patch.setattr(ClientLevelPlan, "release", divide)


@pytest.mark.parametrize(
    ("detector", "plant"),
    [
        (a_client_moves_the_sum_by_at_most_the_bound, leave_out_the_clip),
        (noise_has_its_scale, halve_the_noise),
        (noise_has_its_scale, reuse_the_round_s_key),
        (the_divisor_is_public, divide_by_the_realised_cohort),
    ],
    ids=lambda function: function.__name__,
)
def test_a_planted_fault_is_found(detector, plant, monkeypatch):
    assert detector()
    plant(monkeypatch)
    assert not detector()


def test_clients_join_independently_whatever_the_schedule():
    """Each client has a weight of its own, which shows in what rounds it joined."""
    count, rounds = 300, 40
    own = 50 * np.eye(count, dtype=np.int32)
    joined = released(QUIET, own, everybody(rounds, count)) > S / 2
    frequency = joined.sum(axis=0)
    variance = rounds * Q * (1 - Q)
    assert abs(frequency.sum() - count * rounds * Q) < 5 * (count * variance) ** 0.5
    assert 0.7 < frequency.var() / variance < 1.35
    assert 0.5 < joined.sum(axis=1).var() / (count * Q * (1 - Q)) < 1.7
    half = np.arange(count) < count / 2
    some = released(QUIET, own, [np.flatnonzero(half)] * rounds) > S / 2
    np.testing.assert_array_equal(some, joined & half)


def test_clients_that_do_not_join_keep_their_state():
    def counting(state, data, keys):
        return moving(state, data, keys)[0]._replace(mechanism=state.mechanism + 1), {}

    client = joining_client(Trainer(TRAINER.init, counting), QUIET)
    data = ClientData(np.zeros((1, 1, 1, 1)), np.full(1, 50), np.ones(1, bool))

    @jax.vmap
    def one(key):
        output, state = client(
            jnp.zeros(1), jnp.int32(3), data, ROOTS._replace(noise=key)
        )
        return output.update["delta"][0], state

    delta, state = one(jax.random.split(jax.random.key(0), 400))
    assert 0 < (delta > 0).sum() < 100
    np.testing.assert_array_equal(state, np.where(delta > 0, 4, 3))


def test_a_cohort_may_be_empty():
    plan = dataclasses.replace(PLAN, sampling_probability=1e-6)
    got = released(plan, np.full((50, 2000), 50), everybody(3, 50))
    np.testing.assert_allclose(got.std(axis=1), Z * S, rtol=0.1)
    quiet = dataclasses.replace(plan, noise_multiplier=0.0)
    assert not released(quiet, np.full((50, 3), 50), everybody(3, 50)).any()


def test_epsilon_is_that_of_poisson_sampled_gaussians():
    rounds, delta = 100, 1e-5
    assert PLAN.neighbors is Neighbors.ADD_REMOVE
    event = PLAN.event(rounds)
    assert event == Repeated(Poisson(Q, Gaussian(Z)), rounds)
    spent = RdpAccountant(neighbors=PLAN.neighbors).compose(event).epsilon(delta)
    assert spent == pytest.approx(sampled_epsilon(Q, Z, rounds, delta), rel=1e-3)


def test_a_thousand_clients_learn_digits():
    """Four digits each, at half the resolution, at a client's epsilon of 3.5."""

    def halved(examples):
        images = examples.inputs.reshape(-1, 14, 2, 14, 2, 1).mean(axis=(2, 4))
        return Examples(images.astype(np.uint8), examples.labels)

    dataset, rounds = load("mnist_5k"), 20
    train, test = halved(dataset.train), halved(dataset.test)
    model = models.build(
        "linear",
        input_shape=(14, 14, 1),
        num_classes=10,
        normalization=dataset.normalization,
    )
    params = model.init(jax.random.key(0))
    plan = ClientLevelPlan(S, 1.0, Q, N)
    scheme = make(
        "none",
        vector_size=models.parameter_count(params),
        trust=Trust(N, Decryptor.NOBODY_NEEDED),
    )
    trainer = clients.sgd(model.loss, clients.SgdConfig(0.1, batch_size=4, epochs=2))
    algorithm = dp_fedavg(
        trainer,
        plan,
        algorithms.server_optimizer("momentum", 1.0),
        scheme.codec,
        params,
        server_key=lambda: noise_key(0, "server"),
    )
    *_, last = simulation.simulate(
        algorithm,
        scheme,
        client_data(train, partition(train.labels, N, "iid", 0)),
        params,
        everybody(rounds),
        ROOTS,
        evaluate=simulation.evaluator(model)(test),
        evaluate_every=rounds,
    )
    assert last.evaluation.accuracy[0] > 0.65
    assert last.metrics == {}
    books = RdpAccountant(neighbors=plan.neighbors).compose(plan.event(rounds))
    assert books.epsilon(1e-4) == pytest.approx(3.49, abs=0.01)


def test_rounding_adds_to_the_sensitivity():
    rounded = dataclasses.replace(PLAN, rounding=0.25 * S)
    assert rounded.event(3) == Repeated(Poisson(Q, Gaussian(Z / 1.25)), 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clip_norm", 0.0),
        ("clip_norm", math.inf),
        ("rounding", -1.0),
        ("rounding", math.nan),
        ("noise_multiplier", -1.0),
        ("sampling_probability", 0.0),
        ("sampling_probability", 1.1),
        ("clients", 0),
    ],
)
def test_impossible_plans_are_refused(name, value):
    with pytest.raises(ValueError, match="got"):
        dataclasses.replace(PLAN, **{name: value})
