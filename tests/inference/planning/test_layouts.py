import numpy as np

from fedjax_private.inference.compiling.circuit import Patches
from fedjax_private.inference.planning.layouts import PatchLayout, PeriodicLayout
from tests.inference.networks import convolution, images


def test_patches_of_several_ciphertexts_cover_every_offset():
    patches = Patches((3, 3), (1, 1), ((1, 1), (1, 1)))
    layer = convolution("conv", (6, 6, 1), patches, 2)
    layout = PatchLayout(patches, 2, 4)
    sources = layout.sources((6, 6, 1), 512)
    assert sources.shape == (3, 512)
    image = images((6, 6, 1), 1)[0].ravel()
    size = layout.section((6, 6, 1))
    total = np.zeros(size)
    for row in sources:
        for section in range(4):
            held = row[section * size : (section + 1) * size]
            outputs = np.flatnonzero(held >= 0)
            weights = layer.matrix[outputs, held[outputs]]
            total[outputs] += weights * image[held[outputs]]
    np.testing.assert_allclose(total + layer.bias, layer(image[None])[0])


def test_a_periodic_layout_repeats_the_image():
    sources = PeriodicLayout(8).sources((2, 3, 1), 16)
    assert sources.tolist() == [[0, 1, 2, 3, 4, 5, -1, -1] * 2]
