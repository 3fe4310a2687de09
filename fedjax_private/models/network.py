"""Flax modules, linen or nnx, as pure functions of their parameters.

A model here is a function of its parameters and one example. Modules that keep other
state or draw random numbers are refused, with a sentence that says what to do.
"""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax import errors, nnx, traverse_util

from fedjax_private.faults import with_place
from fedjax_private.typing import Array, Params, PRNGKey

# Values that linen modules sow into this collection, (B,), are added to the loss.
PENALTIES = "penalties"

# A module; or a function with the keyword `rngs` that makes an nnx module.
AnyModule: TypeAlias = nn.Module | nnx.Module | Callable[..., nnx.Module]


class Network(NamedTuple):
    """A module as pure functions.

    Attributes:
        init: key -> params, nested dictionaries of arrays.
        apply: (params, inputs (B, ...)) -> logits.
        scored: (params, inputs) -> logits, and a pytree of penalties (B,).
        params_like: shapes of the params.
        outputs_like: what `apply` returns for a batch of two, as shapes.
        example: the shape and dtype of one input.
    """

    init: Callable[[PRNGKey], Params]
    apply: Callable[[Params, Array], Array]
    scored: Callable[[Params, Array], tuple[Array, Any]]
    params_like: Params
    outputs_like: Any
    example: jax.ShapeDtypeStruct


class UnfitError(ValueError):
    """A module that cannot be trained here; the message says what to do."""


def example_of(
    input_shape: tuple[int, ...], dtype: npt.DTypeLike
) -> jax.ShapeDtypeStruct:
    """Returns the shape and dtype of one input.

    Raises:
        ValueError: `input_shape` holds no whole numbers.
    """
    try:
        return jax.ShapeDtypeStruct(tuple(map(operator.index, input_shape)), dtype)
    except TypeError as error:
        raise ValueError(
            "input_shape must be the shape of one example, such as (28, 28, 1), got "
            f"{input_shape!r}."
        ) from error


def network_of(module: AnyModule, name: str, example: jax.ShapeDtypeStruct) -> Network:
    """Returns a module as pure functions.

    Args:
        module: linen or nnx; or a function with the keyword `rngs` that makes an nnx
            module. An nnx module starts from the parameters that it holds, whatever the
            key; one that is made by such a function is made anew with each key.
        name: for error messages.
        example: the shape and dtype of one input.

    Raises:
        ValueError: the module fails on such inputs, keeps state other than parameters,
            draws random numbers, or has parameters that are not float32.
    """
    two = jax.ShapeDtypeStruct((2, *example.shape), example.dtype)
    try:
        wrap = _linen if isinstance(module, nn.Module) else _nnx
        network = wrap(module, name, two)
    except UnfitError:
        raise
    except errors.InvalidRngError as error:
        raise _random(name) from error
    except Exception as error:
        raise _unable(name, f"inputs of shape {example.shape}", error) from error
    flat = traverse_util.flatten_dict(network.params_like)
    for path, leaf in flat.items():
        if leaf.dtype != jnp.float32:
            raise UnfitError(
                f"model {name} has the parameter {'/'.join(path)} of {leaf.dtype}, and "
                "only float32 is trained: give its layers param_dtype=jnp.float32."
            )
    return network


