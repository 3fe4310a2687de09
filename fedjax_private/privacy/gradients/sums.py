"""Per-example gradients as clients use them: whichever way is cheapest."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedjax_private.privacy.gradients.bookkeeping import bookkept_gradients
from fedjax_private.privacy.gradients.formed import formed_gradients
from fedjax_private.privacy.gradients.types import ExampleGradients, GradientsFn
from fedjax_private.typing import Array, LossFn, Params


def example_gradients(loss: LossFn) -> GradientsFn:
    """Returns the gradients by book-keeping where that is possible, else formed."""
    formed = formed_gradients(loss)

    def gradients(params: Params, inputs: Array, labels: Array) -> ExampleGradients:
        bookkept = bookkept_gradients(loss, params, inputs, labels)
        return bookkept or formed(params, inputs, labels)

    return gradients


def summed_gradient(
    loss: LossFn,
) -> Callable[[Params, Array, Array, Array], tuple[Array, Params]]:
    """(params, inputs, labels, valid (B,)) -> the valid examples' loss and gradient.

    Both are sums. On CPUs the gradient is the sum of per-example gradients, whose forms
    are faster there than those that differentiation gives for a batch.
    """
    gradients_of = example_gradients(loss)

    def total(params: Params, inputs: Array, labels: Array, valid: Array) -> Array:
        return jnp.sum(jnp.where(valid, loss(params, inputs, labels), 0.0))

    def run(
        params: Params, inputs: Array, labels: Array, valid: Array
    ) -> tuple[Array, Params]:
        if jax.default_backend() != "cpu":
            return jax.value_and_grad(total)(params, inputs, labels, valid)
        gradients = gradients_of(params, inputs, labels)
        gradient = gradients.weighted_sum(valid.astype(jnp.float32))
        return jnp.sum(jnp.where(valid, gradients.losses, 0.0)), gradient

    return run
