"""A classifier as pure functions of its parameters."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from fedjax_private.datasets.examples import Normalization
from fedjax_private.models.lowering import lowered
from fedjax_private.typing import Array, LossFn, Params, PRNGKey

# Values that modules sow into this collection, (B,), are added to the loss.
PENALTIES = "penalties"


@dataclasses.dataclass(frozen=True)
class Model:
    """A classifier.

    Attributes:
        init: key -> params, a pytree of float32 arrays.
        apply: (params, inputs (B, ...) as stored) -> logits (B, classes) float32. It
            normalises the inputs itself, so that images stay uint8 until then.
        loss: (params, inputs, labels (B,) int32) -> cross-entropy per example, (B,),
            plus the example's `PENALTIES`.
        network: (params, normalised inputs (B, ...)) -> logits, layer by layer as in
            Flax: the form that is compiled for encrypted inference.
    """

    init: Callable[[PRNGKey], Params]
    apply: Callable[[Params, Array], Array]
    loss: LossFn
    network: Callable[[Params, Array], Array]


def from_flax(
    module: nn.Module,
    input_shape: tuple[int, ...],
    normalization: Normalization,
    dtype: npt.DTypeLike = np.float32,
) -> Model:
    """Wraps any Flax classifier without mutable state.

    Args:
        module: maps inputs (B, *input_shape) to logits (B, classes).
        input_shape: of one example; (H, W, C) for an image.
        normalization: applied to stored inputs first.
        dtype: of the module's inputs: float32, or int32 for token numbers.
    """

    def init(key: PRNGKey) -> Params:
        return module.init(key, jnp.zeros((1, *input_shape), np.dtype(dtype)))["params"]

    def network(params: Params, inputs: Array) -> Array:
        logits: Array = module.apply({"params": params}, inputs)
        return logits

    @lowered
    def apply(params: Params, inputs: Array) -> Array:
        return network(params, normalization(inputs))

    @lowered
    def scored(params: Params, inputs: Array) -> tuple[Array, Any]:
        scores: tuple[Array, Any] = module.apply(
            {"params": params}, normalization(inputs), mutable=[PENALTIES]
        )
        return scores

    def loss(params: Params, inputs: Array, labels: Array) -> Array:
        logits, sown = scored(params, inputs)
        per_example: Array = optax.softmax_cross_entropy_with_integer_labels(
            logits, labels
        )
        for penalty in jax.tree.leaves(sown):
            per_example = per_example + penalty
        return per_example

    return Model(init, apply, loss, network)


def parameter_count(params: Params) -> int:
    """Number of scalars in a pytree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
