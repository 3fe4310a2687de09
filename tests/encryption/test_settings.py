import dataclasses
import math

import pytest

from fedjax_private.aggregation.settings import SumSettings
from fedjax_private.encryption.parameters import Scheme, SumRequest
from fedjax_private.encryption.settings import CipherSettings


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("value_bound", 0.0, "value_bound must be positive and finite"),
        ("value_bound", math.inf, "value_bound must be positive and finite"),
        ("sum_bound", -1.0, "sum_bound must be positive and finite"),
        ("precision", math.nan, "precision must be positive and finite"),
        (
            "quantization_bits",
            25,
            "quantization_bits must lie between 2 and 24, got 25",
        ),
        ("packing", "dense", "packing must be one of real, complex, got dense"),
        ("flooding", "none", "flooding must be one of average, worst_case, got none"),
        ("statistical_bits", 0, "statistical_bits must lie between 1 and 128"),
        ("query_budget", 2**32, "query_budget must lie between 1 and 4294967295"),
    ],
)
def test_impossible_values_are_refused(name, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        CipherSettings(**{name: value})


def test_complete_settings_have_a_value_for_each_field():
    complete = SumSettings(topology="ring", query_budget=7).complete()
    assert complete == CipherSettings(
        value_bound=2.0, quantization_bits=16, query_budget=7
    )
    given = {"value_bound": 3.0, "quantization_bits": 9}
    assert SumSettings(**given).complete() == CipherSettings(**given)
    named = dataclasses.asdict(complete).items()
    assert [name for name, value in named if value is None] == ["sum_bound"]


def test_an_upload_is_no_larger_than_a_sum():
    assert CipherSettings(sum_bound=0.5).complete().value_bound == 0.5
    assert CipherSettings(sum_bound=50.0).complete().value_bound == 2.0
    with pytest.raises(ValueError, match=r"sum_bound must be at least value_bound.*1"):
        CipherSettings(value_bound=2.0, sum_bound=1.0)


def test_a_request_keeps_what_ciphertexts_follow_from():
    travelling = SumSettings(topology="ring", fan_out=3)
    request = SumRequest(Scheme.EXACT, 10, 2, settings=travelling)
    assert request == SumRequest(Scheme.EXACT, 10, 2)
    assert (request.value_bound, request.sum_bound, request.bits) == (2.0, 4.0, 16)
