"""How each primitive of JAX is compiled: the table `PRIMITIVES`, an entry for each.

To support one more primitive, add its entry here: `affine` for an operation that is
affine in its inputs, `polynomial` for one that maps polynomials to polynomials entry by
entry. A primitive that is not in the table is refused by its own name.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from jax.extend import core

from fedjax_private.typing import Array

# c_0, c_1, ...: a polynomial's coefficients, each broadcastable to the tensor's shape.
Coefficients: TypeAlias = tuple[Array, ...]

# (equation, coefficients of each input; a constant has one) -> coefficients of the
# result, or None where it is no polynomial.
PolynomialRule: TypeAlias = Callable[
    [core.JaxprEqn, Sequence[Coefficients]], Coefficients | None
]

# For each input, whether it depends on the images -> whether the result is affine in
# those that do.
AffineRule: TypeAlias = Callable[[Sequence[bool]], bool]


class UnsupportedLayerError(ValueError):
    """A layer has no encrypted form; the message names it and an alternative."""


@dataclasses.dataclass(frozen=True)
class Primitive:
    """How one primitive is compiled. Without any attribute it is refused.

    Attributes:
        same: it returns its inputs.
        polynomial: used where all inputs that depend on the images are polynomials of
            one tensor, with the shape of the result.
        affine: used elsewhere.
        name: what an error calls the operation.
        alternative: what an error says to use instead.
    """

    same: bool = False
    polynomial: PolynomialRule | None = None
    affine: AffineRule | None = None
    name: str | None = None
    alternative: str = "affine layers and polynomials"


def refusal(primitive: str, layer: str) -> UnsupportedLayerError:
    """The error for a primitive, by its name in JAX, in a layer."""
    entry = PRIMITIVES.get(primitive, Primitive())
    operation = entry.name or f"the operation {primitive}"
    alternative = NO_EXAMPLE_NORM if "Norm" in layer else entry.alternative
    return UnsupportedLayerError(
        f"{operation} in {layer} has no encrypted form: use {alternative}."
    )


def _in_one(varying: Sequence[bool]) -> bool:
    return sum(varying) == 1


def _in_the_first(varying: Sequence[bool]) -> bool:
    return varying[0] and not any(varying[1:])


def _sum(eqn: core.JaxprEqn, terms: Sequence[Coefficients]) -> Coefficients:
    shorter, longer = sorted(terms, key=len)
    both = tuple(a + b for a, b in zip(shorter, longer, strict=False))
    return both + longer[len(shorter) :]


def _negative(eqn: core.JaxprEqn, terms: Sequence[Coefficients]) -> Coefficients:
    return tuple(-c for c in terms[0])


def _difference(eqn: core.JaxprEqn, terms: Sequence[Coefficients]) -> Coefficients:
    return _sum(eqn, (terms[0], _negative(eqn, terms[1:])))


def _product(eqn: core.JaxprEqn, terms: Sequence[Coefficients]) -> Coefficients:
    left, right = terms
    total: list[Any] = [0.0] * (len(left) + len(right) - 1)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            total[i + j] = total[i + j] + a * b
    return tuple(total)


def _quotient(eqn: core.JaxprEqn, terms: Sequence[Coefficients]) -> Coefficients | None:
    dividend, divisor = terms
    return tuple(c / divisor[0] for c in dividend) if len(divisor) == 1 else None


def _square(eqn: core.JaxprEqn, terms: Sequence[Coefficients]) -> Coefficients:
    return _product(eqn, (terms[0], terms[0]))


def _power(eqn: core.JaxprEqn, terms: Sequence[Coefficients]) -> Coefficients | None:
    if eqn.params["y"] < 1:
        return None
    power = terms[0]
    for _ in range(eqn.params["y"] - 1):
        power = _product(eqn, (power, terms[0]))
    return power


_ACTIVATION = "a polynomial activation such as square or relu_least_squares"
NO_EXAMPLE_NORM = "a model without normalization that depends on the example"

PRIMITIVES: dict[str, Primitive] = {
    # Operations that return their inputs.
    "convert_element_type": Primitive(same=True),
    "copy": Primitive(same=True),
    "copy_p": Primitive(same=True),
    "optimization_barrier": Primitive(same=True),
    "reduce_precision": Primitive(same=True),
    "sharding_constraint": Primitive(same=True),
    "stop_gradient": Primitive(same=True),
    # Arithmetic.
    "add": Primitive(polynomial=_sum, affine=any),
    "add_any": Primitive(polynomial=_sum, affine=any),
    "sub": Primitive(polynomial=_difference, affine=any),
    "neg": Primitive(polynomial=_negative),
    "mul": Primitive(polynomial=_product, affine=_in_one),
    "div": Primitive(polynomial=_quotient, affine=_in_the_first),
    "square": Primitive(polynomial=_square),
    "integer_pow": Primitive(polynomial=_power),
    # Linear algebra, sums, and operations that move entries.
    "broadcast_in_dim": Primitive(affine=any),
    "concatenate": Primitive(affine=any),
    "conv_general_dilated": Primitive(affine=_in_one),
    "cumsum": Primitive(affine=any),
    "dot_general": Primitive(affine=_in_one),
    "dynamic_slice": Primitive(affine=_in_the_first),
    "expand_dims": Primitive(affine=any),
    "gather": Primitive(affine=_in_the_first),
    "pad": Primitive(affine=_in_the_first),
    "reduce_sum": Primitive(affine=any),
    "reduce_window_sum": Primitive(affine=any),
    "reshape": Primitive(affine=any),
    "rev": Primitive(affine=any),
    "slice": Primitive(affine=any),
    "split": Primitive(affine=any),
    "squeeze": Primitive(affine=any),
    "transpose": Primitive(affine=any),
    # Refused, with an alternative.
    "abs": Primitive(name="an absolute value", alternative="a square"),
    "erf": Primitive(name="an error function (GELU)", alternative=_ACTIVATION),
    "erfc": Primitive(name="an error function (GELU)", alternative=_ACTIVATION),
    "exp": Primitive(name="an exponential", alternative=_ACTIVATION),
    "log": Primitive(name="a logarithm", alternative=_ACTIVATION),
    "logistic": Primitive(name="a sigmoid", alternative=_ACTIVATION),
    "max": Primitive(name="a maximum (ReLU)", alternative=_ACTIVATION),
    "min": Primitive(name="a minimum", alternative=_ACTIVATION),
    "reduce_max": Primitive(
        name="a maximum", alternative="a mean, or logits without softmax"
    ),
    "reduce_window_max": Primitive(
        name="max pooling", alternative="average pooling (nn.avg_pool)"
    ),
    "rsqrt": Primitive(name="a root", alternative=NO_EXAMPLE_NORM),
    "sqrt": Primitive(name="a root", alternative=NO_EXAMPLE_NORM),
    "tanh": Primitive(name="tanh", alternative=_ACTIVATION),
}
