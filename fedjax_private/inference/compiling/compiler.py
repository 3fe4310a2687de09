"""From a Flax model to a circuit, by following its equations.

Between two polynomials everything is affine, whatever layers it consists of: a
*segment*. For every value the compiler keeps its response to each result of the last
polynomial, and its value where all of these are zero. Elementwise products of values
are kept as polynomials of them until an operation mixes entries: there a segment ends.

How each operation is treated stands in `primitives.PRIMITIVES`.
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

from fedjax_private.choices import check_call
from fedjax_private.inference.compiling.circuit import (
    Affine,
    Circuit,
    Layer,
    Polynomial,
)
from fedjax_private.inference.compiling.convolutions import find_patches
from fedjax_private.inference.compiling.primitives import (
    NO_EXAMPLE_NORM,
    PRIMITIVES,
    Coefficients,
    Primitive,
    UnsupportedLayerError,
    refusal,
)
from fedjax_private.programs import called, evaluate, run_equation
from fedjax_private.typing import Array, Params

# The most bytes of a segment's responses: its inputs times the entries of one value.
_MOST_BYTES = 2 * 2**30


@dataclasses.dataclass(frozen=True, eq=False)
class AffineTensor:
    """A tensor that is affine in the inputs of a segment.

    Attributes:
        segment: number of the segment.
        responses: (inputs + 1, *shape): the change by each input, and last the value
            where all inputs are zero.
        scope: path of the layer that computes it.
    """

    segment: int
    responses: Array
    scope: str


@dataclasses.dataclass(frozen=True, eq=False)
class PolynomialTensor:
    """A tensor whose entries are polynomials of an affine tensor's: sum_k c_k base^k.

    Attributes:
        base: the affine tensor.
        coefficients: c_0, c_1, ...; at least two.
    """

    base: AffineTensor
    coefficients: Coefficients

    @classmethod
    def of(cls, base: AffineTensor) -> "PolynomialTensor":
        """The affine tensor itself, as a polynomial of degree 1."""
        return cls(base, (jnp.float32(0.0), jnp.float32(1.0)))

    @property
    def degree(self) -> int:
        """Degree of the polynomials."""
        return len(self.coefficients) - 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return tuple(self.base.responses.shape[1:])


# A value that depends on the images, or a constant.
Value: TypeAlias = PolynomialTensor | Array


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
        sample: (n, *input_shape) float, normalised: inputs like those to come. Bounds
            that follow from it are public, so it should be too.

    Returns:
        A circuit with bounds. Convolutions, dense layers and pools that follow one
        another are one affine map.

    Raises:
        UnsupportedLayerError: if a layer is neither affine nor a polynomial, or values
            branch and meet again beyond a polynomial.
        ValueError: what is given is no function of params and inputs.
    """
    form = "a function (params, inputs) -> logits, such as model.network"
    check_call("apply", apply, 2, form)
    image = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    with jax.default_matmul_precision("highest"):
        program = jax.make_jaxpr(lambda inputs: apply(params, inputs))(image)
        compiler = _Compiler(input_shape)
        rule = functools.partial(compiler.outputs, "")
        start = compiler.segment_input((1, *input_shape), "input")
        (result,) = evaluate(program, [start], rule)
        return compiler.finish(result).measured(sample)


