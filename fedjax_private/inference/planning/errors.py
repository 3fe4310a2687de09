"""The error that a program's scales and primes are predicted to leave on its scores.

Errors are standard deviations of slots. They come from a fresh ciphertext, rescaling,
key switching and rounded weights; they are taken to be independent, and values to be
like those of the sample. The prediction is not a bound; tests hold it above what is
measured.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from fedjax_private.encryption.noise import NOISE_STD
from fedjax_private.inference.compiling.canonical import Program, Step
from fedjax_private.inference.planning.polynomials import inner_rescalings, result_bits
from fedjax_private.inference.planning.rings import RingChoice
from fedjax_private.inference.planning.rotations import Rotations


@dataclasses.dataclass(frozen=True)
class StepProfile:
    """What the error of one step depends on, besides scales and primes.

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


@dataclasses.dataclass(frozen=True)
class Stage:
    """Scales, in bits, and numbers of primes at one step.

    Attributes:
        limbs: primes while the affine map is computed.
        product_bits: scale of the affine map's products, before rescaling.
        sum_limbs: primes while rotations of the products are added up, as few as their
            noise allows.
        limbs_after: primes after rescaling.
        scale_bits: scale after rescaling.
    """

    limbs: int
    product_bits: float
    sum_limbs: int
    limbs_after: int
    scale_bits: float


def profiles_of(program: Program, rotations: Rotations | None) -> list[StepProfile]:
    """The profile of each step.

    Args:
        program: to be evaluated.
        rotations: of single packing; None for batch packing.
    """
    profiles = []
    each = rotations.diagonals if rotations else (None,) * len(program.steps)
    for step, diagonals in zip(program.steps, each, strict=True):
        if diagonals is None:
            terms = int(np.count_nonzero(step.matrix, axis=1).max(initial=1))
        else:
            blocks = max(diagonals.period // diagonals.height, 1)
            terms = len(diagonals.diagonals) * blocks
        profiles.append(
            StepProfile(
                degree=step.degree,
                row_norm=float(np.linalg.norm(step.matrix, axis=1).max()),
                terms=terms,
                rotated=diagonals is not None and diagonals.babies != (0,),
                encoded=rotations is not None,
                slope=_slope(step),
                typical=step.input_spread,
            )
        )
    return profiles


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


def switching_std(choice: RingChoice, limbs: int) -> float:
    """Noise of one key switch in a slot, times the scale.

    Every prime's residues, uniform and centred, meet Gaussian noise: a sum of N L
    products.
    """
    n, largest = choice.dimension, max(choice.first_bits, choice.limb_bits)
    digits = 2.0**largest / math.sqrt(12) * NOISE_STD * math.sqrt(n * limbs)
    return digits * math.sqrt(n / 2)


def rescaling_std(dimension: int) -> float:
    """Noise of one rescaling in a slot, times the scale after it.

    It comes from rounding the first polynomial, and the second times a ternary secret.
    """
    return math.sqrt((1 + 2 * dimension / 3) / 12 * dimension / 2)


def fresh_std(dimension: int, *, public: bool) -> float:
    """Noise of a fresh ciphertext in a slot, times the scale.

    Args:
        dimension: of the ring.
        public: whether it was encrypted with the public key, not the secret one.
    """
    variance = NOISE_STD**2 * ((1 + 4 * dimension / 3) if public else 1)
    return math.sqrt(variance * dimension / 2)


def predicted_error(
    choice: RingChoice,
    profiles: Sequence[StepProfile],
    stages: Sequence[Stage],
    input_bits: float,
    weight_bits: Sequence[int],
) -> float:
    """Predicted standard deviation of an answer's slots, in the program's units.

    Args:
        choice: the ring.
        profiles: one for each step.
        stages: one for each step.
        input_bits: scale of the inputs.
        weight_bits: scale of each step's weights.
    """
    bits, dimension = input_bits, choice.dimension
    error = fresh_std(dimension, public=False) * 2.0**-bits
    for profile, stage, weight in zip(profiles, stages, weight_bits, strict=True):
        switch = switching_std(choice, stage.limbs)
        if profile.rotated:
            error = math.hypot(error, switch * 2.0**-bits)
        rounding = 2.0**-weight * math.sqrt(profile.terms / 12) * profile.typical
        if profile.encoded:
            rounding *= math.sqrt(dimension / 2)
        rescale = rescaling_std(dimension) * 2.0**-stage.scale_bits
        error = math.hypot(error * profile.row_norm, rounding, rescale)
        if profile.encoded:
            # Sums of rotations, after the product.
            early = choice.limb_bits * (stage.limbs - stage.sum_limbs)
            error = math.hypot(error, 16 * switch * 2.0 ** (early - stage.product_bits))
        bits = stage.scale_bits
        for _ in range(inner_rescalings(profile.degree)):
            bits = 2 * bits - choice.limb_bits
            error = math.hypot(error, rescaling_std(dimension) * 2.0**-bits)
        if profile.degree > 1:
            bits = result_bits(profile.degree, stage.scale_bits, choice.limb_bits)
            error = math.hypot(profile.slope * error, switch * 2.0**-bits)
    return math.hypot(error, fresh_std(dimension, public=True) * 2.0**-bits)
