import jax
import numpy as np
import pytest

from fedjax_private import clients
from fedjax_private.clients.local_dp_sgd import SAMPLES
from fedjax_private.privacy import gaussian
from tests.clients.regression import (
    DATA,
    PLAN,
    START,
    flat,
    keys_of,
    loss,
    of_client,
    run,
)


def deltas(steps, rate=1.0, loss=loss, **options):
    config = clients.DpSgdConfig(rate, steps=steps, **options)
    trainer = clients.dp_sgd(loss, config, PLAN)
    return run(clients.federated(trainer, clients.equally(1))).update["delta"]


def test_dp_sgd_equals_its_formula_given_the_same_noise():
    """Three steps by hand: Poisson draw, clip each, add noise, divide, momentum."""
    client = 2
    keys = keys_of(client)
    x, y = DATA.inputs[client].reshape(-1, 2) / 255.0, DATA.labels[client].astype(float)
    theta, velocity = START, np.zeros(3)
    for step in range(3):
        samples = jax.random.fold_in(keys.noise, SAMPLES)
        bits = jax.random.bits(jax.random.fold_in(samples, step), (16,), np.uint32)
        total = np.zeros(3)
        for i in range(16):
            if DATA.mask[client, i] and int(bits[i]) < int(0.6 * 2**32):
                row = np.array([1.0, *x[i]])
                gradient = row * (row @ theta - y[i])
                total += gradient * min(1, 0.5 / np.linalg.norm(gradient))
        noise = gaussian(jax.random.fold_in(keys.noise, step), (3,), 1.1 * 0.5)
        velocity = 0.9 * velocity + (total + np.asarray(noise)) / 6
        theta = theta - 0.05 * velocity
    got = deltas(3, 0.05, momentum=0.9, physical_batch_size=4)
    np.testing.assert_allclose(
        flat(of_client(got, client)), theta - START, rtol=1e-4, atol=1e-5
    )


def test_every_client_and_step_has_noise_of_its_own():
    """With gradients of zero, what is left of an update is its noise."""

    def nothing(params, inputs, labels):
        return 0.0 * loss(params, inputs, labels)

    first = np.asarray(deltas(1, loss=nothing)["w"])
    second = np.asarray(deltas(2, loss=nothing)["w"]) - first
    values = np.concatenate([first.ravel(), second.ravel()])
    assert len(np.unique(values)) == values.size
    assert np.all(np.abs(values) > 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rate": float("nan")}, "learning_rate must be"),
        ({"momentum": 1.0}, "momentum must lie"),
        ({"steps": 0}, "steps must be"),
        ({"physical_batch_size": 0}, "physical"),
    ],
)
def test_bad_settings_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        clients.DpSgdConfig(**{"learning_rate": 1.0, **values})
