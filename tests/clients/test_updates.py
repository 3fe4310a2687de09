import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private import clients
from fedjax_private.clients import Trainer, TrainState
from fedjax_private.datasets import ClientData
from fedjax_private.privacy import shared
from fedjax_private.trust import Decryptor, Trust
from tests.clients.regression import COUNTS, DATA, PARAMS, PLAN, keys_of, loss, run


def moving(state, data, keys):
    """Moves every weight by 2, and counts its rounds in the mechanism's state."""
    params = jax.tree.map(lambda leaf: leaf + 2, state.params)
    moved = state._replace(params=params, mechanism=state.mechanism + 1)
    return moved, {"loss": jnp.float32(1)}


TRAINER = Trainer(lambda params: TrainState(params, (), jnp.int32(0)), moving)
SHARD = ClientData(DATA.inputs[1], DATA.labels[1], DATA.mask[1])


def test_a_federated_client_gives_away_its_weighted_difference():
    client = clients.federated(TRAINER, clients.by_examples(8.0))
    output, kept = client(PARAMS, jnp.int32(3), SHARD, keys_of(1))
    assert float(output.update["weight"]) == COUNTS[1] / 8
    np.testing.assert_allclose(output.update["delta"]["w"], [1.0, 1.0], rtol=1e-6)
    assert output.metrics == {"loss": 1.0}
    assert kept == 4
    assert clients.kept(TRAINER)(PARAMS) == 0


@pytest.mark.parametrize("weight", [clients.equally(4), clients.by_examples(16.0)])
def test_weights(weight):
    assert float(weight(SHARD)) == 1 / 4


def test_private_clients_give_away_nothing_but_the_update():
    trainer = clients.dp_sgd(loss, clients.DpSgdConfig(0.05, steps=2), PLAN)
    output = run(clients.federated(trainer, clients.equally(3)))
    assert output.metrics == {}
    np.testing.assert_allclose(output.update["weight"], 1 / 3, rtol=1e-6)


def test_clients_that_share_noise_give_away_slots_alone():
    trust = Trust(3, Decryptor.KEY_AUTHORITY)
    plan = shared(lambda noise: PLAN, 1.1, trust)
    output = run(clients.sharing_noise(loss, plan))
    assert output.metrics == {}
    assert output.update.shape == (3, 3)
