import numpy as np
import pytest

from fedjax_private.inference.compiling.circuit import (
    Affine,
    Circuit,
    Patches,
    Polynomial,
)
from tests.inference.networks import convolution, dense, images, multilayer, network

GEOMETRIES = [
    Patches((3, 3), (1, 1), ((0, 0), (0, 0))),
    Patches((3, 2), (2, 3), ((1, 1), (0, 2))),
    Patches((5, 5), (2, 2), ((1, 2), (1, 2))),
]


def convolved(image, kernel, patches):
    """A convolution by its definition: (H, W, C), (kh, kw, C) -> (down, right)."""
    padded = np.pad(image, (*patches.padding, (0, 0)))
    down, right = patches.grid(image.shape)
    result = np.empty((down, right))
    for i in range(down):
        for j in range(right):
            top, left = i * patches.strides[0], j * patches.strides[1]
            window = padded[
                top : top + patches.kernel[0], left : left + patches.kernel[1]
            ]
            result[i, j] = (window * kernel).sum()
    return result


@pytest.mark.parametrize("patches", GEOMETRIES)
def test_patches_are_the_windows_of_a_convolution(patches):
    random = np.random.default_rng(0)
    image = random.normal(size=(7, 8, 2))
    kernel = random.normal(size=(*patches.kernel, 2))
    indices = patches.indices(image.shape)
    values = np.where(indices >= 0, image.ravel()[indices], 0.0)
    expected = convolved(image, kernel, patches)
    assert patches.grid(image.shape) == expected.shape
    np.testing.assert_allclose(values @ kernel.ravel(), expected.ravel())


def test_a_small_circuit_by_hand():
    circuit = Circuit(
        (2,),
        (
            Affine("a", np.array([[1.0, 2.0], [0.0, -1.0]]), np.array([0.5, 1.0])),
            Polynomial("p", np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]])),
            Affine("b", np.array([[1.0, 1.0]]), np.array([-1.0])),
        ),
    )
    # (1, 2): affine 5.5, -1; polynomials 1 + 2 * 30.25, -1 + 3; minus one.
    np.testing.assert_allclose(circuit.plain([[1.0, 2.0]]), [[61.5 + 2.0 - 1.0]])


def test_splitting_composes():
    circuit = network()
    inputs = images(circuit.input_shape, 5)
    for name in circuit.names[:-1]:
        first, rest = circuit.split(name)
        middle = first.plain(inputs)
        np.testing.assert_allclose(rest.plain(middle), circuit.plain(inputs))
        assert first.bounds + rest.bounds[1:] == circuit.bounds
        assert first.spreads + rest.spreads[1:] == circuit.spreads
    for name in (circuit.names[-1], "absent"):
        with pytest.raises(ValueError, match="no layer"):
            circuit.split(name)


def test_bounds_are_twice_what_was_seen():
    circuit = multilayer((4, 3, 2))
    sample = images((4,), 20, seed=5)
    measured = circuit.measured(sample)
    stages = [sample, circuit.split("dense0")[0].plain(sample)]
    for bound, spread, values in zip(
        measured.bounds, measured.spreads, stages, strict=False
    ):
        assert bound == pytest.approx(2 * np.abs(values).max())
        assert spread == pytest.approx(np.sqrt((values**2).mean()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Circuit((3,), ()), "at least one layer"),
        (lambda: Circuit((4,), (dense("d", 2, 3),)), "takes 3 values, but gets 4"),
        (lambda: Circuit((3,), (dense("d", 3, 3),) * 2), "names of layers repeat"),
        (lambda: Circuit((3,), (dense("d", 2, 3),), (1.0,)), "bounds must be 2"),
        (
            lambda: Circuit((3,), (dense("d", 2, 3),), (1.0, -1.0), (1.0, 1.0)),
            "bounds must be 2",
        ),
        (lambda: Affine("a", np.ones((2, 3)), np.ones(3)), "bias \\(outputs,\\)"),
        (lambda: Affine("a", np.full((1, 1), np.nan), np.ones(1)), "not finite"),
        (lambda: Polynomial("p", np.ones((1, 3))), "degree 1 or more"),
        (lambda: Patches((0, 3), (1, 1), ((0, 0), (0, 0))), "must be positive"),
        (lambda: GEOMETRIES[0].grid((2, 2, 1)), "no window"),
        (lambda: GEOMETRIES[0].grid((9,)), r"\(H, W, C\)"),
        (lambda: multilayer((3, 2)).plain(np.ones((1, 4))), "inputs must be"),
    ],
)
def test_what_makes_no_circuit(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_convolution_of_maps_has_them_last():
    shape, patches = (5, 5, 1), GEOMETRIES[0]
    layer = convolution("conv", shape, patches, 2)
    image = images(shape, 1)[0]
    kernels = layer.matrix[:2][:, patches.indices(shape)[0]]  # those of window 0
    found = layer(image.reshape(1, -1))[0].reshape(3, 3, 2)
    for number in range(2):
        kernel = kernels[number].reshape(3, 3, 1)
        expected = convolved(image, kernel, patches) + layer.bias[number]
        np.testing.assert_allclose(found[..., number], expected)
