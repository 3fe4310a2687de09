"""Chooses CKKS scales and primes for each step of a program, by predicted error.

An affine map multiplies the scale by that of its weights. It is rescaled by a few
primes to the scale that the next polynomial takes. The polynomial's last product is
rescaled only after the next affine map, because rotations add noise about as large as a
prime. After the last sums two primes are left: those of the client's answer.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence

from fedjax_private.inference.planning.errors import Stage, StepProfile, predicted_error
from fedjax_private.inference.planning.polynomials import (
    Number,
    Values,
    argument_bits,
    inner_rescalings,
    monic,
    result_bits,
)
from fedjax_private.inference.planning.rings import RingChoice

# Primes of an answer: one holds no scores beside their noise.
ANSWER_LIMBS = 2

# Bits between the largest expected value and the modulus: one for the sign.
MARGIN_BITS = 1.1

_WEIGHT_BITS = range(18, 41)
_LEAST_SCALE_BITS = 29.0

# The most primes that one affine map is rescaled by.
_MOST_DROPPED = 4

# The factor of error that fewer primes in rotations are worth.
_NOTICEABLE = 1.1


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Scales and primes at every step of a program.

    Attributes:
        choice: the ring.
        input_bits: scale of the client's ciphertexts.
        weight_bits: scale of each step's weights.
        stages: one for each step.
        error_std: predicted standard deviation of an answer's slots, in units of the
            program's outputs.
    """

    choice: RingChoice
    input_bits: float
    weight_bits: tuple[int, ...]
    stages: tuple[Stage, ...]
    error_std: float


def schedules(
    choice: RingChoice, profiles: Sequence[StepProfile]
) -> Iterator[Schedule]:
    """Every way to spend a ring's primes, each with its best scales of weights."""
    spent = sum(inner_rescalings(profile.degree) for profile in profiles)
    free = choice.limbs - spent - ANSWER_LIMBS
    # All scales, of numbers and of weights, add up to the modulus, or to less.
    least = len(profiles) * (_LEAST_SCALE_BITS + min(_WEIGHT_BITS))
    if least > choice.bits_of(choice.limbs):
        return
    for drops in _compositions(len(profiles) - 1, free):
        best = _best_weights(choice, profiles, drops)
        if best is not None:
            yield _with_early_rescaling(best, profiles)


def _compositions(count: int, most: int) -> Iterator[tuple[int, ...]]:
    """All tuples of `count` numbers from 1 to `_MOST_DROPPED` with a sum <= `most`."""
    if not count:
        if most >= 0:
            yield ()
        return
    for first in range(1, min(_MOST_DROPPED, most - count + 1) + 1):
        for rest in _compositions(count - 1, most - first):
            yield (first, *rest)


def _with_early_rescaling(
    schedule: Schedule, profiles: Sequence[StepProfile]
) -> Schedule:
    """Rescales before sums of rotations where that hardly adds to the error."""
    most = schedule.error_std * _NOTICEABLE
    start, bits = schedule.input_bits, schedule.weight_bits
    for number, (profile, stage) in enumerate(
        zip(profiles, schedule.stages, strict=True)
    ):
        for limbs in range(stage.limbs - 1, stage.limbs_after - 1, -1):
            stages = list(schedule.stages)
            stages[number] = dataclasses.replace(stage, sum_limbs=limbs)
            error = predicted_error(schedule.choice, profiles, stages, start, bits)
            if not profile.encoded or error > most:
                break
            schedule = dataclasses.replace(
                schedule, stages=tuple(stages), error_std=error
            )
    return schedule


def _best_weights(
    choice: RingChoice, profiles: Sequence[StepProfile], drops: Sequence[int]
) -> Schedule | None:
    """The schedule with the least error: from equal weights, one after the other."""
    with_weights = functools.partial(_schedule, choice, profiles, drops)
    count = len(profiles)
    equal = [s for bits in _WEIGHT_BITS if (s := with_weights((bits,) * count))]
    best = min(equal, key=lambda schedule: schedule.error_std, default=None)
    improving = best is not None
    while improving and best is not None:
        improving = False
        for place, change in itertools.product(range(count), (1, -1)):
            bits = list(best.weight_bits)
            bits[place] += change
            changed = with_weights(tuple(bits))
            if changed is not None and changed.error_std < best.error_std:
                best, improving = changed, True
    return best


def _schedule(
    choice: RingChoice,
    profiles: Sequence[StepProfile],
    drops: Sequence[int],
    weight_bits: tuple[int, ...],
) -> Schedule | None:
    """Scales from the last step to the first, or None where they do not fit."""
    # Primes at each affine map.
    at, limb = [choice.limbs], choice.limb_bits
    for profile, drop in zip(profiles, drops, strict=False):
        at.append(at[-1] - drop - inner_rescalings(profile.degree))
    # The last scale is the largest that fits; those before it follow from it.
    top = choice.bits_of(at[-1]) - MARGIN_BITS
    after = top - limb * (at[-1] - ANSWER_LIMBS)
    stages = [Stage(at[-1], top, at[-1], ANSWER_LIMBS, after)]
    for profile, drop, left, bits in zip(
        reversed(profiles[:-1]),
        reversed(drops),
        reversed(at[:-1]),
        reversed(weight_bits[1:]),
        strict=True,
    ):
        wanted = argument_bits(profile.degree, top - bits, limb)
        product = wanted + limb * drop
        fits = (
            wanted >= _LEAST_SCALE_BITS
            and product + MARGIN_BITS <= choice.bits_of(left)
            and result_bits(profile.degree, wanted, limb) + MARGIN_BITS
            <= choice.bits_of(left - drop - inner_rescalings(profile.degree))
        )
        if not fits:
            return None
        stages.insert(0, Stage(left, product, left, left - drop, wanted))
        top = product
    start = top - weight_bits[0]
    if start < _LEAST_SCALE_BITS:
        return None
    error = predicted_error(choice, profiles, stages, start, weight_bits)
    return Schedule(choice, start, weight_bits, tuple(stages), error)


@dataclasses.dataclass(frozen=True)
class _Scales:
    """`Arithmetic` on scales alone, rescaled by the given primes."""

    moduli: Sequence[int]

    def add(self, number: Number, values: Values | Number) -> Number:
        return number

    def lifted(self, number: Number, values: Values, scale: float) -> Number:
        return Number(None, scale, number.limbs)

    def times(self, left: Number, right: Number) -> Number:
        return Number(None, left.scale * right.scale, left.limbs)

    def rescaled(self, number: Number, limbs: int) -> Number:
        scale = number.scale
        for modulus in reversed(self.moduli[limbs : number.limbs]):
            scale /= modulus
        return Number(None, scale, limbs)

    def dropped(self, number: Number, limbs: int) -> Number:
        return Number(None, number.scale, limbs)


def answer_scale(
    schedule: Schedule, degrees: Sequence[int], moduli: Sequence[int]
) -> float:
    """The exact scale of an answer.

    Args:
        schedule: of the program.
        degrees: of each step's polynomial.
        moduli: the ring's primes, as OpenFHE chose them.
    """
    scales = _Scales(moduli)
    x = Number(None, 2.0**schedule.input_bits, schedule.choice.limbs)
    for degree, bits, stage in zip(
        degrees, schedule.weight_bits, schedule.stages, strict=True
    ):
        product = Number(None, x.scale * 2.0**bits, x.limbs)
        x = scales.rescaled(product, stage.limbs_after)
        if degree:
            x = monic(scales, x, [1.0] * degree)
    return x.scale
