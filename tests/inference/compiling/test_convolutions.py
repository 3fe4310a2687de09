import numpy as np
import pytest

from fedjax_private.inference.compiling.circuit import Patches
from fedjax_private.inference.compiling.convolutions import find_patches
from tests.inference.networks import convolution

SHAPE = (10, 9, 2)


@pytest.mark.parametrize(
    "patches",
    [
        Patches((3, 3), (1, 1), ((0, 0), (0, 0))),
        Patches((3, 2), (2, 3), ((1, 0), (0, 0))),
        Patches((5, 5), (1, 2), ((2, 2), (2, 2))),
    ],
)
def test_the_windows_of_a_convolution_are_recovered(patches):
    layer = convolution("conv", SHAPE, patches, maps=3)
    output_shape = (*patches.grid(SHAPE), 3)
    assert find_patches(layer.matrix, SHAPE, output_shape) == patches


def test_dense_layers_have_no_windows():
    matrix = np.ones((4 * 4 * 3, 180))
    assert find_patches(matrix, SHAPE, (4, 4, 3)) is None
    assert find_patches(matrix, SHAPE, (48,)) is None
    assert find_patches(matrix[:9], SHAPE, (4, 4, 3)) is None
