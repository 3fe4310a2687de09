import dataclasses
import itertools

import jax
import numpy as np
import pytest

from fedjax_private import algorithms, clients, models, simulation
from fedjax_private.aggregation import make, trust_of
from fedjax_private.datasets import client_data, partition
from fedjax_private.encryption import KeyAuthority
from fedjax_private.privacy import (
    AdaptiveClipping,
    BandedNoise,
    CyclicPoissonSampling,
    FlatClipping,
    GaussianNoise,
    PoissonSampling,
    PrivacyPlan,
)
from fedjax_private.privacy.accounting import Neighbors
from fedjax_private.trust import Decryptor, Trust
from fedjax_private.typing import ClientKeys

CLIENTS = 5
ROOTS = ClientKeys(jax.random.key(1), jax.random.key(2))


@pytest.fixture(scope="module")
def scheme(params):
    size = models.parameter_count(params) + 1
    trust = Trust(CLIENTS, Decryptor.NOBODY_NEEDED)
    return make("none", vector_size=size, trust=trust)


@pytest.fixture(scope="module")
def fedavg(model, params, scheme):
    trainer = clients.sgd(model.loss, clients.SgdConfig(0.5, batch_size=4, epochs=2))
    return algorithms.fedavg(
        clients.federated(trainer, clients.by_examples(70)),
        algorithms.server_optimizer("sgd", 1.0),
        scheme.codec,
        params,
    )


def run(algorithm, scheme, data, params, evaluate, rounds=3, **options):
    schedule = options.pop("schedule", simulation.cohorts(0, rounds, CLIENTS, None))
    return list(
        simulation.simulate(
            algorithm,
            scheme,
            data,
            params,
            schedule,
            ROOTS,
            evaluate=evaluate,
            **options,
        )
    )


def weights(done):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(done.server_state)])


def test_training_learns_and_evaluates_when_asked(
    fedavg, scheme, data, params, evaluate
):
    rounds = run(fedavg, scheme, data, params, evaluate, 5, evaluate_every=2)
    assert [r.evaluation is not None for r in rounds] == [
        False,
        True,
        False,
        True,
        True,
    ]
    assert rounds[-1].evaluation.accuracy[0] > 0.95
    assert rounds[-1].metrics["examples"] == 2 * 70
    assert rounds[-1].report.uploads == CLIENTS


@pytest.mark.parametrize("chunk_size", [1, 2, 4])
def test_chunks_do_not_change_the_result(
    fedavg, scheme, data, params, evaluate, chunk_size
):
    whole = run(fedavg, scheme, data, params, evaluate)
    parts = run(fedavg, scheme, data, params, evaluate, chunk_size=chunk_size)
    np.testing.assert_allclose(weights(whole[-1]), weights(parts[-1]), atol=1e-6)


