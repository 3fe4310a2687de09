"""Batch packing: the server's program on one image in each slot.

Each number of the images has a ciphertext, as in CryptoNets (Gilad-Bachrach et al.,
ICML 2016). A weight is then one integer for a whole ciphertext, and an affine map is a
product of integer matrices modulo each prime, coefficient by coefficient. A BLAS
computes it, or a sparse product where a layer is a convolution. Only products of
ciphertexts and rescaling need OpenFHE.
"""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from fedjax_private.encryption.workers import Workers
from fedjax_private.inference.compiling.canonical import Program, Step
from fedjax_private.inference.evaluating.ckks import Ckks
from fedjax_private.inference.planning.costs import OUTPUTS_AT_A_TIME
from fedjax_private.inference.planning.polynomials import (
    Number,
    inner_rescalings,
    monic,
)
from fedjax_private.inference.planning.schedule import Schedule

# (n, 2, l, N): the polynomials of n ciphertexts, modulo primes below 2^32.
Rows = npt.NDArray[np.uint32]

# Residues are split into halves, so that sums of their products with weights are exact
# in float64.
_HALF_BITS = 16
_EXACT_BITS = 52

# Coefficients that are multiplied at a time: their rows stay in the cache.
_COLUMNS = 2048

# A sparse product is faster where a smaller share of the weights is not zero.
_SPARSE = 0.2


@dataclasses.dataclass(frozen=True)
class Weights:
    """The integer weights of an affine map.

    Attributes:
        matrix: (outputs, inputs), integers as float64, or a sparse int64 matrix.
        bits: bits of its largest absolute value.
    """

    matrix: npt.NDArray[np.float64] | sparse.csr_matrix
    bits: int

    @classmethod
    def of(cls, step: Step, scale: float) -> "Weights":
        """A step's weights times `scale`, rounded."""
        rounded = np.rint(step.matrix * scale)
        bits = int(np.abs(rounded).max(initial=1.0)).bit_length()
        filled = np.count_nonzero(rounded) / rounded.size
        if filled < _SPARSE:
            return cls(sparse.csr_matrix(rounded.astype(np.int64)), bits)
        return cls(rounded, bits)

    def part(self, rows: slice) -> "Weights":
        """The weights of some of the outputs."""
        return dataclasses.replace(self, matrix=self.matrix[rows])

    def times(
        self, rows: npt.NDArray[np.uint32], modulus: int
    ) -> npt.NDArray[np.uint32]:
        """The product with residues (inputs, n), reduced: (outputs, n)."""
        if sparse.issparse(self.matrix):
            return _sparse_product(self.matrix, self.bits, rows, modulus)
        return _dense_product(self.matrix, self.bits, rows, modulus)


def _sparse_product(
    matrix: sparse.csr_matrix,
    bits: int,
    rows: npt.NDArray[np.uint32],
    modulus: int,
) -> npt.NDArray[np.uint32]:
    terms = int(np.diff(matrix.indptr).max(initial=1)).bit_length()
    if bits + modulus.bit_length() + terms > 63:
        # Low and high bits of the weights separately, so that neither overflows.
        low_bits = bits // 2
        high, low = matrix.copy(), matrix.copy()
        high.data = matrix.data >> low_bits
        low.data = matrix.data - (high.data << low_bits)
        total = _sparse_product(high, bits - low_bits, rows, modulus).astype(np.int64)
        total <<= low_bits
        total += _sparse_product(low, low_bits, rows, modulus)
        return np.asarray(total % modulus, np.uint32)
    return np.asarray((matrix @ rows.astype(np.int64)) % modulus, np.uint32)


def _dense_product(
    matrix: npt.NDArray[np.float64],
    bits: int,
    rows: npt.NDArray[np.uint32],
    modulus: int,
) -> npt.NDArray[np.uint32]:
    # Sums of products of pieces of weights and residues are below 2^52, so exact.
    piece_bits = _EXACT_BITS - matrix.shape[1].bit_length() - _HALF_BITS
    halves = [
        (rows & np.uint32(2**_HALF_BITS - 1)).astype(np.float64),
        (rows >> np.uint32(_HALF_BITS)).astype(np.float64),
    ]
    total = np.zeros((len(matrix), rows.shape[1]), np.int64)
    remaining, weight_shift = matrix, 0
    while weight_shift < bits:
        if bits - weight_shift > piece_bits:
            piece = np.remainder(remaining, 2.0**piece_bits)
            remaining = (remaining - piece) / 2.0**piece_bits
        else:
            piece = remaining
        for half, values in enumerate(halves):
            factor = pow(2, weight_shift + half * _HALF_BITS, modulus)
            part = (piece @ values).astype(np.int64) % modulus
            total += part * factor % modulus
        weight_shift += piece_bits
    return np.asarray(total % modulus, np.uint32)


