import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_private import algorithms, simulation
from fedjax_private.aggregation import make
from fedjax_private.clients import ClientOutput
from fedjax_private.datasets import ClientData
from fedjax_private.trust import Decryptor, Trust
from fedjax_private.typing import ClientKeys

# Three clients whose training moves a single weight from 1 by 2, -1 and 4.
MOVES, COUNTS = np.array([2.0, -1.0, 4.0]), np.array([1, 2, 3])
PARAMS = {"w": jnp.float32(1.0)}
DATA = ClientData(
    np.zeros((3, 4, 1, 1, 1), np.uint8),
    np.tile(MOVES[:, None], 4).astype(np.int32),
    np.arange(4) < COUNTS[:, None],
)
ROOTS = ClientKeys(jax.random.key(0), jax.random.key(1))
# (1 x 2 - 2 x 1 + 3 x 4) / 6
MEAN = 2.0


def client(params, state, data, keys):
    weight = data.mask.sum(dtype=jnp.float32)
    delta = {"w": weight * data.labels[0]}
    return ClientOutput({"delta": delta, "weight": weight}, {}), state


def one_run(tree):
    """The only run of a program, along its axis of runs."""
    return jax.tree.map(lambda leaf: leaf[None], tree)


def trained(optimizer, rounds):
    scheme = make("none", vector_size=2, trust=Trust(3, Decryptor.NOBODY_NEEDED))
    algorithm = algorithms.fedavg(client, optimizer, scheme.codec, PARAMS)
    state = algorithm.init(PARAMS)
    for number in range(1, rounds + 1):
        slots, _, _ = algorithm.client_phase(
            one_run(state),
            (),
            DATA,
            jnp.arange(3),
            jnp.zeros(3, int),
            jnp.int32(number),
            one_run(ROOTS),
        )
        session = scheme.open(number)
        session.add(np.arange(3), np.asarray(slots))
        total, _ = session.release()
        state = algorithm.server_phase(state, jnp.asarray(total))
    return float(state.params["w"])


def test_fedavg_is_the_mean_weighted_by_examples():
    sgd = algorithms.server_optimizer("sgd", 1.0)
    assert trained(sgd, rounds=1) == pytest.approx(1 + MEAN)


def test_the_mean_is_the_server_optimiser_s_pseudo_gradient():
    momentum = algorithms.server_optimizer("momentum", 0.1)
    expected = 1 + 0.1 * MEAN + 0.1 * (0.9 * MEAN + MEAN)
    assert trained(momentum, rounds=2) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("lost", "end"),
    [
        ([1], 1 + (1 * 2 + 3 * 4) / 4),
        ([0, 2], 1 - 1),
        ([0, 1, 2], 1),  # void
    ],
)
def test_the_uploads_that_arrive_are_averaged_by_their_weights(lost, end):
    scheme = make("none", vector_size=2, trust=Trust(1, Decryptor.NOBODY_NEEDED))
    algorithm = algorithms.fedavg(client, optax.sgd(1.0), scheme.codec, PARAMS)
    nothing = simulation.Evaluation(np.zeros(1), np.zeros(1))
    run = simulation.Run(
        scheme, DATA, PARAMS, [np.arange(3)], ROOTS, dropped=[np.array(lost)]
    )
    (((done,),)) = simulation.simulate_together(
        algorithm, [run], evaluate=lambda params: nothing
    )
    assert float(done.server_state.params["w"]) == pytest.approx(end)
    assert (done.lost, done.void) == (len(lost), len(lost) == 3)


def test_a_sum_of_clients_without_data_moves_nothing():
    scheme = make("none", vector_size=2, trust=Trust(1, Decryptor.NOBODY_NEEDED))
    algorithm = algorithms.fedavg(client, optax.sgd(1.0), scheme.codec, PARAMS)
    state = algorithm.server_phase(algorithm.init(PARAMS), jnp.zeros(2))
    assert float(state.params["w"]) == 1.0


def test_clients_without_data_do_not_count():
    emptied = ClientData(DATA.inputs, DATA.labels, DATA.mask & (COUNTS[:, None] < 3))
    scheme = make("none", vector_size=2, trust=Trust(3, Decryptor.NOBODY_NEEDED))
    algorithm = algorithms.fedavg(client, optax.sgd(1.0), scheme.codec, PARAMS, "vmap")
    slots, _, _ = algorithm.client_phase(
        one_run(algorithm.init(PARAMS)),
        (),
        emptied,
        jnp.arange(3),
        jnp.zeros(3, int),
        jnp.int32(1),
        one_run(ROOTS),
    )
    session = scheme.open(1)
    session.add(np.arange(3), np.asarray(slots))
    state = algorithm.server_phase(
        algorithm.init(PARAMS), jnp.asarray(session.release()[0])
    )
    assert float(state.params["w"]) == pytest.approx(1 + (1 * 2 - 2 * 1) / 3)
