"""Suites as entries, and how a row is shown."""

import pytest

from experiments.benchmarks.measure import Case
from experiments.benchmarks.suites import SUITES, times_table


@pytest.mark.parametrize("name", SUITES.names)
def test_the_cases_of_a_suite_have_names(name):
    suite = SUITES.find(name)
    assert suite.name == name
    for quick in (True, False):
        cases = suite.cases(quick)
        assert cases and all(isinstance(case, Case) for case in cases)
        assert len({case.name for case in cases}) == len(cases)


def cells(table):
    return [list(column.cells) for column in table.columns]


def test_speeds_are_compared_with_peers_and_the_limit():
    row = {
        "suite": "clients",
        "case": "step",
        "parts": [],
        "examples_per_second": 400.0,
        "examples_per_second_quartiles": [390.0, 1410.0],
        "peers": {"torch": 80.0},
        "limit_examples_per_second": 1600.0,
    }
    names, medians, quartiles, ratios = cells(times_table(row))
    assert names == ["ours ", "torch ", "the machine's limit"]
    assert medians == ["400", "80", "1,600"]
    assert quartiles == ["390 - 1,410", "", ""]
    assert ratios == ["", "5.00x", "0.25x"]


def test_seconds_are_compared():
    row = {
        "suite": "round",
        "case": "fedavg",
        "parts": [],
        "seconds": 0.2,
        "seconds_quartiles": [0.1, 0.3],
        "peers": {"pfl": 0.5},
    }
    assert cells(times_table(row))[3] == ["", "2.50x"]


def test_parts_are_compared_one_by_one():
    row = {
        "suite": "encryption",
        "case": "ckks",
        "parts": ["add", "decrypt"],
        "seconds_add": 1.0,
        "seconds_add_quartiles": [1.0, 1.0],
        "seconds_decrypt": 2.0,
        "seconds_decrypt_quartiles": [2.0, 2.0],
        "peers": {"tenseal": {"seconds_add": 3.0, "seconds_decrypt": 1.0}},
    }
    names, _, _, ratios = cells(times_table(row))
    assert names == ["ours add", "tenseal add", "ours decrypt", "tenseal decrypt"]
    assert ratios == ["", "3.00x", "", "0.50x"]
