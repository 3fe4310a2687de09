import dataclasses

import numpy as np
import pytest

from fedjax_private.inference.compiling.canonical import canonical_form
from fedjax_private.inference.compiling.circuit import Patches
from fedjax_private.inference.planning.layouts import PatchLayout, PeriodicLayout
from fedjax_private.inference.planning.packings import (
    PlanError,
    batch_layout,
    single_layout,
)
from tests.inference.networks import images, multilayer, network


def layout_of(circuit, dimension=8192):
    return single_layout(circuit, canonical_form(circuit), dimension)


def test_images_too_large_for_few_patches_are_repeated_instead():
    patches = Patches((5, 5), (1, 1), ((2, 2), (2, 2)))
    small = network(shape=(8, 8, 1), patches=patches, maps=2)
    large = network(shape=(14, 14, 1), patches=patches, maps=18)
    assert isinstance(layout_of(small), PatchLayout)
    assert isinstance(layout_of(large), PeriodicLayout)


def test_a_wrong_claim_of_patches_is_not_believed():
    circuit = network()
    first = dataclasses.replace(
        circuit.layers[0], matrix=np.ones_like(circuit.layers[0].matrix)
    )
    circuit = dataclasses.replace(circuit, layers=(first, *circuit.layers[1:]))
    circuit = circuit.measured(images(circuit.input_shape))
    assert isinstance(layout_of(circuit), PeriodicLayout)


def test_a_batch_sends_the_numbers_that_have_a_weight():
    # Stride 2 leaves the last row and column of an even image out.
    layout = batch_layout(canonical_form(network()))
    rows, columns = np.divmod(layout.used, 10)
    assert len(layout.used) == 9 * 9
    assert rows.max() == columns.max() == 8


def test_an_image_wider_than_the_slots_has_no_single_packing():
    with pytest.raises(PlanError, match=r"more than the 4096 slots.*packing='batch'"):
        layout_of(multilayer((3, 5000, 2)))
