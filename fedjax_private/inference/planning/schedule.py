"""Scales and primes along a program, chosen by what they make of its error.

An affine map multiplies the scale by that of its weights and is rescaled by a few
primes to the scale that the next polynomial takes; what a product makes of that is kept
whole until after the next affine map, because rotations add noise about as large as a
prime. The last sums leave two primes: what the client gets.

Errors are standard deviations of slots, for values that are like the sample's, and
independent of one another: those of a fresh ciphertext, of rescaling, of switching keys
and of rounded weights. What is predicted is not a bound; tests hold it above what is
measured.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

from fedjax_private.encryption.parameters import NOISE_STD
from fedjax_private.inference.evaluating.ckks import Number, RingChoice, Values
from fedjax_private.inference.evaluating.powers import monic

# Primes of an answer: one holds no scores beside their noise.
ANSWER_LIMBS = 2

# Bits between the largest value that was foreseen and the modulus: one for the sign.
MARGIN_BITS = 1.1

_WEIGHT_BITS = range(18, 41)
_LEAST_SCALE_BITS = 29.0

# Primes that one affine map is rescaled by.
_MOST_DROPPED = 4

# How much more error is worth fewer primes in rotations.
_NOTICEABLE = 1.1


@dataclasses.dataclass(frozen=True)
class Shape:
    """What errors and costs of one step depend on.

    Attributes:
        degree: of the polynomial that follows the affine map; 0 for the last.
        row_norm: the largest Euclidean norm of a row of weights.
        terms: products that an output sums, those with encoded zeros included.
        rotated: whether inputs are rotated before they are multiplied.
        encoded: whether weights are encoded as vectors, not as one number.
        slope: root mean square of the polynomial's derivative at typical values.
        typical: root mean square of the inputs.
    """

    degree: int
    row_norm: float
    terms: int
    rotated: bool
    encoded: bool
    slope: float
    typical: float

    @property
    def depth(self) -> int:
        """Products that follow one another in the polynomial."""
        return (max(self.degree, 1) - 1).bit_length()


@dataclasses.dataclass(frozen=True)
class Stage:
    """One step's scales, in bits, and primes.

    Attributes:
        limbs: while the affine map is computed.
        product_bits: its scale before it is rescaled.
        sum_limbs: while rotations of it are added up, as few as their noise allows.
        limbs_after: once it is rescaled.
        scale_bits: its scale then.
    """

    limbs: int
    product_bits: float
    sum_limbs: int
    limbs_after: int
    scale_bits: float


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Stages of a program's steps.

    Attributes:
        choice: the ring.
        input_bits: the scale of what the client encrypts.
        weight_bits: one scale a step, that of its weights.
        stages: one a step.
        error_std: predicted standard deviation of an answer's slots, in units of the
            program's outputs.
    """

    choice: RingChoice
    input_bits: float
    weight_bits: tuple[int, ...]
    stages: tuple[Stage, ...]
    error_std: float


def squarings(degree: int) -> int:
    """How often a polynomial's powers are rescaled on the way to its last product."""
    return max((max(degree, 1) - 1).bit_length() - 1, 0)


def top_bits(degree: int, bits: float, limb_bits: int) -> float:
    """The scale of a monic polynomial of a number of that scale, unrescaled."""
    if degree < 2:
        return bits
    power = 1 << (degree - 1).bit_length() - 1  # the largest power of two below degree
    even = bits
    for _ in range(power.bit_length() - 1):
        even = 2 * even - limb_bits
    rest = degree - power
    if rest == power and power > 1:
        return 2 * even
    # The other factor has fewer products behind it; each is rescaled as it comes.
    other = bits if rest == 1 else top_bits(rest, bits, limb_bits) - limb_bits
    return even + other


def _input_bits(degree: int, top: float, limb_bits: int) -> float:
    """The inverse of `top_bits`: it is linear in the scale."""
    if degree < 2:
        return top
    at_zero = top_bits(degree, 0.0, limb_bits)
    return (top - at_zero) / (top_bits(degree, 1.0, limb_bits) - at_zero)


