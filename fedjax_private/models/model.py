"""A classifier as pure functions of its parameters."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from fedjax_private.choices import check_kind, shown
from fedjax_private.datasets.examples import Normalization
from fedjax_private.models.lowering import lowered
from fedjax_private.models.network import AnyModule, Network, example_of, network_of
from fedjax_private.typing import Array, LossFn, Params, PRNGKey


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
    module: AnyModule,
    input_shape: tuple[int, ...],
    normalization: Normalization,
    dtype: npt.DTypeLike = np.float32,
) -> Model:
    """Returns a Flax classifier as pure functions.

    Args:
        module: maps inputs (B, *input_shape) to logits (B, classes); linen or nnx, or a
            function that makes it, see `network_of`.
        input_shape: of one example; (H, W, C) for an image.
        normalization: applied to stored inputs first.
        dtype: of the module's inputs: float32, or int32 for token numbers.

    Raises:
        ValueError: see `network_of`.
    """
    name = getattr(module, "__name__", type(module).__name__)
    example = example_of(input_shape, dtype)
    return wrapped(network_of(module, name, example), normalization)


def wrapped(network: Network, normalization: Normalization) -> Model:
    """Returns the model that normalises its inputs first; see `from_flax`."""

    def init(key: PRNGKey) -> Params:
        form = "a key, such as jax.random.key(0)"
        check_kind("key", key, jax.Array, form)
        return network.init(key)

    def check(inputs: Array, *labels: Array) -> None:
        count, *shape = np.shape(inputs) or (0,)
        if tuple(shape) != network.example.shape or np.ndim(inputs) == 0:
            wanted = ", ".join(map(str, ("B", *network.example.shape)))
            raise ValueError(
                f"inputs must have the shape ({wanted}) that the model was built for, "
                f"got {np.shape(inputs)}."
            )
        for each in labels:
            if np.shape(each) != (count,):
                raise ValueError(
                    f"labels must be one for each of {count} inputs, got the shape "
                    f"{np.shape(each)}."
                )

    @lowered
    def logits_of(params: Params, inputs: Array) -> Array:
        logits = network.apply(params, normalization(inputs))
        return logits.astype(jnp.float32)

    def apply(params: Params, inputs: Array) -> Array:
        check(inputs)
        logits: Array = logits_of(params, inputs)
        return logits

    @lowered
    def scored(params: Params, inputs: Array) -> tuple[Array, Any]:
        return network.scored(params, normalization(inputs))

    def loss(params: Params, inputs: Array, labels: Array) -> Array:
        check(inputs, labels)
        logits, penalties = scored(params, inputs)
        per_example: Array = optax.softmax_cross_entropy_with_integer_labels(
            logits.astype(jnp.float32), labels
        )
        for penalty in jax.tree.leaves(penalties):
            per_example = per_example + penalty
        return per_example

    return Model(init, apply, loss, network.apply)


def parameter_count(params: Params) -> int:
    """Returns the number of scalars in a pytree of arrays, numbers or shapes.

    Raises:
        ValueError: something else, such as a model.
    """
    leaves = jax.tree.leaves(params)
    for leaf in leaves:
        if not (hasattr(leaf, "shape") or isinstance(leaf, (int, float))):
            raise ValueError(
                "params must hold arrays or shapes, as model.init returns, got "
                f"{shown(leaf)}."
            )
    return sum(math.prod(np.shape(leaf)) for leaf in leaves)
