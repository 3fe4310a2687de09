"""From a Flax model to a circuit: its equations, composed.

Between two polynomials everything is affine, whatever layers it is made of, so the
compiler keeps for every value how it depends on the last polynomial's results: the
responses to each of them, and what is left with none. Elementwise products keep
polynomials of such values, until an operation mixes entries: there a layer ends.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.extend import core

from fedjax_private.inference.compiling.circuit import (
    Affine,
    Circuit,
    Layer,
    Polynomial,
)
from fedjax_private.inference.compiling.convolutions import find_patches
from fedjax_private.programs import called, evaluate, run_equation
from fedjax_private.typing import Array, Params

# Affine in whatever of their inputs is not constant.
_AFFINE = frozenset(
    {
        "conv_general_dilated", "dot_general", "reshape", "transpose", "squeeze",
        "expand_dims", "broadcast_in_dim", "reduce_sum", "reduce_window_sum", "pad",
        "slice", "dynamic_slice", "concatenate", "rev", "gather", "cumsum", "split",
        "add_any", "add", "sub", "mul", "div",
    }
)  # fmt: skip

# Leave values as they are.
_SAME = frozenset(
    {
        "convert_element_type", "copy", "copy_p", "reduce_precision", "stop_gradient",
        "optimization_barrier", "sharding_constraint",
    }
)  # fmt: skip

_POLYNOMIAL = "a polynomial, as --activation=square or relu_least_squares"
_EXAMPLES = "a model without normalization that depends on the example"
# Primitive -> what it is called, and what to use instead.
_REFUSED = {
    "reduce_window_max": ("max pooling", "average pooling (nn.avg_pool)"),
    "reduce_max": ("a maximum", "a mean, or logits without softmax"),
    "max": ("a maximum (ReLU)", _POLYNOMIAL),
    "min": ("a minimum", _POLYNOMIAL),
    "exp": ("an exponential", _POLYNOMIAL),
    "log": ("a logarithm", _POLYNOMIAL),
    "tanh": ("tanh", _POLYNOMIAL),
    "logistic": ("a sigmoid", _POLYNOMIAL),
    "erf": ("an error function (GELU)", _POLYNOMIAL),
    "erfc": ("an error function (GELU)", _POLYNOMIAL),
    "abs": ("an absolute value", "a square"),
    "rsqrt": ("a root", _EXAMPLES),
    "sqrt": ("a root", _EXAMPLES),
}

# Bytes of a segment's responses: its inputs times the entries of one value.
_MOST_BYTES = 2 * 2**30


class UnsupportedLayerError(ValueError):
    """A layer has no encrypted form; the message names it and what to use instead."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Base:
    """A tensor that depends affinely on a segment's inputs.

    Attributes:
        segment: its number.
        responses: (inputs + 1, *shape): to each input, and last with all zero.
        scope: of the operation that made it.
    """

    segment: int
    responses: Array
    scope: str


@dataclasses.dataclass(frozen=True, eq=False)
class _Value:
    """sum_k c_k base^k, entry by entry; c_k broadcast to the base's shape."""

    base: _Base
    coefficients: tuple[Array, ...]

    @property
    def degree(self) -> int:
        return len(self.coefficients) - 1

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.base.responses.shape[1:])


# A value that depends on the images, or one that does not.
_Known: TypeAlias = _Value | Array


def compile_model(
    apply: Callable[[Params, Array], Array],
    params: Params,
    input_shape: tuple[int, ...],
    *,
    sample: npt.ArrayLike,
) -> Circuit:
    """Compiles a classifier of normalised images.

    Args:
        apply: (params, inputs (B, *input_shape) float32) -> logits (B, outputs); a
            model's `network`, not its `apply`, which normalises bytes first.
        params: a pytree of arrays.
        input_shape: of one image.
        sample: (n, *input_shape) float, normalised: what values are expected from.
            Bounds that follow from it are public, so it should be too.

    Returns:
        A circuit with bounds: convolutions, dense layers and pools that follow one
        another are one affine map.

    Raises:
        UnsupportedLayerError: where a layer is neither affine nor a polynomial, or
            values branch and meet again beyond a polynomial.
    """
    image = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    with jax.default_matmul_precision("highest"):
        program = jax.make_jaxpr(lambda inputs: apply(params, inputs))(image)
        compiler = _Compiler(input_shape)
        rule = functools.partial(compiler.outputs, "")
        (result,) = evaluate(program, [compiler.start()], rule)
        return compiler.finish(result).measured(sample)


