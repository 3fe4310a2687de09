"""Client phases: packing, encoding, keys, and several runs in one program."""

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_private.aggregation import Codec
from fedjax_private.algorithms import client_key, client_phase
from fedjax_private.algorithms.algorithm import one_model
from fedjax_private.clients import ClientOutput, TrainState
from fedjax_private.datasets import ClientData
from fedjax_private.typing import ClientKeys

DATA = ClientData(
    np.zeros((3, 1, 1), np.float32), np.array([[1], [2], [3]]), np.ones((3, 1), bool)
)
ROOTS = ClientKeys(
    *(jnp.stack([jax.random.key(s), jax.random.key(s + 10)]) for s in (1, 2))
)
STATES = {"w": jnp.array([10.0, 20.0])}  # of two runs


def client(broadcast, state, data, keys):
    """Sends its label, the broadcast and a draw of its noise key; counts its rounds."""
    draw = jax.random.uniform(keys.noise)
    update = {"draw": draw, "label": data.labels.astype(jnp.float32), "w": broadcast}
    return ClientOutput(update, {"examples": data.mask.sum()}), state + 1


def run(codec=None, backend="vmap", number=4):
    phase = client_phase(client, codec, backend, lambda state: state["w"])
    ids, runs = jnp.array([0, 2, 1]), jnp.array([0, 0, 1])
    return phase(STATES, jnp.arange(3), DATA, ids, runs, jnp.int32(number), ROOTS)


def test_a_slot_of_each_value_in_the_order_of_names():
    slots, metrics, states = run()
    assert slots.shape == (3, 3)
    for row, client_id, of in zip(slots, (0, 2, 1), (0, 0, 1), strict=True):
        key = client_key(ROOTS.noise[of], 4, client_id)
        np.testing.assert_allclose(row[0], jax.random.uniform(key))
    assert slots[:, 1].tolist() == [1, 2, 3]
    assert slots[:, 2].tolist() == [10, 10, 20]  # each run's own broadcast
    assert metrics["examples"].tolist() == [1, 1, 1]
    assert states.tolist() == [1, 2, 3]


def test_codecs_encode_with_a_key_of_their_own():
    codec = Codec(
        encode=lambda key, vector: vector + 100 * jax.random.uniform(key),
        decode=lambda total: total,
    )
    added = run(codec)[0] - run()[0]
    np.testing.assert_allclose(added, np.tile(added[:, :1], 3), rtol=1e-4)
    sampling = [client_key(ROOTS.sampling[0], 4, i) for i in (0, 2)]
    batches = [100 * float(jax.random.uniform(key)) for key in sampling]
    assert len({round(float(x), 2) for x in (*added[:, 0], *batches)}) == 5


def test_one_model_has_a_leading_axis():
    models = one_model(TrainState({"w": jnp.ones(2)}, ()), ())
    assert models["w"].shape == (1, 2)


def test_keys_differ_between_clients_and_rounds():
    root = jax.random.key(5)
    keys = {
        tuple(jax.random.key_data(client_key(root, r, c)).tolist())
        for r in range(20)
        for c in range(20)
    }
    assert len(keys) == 400
