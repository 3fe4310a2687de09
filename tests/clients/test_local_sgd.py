import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private import clients
from fedjax_private.clients.local_sgd import config_of, steps_of
from fedjax_private.datasets import ClientData
from fedjax_private.hyperparameters import Hyperparameters
from tests.clients.regression import (
    COUNTS,
    DATA,
    ROOTS,
    SGD,
    START,
    flat,
    loss,
    of_client,
    run,
)


def by_hand(client):
    """SGD with momentum in NumPy float64, over the batches that the key gives."""
    key = jax.random.fold_in(ROOTS.sampling, client)
    x = DATA.inputs[client].reshape(-1, 2) / 255.0
    y = DATA.labels[client].astype(float)
    theta, velocity = START, np.zeros(3)
    for epoch in range(2):
        rank = jax.random.uniform(
            jax.random.fold_in(key, epoch), DATA.mask[client].shape
        )
        order = np.argsort(np.where(DATA.mask[client], rank, 2.0), kind="stable")
        order = order[: COUNTS[client]]
        for start in range(0, len(order), 4):
            batch = order[start : start + 4]
            design = np.column_stack([np.ones(len(batch)), x[batch]])
            gradient = design.T @ (design @ theta - y[batch]) / len(batch)
            velocity = 0.9 * velocity + gradient
            theta = theta - 0.05 * velocity
    return theta


@pytest.mark.parametrize("client", range(len(COUNTS)))
def test_sgd_equals_numpy_and_ignores_padding(client):
    update = clients.federated(clients.sgd(loss, SGD), clients.equally(1))
    output = of_client(run(update), client)
    moved = by_hand(client) - START
    np.testing.assert_allclose(
        flat(output.update["delta"]), moved, rtol=1e-4, atol=1e-5
    )
    assert int(output.metrics["examples"]) == 2 * COUNTS[client]


def test_an_empty_client_takes_no_step():
    empty = ClientData(DATA.inputs, DATA.labels, np.zeros_like(DATA.mask))
    for steps in (None, 5):
        config = clients.SgdConfig(0.05, batch_size=4, steps=steps)
        update = clients.federated(clients.sgd(loss, config), clients.by_examples(1.0))
        output = run(update, empty)
        assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(output))


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_a_given_number_of_steps_is_taken_over_as_many_epochs_as_needed(steps):
    config = clients.SgdConfig(0.05, batch_size=4, steps=steps)
    update = clients.federated(clients.sgd(loss, config), clients.by_examples(1.0))
    examples = run(update).metrics["examples"].tolist()
    per_epoch = [[4, 4, 1], [4], [4, 4, 4, 4]]
    assert examples == [sum((batches * 7)[:steps]) for batches in per_epoch]


@pytest.mark.parametrize(("steps", "round_"), [(None, [6, 2, 8]), (5, [5, 5, 5])])
def test_steps_follow_the_shard_unless_they_are_given(steps, round_):
    config = clients.SgdConfig(0.05, batch_size=4, epochs=2, steps=steps)
    found = [steps_of(config, jnp.asarray(mask)) for mask in DATA.mask]
    assert [int(epoch) for epoch, _ in found] == [3, 1, 4]
    assert [int(all_of) for _, all_of in found] == round_


def test_the_configuration_of_a_run():
    values = Hyperparameters(
        rounds=1, learning_rate=0.2, momentum=0.5, evaluate_every=1, batch_size=8
    )
    assert config_of(values) == clients.SgdConfig(0.2, 0.5, batch_size=8, epochs=1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be"),
        ({"momentum": 1.0}, "momentum must lie"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"epochs": 0}, "epochs must be"),
        ({"steps": 0}, "steps must be"),
        ({"physical_batch_size": 0}, "physical"),
    ],
)
def test_bad_settings_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        clients.SgdConfig(**{"learning_rate": 1.0, **values})