class BatchProgram:
    """A program with integer weights, for any client's ciphertexts.

    Args:
        ckks: the arithmetic.
        program: to be evaluated; its inputs are those that the batch layout uses.
        schedule: the program's scales.
        workers: threads.
    """

    def __init__(
        self, ckks: Ckks, program: Program, schedule: Schedule, workers: Workers
    ) -> None:
        self._ckks, self._workers = ckks, workers
        self._steps, self._stages = program.steps, schedule.stages
        self._scales = [2.0**bits for bits in schedule.weight_bits]
        self._input_scale = 2.0**schedule.input_bits
        self._weights = [
            Weights.of(step, scale)
            for step, scale in zip(program.steps, self._scales, strict=True)
        ]

    def __call__(self, inputs: Rows, tag: str) -> list[Number]:
        """Returns one number for each of the program's outputs.

        The client's keys must be loaded.

        Args:
            inputs: (inputs, 2, L, N), each residue below its prime.
            tag: of the client's keys.
        """
        rows, scale = inputs, self._input_scale
        *inner, last = range(len(self._steps))
        for number in inner:
            rows, scale = self._step_residues(number, rows, scale, tag)
        return self._step_numbers(last, rows, scale, tag, slice(None))

    def _step_residues(
        self, number: int, rows: Rows, scale: float, tag: str
    ) -> tuple[Rows, float]:
        """A step's results as residues, and their scale."""
        step, stage, ckks = self._steps[number], self._stages[number], self._ckks
        limbs = stage.limbs_after - inner_rescalings(step.degree)
        residues = np.empty((step.outputs, 2, limbs, ckks.dimension), np.uint32)
        after = scale
        for start in range(0, step.outputs, OUTPUTS_AT_A_TIME):
            some = slice(start, start + OUTPUTS_AT_A_TIME)
            results = self._step_numbers(number, rows, scale, tag, some)

            def export(index: int, first: int = start, of: Any = results) -> None:
                residues[first + index] = ckks.residues(of[index])

            self._workers.map(export, len(results))
            after = results[0].scale
        return residues, after

    def _step_numbers(
        self, number: int, rows: Rows, scale: float, tag: str, outputs: slice
    ) -> list[Number]:
        """Some of a step's results."""
        step, stage, ckks = self._steps[number], self._stages[number], self._ckks
        weights = self._weights[number].part(outputs)
        bias, powers = step.bias[outputs], step.powers[:, outputs]
        products = self._affine(weights, rows[:, :, : stage.limbs])

        def activated(index: int) -> Number:
            residues = products[index].astype(np.uint64)
            x = ckks.number(residues, scale * self._scales[number])
            x.ciphertext.SetKeyTag(tag)
            x = ckks.add(x, float(bias[index]))
            x = ckks.rescaled(x, stage.limbs_after)
            if not step.degree:
                return x
            return monic(ckks, x, [float(row[index]) for row in powers])

        return self._workers.map(activated, len(products))

    def _affine(self, weights: Weights, rows: Rows) -> Rows:
        limbs, dimension = rows.shape[2:]
        outputs = weights.matrix.shape[0]
        products = np.empty((outputs, 2, limbs, dimension), np.uint32)
        blocks = [
            (part, limb, slice(start, start + _COLUMNS))
            for part in range(2)
            for limb in range(limbs)
            for start in range(0, dimension, _COLUMNS)
        ]

        def block(index: int) -> None:
            part, limb, columns = blocks[index]
            modulus = self._ckks.ring.moduli[limb]
            values = np.ascontiguousarray(rows[:, part, limb, columns])
            products[:, part, limb, columns] = weights.times(values, modulus)

        self._workers.map(block, len(blocks))
        return products