def check_outputs(network: Network, name: str, example: jax.ShapeDtypeStruct) -> None:
    """Raises ValueError if an example's logits depend on the others of its batch.

    Nor may they depend on how many there are, or on the example's place among them, or
    be probabilities. It computes a few logits at parameters that are drawn; it takes
    two compilations.
    """
    generator = np.random.default_rng(0)

    def drawn(like: Any) -> Any:
        if jnp.issubdtype(like.dtype, jnp.floating):
            return generator.normal(size=like.shape, scale=0.3).astype(like.dtype)
        return generator.integers(0, 2, like.shape).astype(like.dtype)

    params = jax.tree.map(drawn, network.params_like)
    inputs, others = (np.stack([drawn(example) for _ in range(3)]) for _ in range(2))
    compiled = jax.jit(network.apply)

    def apply(params: Params, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        try:
            with jax.default_matmul_precision("highest"):
                return np.asarray(compiled(params, inputs))
        except Exception as error:
            raise _unable(name, f"a batch of {len(inputs)}", error) from error

    together = apply(params, inputs)
    # Logits grow with the parameters, probabilities stay in [0, 1].
    larger = jax.tree.map(lambda leaf: 10 * leaf, params)
    outputs = np.concatenate([together, apply(larger, inputs)])
    if ((outputs >= 0) & (outputs <= 1)).all() and outputs.any():
        raise UnfitError(
            f"model {name} returns probabilities, and the loss takes logits: leave out "
            "the softmax or sigmoid at its end."
        )
    for i in range(len(inputs)):
        changed = others.copy()
        changed[i] = inputs[i]
        if not np.array_equal(apply(params, changed)[i], together[i], equal_nan=True):
            raise _mixing(name)
        alone = apply(params, inputs[i : i + 1])
        if alone.shape != (1, *together.shape[1:]) or _differ(alone[0], together[i]):
            raise _mixing(name)


# Batches of other sizes are rounded otherwise; half precision keeps two digits.
_ROUNDED = 0.05


def _differ(alone: npt.NDArray[Any], together: npt.NDArray[Any]) -> bool:
    """Whether logits (classes,) differ by more than rounding."""
    first, second = np.float32(alone), np.float32(together)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        return bool(np.abs(first - second).max() > _ROUNDED * np.abs(first).max())


def _mixing(name: str) -> UnfitError:
    return UnfitError(
        f"model {name} computes an example's logits from the others of its batch, from "
        "their number or from its place among them, and here every example is trained "
        "on by itself: let no layer reach over axis 0 of the inputs, and normalise "
        "within an example, as GroupNorm and LayerNorm do."
    )


def _unable(name: str, inputs: str, error: Exception) -> UnfitError:
    first = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
    return UnfitError(
        f"model {name} cannot take {inputs} ({with_place(error, first)}): change the "
        "module, which is called with a batch of inputs alone, or try model linear."
    )


def _random(name: str) -> UnfitError:
    return UnfitError(
        f"model {name} draws random numbers when it is called, and a model here is a "
        "function of its parameters and inputs: leave such layers out, or give Dropout "
        "deterministic=True."
    )


def _stateful(name: str, kept: str) -> UnfitError:
    return UnfitError(
        f"model {name} keeps state in {kept}, and only parameters are trained: "
        "replace BatchNorm by GroupNorm or LayerNorm, and leave out other state."
    )


def _linen(module: nn.Module, name: str, two: Any) -> Network:
    def variables(key: PRNGKey) -> Any:
        return module.init(key, jnp.zeros((1, *two.shape[1:]), two.dtype))

    def init(key: PRNGKey) -> Params:
        return variables(key).get("params", {})

    def apply(params: Params, inputs: Array) -> Array:
        logits: Array = module.apply({"params": params}, inputs)
        return logits

    def scored(params: Params, inputs: Array) -> tuple[Array, Any]:
        scores: tuple[Array, Any] = module.apply(
            {"params": params}, inputs, mutable=[PENALTIES]
        )
        return scores

    def refuse(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        layer = context.module
        if isinstance(layer, nn.BatchNorm):
            raise _stateful(name, "batch_stats")
        if isinstance(layer, nn.Dropout) and context.method_name == "__call__":
            told = [*args[1:], kwargs.get("deterministic"), layer.deterministic]
            if True not in told and (layer.rate > 0 or False not in told):
                raise _random(name)
        return call(*args, **kwargs)

    with nn.intercept_methods(refuse):
        shapes = jax.eval_shape(variables, jax.random.key(0))
        if state := set(shapes) - {"params", "intermediates", PENALTIES}:
            raise _stateful(name, ", ".join(sorted(state)))
        params_like = shapes.get("params", {})
        outputs_like = jax.eval_shape(apply, params_like, two)
    example = jax.ShapeDtypeStruct(two.shape[1:], two.dtype)
    return Network(init, apply, scored, params_like, outputs_like, example)


def _nnx(made: Any, name: str, two: Any) -> Network:
    def made_with(key: PRNGKey | int) -> Any:
        module = made if isinstance(made, nnx.Module) else made(rngs=nnx.Rngs(key))
        if not isinstance(module, nnx.Module):
            raise UnfitError(
                f"model {name} must return a Flax module, got {type(module).__name__}."
            )
        return module

    module = made_with(0)
    kept = {
        type(node).__name__
        for _, node in nnx.iter_graph(module)
        if isinstance(node, nnx.Variable)
        and not isinstance(node, (nnx.Param, nnx.RngState, nnx.Intermediate))
    }
    if kept:
        raise _stateful(name, ", ".join(sorted(kept)))
    definition, params, others = nnx.split(module, nnx.Param, ...)
    paths = [tuple(map(str, path)) for path, _ in nnx.to_flat_state(params)]
    structure = jax.tree.structure(params)
    constants, constants_structure = jax.tree.flatten(others)

    def nested(params: Any) -> Params:
        leaves = jax.tree.leaves(params)
        return traverse_util.unflatten_dict(dict(zip(paths, leaves, strict=True)))

    def init(key: PRNGKey) -> Params:
        return nested(nnx.state(made_with(key), nnx.Param))

    def merged(params: Params) -> Any:
        flat = traverse_util.flatten_dict(params)
        # Variables belong to the trace in which they are made.
        return nnx.merge(
            definition,
            jax.tree.unflatten(structure, [flat[path] for path in paths]),
            jax.tree.unflatten(constants_structure, constants),
        )

    def apply(params: Params, inputs: Array) -> Array:
        logits: Array = merged(params)(inputs)
        return logits

    def drawing(params: Params, inputs: Array) -> Any:
        module = merged(params)
        before = jax.tree.leaves(nnx.state(module, nnx.RngState))
        outputs = module(inputs)
        after = jax.tree.leaves(nnx.state(module, nnx.RngState))
        if any(old is not new for old, new in zip(before, after, strict=True)):
            raise _random(name)
        return outputs

    params_like = jax.eval_shape(lambda: nested(params))
    outputs_like = jax.eval_shape(drawing, params_like, two)
    return Network(
        init,
        apply,
        lambda params, inputs: (apply(params, inputs), ()),
        params_like,
        outputs_like,
        jax.ShapeDtypeStruct(two.shape[1:], two.dtype),
    )
