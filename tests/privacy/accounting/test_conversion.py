"""From Rényi divergences to epsilon and delta, by hand."""

import math

import numpy as np
import pytest

from fedjax_private.privacy.accounting import (
    conversion,
)


def test_conversion_by_hand():
    orders, rdp = np.array([3.0]), np.array([0.7])
    [value] = conversion.epsilon(orders, rdp, 1e-3)
    assert value == pytest.approx(
        0.7 + math.log(2 / 3) - (math.log(1e-3) + math.log(3)) / 2
    )
    [back] = conversion.delta(orders, rdp, value)
    assert back == pytest.approx(1e-3)
    assert back >= 1e-3
    for bad in (-1e-9, math.nan):
        with pytest.raises(ValueError, match="negative or undefined"):
            conversion.epsilon(orders, np.array([bad]), 1e-3)
        with pytest.raises(ValueError, match="negative or undefined"):
            conversion.delta(orders, np.array([bad]), 1.0)
    for delta in (0, 1, -1, math.nan):
        with pytest.raises(ValueError, match="delta"):
            conversion.epsilon(orders, rdp, delta)
    for epsilon in (-1, math.nan):
        with pytest.raises(ValueError, match="epsilon"):
            conversion.delta(orders, rdp, epsilon)
