"""What a plan will cost, before anything is encrypted.

Seconds of each operation were measured on two x86-64 cores with OpenFHE 1.6.1; they
grow with N and, for key switching, with the square of the primes.
"""

import dataclasses

from fedjax_private.inference.compiling.canonical import Program, Step
from fedjax_private.inference.evaluating.batch import OUTPUTS
from fedjax_private.inference.evaluating.single import Rotations
from fedjax_private.inference.planning.layouts import (
    Diagonals,
    Layout,
    PatchLayout,
    sums,
)
from fedjax_private.inference.planning.schedule import Schedule, Stage

# Seconds at N = 8192; those of key switching and hoisting for each prime squared.
_SWITCH = 0.16e-3
_DIGITS = 0.12e-3
_HOISTED = 0.045e-3
# For each prime.
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
class Prediction:
    """One request's cost, with two threads.

    Attributes:
        client_seconds: to encrypt it and to decrypt the answer.
        server_seconds: to evaluate it.
        memory_bytes: of a session at the server, about.
    """

    client_seconds: float
    server_seconds: float
    memory_bytes: int

    @property
    def seconds(self) -> float:
        """From images to scores, without the network's time."""
        return self.client_seconds + self.server_seconds


def sections_seconds(ciphertexts: int, sections: int, limbs: int) -> float:
    """What a first layer in so many sections takes of client and server, about."""
    each = (_ENCRYPT + _READ) / _THREADS + _PRODUCT
    return ciphertexts * each * limbs + len(sums(sections)) * _SWITCH * limbs**2


def predict(
    program: Program,
    schedule: Schedule,
    layout: Layout,
    rotations: Rotations | None,
    ciphertexts: int,
) -> Prediction:
    """The dry run of one request."""
    dimension, limbs = schedule.choice.dimension, schedule.choice.limbs
    size = dimension / 8192
    row = 8 * dimension
    client = ciphertexts * _ENCRYPT * limbs / _THREADS
    server = ciphertexts * _READ * limbs / _THREADS
    if rotations is None:
        client += program.steps[-1].outputs * 2e-3 / _THREADS
        widest = 0
        packed = ciphertexts * limbs * dimension * 4  # a request's bytes
        for step, stage in zip(program.steps, schedule.stages, strict=True):
            filled = int((step.matrix != 0).sum())
            rate = _SPARSE_RATE if filled < 0.2 * step.matrix.size else _DENSE_RATE
            products = filled * 2 * stage.limbs * 8192 / rate
            each = _RESCALE * stage.limbs + _IN_AND_OUT * stage.limbs
            each += _products(step) * _SWITCH * stage.limbs_after**2
            server += (products + step.outputs * each) / _THREADS
            # Residues of 32 bits, and those outputs that are in the works as OpenFHE's.
            held = step.matrix.shape[1] * stage.limbs + step.outputs * stage.limbs_after
            works = min(step.outputs, OUTPUTS) * stage.limbs
            widest = max(widest, held * row + 5 * works * row)
        memory = _BASE_BYTES + packed + widest
        return Prediction(client * size, server * size, memory)
    client += 4e-3
    memory = _BASE_BYTES + (len(rotations.all) + 1) * 2 * limbs**2 * row
    forms = list(rotations.diagonals)
    for number, (step, stage) in enumerate(
        zip(program.steps, schedule.stages, strict=True)
    ):
        if isinstance(layout, PatchLayout) and not number:
            turns = len(sums(layout.sections))
            work = ciphertexts * _PRODUCT * stage.limbs
            work += turns * _SWITCH * stage.sum_limbs**2
            encoded = ciphertexts
        else:
            form = forms.pop(0)
            work, encoded = _diagonals(form, stage), len(form.diagonals)
        memory += encoded * stage.limbs * row
        server += work + _RESCALE * stage.limbs
        server += _products(step) * _SWITCH * stage.limbs_after**2
    server += _ENCRYPT * 2
    return Prediction(client * size, server * size, memory)


def _diagonals(form: Diagonals, stage: Stage) -> float:
    giants = len(set(form.giants) - {0})
    babies = len(set(form.babies) - {0})
    work = giants * _SWITCH + babies * _HOISTED
    work = work / _THREADS + bool(babies) * _DIGITS
    total = work * stage.limbs**2 + len(form.doublings) * _SWITCH * stage.sum_limbs**2
    return total + len(form.diagonals) * _PRODUCT * stage.limbs / _THREADS


def _products(step: Step) -> int:
    return max(step.degree - 1, 0)
