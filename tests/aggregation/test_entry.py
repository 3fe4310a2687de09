import dataclasses

import numpy as np
import pytest

from fedjax_private import choices
from fedjax_private.aggregation import SCHEMES, SumSettings, SumTask, fill_range
from fedjax_private.trust import Decryptor, Trust

TRUST = Trust(3, Decryptor.NOBODY_NEEDED)


def test_a_range_is_filled_in_where_none_was_given():
    filled = fill_range(SumSettings(), 3.5, 7.0, 12)
    assert filled == SumSettings(value_bound=3.5, sum_bound=7.0, quantization_bits=12)
    given = SumSettings(value_bound=1.0, sum_bound=2.0, quantization_bits=20)
    assert fill_range(given, 3.5, 7.0, 12) == given
    assert fill_range(SumSettings(topology="ring"), 3.5, None, None) == SumSettings(
        topology="ring", value_bound=3.5
    )


def test_derived_bounds_yield_to_given_ones():
    found = fill_range(SumSettings(value_bound=9.0), 3.5, 7.0, None)
    assert (found.value_bound, found.sum_bound) == (9.0, 9.0)
    found = fill_range(SumSettings(sum_bound=2.0), 3.5, 7.0, None)
    assert (found.value_bound, found.sum_bound) == (2.0, 2.0)


def test_settings_without_a_range_stay_as_they_are():
    @dataclasses.dataclass(frozen=True)
    class Own(choices.Settings):
        value_bound: float | None = choices.setting(None, "largest entry")

    assert fill_range(Own(), 2.0, 3.0, 12) == Own(2.0)
    assert fill_range(choices.Settings(), 2.0, 3.0, 12) == choices.Settings()


def test_exact_schemes_have_a_range():
    with pytest.raises(ValueError, match="settings have no field quantization_bits"):
        dataclasses.replace(SCHEMES.find("none"), exact=True)


def test_impossible_tasks_are_refused():
    with pytest.raises(ValueError, match="at least one value, got 0"):
        SumTask(0, TRUST, 3)
    with pytest.raises(ValueError, match=r"must have the shape \(4,\)"):
        SumTask(4, TRUST, 3, encrypted=np.ones(3, bool))