def test_clients_alone_keep_their_own_models(model, data, params, evaluate):
    trainer = clients.sgd(
        model.loss, clients.SgdConfig(0.5, momentum=0.9, batch_size=4)
    )
    algorithm = algorithms.alone(trainer)
    whole = run(algorithm, None, data, params, evaluate)
    assert whole[-1].evaluation.accuracy.shape == (CLIENTS,)
    assert whole[-1].report is None
    kept = [np.array(x) for x in jax.tree.leaves(whole[-1].client_states)]
    assert all(len(np.unique(leaf, axis=0)) == CLIENTS for leaf in kept)
    chunked = run(algorithm, None, data, params, evaluate, chunk_size=2)
    for a, b in zip(kept, jax.tree.leaves(chunked[-1].client_states), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("federated", [True, False])
def test_seeds_in_one_program_are_what_each_is_alone(
    model, examples, scheme, fedavg, evaluate, federated
):
    alone = algorithms.alone(
        clients.sgd(model.loss, clients.SgdConfig(0.5, momentum=0.9, batch_size=4))
    )
    algorithm = fedavg if federated else alone
    runs = [
        simulation.Run(
            scheme if federated else None,
            client_data(examples, partition(examples.labels, CLIENTS, "iid", seed)),
            model.init(jax.random.key(seed)),
            simulation.cohorts(seed, 3, CLIENTS, None),
            simulation.root_keys(seed, noise_seed=seed),
        )
        for seed in range(3)
    ]
    together = list(
        simulation.simulate_together(
            algorithm, runs, evaluate=evaluate, evaluate_every=2, chunk_size=4
        )
    )
    assert len(together) == 3
    for i, own in enumerate(runs):
        (*_, last) = simulation.simulate(
            algorithm,
            own.aggregation,
            own.data,
            own.params,
            own.schedule,
            own.roots,
            evaluate=evaluate,
            evaluate_every=2,
        )
        done = together[-1][i]
        states = [(d.server_state, d.client_states) for d in (done, last)]
        for got, want in zip(*map(jax.tree.leaves, states), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-6)
        assert done.metrics == pytest.approx(last.metrics, rel=1e-5)
        np.testing.assert_allclose(done.evaluation.accuracy, last.evaluation.accuracy)
    with pytest.raises(ValueError, match="one shape"):
        shorter = dataclasses.replace(runs[0], schedule=runs[0].schedule[:2])
        next(
            simulation.simulate_together(
                algorithm, [shorter, runs[1]], evaluate=evaluate
            )
        )


def test_a_whole_run_compiles_its_phases_once(model, examples, params):
    """Uneven shards, Poisson batches, a last chunk with room, and several rounds."""
    plan = PrivacyPlan(
        PoissonSampling(0.4),
        FlatClipping(1.0),
        GaussianNoise(1.0),
        4.0,
        Neighbors.ADD_REMOVE,
    )
    trainer = clients.dp_sgd(
        model.loss, clients.DpSgdConfig(0.1, steps=2, physical_batch_size=4), plan
    )
    plain = clients.sgd(
        model.loss, clients.SgdConfig(0.1, batch_size=6, physical_batch_size=4)
    )
    parts = np.split(np.arange(70), [3, 20, 31, 32, 50, 60, 64])
    uneven = client_data(examples, parts)
    trust = Trust(8, Decryptor.NOBODY_NEEDED)
    sums = make("none", vector_size=models.parameter_count(params) + 1, trust=trust)
    evaluate = simulation.evaluator(model)(examples)
    evaluate(jax.tree.map(lambda leaf: leaf[None], params))
    averaging = [
        algorithms.fedavg(
            clients.federated(local, clients.equally(8)),
            algorithms.server_optimizer("momentum", 1.0),
            sums.codec,
            params,
        )
        for local in (trainer, plain)
    ]
    for algorithm, chunk_size in (
        (averaging[0], 3),
        (averaging[1], 3),
        (algorithms.alone(plain), 3),
        (algorithms.alone(plain), 64),
    ):
        lowered = []

        def count(event, duration, lowered=lowered, **_):
            if event == "/jax/core/compile/jaxpr_to_mlir_module_duration":
                lowered.append(event)

        jax.monitoring.register_event_duration_secs_listener(count)
        rounds = simulation.simulate(
            algorithm,
            sums if algorithm in averaging else None,
            uneven,
            params,
            simulation.cohorts(0, 4, 8, None),
            ROOTS,
            evaluate=evaluate,
            evaluate_every=4,
            chunk_size=chunk_size,
        )
        after = [len(lowered) for _ in rounds]
        jax.monitoring.clear_event_listeners()
        assert after[0] >= 1
        assert after[:3] == [after[0]] * 3  # the last round is evaluated


def test_only_the_cohort_takes_part(model, data, params, evaluate):
    algorithm = algorithms.alone(
        clients.sgd(model.loss, clients.SgdConfig(0.5, batch_size=4))
    )
    schedule = [np.array([1, 3])]
    (done,) = run(algorithm, None, data, params, evaluate, schedule=schedule)
    kernel = np.asarray(done.client_states.params["Dense_0"]["kernel"])
    start = np.asarray(params["Dense_0"]["kernel"])
    changed = [bool(np.any(kernel[i] != start)) for i in range(CLIENTS)]
    assert changed == [False, True, False, True, False]


def test_privacy_is_charged_before_the_round_it_pays_for(
    model, data, params, evaluate, scheme
):
    plan = PrivacyPlan(
        PoissonSampling(0.5),
        FlatClipping(1.0),
        GaussianNoise(1.0),
        7.0,
        Neighbors.ADD_REMOVE,
    )
    trainer = clients.dp_sgd(model.loss, clients.DpSgdConfig(0.1), plan)
    algorithm = algorithms.fedavg(
        clients.federated(trainer, clients.equally(CLIENTS)),
        algorithms.server_optimizer("sgd", 1.0),
        scheme.codec,
        params,
    )
    charged = []

    def refuse_the_third(number, cohort, server_state, client_states):
        if number == 3:
            raise RuntimeError("the budget is spent")
        charged.append((number, cohort.tolist()))

    schedule = simulation.cohorts(0, 5, CLIENTS, None)
    run = simulation.Run(scheme, data, params, schedule, ROOTS, refuse_the_third)
    finished = []
    with pytest.raises(RuntimeError, match="spent"):
        for (done,) in simulation.simulate_together(
            algorithm, [run], evaluate=evaluate
        ):
            assert charged[-1][0] == done.number
            assert done.metrics == {}
            finished.append(done.number)
    assert finished == [1, 2]
    assert charged == [(n, list(range(CLIENTS))) for n in (1, 2)]


STATEFUL = PrivacyPlan(
    CyclicPoissonSampling(1.0, 2),
    AdaptiveClipping(0.3),
    BandedNoise(1.0, (1.0, 0.5)),
    7.0,
    Neighbors.ADD_REMOVE,
)


@pytest.mark.parametrize("backend", ["vmap", "loop", "shard_map"])
def test_a_mechanism_s_state_stays_with_its_client(
    model, data, params, evaluate, scheme, backend
):
    """Over chunks, backends and rounds that a client sits out."""
    trainer = clients.dp_sgd(model.loss, clients.DpSgdConfig(0.1, steps=3), STATEFUL)
    trust = Trust(3, Decryptor.NOBODY_NEEDED)
    three = make("none", vector_size=models.parameter_count(params) + 1, trust=trust)

    def rounds(backend, chunk_size):
        algorithm = algorithms.fedavg(
            clients.federated(trainer, clients.equally(3)),
            algorithms.server_optimizer("sgd", 1.0),
            three.codec,
            params,
            backend,
            clients.kept(trainer),
        )
        schedule = [np.array(ids) for ids in ([0, 1, 2], [1, 3, 4], [0, 1, 4])]
        options = {"schedule": schedule, "chunk_size": chunk_size}
        return run(algorithm, three, data, params, evaluate, **options)[-1]

    done, expected = rounds(backend, 2), rounds("map", 3)
    assert done.client_states.steps.tolist() == [6, 9, 3, 3, 6]
    assert len(np.unique(done.client_states.clipping)) == CLIENTS
    states = [(d.server_state, d.client_states) for d in (done, expected)]
    for got, want in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4)


