"""What the round loop refuses before any round, with one sentence each."""

import jax
import numpy as np
import pytest

from fedjax_private import algorithms, clients, models, simulation
from fedjax_private.aggregation import SCHEMES, make
from fedjax_private.trust import Decryptor, Trust
from fedjax_private.typing import ClientKeys

CLIENTS = 5
TRUST = Trust(4, Decryptor.NOBODY_NEEDED)
ROOTS = simulation.root_keys(0, noise_seed=0)


@pytest.fixture(scope="module")
def usual(model, data, params):
    """The arguments of `simulate` by name, for federated averaging."""
    sums = make("none", vector_size=models.parameter_count(params) + 1, trust=TRUST)
    trainer = clients.sgd(model.loss, clients.SgdConfig(0.1, batch_size=16))
    algorithm = algorithms.fedavg(
        clients.federated(trainer, clients.equally(CLIENTS)), "sgd", sums.codec, params
    )
    return {
        "algorithm": algorithm,
        "aggregation": sums,
        "data": data,
        "params": params,
        "schedule": simulation.cohorts(0, 2, CLIENTS),
        "roots": ROOTS,
    }


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"algorithm": "fedavg"}, "algorithm must be an Algorithm, as .*'fedavg'"),
        (
            {"algorithm": algorithms.ALGORITHMS.find("fedavg")},
            "algorithm must be an Algorithm.*got AlgorithmEntry",
        ),
        (
            {"aggregation": None},
            "aggregation is None: give it one, as aggregation.make",
        ),
        ({"aggregation": "ckks"}, "one that is set up, as aggregation.make.*'ckks'"),
        ({"aggregation": SCHEMES.choose("none")}, "that is set up.*got Choice"),
        ({"data": [1, 2]}, "data must be shards of clients, as datasets.*got list"),
        ({"params": 3}, "params must be params.* as model.init returns, got 3"),
        ({"schedule": 2}, "ids of each round, as simulation.cohorts returns, got 2"),
        ({"schedule": []}, "schedule must hold at least one round"),
        ({"schedule": [0, 1, 2]}, "schedule must hold a vector .* got 0 for round 1"),
        ({"schedule": [[0.5, 1, 2, 3]]}, "must hold a vector of clients' ids"),
        ({"schedule": [[0, 1, 2, 2]]}, "schedule names a client twice in round 1"),
        (
            {"schedule": simulation.cohorts(0, 2, 8)},
            "names client 5 in round 1, and data holds the clients 0 to 4",
        ),
        ({"schedule": [[-1, 0, 1, 2]]}, "schedule names client -1 in round 1"),
        (
            {"schedule": simulation.cohorts(0, 2, CLIENTS, size=2)},
            "round 1 of the schedule has 2 clients.*hold 4 uploads.* would be void",
        ),
        ({"roots": 0}, "roots must be ClientKeys, as simulation.root_keys.*got 0"),
        ({"roots": jax.random.key(0)}, "roots must be ClientKeys"),
        ({"evaluate": "accuracy"}, "evaluate must be a function of params.*'accuracy'"),
        (
            {"evaluate_every": 0},
            "evaluate_every must be a whole number from 1 on, got 0",
        ),
        ({"chunk_size": 0}, "chunk_size must be a whole number from 1 on, got 0"),
        ({"chunk_size": 2.5}, "chunk_size must be a whole number from 1 on, got 2.5"),
    ],
)
def test_arguments_that_cannot_work_are_refused_at_the_call(usual, changed, words):
    with pytest.raises(ValueError, match=words):
        simulation.simulate(**usual | changed)


def test_clients_that_send_nothing_need_no_sums(usual, model):
    trainer = clients.sgd(model.loss, clients.SgdConfig(0.1))
    with pytest.raises(ValueError, match="sends nothing: aggregation must be None"):
        simulation.simulate(**usual | {"algorithm": algorithms.alone(trainer)})


@pytest.mark.parametrize(
    ("dropped", "words"),
    [
        ([[1]], "dropped must have as many rounds as the schedule, 2, got 1"),
        ([[1], [9]], "dropped names client 9 in round 2"),
    ],
)
def test_lost_uploads_that_nobody_sends(usual, dropped, words):
    run = {name: value for name, value in usual.items() if name != "algorithm"}
    with pytest.raises(ValueError, match=words):
        simulation.simulate_together(
            usual["algorithm"], [simulation.Run(**run, dropped=dropped)]
        )
    with pytest.raises(ValueError, match="at least one run"):
        simulation.simulate_together(usual["algorithm"], [])


def test_lists_of_ids_old_keys_and_no_evaluation_are_fine(usual):
    old = ClientKeys(*(jax.random.key_data(key) for key in ROOTS))
    changed = {"schedule": [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]], "roots": old}
    ends = []
    for arguments in (usual, usual | changed):
        *_, last = simulation.simulate(**arguments)
        assert last.evaluation is None
        ends.append(last.server_state)
    jax.tree.map(np.testing.assert_array_equal, *ends)


def test_a_plain_aggregation_serves_several_runs(usual):
    """It keeps nothing; encrypted ones refuse a round that they have seen."""
    first, again = (list(simulation.simulate(**usual))[-1] for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first.server_state, again.server_state)
