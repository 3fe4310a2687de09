"""Gradients as clients use them, for losses of every kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private.privacy.gradients.sites import read_loss
from fedjax_private.privacy.gradients.sums import (
    example_gradients,
    formed_gradients,
    per_example_gradients,
    summed_gradient,
)

pytestmark = pytest.mark.usefixtures("full_precision")

LOSSES = {
    "weight_decay": lambda p, x, y: (x @ p["w"] - y) ** 2 + jnp.sum(p["w"] ** 2),
    "constant_mask": lambda p, x, y: (
        jnp.tanh(x @ (p["w"] * jnp.array([1.0, 0, 2]))) * y
    ),
    "unused": lambda p, x, y: jnp.sin(x @ p["w"]) * y + 0 * jnp.sum(p["v"]),
    "jitted": jax.jit(lambda p, x, y: jnp.tanh(x @ p["w"] + p["v"][0]) * y),
    "scalar": lambda p, x, y: jnp.sum(p["v"][1] * x**2, 1) * y + x @ p["w"],
    "no_parameters_meet": lambda p, x, y: jnp.sum(x, 1) * y,
    "no_data": lambda p, x, y: jnp.sum(p["w"] ** 2) + jnp.zeros(len(y)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_any_loss(name):
    loss = LOSSES[name]
    params = {"w": jnp.array([0.3, -0.7, 1.1]), "v": jnp.array([0.2, 0.4])}
    inputs = jax.random.normal(jax.random.key(0), (5, 3))
    labels = jnp.linspace(-1, 2, 5)
    program = read_loss(loss, params, inputs, labels)
    assert (program is None) == name.startswith("no_")
    ours = example_gradients(loss)(params, inputs, labels)
    formed = formed_gradients(loss)(params, inputs, labels)
    np.testing.assert_allclose(ours.losses, formed.losses, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.norms, formed.norms, rtol=1e-5, atol=1e-6)
    for factors in (jnp.linspace(0, 1, 5), jnp.arange(10.0).reshape(2, 5)):
        pairs = zip(
            jax.tree.leaves(ours.weighted_sum(factors)),
            jax.tree.leaves(formed.weighted_sum(factors)),
            strict=True,
        )
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_summed_gradient_is_that_of_the_valid_examples():
    def loss(params, inputs, labels):
        return jnp.tanh(inputs @ params) * labels

    params = jnp.array([0.3, -0.7, 1.1])
    inputs = jax.random.normal(jax.random.key(0), (5, 3)).at[1].set(jnp.nan)
    labels, valid = jnp.arange(5.0), jnp.array([True, False, True, True, False])
    total, gradient = jax.jit(summed_gradient(loss))(params, inputs, labels, valid)

    def right(p):
        return jnp.sum(loss(p, inputs[valid], labels[valid]))

    expected = jax.value_and_grad(right)(params)
    np.testing.assert_allclose(total, expected[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-5)


ROWS, TARGETS = jnp.array([[1.0, 2.0], [3.0, -1.0]]), jnp.array([1.0, 0.0])
WEIGHTS = jnp.array([1.0, 1.0])


def least_squares(params, inputs, labels):
    """Least squares: the gradient is (x w - y) x."""
    return 0.5 * (inputs @ params - labels) ** 2


def test_per_example_gradients_are_their_definition():
    gradients = per_example_gradients(least_squares)(WEIGHTS, ROWS, TARGETS)
    np.testing.assert_allclose(gradients, [[2.0, 4.0], [6.0, -2.0]])


def test_formed_gradients_have_the_norms_and_sums_of_the_definition():
    gradients = formed_gradients(least_squares)(WEIGHTS, ROWS, TARGETS)
    np.testing.assert_allclose(gradients.losses, [2.0, 2.0])
    np.testing.assert_allclose(gradients.norms, [np.sqrt([20.0, 40.0])], rtol=1e-6)
    total = gradients.weighted_sum(jnp.array([1.0, 0.5]))
    np.testing.assert_allclose(total, [5.0, 3.0])
