import pytest

from fedjax_private.inference.planning.errors import StepProfile
from fedjax_private.inference.planning.polynomials import inner_rescalings, result_bits
from fedjax_private.inference.planning.rings import RingChoice
from fedjax_private.inference.planning.schedule import answer_scale, schedules


def profile(degree):
    return StepProfile(degree, 1.0, 16, True, True, 1.0, 0.2)


@pytest.mark.parametrize("degrees", [(0,), (2, 0), (3, 0), (4, 2, 0), (2, 2, 2, 0)])
def test_scales_fit_their_moduli(degrees):
    choice = RingChoice(16384, 30, 30, 14)
    every = list(schedules(choice, [profile(degree) for degree in degrees]))
    assert every
    for schedule in every:
        limbs, bits = choice.limbs, schedule.input_bits
        for degree, weights, stage in zip(
            degrees, schedule.weight_bits, schedule.stages, strict=True
        ):
            assert stage.limbs == limbs
            assert bits + weights == pytest.approx(stage.product_bits)
            assert stage.product_bits + 1 <= choice.bits_of(limbs)
            dropped = stage.limbs - stage.limbs_after
            assert stage.scale_bits == pytest.approx(stage.product_bits - 30 * dropped)
            assert stage.limbs_after <= stage.sum_limbs <= stage.limbs
            limbs = stage.limbs_after - inner_rescalings(degree)
            bits = result_bits(degree, stage.scale_bits, 30)
            assert bits + 1 <= choice.bits_of(limbs)
        assert limbs == 2


def test_too_few_primes_hold_nothing():
    choice = RingChoice(8192, 30, 30, 3)
    assert not list(schedules(choice, [profile(2), profile(2), profile(0)]))


def test_the_exact_scale_of_an_answer_is_the_planned_one_for_primes_of_exact_size():
    choice = RingChoice(16384, 30, 30, 14)
    for schedule in schedules(choice, [profile(3), profile(2), profile(0)]):
        scale = answer_scale(schedule, (3, 2, 0), [2**30] * 14)
        assert scale == pytest.approx(2.0 ** schedule.stages[-1].scale_bits)