def schedules(choice: RingChoice, shapes: Sequence[Shape]) -> Iterator[Schedule]:
    """Every way to spend a ring's primes, each with its best scales of weights."""
    spent = sum(squarings(shape.degree) for shape in shapes)
    free = choice.limbs - spent - ANSWER_LIMBS
    # All scales, of numbers and of weights, add up to the modulus, or to less.
    least = len(shapes) * (_LEAST_SCALE_BITS + min(_WEIGHT_BITS))
    if least > choice.bits_of(choice.limbs):
        return
    for drops in _compositions(len(shapes) - 1, free):
        best = _best_weights(choice, shapes, drops)
        if best is not None:
            yield _with_early_rescaling(best, shapes)


def _compositions(count: int, most: int) -> Iterator[tuple[int, ...]]:
    """So many numbers from 1 to `_MOST_DROPPED` whose sum is at most `most`."""
    if not count:
        if most >= 0:
            yield ()
        return
    for first in range(1, min(_MOST_DROPPED, most - count + 1) + 1):
        for rest in _compositions(count - 1, most - first):
            yield (first, *rest)


def _with_early_rescaling(found: Schedule, shapes: Sequence[Shape]) -> Schedule:
    """Rescales before sums of rotations, where that is hardly noticed."""
    most = found.error_std * _NOTICEABLE
    for number, (shape, stage) in enumerate(zip(shapes, found.stages, strict=True)):
        for limbs in range(stage.limbs - 1, stage.limbs_after - 1, -1):
            stages = list(found.stages)
            stages[number] = dataclasses.replace(stage, sum_limbs=limbs)
            start, bits = found.input_bits, found.weight_bits
            error = _error(found.choice, shapes, stages, start, bits)
            if not shape.encoded or error > most:
                break
            found = dataclasses.replace(found, stages=tuple(stages), error_std=error)
    return found


def _best_weights(
    choice: RingChoice, shapes: Sequence[Shape], drops: Sequence[int]
) -> Schedule | None:
    """The schedule with the least error: from equal weights, one after the other."""

    def made(bits: tuple[int, ...]) -> Schedule | None:
        return _schedule(choice, shapes, drops, bits)

    count = len(shapes)
    equal = [found for bits in _WEIGHT_BITS if (found := made((bits,) * count))]
    best = min(equal, key=lambda found: found.error_std, default=None)
    improving = best is not None
    while improving and best is not None:
        improving = False
        for place, change in itertools.product(range(count), (1, -1)):
            bits = list(best.weight_bits)
            bits[place] += change
            found = made(tuple(bits))
            if found is not None and found.error_std < best.error_std:
                best, improving = found, True
    return best


def _schedule(
    choice: RingChoice,
    shapes: Sequence[Shape],
    drops: Sequence[int],
    weight_bits: tuple[int, ...],
) -> Schedule | None:
    """Scales from the last to the first, or None where they do not fit."""
    # Primes at each affine map.
    at, limb = [choice.limbs], choice.limb_bits
    for shape, drop in zip(shapes, drops, strict=False):
        at.append(at[-1] - drop - squarings(shape.degree))
    # What fits them all fits what is left, as much less of it.
    top = choice.bits_of(at[-1]) - MARGIN_BITS
    after = top - limb * (at[-1] - ANSWER_LIMBS)
    stages = [Stage(at[-1], top, at[-1], ANSWER_LIMBS, after)]
    for shape, drop, left, bits in zip(
        reversed(shapes[:-1]),
        reversed(drops),
        reversed(at[:-1]),
        reversed(weight_bits[1:]),
        strict=True,
    ):
        wanted = _input_bits(shape.degree, top - bits, limb)
        product = wanted + limb * drop
        fits = (
            wanted >= _LEAST_SCALE_BITS
            and product + MARGIN_BITS <= choice.bits_of(left)
            and top_bits(shape.degree, wanted, limb) + MARGIN_BITS
            <= choice.bits_of(left - drop - squarings(shape.degree))
        )
        if not fits:
            return None
        stages.insert(0, Stage(left, product, left, left - drop, wanted))
        top = product
    start = top - weight_bits[0]
    if start < _LEAST_SCALE_BITS:
        return None
    error = _error(choice, shapes, stages, start, weight_bits)
    return Schedule(choice, start, weight_bits, tuple(stages), error)