def run_with_drop_outs(algorithm, scheme, data, params, evaluate, dropped):
    schedule = simulation.cohorts(0, len(dropped), CLIENTS, None)
    dropped = [np.array(ids, int) for ids in dropped]
    one = simulation.Run(scheme, data, params, schedule, ROOTS, dropped=dropped)
    together = simulation.simulate_together(
        algorithm, [one], evaluate=evaluate, chunk_size=2
    )
    return [done for (done,) in together]


@pytest.mark.parametrize(
    "name", ["none", pytest.param("exact", marks=pytest.mark.needs_openfhe)]
)
def test_a_round_that_is_short_of_uploads_is_void(
    model, data, params, evaluate, name, monkeypatch
):
    """Nobody decrypts, and the server is where it was, its optimiser included."""
    size = models.parameter_count(params) + 1
    scheme = make(name, vector_size=size, trust=trust_of(name, uploads=CLIENTS))
    trainer = clients.sgd(model.loss, clients.SgdConfig(0.1, batch_size=4))
    algorithm = algorithms.fedavg(
        clients.federated(trainer, clients.by_examples(70)),
        algorithms.server_optimizer("momentum", 1.0),
        scheme.codec,
        params,
    )
    asked = []
    if name == "exact":
        decrypt = KeyAuthority.decrypt
        monkeypatch.setattr(
            KeyAuthority,
            "decrypt",
            lambda self, message: asked.append(message) or decrypt(self, message),
        )
    dropped = [[], [1], [0, 3], range(CLIENTS), []]
    rounds = run_with_drop_outs(algorithm, scheme, data, params, evaluate, dropped)
    assert [done.void for done in rounds] == [False, True, True, True, False]
    assert [done.report is None for done in rounds] == [r.void for r in rounds]
    for before, done in itertools.pairwise(rounds):
        assert np.array_equal(weights(before), weights(done)) is done.void
    assert len(weights(rounds[0])) == 2 * (size - 1)  # with the momentum
    assert rounds[1].evaluation.loss == rounds[0].evaluation.loss
    assert rounds[-1].report.uploads == CLIENTS
    assert len(asked) == (2 if name == "exact" else 0)


