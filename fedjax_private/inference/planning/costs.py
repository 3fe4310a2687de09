"""What a request costs in seconds and memory, predicted before anything is encrypted.

Seconds of each operation were measured on two x86-64 cores with OpenFHE 1.6.1; they
grow with N and, for key switching, with the square of the primes.
"""

import dataclasses

from fedjax_private.inference.compiling.canonical import Program, Step
from fedjax_private.inference.planning.errors import Stage
from fedjax_private.inference.planning.rotations import (
    Diagonals,
    Rotations,
    addition_chain,
)
from fedjax_private.inference.planning.schedule import Schedule

# Batch packing computes this many outputs of a layer at a time, so that memory need not
# hold all of them twice.
OUTPUTS_AT_A_TIME = 128

# Seconds at N = 8192; those of key switching and hoisting for each prime squared.
_SWITCH = 0.16e-3
_DIGITS = 0.12e-3
_HOISTED = 0.045e-3
# Seconds at N = 8192 for each prime.
_PRODUCT = 0.04e-3
_RESCALE = 0.30e-3
_ENCRYPT = 1.00e-3
_READ = 0.50e-3
_IN_AND_OUT = 0.30e-3
# Multiplications of a residue by a weight, a second.
_SPARSE_RATE, _DENSE_RATE = 6e8, 1e9

_THREADS = 2
_BASE_BYTES = 150 * 2**20


@dataclasses.dataclass(frozen=True)
class Cost:
    """Predicted cost of one request, with two threads.

    Attributes:
        seconds: of client and server, from images to scores, without the network's.
        memory_bytes: of one session at the server, approximately.
    """

    seconds: float
    memory_bytes: int


def sections_seconds(ciphertexts: int, sections: int, limbs: int) -> float:
    """Seconds of client and server for a first layer in sections, approximately."""
    each = (_ENCRYPT + _READ) / _THREADS + _PRODUCT
    additions = len(addition_chain(sections))
    return ciphertexts * each * limbs + additions * _SWITCH * limbs**2


def cost_of(
    program: Program, schedule: Schedule, rotations: Rotations | None, ciphertexts: int
) -> Cost:
    """The predicted cost of one request.

    Args:
        program: to be evaluated.
        schedule: of the program.
        rotations: of single packing; None for batch packing.
        ciphertexts: in the request.
    """
    if rotations is None:
        return _batch_cost(program, schedule, ciphertexts)
    return _single_cost(program, schedule, rotations, ciphertexts)


def _batch_cost(program: Program, schedule: Schedule, ciphertexts: int) -> Cost:
    dimension, limbs = schedule.choice.dimension, schedule.choice.limbs
    size, row = dimension / 8192, 8 * dimension
    client = ciphertexts * _ENCRYPT * limbs / _THREADS
    client += program.steps[-1].outputs * 2e-3 / _THREADS
    server = ciphertexts * _READ * limbs / _THREADS
    widest = 0
    packed = ciphertexts * limbs * dimension * 4  # a request's bytes
    for step, stage in zip(program.steps, schedule.stages, strict=True):
        filled = int((step.matrix != 0).sum())
        rate = _SPARSE_RATE if filled < 0.2 * step.matrix.size else _DENSE_RATE
        products = filled * 2 * stage.limbs * 8192 / rate
        each = _RESCALE * stage.limbs + _IN_AND_OUT * stage.limbs
        each += _products(step) * _SWITCH * stage.limbs_after**2
        server += (products + step.outputs * each) / _THREADS
        # Residues of 32 bits, and OpenFHE's own of the outputs being computed.
        held = step.matrix.shape[1] * stage.limbs + step.outputs * stage.limbs_after
        computed = min(step.outputs, OUTPUTS_AT_A_TIME) * stage.limbs
        widest = max(widest, held * row + 5 * computed * row)
    memory = _BASE_BYTES + packed + widest
    return Cost(client * size + server * size, memory)


def _single_cost(
    program: Program, schedule: Schedule, rotations: Rotations, ciphertexts: int
) -> Cost:
    dimension, limbs = schedule.choice.dimension, schedule.choice.limbs
    size, row = dimension / 8192, 8 * dimension
    client = ciphertexts * _ENCRYPT * limbs / _THREADS + 4e-3
    server = ciphertexts * _READ * limbs / _THREADS
    memory = _BASE_BYTES + (len(rotations.all) + 1) * 2 * limbs**2 * row
    for step, stage, diagonals in zip(
        program.steps, schedule.stages, rotations.diagonals, strict=True
    ):
        if diagonals is None:
            additions = len(addition_chain(rotations.sections))
            work = ciphertexts * _PRODUCT * stage.limbs
            work += additions * _SWITCH * stage.sum_limbs**2
            encoded = ciphertexts
        else:
            work, encoded = _diagonals_work(diagonals, stage), len(diagonals.diagonals)
        memory += encoded * stage.limbs * row
        server += work + _RESCALE * stage.limbs
        server += _products(step) * _SWITCH * stage.limbs_after**2
    server += _ENCRYPT * 2
    return Cost(client * size + server * size, memory)


def _diagonals_work(diagonals: Diagonals, stage: Stage) -> float:
    giants = len(set(diagonals.giants) - {0})
    babies = len(set(diagonals.babies) - {0})
    work = giants * _SWITCH + babies * _HOISTED
    work = work / _THREADS + bool(babies) * _DIGITS
    doublings = len(diagonals.doublings) * _SWITCH * stage.sum_limbs**2
    total = work * stage.limbs**2 + doublings
    return total + len(diagonals.diagonals) * _PRODUCT * stage.limbs / _THREADS


def _products(step: Step) -> int:
    return max(step.degree - 1, 0)
