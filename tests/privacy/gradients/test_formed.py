"""Formed gradients against gradients worked out by hand."""

import jax.numpy as jnp
import numpy as np

from fedjax_private.privacy.gradients.formed import (
    formed_gradients,
    per_example_gradients,
)

INPUTS, LABELS = jnp.array([[1.0, 2.0], [3.0, -1.0]]), jnp.array([1.0, 0.0])
PARAMS = jnp.array([1.0, 1.0])


def loss(params, inputs, labels):
    """Least squares: the gradient is (x w - y) x."""
    return 0.5 * (inputs @ params - labels) ** 2


def test_per_example_gradients_are_their_definition():
    gradients = per_example_gradients(loss)(PARAMS, INPUTS, LABELS)
    np.testing.assert_allclose(gradients, [[2.0, 4.0], [6.0, -2.0]])


def test_formed_gradients_have_the_norms_and_sums_of_the_definition():
    gradients = formed_gradients(loss)(PARAMS, INPUTS, LABELS)
    np.testing.assert_allclose(gradients.losses, [2.0, 2.0])
    np.testing.assert_allclose(gradients.norms, [np.sqrt([20.0, 40.0])], rtol=1e-6)
    total = gradients.weighted_sum(jnp.array([1.0, 0.5]))
    np.testing.assert_allclose(total, [5.0, 3.0])
