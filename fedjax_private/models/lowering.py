"""Rewrites convolutions and pooling into the form that is fast on a platform.

Rewriting works on a model's equations, so that it applies to every model. XLA on CPUs
runs a convolution inside a loop several times slower than outside (jax#12868), one
kernel per client as a grouped convolution, and the gradient of a `reduce_window`
maximum as a slow select-and-scatter. A matrix product with patches and maxima of
shifted slices avoid all three. GPUs and TPUs keep the plain XLA forms.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fedjax_private.programs import rewritten
from fedjax_private.typing import Array


def lowered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the same function in the platform's form; equal to float32 rounding.

    If several entries of a pooling window tie, the gradient is shared among them on
    CPUs and goes to one of them elsewhere.
    """

    def run(*arguments: Any) -> Any:
        floats = [
            leaf
            for leaf in jax.tree.leaves(arguments)
            if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.size
        ]
        if jax.default_backend() != "cpu" or not floats:
            return function(*arguments)
        rule = functools.partial(_on_cpu, jnp.ravel(floats[0])[0])
        return rewritten(function, rule)(*arguments)

    return run


def _on_cpu(number: Array, eqn: Any, inputs: Sequence[Array]) -> list[Array] | None:
    """A `Rule`; `number` is any float of the arguments, see `_stored`."""
    match eqn.primitive.name:
        case "conv_general_dilated":
            return _convolution(number, inputs[0], inputs[1], **eqn.params)
        case "reduce_window_max":
            return _pool(number, inputs[0], jnp.maximum, -jnp.inf, **eqn.params)
        case "reduce_window_sum":
            return _pool(number, inputs[0], jnp.add, 0.0, **eqn.params)
    return None


def _stored(number: Array, function: Callable[[Array], Array], inputs: Array) -> Array:
    """Returns function(inputs), computed once and stored; likewise its cotangents.

    XLA merges cheap operations into every operation that reads them and computes them
    again there, in loops that no longer vectorise: several times the time, for patches.
    It compiles the branches of a conditional apart, and stores the result. The
    condition must not be known before the run: the branch is taken unless `number`, one
    of the model's parameters, is NaN, where the result is NaN too.
    """
    shape = jax.eval_shape(function, inputs)
    result: Array = lax.cond(
        number == number,
        function,
        lambda _: jnp.full(shape.shape, jnp.nan, shape.dtype),
        inputs,
    )
    return result


def _views(
    x: Array, axis: int, size: int, stride: int, dilation: int = 1
) -> list[Array]:
    """Returns the slices along an axis that the entries of a window read, in order."""
    count = (x.shape[axis] - (size - 1) * dilation - 1) // stride + 1
    starts = [i * dilation for i in range(size)]
    ends = [start + (count - 1) * stride + 1 for start in starts]
    return [
        lax.slice_in_dim(x, start, end, stride, axis)
        for start, end in zip(starts, ends, strict=True)
    ]


def _channels_last(numbers: Any) -> bool:
    """Whether inputs are (B, *space, C) and kernels (*window, C, F), as in Flax."""
    rank = len(numbers.lhs_spec)
    space = tuple(range(1, rank - 1))
    return (
        tuple(numbers.lhs_spec) == (0, rank - 1, *space)
        and tuple(numbers.rhs_spec) == (rank - 1, rank - 2, *range(rank - 2))
        and tuple(numbers.out_spec) == (0, rank - 1, *space)
    )


def _convolution(
    number: Array,
    inputs: Array,
    kernel: Array,
    *,
    dimension_numbers: Any,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    feature_group_count: int,
    batch_group_count: int,
    precision: Any,
    preferred_element_type: Any,
    out_sharding: Any = None,
) -> list[Array] | None:
    """A matrix product with patches, for Flax' layout without groups.

    Patches are put together one spatial axis after the other: the k views along the
    last axis, then k views of those along the axis before it, and so on. That is k + k
    copies of long runs in place of k^2 copies of short ones.
    """
    if (
        not _channels_last(dimension_numbers)
        or any(d != 1 for d in lhs_dilation)
        or feature_group_count != 1
        or batch_group_count != 1
        or out_sharding is not None
    ):
        return None
    last = inputs.ndim - 1

    def patches_of(images: Array) -> Array:
        edges = [(int(low), int(high), 0) for low, high in padding]
        zero = jnp.zeros((), images.dtype)
        patches = lax.pad(images, zero, [(0, 0, 0), *edges, (0, 0, 0)])
        for axis in range(last - 1, 0, -1):
            size, stride = kernel.shape[axis - 1], window_strides[axis - 1]
            views = _views(patches, axis, size, stride, rhs_dilation[axis - 1])
            # All window axes but the first are merged with the channels.
            join = jnp.concatenate if axis > 1 else jnp.stack
            patches = join(views, axis=last)
        return patches  # (B, *space, first window axis, other ones x C)

    patches = _stored(number, patches_of, inputs)
    # One product for each image, so that the kernel's gradient is a product and a sum.
    weights = kernel.reshape(kernel.shape[0], -1, kernel.shape[-1])
    weights = jnp.broadcast_to(weights, (len(inputs), *weights.shape))
    result = lax.dot_general(
        patches,
        weights,
        (((last, last + 1), (1, 2)), ((0,), (0,))),
        precision=precision,
        preferred_element_type=preferred_element_type,
    )
    return [result]


def _pool(
    number: Array,
    inputs: Array,
    combine: Callable[[Array, Array], Array],
    unit: float,
    *,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> list[Array] | None:
    """Combines shifted slices, one axis after the other."""
    floating = jnp.issubdtype(inputs.dtype, jnp.floating)
    if not floating or any(d != 1 for d in base_dilation):
        return None
    windows = list(zip(window_dimensions, window_strides, window_dilation, strict=True))

    def pooled(x: Array) -> Array:
        edges = [(int(low), int(high), 0) for low, high in padding]
        x = lax.pad(x, jnp.array(unit, x.dtype), edges)
        for axis, window in enumerate(windows):
            x = functools.reduce(combine, _views(x, axis, *window))
        return x

    return [_stored(number, pooled, inputs)]
