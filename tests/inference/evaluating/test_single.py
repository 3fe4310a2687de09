import numpy as np

from fedjax_private.inference.evaluating.single import periodic


def test_values_repeat_with_a_period_and_zeros_follow_them():
    slots = periodic(np.array([1.0, 2.0, 3.0]), 4, 8)
    assert slots.tolist() == [1.0, 2.0, 3.0, 0.0] * 2
