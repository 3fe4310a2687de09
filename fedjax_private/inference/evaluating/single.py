"""Single packing: the server's program on one image, by rotations and diagonals."""

from collections.abc import Sequence

import numpy as np

from fedjax_private.encryption.workers import Workers
from fedjax_private.inference.compiling.canonical import Program
from fedjax_private.inference.compiling.circuit import Floats
from fedjax_private.inference.evaluating.batch import Rows
from fedjax_private.inference.evaluating.ckks import Ckks, Plaintext
from fedjax_private.inference.planning.layouts import Sources
from fedjax_private.inference.planning.polynomials import Number, monic
from fedjax_private.inference.planning.rotations import (
    Diagonals,
    Rotations,
    addition_chain,
)
from fedjax_private.inference.planning.schedule import Schedule


def periodic(values: Floats, period: int, slots: int) -> Floats:
    """Slots (slots,) with values (n,) at the start of each period and zeros after."""
    row = np.zeros(period)
    row[: len(values)] = values
    return np.tile(row, slots // period)


class SingleProgram:
    """A program with its weights encoded, for any client's ciphertexts.

    The scores are repeated in all slots of the result.

    Args:
        ckks: the arithmetic.
        program: to be evaluated.
        schedule: the program's scales.
        rotations: the program's, from `rotations_of`.
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
        self._rotations, self._input_scale = rotations, 2.0**schedule.input_bits
        scales = [2.0**bits for bits in schedule.weight_bits]
        self._steps = list(
            zip(
                program.steps,
                schedule.stages,
                rotations.diagonals,
                scales,
                strict=True,
            )
        )
        self._encoded: list[list[Plaintext]] = []
        for step, stage, diagonals, scale in self._steps:
            if diagonals is None:
                rows = _section_weights(step.matrix, sources, rotations.section)
            else:
                rows = [
                    diagonals.weights(step.matrix, k, ckks.slots)
                    for k in diagonals.diagonals
                ]
            self._encoded.append([ckks.encode(row, scale, stage.limbs) for row in rows])

    def __call__(self, ciphertexts: Rows, tag: str) -> list[Number]:
        """Returns one number: the program's outputs, in every period of the slots.

        The client's keys must be loaded.

        Args:
            ciphertexts: (n, 2, L, N), each residue below its prime.
            tag: of the client's keys.
        """
        ckks, slots = self._ckks, self._ckks.slots
        inputs = []
        for row in ciphertexts:
            inputs.append(ckks.number(row.astype(np.uint64), self._input_scale))
            inputs[-1].ciphertext.SetKeyTag(tag)
        x = inputs[0]
        for (step, stage, diagonals, scale), encoded in zip(
            self._steps, self._encoded, strict=True
        ):
            if diagonals is None:
                period = slots
                x = self._sections(inputs, encoded, scale, stage.sum_limbs)
            else:
                period = diagonals.height
                x = ckks.dropped(x, stage.limbs)
                x = self._affine(x, diagonals, encoded, scale, stage.sum_limbs)
            x = ckks.add(x, periodic(step.bias, period, slots))
            x = ckks.rescaled(x, stage.limbs_after)
            if step.degree:
                rows = [periodic(row, period, slots) for row in step.powers]
                x = monic(ckks, x, rows)
        return [x]

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
        for blocks, whole in addition_chain(self._rotations.sections):
            rotated = ckks.rotated(total, blocks * self._rotations.section)
            total = ckks.add(rotated, total if whole else first)
        return total

    def _affine(
        self,
        x: Number,
        diagonals: Diagonals,
        encoded: list[Plaintext],
        scale: float,
        limbs: int,
    ) -> Number:
        ckks = self._ckks
        # Digits pay off for several rotations only.
        steps, giants = diagonals.babies, diagonals.giants
        rotate = ckks.hoisted(x) if len(steps) > 1 else lambda n: ckks.rotated(x, n)
        rotated = self._workers.map(lambda i: rotate(steps[i]), len(steps))
        babies = dict(zip(steps, rotated, strict=True))
        weights = dict(zip(diagonals.diagonals, encoded, strict=True))

        def giant(index: int) -> Number:
            start = giants[index]
            products = (
                ckks.times_plaintext(babies[k - start], weights[k], scale)
                for k in diagonals.diagonals
                if start <= k < start + diagonals.block
            )
            return ckks.rotated(ckks.sum_of(products), start)

        total = ckks.sum_of(self._workers.map(giant, len(giants)))
        total = ckks.rescaled(total, limbs)
        for step in diagonals.doublings:
            total = ckks.add(total, ckks.rotated(total, step))
        return total


def _section_weights(matrix: Floats, sources: Sources, section: int) -> list[Floats]:
    """The weights (slots,) for each ciphertext of a request in sections."""
    outputs = np.arange(sources.shape[1]) % section
    rows: list[Floats] = []
    for source in sources:
        row = np.zeros(sources.shape[1])
        held = source >= 0
        row[held] = matrix[outputs[held], source[held]]
        rows.append(row)
    return rows