def switching_std(choice: RingChoice, limbs: int) -> float:
    """Noise of one key switch in a slot, times the scale.

    Every prime's residues, uniform and centred, meet Gaussian noise: a sum of N L
    products.
    """
    n, largest = choice.dimension, max(choice.first_bits, choice.limb_bits)
    digits = 2.0**largest / math.sqrt(12) * NOISE_STD * math.sqrt(n * limbs)
    return digits * math.sqrt(n / 2)


def rescaling_std(dimension: int) -> float:
    """Noise of one rescaling in a slot, times the scale that it leaves.

    Rounding of the first polynomial, and of the second times a ternary secret.
    """
    return math.sqrt((1 + 2 * dimension / 3) / 12 * dimension / 2)


def fresh_std(dimension: int, *, public: bool) -> float:
    """Noise of a fresh ciphertext in a slot, times the scale."""
    variance = NOISE_STD**2 * ((1 + 4 * dimension / 3) if public else 1)
    return math.sqrt(variance * dimension / 2)


def _error(
    choice: RingChoice,
    shapes: Sequence[Shape],
    stages: Sequence[Stage],
    start: float,
    weight_bits: Sequence[int],
) -> float:
    bits, dimension = start, choice.dimension
    error = fresh_std(dimension, public=False) * 2.0**-bits
    for shape, stage, weight in zip(shapes, stages, weight_bits, strict=True):
        switch = switching_std(choice, stage.limbs)
        if shape.rotated:
            error = math.hypot(error, switch * 2.0**-bits)
        rounding = 2.0**-weight * math.sqrt(shape.terms / 12) * shape.typical
        if shape.encoded:
            rounding *= math.sqrt(dimension / 2)
        rescale = rescaling_std(dimension) * 2.0**-stage.scale_bits
        error = math.hypot(error * shape.row_norm, rounding, rescale)
        if shape.encoded:
            # Sums of rotations, after the product.
            early = choice.limb_bits * (stage.limbs - stage.sum_limbs)
            error = math.hypot(error, 16 * switch * 2.0 ** (early - stage.product_bits))
        bits = stage.scale_bits
        for _ in range(squarings(shape.degree)):
            bits = 2 * bits - choice.limb_bits
            error = math.hypot(error, rescaling_std(dimension) * 2.0**-bits)
        if shape.degree > 1:
            bits = top_bits(shape.degree, stage.scale_bits, choice.limb_bits)
            error = math.hypot(shape.slope * error, switch * 2.0**-bits)
    return math.hypot(error, fresh_std(dimension, public=True) * 2.0**-bits)


class _Scales:
    """The arithmetic of `Ckks` on scales alone."""

    def __init__(self, moduli: Sequence[int]) -> None:
        self._moduli = moduli

    def add(self, number: Number, values: Values | Number) -> Number:
        del values
        return number

    def lifted(self, number: Number, values: Values, scale: float) -> Number:
        del values
        return dataclasses.replace(number, scale=scale)

    def times(self, left: Number, right: Number) -> Number:
        return dataclasses.replace(left, scale=left.scale * right.scale)

    def rescaled(self, number: Number, limbs: int) -> Number:
        scale = number.scale
        for left in range(number.limbs, limbs, -1):
            scale /= self._moduli[left - 1]
        return Number(None, scale, limbs)

    def dropped(self, number: Number, limbs: int) -> Number:
        return dataclasses.replace(number, limbs=limbs)


def answer_scale(
    schedule: Schedule, degrees: Sequence[int], moduli: Sequence[int]
) -> float:
    """The exact scale of an answer, with the primes as OpenFHE chose them."""
    scales = _Scales(moduli)
    x = Number(None, 2.0**schedule.input_bits, schedule.choice.limbs)
    for degree, bits, stage in zip(
        degrees, schedule.weight_bits, schedule.stages, strict=True
    ):
        x = Number(None, x.scale * 2.0**bits, x.limbs)
        x = scales.rescaled(x, stage.limbs_after)
        if degree:
            x = monic(scales, x, [1.0] * degree)
    return x.scale
