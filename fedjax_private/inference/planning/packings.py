"""Which packing a network fits, and what that makes of its layers."""

import math

import numpy as np

from fedjax_private.inference.compiling.canonical import Program, Step
from fedjax_private.inference.compiling.circuit import Circuit
from fedjax_private.inference.evaluating.ckks import MODULUS_BITS
from fedjax_private.inference.evaluating.single import Rotations
from fedjax_private.inference.planning.costs import sections_seconds
from fedjax_private.inference.planning.layouts import (
    BatchLayout,
    Layout,
    PatchLayout,
    PeriodicLayout,
    power_of_two,
)
from fedjax_private.inference.planning.schedule import Shape

# Of a request in single packing: rather rotations of one image than patches of it.
UPLOAD_BYTES = 4 * 10**6

# Sizes of primes: smaller ones waste less between scales, and are more to compute.
LIMB_BITS = (30, 26)


class PlanError(ValueError):
    """No plan exists; the message is one sentence with the ways out."""


def batch_layout(program: Program) -> BatchLayout:
    """The numbers of an image that the first map looks at."""
    used = np.flatnonzero(program.steps[0].matrix.any(axis=0))
    return BatchLayout(tuple(map(int, used)) or (0,))


def widest_of(circuit: Circuit, program: Program) -> int:
    """The most numbers of an image at a time."""
    return max(circuit.inputs, *(step.outputs for step in program.steps))


def single_layout(
    circuit: Circuit, program: Program, dimension: int
) -> PatchLayout | PeriodicLayout:
    """Patches where the first layer is a convolution that they suit.

    Raises:
        PlanError: if values do not fit the slots.
    """
    slots, steps = dimension // 2, program.steps
    widest = widest_of(circuit, program)
    if widest > slots:
        raise PlanError(
            f"one image takes up to {widest} numbers at a time, more than the {slots} "
            "slots of single packing: use --packing=batch, or a smaller network."
        )
    if program.patches is not None and len(steps) > 1:
        windows = math.prod(program.patches.grid(circuit.input_shape))
        maps, rest = divmod(steps[0].outputs, windows)
        covered = not rest and _only_patches(steps[0], program, circuit, maps)
        most = slots // (windows * max(maps, 1))
        layouts = [PatchLayout(program.patches, maps, n) for n in range(1, most + 1)]
        # As if the smaller ring's modulus were full; it is about what there is.
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


def _only_patches(step: Step, program: Program, circuit: Circuit, maps: int) -> bool:
    """Whether each output depends on its window only."""
    assert program.patches is not None
    indices = np.repeat(program.patches.indices(circuit.input_shape), maps, axis=0)
    rest = step.matrix.copy()
    rows = np.arange(len(rest))[:, None]
    inside = indices >= 0
    rest[np.broadcast_to(rows, indices.shape)[inside], indices[inside]] = 0.0
    return not rest.any()


def shapes_of(
    program: Program, layout: Layout, rotations: Rotations | None, slots: int
) -> list[Shape]:
    """What the error of each step depends on."""
    shapes = []
    for number, step in enumerate(program.steps):
        filled = int(np.count_nonzero(step.matrix, axis=1).max(initial=1))
        if rotations is None or (rotations.section and not number):
            terms, rotated = filled, False
        else:
            at = number - (1 if rotations.section else 0)
            form = rotations.diagonals[at]
            terms = len(form.diagonals) * max(form.period // form.height, 1)
            rotated = form.babies != (0,)
        shapes.append(
            Shape(
                degree=step.degree,
                row_norm=float(np.linalg.norm(step.matrix, axis=1).max()),
                terms=terms,
                rotated=rotated,
                encoded=rotations is not None,
                slope=_slope(step),
                typical=step.input_spread,
            )
        )
    return shapes


def _slope(step: Step) -> float:
    """Root mean square of the polynomial's derivative, for Gaussian values."""
    if not step.degree:
        return 1.0
    nodes, weights = np.polynomial.hermite_e.hermegauss(16)
    x = step.spread * nodes[:, None]
    rows = np.concatenate([step.powers, np.ones((1, step.outputs))])
    slopes = sum(k * rows[k] * x ** (k - 1) for k in range(1, len(rows)))
    mean = (weights / weights.sum()) @ np.square(slopes)
    return float(np.sqrt(mean.max()))
