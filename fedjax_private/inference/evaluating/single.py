"""One image at a time: the server's program over rotations and diagonals."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from fedjax_private.encryption.workers import Workers
from fedjax_private.inference.compiling.canonical import Program
from fedjax_private.inference.compiling.circuit import Floats
from fedjax_private.inference.evaluating.ckks import Ckks, Number, Plaintext
from fedjax_private.inference.evaluating.powers import monic
from fedjax_private.inference.planning.layouts import (
    Diagonals,
    PatchLayout,
    PeriodicLayout,
    Sources,
    sums,
)
from fedjax_private.inference.planning.schedule import Schedule


@dataclasses.dataclass(frozen=True)
class Rotations:
    """What a program rotates.

    Attributes:
        section: slots of a section of the first layer; 0 without sections.
        sections: how many are added up.
        diagonals: of each step, but for a first one in sections.
    """

    section: int
    sections: int
    diagonals: tuple[Diagonals, ...]

    @property
    def all(self) -> tuple[int, ...]:
        """Every rotation that needs a key, ascending."""
        steps = (
            {n * self.section for n, _ in sums(self.sections)}
            if self.section
            else set()
        )
        for diagonals in self.diagonals:
            steps |= diagonals.rotations
        return tuple(sorted(steps))


def rotations_of(
    program: Program,
    layout: PatchLayout | PeriodicLayout,
    input_shape: tuple[int, ...],
    slots: int,
) -> Rotations:
    """What evaluating a program on inputs of that layout rotates."""
    steps, section, sections = program.steps, 0, 1
    if isinstance(layout, PatchLayout):
        # What is left of other sections meets weights of zero.
        section, sections = layout.section(input_shape), layout.sections
        steps, period = steps[1:], slots
    else:
        period = layout.period
    found = []
    for step in steps:
        found.append(Diagonals.of(step.matrix, period))
        period = found[-1].height
    return Rotations(section, sections, tuple(found))


def periodic(values: Floats, period: int, slots: int) -> Floats:
    """Values (n,) at the beginning of each period; zeros elsewhere."""
    row = np.zeros(period)
    row[: len(values)] = values
    return np.tile(row, slots // period)


class SingleProgram:
    """A program with its weights encoded, ready for any client's ciphertexts.

    Every slot of the result holds a score: the result repeats them.

    Args:
        ckks: the arithmetic.
        program: to be evaluated.
        schedule: its scales.
        rotations: of `rotations_of`.
        sources: which number each slot of the inputs holds.
        workers: threads.
    """

    def __init__(
        self,
        ckks: Ckks,
        program: Program,
        schedule: Schedule,
        rotations: Rotations,
        sources: Sources,
        workers: Workers,
    ) -> None:
        self._ckks, self._workers = ckks, workers
        self._rotations = rotations
        self._steps, self._stages = program.steps, schedule.stages
        self._encoded: list[list[Plaintext]] = []
        self._weight_scales = [2.0**bits for bits in schedule.weight_bits]
        diagonals = list(rotations.diagonals)
        period = ckks.slots
        self._periods: list[int] = []
        for number, (step, stage, scale) in enumerate(
            zip(self._steps, self._stages, self._weight_scales, strict=True)
        ):
            if rotations.section and not number:
                rows = _section_weights(step.matrix, sources, rotations.section)
            else:
                form = diagonals.pop(0)
                rows = [
                    form.weights(step.matrix, k, ckks.slots) for k in form.diagonals
                ]
                period = form.height
            self._periods.append(period)
            self._encoded.append([ckks.encode(row, scale, stage.limbs) for row in rows])

    def __call__(self, inputs: Sequence[Number]) -> Number:
        """Evaluates; the keys must be loaded.

        Args:
            inputs: the request's ciphertexts.

        Returns:
            The program's outputs, in every period of the slots.
        """
        ckks, slots = self._ckks, self._ckks.slots
        diagonals = list(self._rotations.diagonals)
        x = inputs[0]
        for number, (step, stage, encoded, scale, period) in enumerate(
            zip(
                self._steps,
                self._stages,
                self._encoded,
                self._weight_scales,
                self._periods,
                strict=True,
            )
        ):
            if self._rotations.section and not number:
                x = self._sections(inputs, encoded, scale, stage.sum_limbs)
            else:
                x = ckks.dropped(x, stage.limbs)
                form = diagonals.pop(0)
                x = self._affine(x, form, encoded, scale, stage.sum_limbs)
            x = ckks.add(x, periodic(step.bias, period, slots))
            x = ckks.rescaled(x, stage.limbs_after)
            if step.degree:
                rows = [periodic(row, period, slots) for row in step.powers]
                x = monic(ckks, x, rows)
        return x

    def _sections(
        self,
        inputs: Sequence[Number],
        encoded: list[Plaintext],
        scale: float,
        limbs: int,
    ) -> Number:
        ckks = self._ckks
        products = self._workers.map(
            lambda i: ckks.times_plaintext(inputs[i], encoded[i], scale), len(inputs)
        )
        first = total = ckks.rescaled(ckks.sum_of(products), limbs)
        for blocks, whole in sums(self._rotations.sections):
            turned = ckks.rotated(total, blocks * self._rotations.section)
            total = ckks.add(turned, total if whole else first)
        return total

    def _affine(
        self,
        x: Number,
        form: Diagonals,
        encoded: list[Plaintext],
        scale: float,
        limbs: int,
    ) -> Number:
        ckks = self._ckks
        # A single turn, as by nothing, is not worth the digits.
        several = len(form.babies) > 1
        turn = ckks.hoisted(x) if several else lambda steps: ckks.rotated(x, steps)
        turned = self._workers.map(lambda i: turn(form.babies[i]), len(form.babies))
        babies = dict(zip(form.babies, turned, strict=True))
        weights = dict(zip(form.diagonals, encoded, strict=True))

        def giant(index: int) -> Number:
            start = form.giants[index]
            products = (
                ckks.times_plaintext(babies[k - start], weights[k], scale)
                for k in form.diagonals
                if start <= k < start + form.block
            )
            return ckks.rotated(ckks.sum_of(products), start)

        total = ckks.sum_of(self._workers.map(giant, len(form.giants)))
        total = ckks.rescaled(total, limbs)
        for step in form.doublings:
            total = ckks.add(total, ckks.rotated(total, step))
        return total


def _section_weights(matrix: Floats, sources: Sources, section: int) -> list[Floats]:
    """The weights (slots,) that each ciphertext of a sectioned request meets."""
    outputs = np.arange(sources.shape[1]) % section
    rows: list[Floats] = []
    for source in sources:
        row = np.zeros(sources.shape[1])
        held = source >= 0
        row[held] = matrix[outputs[held], source[held]]
        rows.append(row)
    return rows