def test_a_round_with_enough_uploads_goes_on_with_those(fedavg, data, params, evaluate):
    size = models.parameter_count(params) + 1
    three = make("none", vector_size=size, trust=Trust(3, Decryptor.NOBODY_NEEDED))
    dropped = [[2], [0, 3], [1, 2, 4]]
    rounds = run_with_drop_outs(fedavg, three, data, params, evaluate, dropped)
    assert [done.void for done in rounds] == [False, False, True]
    assert [done.report.uploads for done in rounds[:2]] == [4, 3]
    assert all(done.metrics["examples"] == 2 * 70 for done in rounds)  # all trained
    arrived = [np.array([0, 1, 3, 4]), np.array([1, 2, 4])]
    expected = run(fedavg, three, data, params, evaluate, schedule=arrived)
    for got, want in zip(rounds, expected, strict=False):
        np.testing.assert_allclose(weights(got), weights(want), atol=1e-6)


def scaffold(model, params, trainer):
    config = clients.SgdConfig(0.1, batch_size=4)
    size = 2 * models.parameter_count(params) + 1
    scheme = make("none", vector_size=size, trust=Trust(1, Decryptor.NOBODY_NEEDED))
    cohort = {"cohort": CLIENTS, "clients": CLIENTS}
    return algorithms.scaffold(
        model.loss, config, scheme.codec, params, **cohort
    ), scheme


def nbafl(model, params, trainer):
    settings = algorithms.NbaflSettings(1.0, 2.0, 1e-5, 2, 2, CLIENTS, 10)
    size = models.parameter_count(params)
    scheme = make("none", vector_size=size, trust=Trust(1, Decryptor.NOBODY_NEEDED))
    return algorithms.nbafl(trainer, settings, scheme.codec, params), scheme


@pytest.mark.parametrize("build", [scaffold, nbafl])
def test_lost_uploads_are_refused_by_algorithms_that_need_all(
    model, data, params, evaluate, build
):
    trainer = clients.sgd(model.loss, clients.SgdConfig(0.1, batch_size=4))
    algorithm, scheme = build(model, params, trainer)
    assert not algorithm.tolerates_loss
    with pytest.raises(ValueError, match="every upload of its clients"):
        run_with_drop_outs(algorithm, scheme, data, params, evaluate, [[], [1]])
    rounds = run_with_drop_outs(algorithm, scheme, data, params, evaluate, [[], []])
    assert [done.report.uploads for done in rounds] == [CLIENTS, CLIENTS]
