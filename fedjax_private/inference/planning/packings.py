"""Chooses the layout for single or batch packing, or says why none fits."""

import numpy as np
import numpy.typing as npt

from fedjax_private.inference.compiling.canonical import Program
from fedjax_private.inference.compiling.circuit import Circuit, Floats
from fedjax_private.inference.planning.costs import sections_seconds
from fedjax_private.inference.planning.layouts import (
    BatchLayout,
    PatchLayout,
    PeriodicLayout,
)
from fedjax_private.inference.planning.rings import LIMB_BITS, MODULUS_BITS
from fedjax_private.inference.planning.rotations import power_of_two

# One image a request, or one image in each slot.
PACKINGS = ("single", "batch")

# The largest request in patches; beyond it one image is sent once and rotated.
UPLOAD_BYTES = 4 * 10**6


class PlanError(ValueError):
    """There is no plan; the message is one sentence that names the alternatives."""


def batch_layout(program: Program) -> BatchLayout:
    """The layout of batch packing: the numbers of an image that have a weight."""
    used = np.flatnonzero(program.steps[0].matrix.any(axis=0))
    return BatchLayout(tuple(map(int, used)) or (0,))


def single_layout(
    circuit: Circuit, program: Program, dimension: int
) -> PatchLayout | PeriodicLayout:
    """The layout of single packing: patches, if the first layer is a convolution.

    A convolution whose patches take more than `UPLOAD_BYTES` gets a periodic layout.

    Raises:
        PlanError: if values do not fit the slots.
    """
    slots, steps = dimension // 2, program.steps
    widest = max(circuit.inputs, *(step.outputs for step in steps))
    if widest > slots:
        raise PlanError(
            f"one image takes up to {widest} numbers at a time, more than the {slots} "
            "slots of single packing: use packing='batch', or a smaller network."
        )
    if program.patches is not None and len(steps) > 1:
        windows = program.patches.indices(circuit.input_shape)
        maps, rest = divmod(steps[0].outputs, len(windows))
        covered = not rest and _only_windows(steps[0].matrix, windows, maps)
        most = slots // (len(windows) * max(maps, 1))
        layouts = [PatchLayout(program.patches, maps, n) for n in range(1, most + 1)]
        # Sized for a full modulus of the smaller ring, whatever the plan's will be.
        limbs = min(MODULUS_BITS.values()) // min(LIMB_BITS)
        polynomial = dimension * (min(LIMB_BITS) + 1) * limbs // 8

        def count(layout: PatchLayout) -> int:
            return layout.ciphertexts(circuit.input_shape)

        fitting = [m for m in layouts if count(m) * polynomial <= UPLOAD_BYTES]
        if covered and fitting:
            return min(
                fitting, key=lambda m: sections_seconds(count(m), m.sections, limbs)
            )
    return PeriodicLayout(power_of_two(circuit.inputs))


def _only_windows(matrix: Floats, windows: npt.NDArray[np.int64], maps: int) -> bool:
    """Whether each output depends on the pixels of its window only."""
    indices = np.repeat(windows, maps, axis=0)
    rest = matrix.copy()
    rows, places = np.nonzero(indices >= 0)
    rest[rows, indices[rows, places]] = 0.0
    return not rest.any()
