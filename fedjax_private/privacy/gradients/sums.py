"""Per-example gradients, formed or not: their norms and their weighted sums."""

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from fedjax_private.typing import Array, LossFn, Params


@dataclasses.dataclass(frozen=True)
class ExampleGradients:
    """The gradients of B examples with respect to L parameter arrays, P entries.

    Attributes:
        losses: (B,).
        norms: (L, B) float32, the L2 norm of each example's gradient of each array; not
            finite where the gradient is not.
        weighted_sum: factors, (B,) or (L, B) -> the sum of the gradients, each times
            its factor, a pytree like the parameters. A factor of 0 leaves an example
            out, whatever its gradient; the gradients of all others must be finite.
    """

    losses: Array
    norms: Array
    weighted_sum: Callable[[Array], Params]


def l2_norms(gradients: Array) -> Array:
    """(B, ...) -> (B,), the L2 norm of each example's entries."""
    return jnp.sqrt(jnp.sum(jnp.square(gradients), axis=range(1, gradients.ndim)))


def total_norms(gradients: ExampleGradients) -> Array:
    """(B,), the L2 norm of each example's gradient over all arrays together."""
    return jnp.sqrt(jnp.sum(jnp.square(gradients.norms), axis=0))


def per_example(values: Array, like: Array) -> Array:
    """(B,) -> (B, 1, ...), to go with an array (B, ...)."""
    return values.reshape(-1, *(1 for _ in like.shape[1:]))


def kept(factors: Array, values: Array) -> Array:
    """Zeros in place of the examples whose factor is 0: not even NaN passes."""
    return jnp.where(per_example(factors, values) != 0, values, 0)


def weighted_sum(factors: Array, gradients: Array) -> Array:
    """Adds up gradients (B, ...), each times its factor (B,); 0 leaves one out."""
    return jnp.tensordot(factors, kept(factors, gradients), axes=1)


# (params, inputs (B, ...), labels (B,)) -> the examples' gradients.
GradientsFn: TypeAlias = Callable[[Params, Array, Array], ExampleGradients]


def per_example_gradients(loss: LossFn) -> Callable[[Params, Array, Array], Array]:
    """(params, inputs (B, ...), labels (B,)) -> (B, P), in `ravel_pytree` order."""

    def one(params: Params, inputs: Array, label: Array) -> Array:
        gradient = jax.grad(lambda p: loss(p, inputs[None], label[None])[0])(params)
        return ravel_pytree(gradient)[0]

    return jax.vmap(one, (None, 0, 0))


def formed_gradients(loss: LossFn) -> GradientsFn:
    """By definition: every gradient is formed. What others are tested against."""

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
    """The gradients by book-keeping where that is possible, and else formed."""
    # Here, since the books are kept in terms of this file's types.
    from fedjax_private.privacy.gradients.bookkeeping import bookkept_gradients

    formed = formed_gradients(loss)

    def gradients(params: Params, inputs: Array, labels: Array) -> ExampleGradients:
        kept_books = bookkept_gradients(loss, params, inputs, labels)
        return kept_books or formed(params, inputs, labels)

    return gradients


def summed_gradient(
    loss: LossFn,
) -> Callable[[Params, Array, Array, Array], tuple[Array, Params]]:
    """(params, inputs, labels, valid (B,)) -> the valid examples' loss and gradient.

    Both are sums. On CPUs the gradient is the examples' own, added up, whose forms are
    faster there than those that differentiation gives for a batch.
    """
    gradients_of = example_gradients(loss)

    def total(params: Params, inputs: Array, labels: Array, valid: Array) -> Array:
        return jnp.sum(jnp.where(valid, loss(params, inputs, labels), 0.0))

    def run(
        params: Params, inputs: Array, labels: Array, valid: Array
    ) -> tuple[Array, Params]:
        if jax.default_backend() != "cpu":
            return jax.value_and_grad(total)(params, inputs, labels, valid)
        found = gradients_of(params, inputs, labels)
        gradient = found.weighted_sum(valid.astype(jnp.float32))
        return jnp.sum(jnp.where(valid, found.losses, 0.0)), gradient

    return run
