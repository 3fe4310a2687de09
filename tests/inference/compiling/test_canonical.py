import numpy as np
import pytest

from fedjax_private.inference.compiling.canonical import canonical_form
from fedjax_private.inference.compiling.circuit import Circuit, Polynomial
from tests.inference.networks import (
    CUBIC,
    QUADRATIC,
    QUARTIC,
    SQUARE,
    activation,
    dense,
    images,
    network,
)


def values(program, inputs):
    """What goes into each polynomial, and at last the program's results."""
    x = inputs / program.input_scale
    arguments = []
    for step in program.steps:
        arguments.append(x @ step.matrix.T + step.bias)
        monic = [np.ones(step.outputs), *step.powers[::-1]]
        x = np.polyval(monic, arguments[-1]) if step.degree else arguments[-1]
    return arguments, x * program.output_scale


@pytest.mark.parametrize("powers", [SQUARE, QUADRATIC, CUBIC, QUARTIC])
def test_the_canonical_form_computes_the_same_within_its_range(powers):
    circuit = network(powers=powers)
    program = canonical_form(circuit)
    inputs = images(circuit.input_shape, 30, seed=2)
    flat = inputs.reshape(len(inputs), -1)
    arguments, results = values(program, flat)
    np.testing.assert_allclose(results, circuit.plain(inputs), rtol=1e-9)
    assert max(np.abs(x).max() for x in arguments) < 1


def test_squares_are_completed():
    program = canonical_form(network(powers=QUADRATIC))
    for step in program.steps[:-1]:
        assert step.degree == 2
        assert not step.powers.any()


def test_polynomials_first_or_last_are_surrounded_by_affine_maps():
    layers = (
        activation("first", QUADRATIC, 4),
        activation("second", CUBIC, 4),
    )
    circuit = Circuit((4,), layers).measured(images((4,)))
    program = canonical_form(circuit)
    assert [step.degree for step in program.steps] == [2, 3, 0]
    inputs = images((4,), 10, seed=3)
    results = values(program, inputs)[1]
    np.testing.assert_allclose(results, circuit.plain(inputs), rtol=1e-9)


def test_leading_zeros_lower_the_degree():
    circuit = Circuit(
        (3,), (activation("p", (0.1, 0.2, 0.3, 0.0, 0.0), 3), dense("d", 2, 3))
    ).measured(images((3,)))
    assert canonical_form(circuit).steps[0].degree == 2
    mixed = np.ones((3, 3))
    mixed[-1, 0] = 0.0
    circuit = Circuit((3,), (Polynomial("p", mixed),)).measured(images((3,)))
    with pytest.raises(ValueError, match="leading coefficient"):
        canonical_form(circuit)


def test_a_circuit_without_bounds_has_no_canonical_form():
    with pytest.raises(ValueError, match="no bounds"):
        canonical_form(Circuit((3,), (dense("d", 2, 3),)))
