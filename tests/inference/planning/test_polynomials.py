import dataclasses
import math

import numpy as np
import pytest

from fedjax_private.inference.planning.polynomials import (
    argument_bits,
    inner_rescalings,
    monic,
    result_bits,
)
from tests.inference.networks import CUBIC, QUADRATIC, QUARTIC

LIMB_BITS = 30


@dataclasses.dataclass(frozen=True)
class Plain:
    """A number in clear, with the scale and primes that its ciphertext would have."""

    value: float
    scale: float
    limbs: int


class PlainArithmetic:
    """The arithmetic of ciphertexts on numbers in clear; refuses what does not fit."""

    def add(self, number, values):
        if isinstance(values, Plain):
            assert (values.scale, values.limbs) == (number.scale, number.limbs)
            values = values.value
        return dataclasses.replace(number, value=number.value + values)

    def lifted(self, number, values, scale):
        assert scale > number.scale
        return Plain(number.value * values, scale, number.limbs)

    def times(self, left, right):
        assert left.limbs == right.limbs
        scale = left.scale * right.scale
        return Plain(left.value * right.value, scale, left.limbs)

    def rescaled(self, number, limbs):
        scale = number.scale / 2.0 ** (LIMB_BITS * (number.limbs - limbs))
        return Plain(number.value, scale, limbs)

    def dropped(self, number, limbs):
        assert limbs <= number.limbs
        return dataclasses.replace(number, limbs=limbs)


@pytest.mark.parametrize("degree", range(1, 18))
@pytest.mark.parametrize("sparse", [False, True])
def test_a_monic_polynomial_has_the_predicted_scale_and_primes(degree, sparse):
    coefficients = np.random.default_rng(degree).uniform(-1, 1, degree)
    coefficients[1:] *= not sparse
    x = Plain(0.7, 2.0**36, 9)
    result = monic(PlainArithmetic(), x, coefficients.tolist())
    assert result.value == pytest.approx(np.polyval([1, *coefficients[::-1]], 0.7))
    assert result.limbs == 9 - inner_rescalings(degree)
    assert math.log2(result.scale) == pytest.approx(result_bits(degree, 36, LIMB_BITS))


@pytest.mark.parametrize("degree", range(1, 18))
def test_the_scale_of_the_argument_follows_from_that_of_the_result(degree):
    bits = result_bits(degree, 33.5, LIMB_BITS)
    assert argument_bits(degree, bits, LIMB_BITS) == pytest.approx(33.5)


@pytest.mark.parametrize("powers", [QUADRATIC, CUBIC, QUARTIC])
def test_levels_of_activations(powers):
    # A degree of 2 takes one product after the other, one of 3 or 4 takes two.
    assert inner_rescalings(len(powers) - 1) == (0 if len(powers) == 3 else 1)
