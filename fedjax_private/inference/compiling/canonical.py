"""A circuit in its canonical form, which is the cheapest to evaluate encrypted.

Affine maps and monic polynomials alternate, an affine map is first and last, and all
values lie in [-1, 1] where the circuit's bounds hold, so that scales fit every layer
alike. Leading coefficients go into the next affine map, where multiplying by them costs
nothing, and squares are completed, so that a polynomial of degree 2 is one square.
"""

import dataclasses

import numpy as np

from fedjax_private.inference.compiling.circuit import (
    Affine,
    Circuit,
    Floats,
    Patches,
    Polynomial,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """An affine map, and the monic polynomial of its outputs.

    Attributes:
        matrix: (outputs, inputs) float64.
        bias: (outputs,) float64.
        powers: (degree, outputs): coefficients of 1, x, ..., x^(degree - 1); that of
            x^degree is 1. No rows at the last step.
        input_spread: approximate root mean square of the inputs.
        spread: approximate root mean square of the affine map's outputs.
    """

    matrix: Floats
    bias: Floats
    powers: Floats
    input_spread: float
    spread: float

    @property
    def outputs(self) -> int:
        """Values of the result."""
        return len(self.bias)

    @property
    def degree(self) -> int:
        """Degree of the polynomial; 0 where there is none."""
        return len(self.powers)


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """The canonical form of a circuit: what a server evaluates.

    Attributes:
        steps: in order; only the last has no polynomial.
        input_scale: the client divides its inputs by this before it encrypts them.
        output_scale: the client multiplies the decrypted outputs by this.
        patches: the geometry of the first map, where it is a convolution.
    """

    steps: tuple[Step, ...]
    input_scale: float
    output_scale: float
    patches: Patches | None


def canonical_form(circuit: Circuit) -> Program:
    """The program that computes the same as a circuit.

    Raises:
        ValueError: if the circuit has no bounds, or a polynomial whose leading
            coefficient is zero in some entries only.
    """
    if not circuit.bounds:
        raise ValueError(
            "the circuit has no bounds: give it some by circuit.measured(sample)."
        )
    input_scale = circuit.bounds[0]
    # The affine map since the last polynomial: matrix x + bias. Until a layer mixes
    # entries the matrix is diagonal.
    matrix: Floats | None = None
    diagonal: Floats = np.full(circuit.inputs, input_scale)
    bias: Floats = np.zeros(circuit.inputs)
    bound, spread = circuit.bounds[0], circuit.spreads[0]
    input_spread = spread / input_scale
    first = circuit.layers[0]
    patches = first.patches if isinstance(first, Affine) else None
    steps: list[Step] = []
    for layer, after, after_spread in zip(
        circuit.layers, circuit.bounds[1:], circuit.spreads[1:], strict=True
    ):
        if isinstance(layer, Affine):
            if matrix is None:
                matrix = layer.matrix * diagonal
            else:
                matrix = layer.matrix @ matrix
            bias = layer.matrix @ bias + layer.bias
        else:
            matrix = np.diag(diagonal) if matrix is None else matrix
            step, diagonal, constant = _monic(layer, matrix, bias, bound, spread)
            steps.append(dataclasses.replace(step, input_spread=input_spread))
            matrix, bias = None, constant
            largest = after_spread + float(np.abs(constant).max())
            input_spread = largest / float(np.abs(diagonal).min())
        bound, spread = after, after_spread
    matrix = np.diag(diagonal) if matrix is None else matrix
    output_scale = bound
    steps.append(
        Step(
            matrix / output_scale,
            bias / output_scale,
            np.empty((0, len(bias))),
            input_spread,
            spread / output_scale,
        )
    )
    return Program(tuple(steps), input_scale, output_scale, patches)


def _monic(
    layer: Polynomial, matrix: Floats, bias: Floats, bound: float, spread: float
) -> tuple[Step, Floats, Floats]:
    """The step y = q((A x + b) / beta), with f and c such that the layer is f y + c."""
    coefficients = layer.coefficients.copy()
    while len(coefficients) > 2 and not coefficients[-1].any():
        coefficients = coefficients[:-1]
    lead = coefficients[-1]
    if not lead.all():
        raise ValueError(
            f"{layer.name}: the leading coefficient of the polynomial is zero in some "
            "entries only; use one degree for the whole layer."
        )
    degree = len(coefficients) - 1
    # Completes the square: x^2 + c x is a square of x + c / 2, and a constant.
    shift = np.zeros_like(lead)
    if degree == 2:
        shift = coefficients[1] / (2 * lead)
        constant = coefficients[0] - lead * shift**2
        coefficients = np.stack([constant, np.zeros_like(lead), lead])
    beta = bound + float(np.abs(shift).max())
    powers = np.arange(degree + 1)[:, None]
    # p(beta x) / (lead beta^degree) is monic; its constant goes into the next map.
    scaled = coefficients * beta ** (powers - degree) / lead
    constant = coefficients[0]
    scaled = np.where(powers == 0, 0.0, scaled)
    shifted = float(np.hypot(spread, np.abs(shift).max())) / beta
    step = Step(matrix / beta, (bias + shift) / beta, scaled[:-1], 0.0, shifted)
    return step, lead * beta**degree, constant