class _Compiler:
    """The layers so far, and the segment that is open."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        self._input_shape = input_shape
        self._layers: list[Layer] = []
        self._segment = 0
        # The value that each closed segment ended with, and what it became.
        self._ended: tuple[_Value, _Value] | None = None

    def start(self) -> _Value:
        """The input of the circuit."""
        return self._opened((1, *self._input_shape), "input")

    def _opened(self, shape: tuple[int, ...], scope: str) -> _Value:
        size = int(np.prod(shape))
        if 4 * size * (size + 1) > _MOST_BYTES:
            raise UnsupportedLayerError(
                f"{scope} has {size} values, too many to compile: use larger strides "
                "or fewer features."
            )
        identity = np.zeros((size + 1, size), np.float32)
        np.fill_diagonal(identity, 1.0)
        responses = jnp.asarray(identity.reshape(size + 1, *shape))
        return _linear(_Base(self._segment, responses, scope))

    def outputs(
        self, outer: str, eqn: core.JaxprEqn, inputs: Sequence[_Known]
    ) -> list[_Known] | None:
        """The outputs of an equation, symbolic where they must be; a `Rule`.

        Args:
            outer: the scope of the call that the equation is part of.
            eqn: the equation.
            inputs: the values of its inputs.

        Returns:
            None where no input is symbolic.
        """
        name, scope = eqn.primitive.name, _scope(outer, eqn)
        if (body := called(eqn, derivatives=False)) is not None:
            return evaluate(body, inputs, functools.partial(self.outputs, scope))
        if not any(isinstance(value, _Value) for value in inputs):
            return None
        if name in _SAME:
            return list(inputs)
        elementwise = _elementwise(eqn, inputs)
        if elementwise is not None:
            return [elementwise]
        if name not in _AFFINE or not _affine(name, inputs):
            raise _unsupported(name, scope)
        return list(self._mixed(eqn, inputs, scope))

    def _mixed(
        self, eqn: core.JaxprEqn, inputs: Sequence[_Known], scope: str
    ) -> Iterator[_Known]:
        """An affine operation on values of one segment."""
        inputs = [
            v if not isinstance(v, _Value) else self._affine_of(v) for v in inputs
        ]
        bases = [v.base for v in inputs if isinstance(v, _Value)]
        if len({base.segment for base in bases}) > 1 or (
            bases[0].segment != self._segment
        ):
            layer = scope.rsplit("/", 1)[-1] or "the model"
            instead = _EXAMPLES if "Norm" in layer else "one sequence of layers"
            raise UnsupportedLayerError(
                f"{layer} has no encrypted form: values branch at a polynomial and "
                f"meet again; use {instead}."
            )
        places = [i for i, v in enumerate(inputs) if isinstance(v, _Value)]

        def applied(*rows: Array) -> list[Array]:
            arguments: list[Any] = list(inputs)
            for place, row in zip(places, rows, strict=True):
                arguments[place] = row
            return run_equation(eqn, arguments)

        # A pool's or a reshape's scope is that of the model around it.
        inner = bases[0].scope
        scope = inner if inner.startswith(scope) else scope
        stacked = [base.responses for base in bases]
        outputs = jax.vmap(applied)(*stacked)
        rest = applied(*(jnp.zeros_like(rows[0]) for rows in stacked))
        for output, zero in zip(outputs, rest, strict=True):
            # What is constant belongs to the last row only.
            responses = (output - zero).at[-1].set(output[-1])
            yield _linear(_Base(self._segment, responses, scope))

    def _affine_of(self, value: _Value) -> _Value:
        """The same value as a base; after a polynomial, of a new segment."""
        if value.degree <= 1:
            if value.base.segment != self._segment:
                return value
            constant, factor = (*value.coefficients, 0.0)[:2]
            responses = value.base.responses * factor
            responses = responses.at[-1].add(constant)
            return _linear(_Base(self._segment, responses, value.base.scope))
        if self._ended is not None and self._ended[0] is value:
            return self._ended[1]
        if value.base.segment != self._segment:
            return value
        self._close(value)
        opened = self._opened(value.shape, value.base.scope)
        self._ended = value, opened
        return opened

    def _close(self, value: _Value) -> None:
        """Adds the layers that lead to a value."""
        base = value.base
        responses = np.asarray(base.responses, np.float64)
        matrix = responses[:-1].reshape(len(responses) - 1, -1).T
        bias = responses[-1].ravel()
        identity = (
            matrix.shape[0] == matrix.shape[1]
            and not bias.any()
            and (np.array_equal(matrix, np.eye(len(matrix))))
        )
        # A polynomial without an affine map before it needs none.
        if not identity or value.degree <= 1:
            patches = None
            if not self._layers and len(self._input_shape) == 3:
                patches = find_patches(matrix, self._input_shape, value.shape[1:])
            name = self._unused(base.scope.rsplit("/", 1)[-1] or "affine")
            self._layers.append(
                Affine(name, np.ascontiguousarray(matrix), bias, patches)
            )
        if value.degree > 1:
            rows = [np.broadcast_to(c, value.shape) for c in value.coefficients]
            coefficients = np.stack(rows).reshape(len(rows), -1).astype(np.float64)
            self._layers.append(Polynomial(self._unused("polynomial"), coefficients))
        self._segment += 1

    def _unused(self, name: str) -> str:
        taken = {layer.name for layer in self._layers}
        if name not in taken and name != "polynomial":
            return name
        number = 0
        while f"{name}_{number}" in taken:
            number += 1
        return f"{name}_{number}"

    def finish(self, result: _Known) -> Circuit:
        """The circuit that ends with a result."""
        if not isinstance(result, _Value):
            raise UnsupportedLayerError("the result does not depend on the images.")
        if result.degree <= 1 or result.base.segment != self._segment:
            result = self._affine_of(result)
        if result.base.segment == self._segment:
            self._close(result)
        return Circuit(self._input_shape, tuple(self._layers))


def _linear(base: _Base) -> _Value:
    return _Value(base, (jnp.float32(0.0), jnp.float32(1.0)))


def _scope(outer: str, eqn: core.JaxprEqn) -> str:
    """The Flax layer that an equation comes from, as a path of names."""
    inner = str(eqn.source_info.name_stack)
    if not inner or inner == outer or outer.endswith(inner):
        return outer
    return inner if not outer or inner.startswith(outer) else f"{outer}/{inner}"


def _affine(name: str, inputs: Sequence[_Known]) -> bool:
    """Whether an operation is affine in its inputs that are not constant."""
    varying = [isinstance(value, _Value) for value in inputs]
    match name:
        case "mul" | "dot_general" | "conv_general_dilated":
            return sum(varying) == 1
        case "div" | "pad" | "gather" | "dynamic_slice":
            return varying[0] and not any(varying[1:])
    return True


def _elementwise(eqn: core.JaxprEqn, inputs: Sequence[_Known]) -> _Value | None:
    """Arithmetic of polynomials of one base, or None where this is something else."""
    name = eqn.primitive.name
    result: Any = eqn.outvars[0].aval
    shape = tuple(result.shape)
    terms: list[tuple[Array, ...]] = []
    bases: list[_Base] = []
    for value in inputs:
        if isinstance(value, _Value):
            if value.shape != shape:
                return None
            bases.append(value.base)
            terms.append(value.coefficients)
        else:
            terms.append((value,))
    if any(base is not bases[0] for base in bases):
        return None
    match name:
        case "add" | "add_any":
            found = _sum(terms[0], terms[1])
        case "sub":
            found = _sum(terms[0], tuple(-c for c in terms[1]))
        case "neg":
            found = tuple(-c for c in terms[0])
        case "mul":
            found = _product(terms[0], terms[1])
        case "div" if len(terms[1]) == 1 and not isinstance(inputs[1], _Value):
            found = tuple(c / terms[1][0] for c in terms[0])
        case "square":
            found = _product(terms[0], terms[0])
        case "integer_pow" if eqn.params["y"] >= 1:
            found = terms[0]
            for _ in range(eqn.params["y"] - 1):
                found = _product(found, terms[0])
        case _:
            return None
    return _Value(bases[0], found)


def _sum(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Array, ...]:
    shorter, longer = sorted((left, right), key=len)
    both = tuple(a + b for a, b in zip(shorter, longer, strict=False))
    return both + longer[len(shorter) :]


def _product(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Array, ...]:
    total: list[Any] = [0.0] * (len(left) + len(right) - 1)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            total[i + j] = total[i + j] + a * b
    return tuple(total)


def _unsupported(name: str, scope: str) -> UnsupportedLayerError:
    layer = scope.rsplit("/", 1)[-1] or "the model"
    default = (f"the operation {name}", "affine layers and polynomials")
    what, instead = _REFUSED.get(name, default)
    if "Norm" in layer:
        instead = _EXAMPLES
    return UnsupportedLayerError(
        f"{what} in {layer} has no encrypted form: use {instead}."
    )