class _Compiler:
    """The layers so far, and the segment that is open."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        self._input_shape = input_shape
        self._layers: list[Layer] = []
        self._segment = 0
        # The last value that ended a segment, and the input of the next one.
        self._ended: tuple[PolynomialTensor, PolynomialTensor] | None = None

    def segment_input(self, shape: tuple[int, ...], scope: str) -> PolynomialTensor:
        """The input of the open segment."""
        size = int(np.prod(shape))
        if 4 * size * (size + 1) > _MOST_BYTES:
            raise UnsupportedLayerError(
                f"{scope} has {size} values, too many to compile: use larger strides "
                "or fewer features."
            )
        identity = np.zeros((size + 1, size), np.float32)
        np.fill_diagonal(identity, 1.0)
        responses = jnp.asarray(identity.reshape(size + 1, *shape))
        return PolynomialTensor.of(AffineTensor(self._segment, responses, scope))

    def outputs(
        self, outer: str, eqn: core.JaxprEqn, inputs: Sequence[Value]
    ) -> list[Value] | None:
        """The outputs of an equation; a `Rule`.

        Args:
            outer: the scope of the call that the equation is part of.
            eqn: the equation.
            inputs: the values of its inputs.

        Returns:
            None where no input depends on the images.
        """
        scope = _scope(outer, eqn)
        if (body := called(eqn, derivatives=False)) is not None:
            return evaluate(body, inputs, functools.partial(self.outputs, scope))
        varying = [isinstance(value, PolynomialTensor) for value in inputs]
        if not any(varying):
            return None
        primitive = PRIMITIVES.get(eqn.primitive.name, Primitive())
        if primitive.same:
            return list(inputs)
        polynomial = _polynomial(primitive, eqn, inputs)
        if polynomial is not None:
            return [polynomial]
        if primitive.affine is None or not primitive.affine(varying):
            raise refusal(eqn.primitive.name, _layer(scope))
        return list(self._affine(eqn, inputs, scope))

    def _affine(
        self, eqn: core.JaxprEqn, inputs: Sequence[Value], scope: str
    ) -> Iterator[Value]:
        """The outputs of an affine operation on values of one segment."""
        bases: dict[int, AffineTensor] = {}  # by place among the inputs
        for place, value in enumerate(inputs):
            if isinstance(value, PolynomialTensor):
                bases[place] = self._as_affine(value).base
        if any(base.segment != self._segment for base in bases.values()):
            layer = _layer(scope)
            instead = NO_EXAMPLE_NORM if "Norm" in layer else "one sequence of layers"
            raise UnsupportedLayerError(
                f"{layer} has no encrypted form: values branch at a polynomial and "
                f"meet again; use {instead}."
            )

        def applied(rows: dict[int, Array]) -> list[Array]:
            return run_equation(eqn, [rows.get(i, v) for i, v in enumerate(inputs)])

        # The scope of a pool or a reshape is that of the model around it.
        inner = next(iter(bases.values())).scope
        scope = inner if inner.startswith(scope) else scope
        responses = {place: base.responses for place, base in bases.items()}
        outputs = jax.vmap(applied)(responses)
        rest = applied({i: jnp.zeros_like(rows[0]) for i, rows in responses.items()})
        for output, zero in zip(outputs, rest, strict=True):
            # The constant part belongs to the last row only.
            response = (output - zero).at[-1].set(output[-1])
            yield PolynomialTensor.of(AffineTensor(self._segment, response, scope))

    def _as_affine(self, value: PolynomialTensor) -> PolynomialTensor:
        """The same value as an affine tensor; after a polynomial, of a new segment."""
        if value.degree <= 1:
            if value.base.segment != self._segment:
                return value
            constant, factor = (*value.coefficients, 0.0)[:2]
            responses = value.base.responses * factor
            responses = responses.at[-1].add(constant)
            base = AffineTensor(self._segment, responses, value.base.scope)
            return PolynomialTensor.of(base)
        if self._ended is not None and self._ended[0] is value:
            return self._ended[1]
        if value.base.segment != self._segment:
            return value
        self._close_segment(value)
        opened = self.segment_input(value.shape, value.base.scope)
        self._ended = value, opened
        return opened

    def _close_segment(self, value: PolynomialTensor) -> None:
        """Adds the layers that compute a value from the open segment's inputs."""
        base = value.base
        responses = np.asarray(base.responses, np.float64)
        matrix = responses[:-1].reshape(len(responses) - 1, -1).T
        bias = responses[-1].ravel()
        identity = (
            matrix.shape[0] == matrix.shape[1]
            and not bias.any()
            and np.array_equal(matrix, np.eye(len(matrix)))
        )
        # A polynomial of the segment's inputs themselves needs no affine map.
        if not identity or value.degree <= 1:
            patches = None
            if not self._layers and len(self._input_shape) == 3:
                patches = find_patches(matrix, self._input_shape, value.shape[1:])
            name = self._unused_name(base.scope.rsplit("/", 1)[-1] or "affine")
            self._layers.append(
                Affine(name, np.ascontiguousarray(matrix), bias, patches)
            )
        if value.degree > 1:
            rows = [np.broadcast_to(c, value.shape) for c in value.coefficients]
            coefficients = np.stack(rows).reshape(len(rows), -1).astype(np.float64)
            name = self._unused_name("polynomial")
            self._layers.append(Polynomial(name, coefficients))
        self._segment += 1

    def _unused_name(self, name: str) -> str:
        taken = {layer.name for layer in self._layers}
        if name not in taken and name != "polynomial":
            return name
        number = 0
        while f"{name}_{number}" in taken:
            number += 1
        return f"{name}_{number}"

    def finish(self, result: Value) -> Circuit:
        """The circuit that ends with a result."""
        if not isinstance(result, PolynomialTensor):
            raise UnsupportedLayerError("the result does not depend on the images.")
        if result.degree <= 1 or result.base.segment != self._segment:
            result = self._as_affine(result)
        if result.base.segment == self._segment:
            self._close_segment(result)
        return Circuit(self._input_shape, tuple(self._layers))


def _scope(outer: str, eqn: core.JaxprEqn) -> str:
    """The Flax layer that an equation comes from, as a path of names."""
    inner = str(eqn.source_info.name_stack)
    if not inner or inner == outer or outer.endswith(inner):
        return outer
    return inner if not outer or inner.startswith(outer) else f"{outer}/{inner}"


def _layer(scope: str) -> str:
    """The name of the innermost layer of a scope."""
    return scope.rsplit("/", 1)[-1] or "the model"


def _polynomial(
    primitive: Primitive, eqn: core.JaxprEqn, inputs: Sequence[Value]
) -> PolynomialTensor | None:
    """The result as a polynomial of one tensor, or None where it is not one."""
    if primitive.polynomial is None:
        return None
    tensors = [value for value in inputs if isinstance(value, PolynomialTensor)]
    base = tensors[0].base
    result: Any = eqn.outvars[0].aval
    if any(t.base is not base or t.shape != result.shape for t in tensors):
        return None
    terms = [
        (x.coefficients if isinstance(x, PolynomialTensor) else (x,)) for x in inputs
    ]
    coefficients = primitive.polynomial(eqn, terms)
    return None if coefficients is None else PolynomialTensor(base, coefficients)
