"""`ExampleGradients`: per-example norms and weighted sums, and helpers for them."""

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from fedjax_private.typing import Array, Params


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


# (params, inputs (B, ...), labels (B,)) -> the examples' gradients.
GradientsFn: TypeAlias = Callable[[Params, Array, Array], ExampleGradients]


def total_norms(gradients: ExampleGradients) -> Array:
    """Returns (B,), the L2 norm of each example's gradient over all arrays together."""
    return jnp.sqrt(jnp.sum(jnp.square(gradients.norms), axis=0))


def l2_norms(vectors: Array) -> Array:
    """Returns (B,), the L2 norm of each example's entries of an array (B, ...)."""
    return jnp.sqrt(jnp.sum(jnp.square(vectors), axis=range(1, vectors.ndim)))


def scaled_norms(vectors: Array) -> Array:
    """Returns `l2_norms`, also where squares overflow or underflow in float32.

    The two factors of a gradient of ordinary size may be that large and that small.
    """
    flat = vectors.reshape(len(vectors), -1)
    squares = jnp.einsum("bi,bi->b", flat, flat)
    ordinary = (squares > 1e-30) & (squares < 1e30)  # not where there is a NaN

    def rescaled() -> Array:
        # Far from float32's ends, so that its reciprocal, by which XLA may multiply
        # where this divides, is not flushed to zero. NaN stays NaN.
        largest = jnp.max(jnp.abs(flat), axis=1, keepdims=True)
        scale = jnp.clip(largest, 1e-30, 1e30)
        norms = l2_norms(flat / scale) * scale[:, 0]
        # An example's norm depends on that example alone, to the last bit: rounding
        # must reveal nothing of the others, nor change their contributions.
        return jnp.where(ordinary, jnp.sqrt(squares), norms)

    return jax.lax.cond(jnp.all(ordinary), lambda: jnp.sqrt(squares), rescaled)


def per_example(values: Array, like: Array) -> Array:
    """Reshapes (B,) to (B, 1, ...), to be broadcast with an array (B, ...)."""
    return values.reshape(-1, *(1 for _ in like.shape[1:]))


def kept(factors: Array, values: Array) -> Array:
    """Replaces the examples whose factor is 0 by zeros: not even NaN passes."""
    return jnp.where(per_example(factors, values) != 0, values, 0)


def weighted_sum(factors: Array, gradients: Array) -> Array:
    """Adds up gradients (B, ...), each times its factor (B,); 0 leaves one out."""
    return jnp.tensordot(factors, kept(factors, gradients), axes=1)
