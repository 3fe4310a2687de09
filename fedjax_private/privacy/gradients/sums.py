"""Chooses between formed and book-kept gradients: per-example norms and sums."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from fedjax_private.choices import check_call
from fedjax_private.privacy.gradients.bookkeeping import bookkept_gradients
from fedjax_private.privacy.gradients.types import (
    ExampleGradients,
    GradientsFn,
    l2_norms,
    weighted_sum,
)
from fedjax_private.typing import Array, LossFn, Params


def check_loss(loss: object) -> None:
    """Raises ValueError unless it is a function of three arguments."""
    form = "a function (params, inputs, labels) -> losses, such as model.loss"
    check_call("loss", loss, 3, form)


def per_example_gradients(loss: LossFn) -> Callable[[Params, Array, Array], Array]:
    """Returns (params, inputs (B, ...), labels (B,)) -> (B, P) gradients.

    Columns are in the order of `ravel_pytree`.

    Raises:
        ValueError: the loss is something else than such a function.
    """
    check_loss(loss)

    def one(params: Params, inputs: Array, label: Array) -> Array:
        gradient = jax.grad(lambda p: loss(p, inputs[None], label[None])[0])(params)
        return ravel_pytree(gradient)[0]

    return jax.vmap(one, (None, 0, 0))


def formed_gradients(loss: LossFn) -> GradientsFn:
    """Returns the gradients' norms and sums by definition; tests compare with it."""

    def one(params: Params, inputs: Array, label: Array) -> tuple[Array, Params]:
        return jax.value_and_grad(lambda p: loss(p, inputs[None], label[None])[0])(
            params
        )

    def gradients(params: Params, inputs: Array, labels: Array) -> ExampleGradients:
        losses, formed = jax.vmap(one, (None, 0, 0))(params, inputs, labels)
        leaves, structure = jax.tree.flatten(formed)

        def total(factors: Array) -> Params:
            each = jnp.broadcast_to(factors, (len(leaves), len(inputs)))
            sums = map(weighted_sum, each, leaves)
            return jax.tree.unflatten(structure, sums)

        norms = jnp.stack([l2_norms(gradient) for gradient in leaves])
        return ExampleGradients(losses, norms, total)

    return gradients


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
