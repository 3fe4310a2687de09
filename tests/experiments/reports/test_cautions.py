"""Warnings that differ in numbers only."""

from experiments.reports.cautions import kind, told_once


def test_warnings_that_differ_in_numbers_only_are_told_once():
    of_runs = [
        ["delta=0.01 is above 1/200.", "epsilon 12 is above 10."],
        ["delta=0.01 is above 1/300."],
        ["delta=1e-05 is above 1/4000.", "epsilon 12 is above 10."],
        ["clip_norm=0.5 is small."],
    ]
    first, second, third = told_once(of_runs)
    assert first == (
        "delta=0.01 is above 1/200. (Also in 2 other runs, with other numbers.)"
    )
    assert second == "epsilon 12 is above 10."  # the same in both
    assert third == "clip_norm=0.5 is small."
    assert told_once(of_runs[:2])[0].endswith(
        "(Also in 1 other run, with other numbers.)"
    )
    assert told_once([]) == []


def test_a_warning_that_was_told_has_the_kind_of_others():
    told, *_ = told_once([["delta=0.01 is high."], ["delta=0.02 is high."]])
    assert kind(told) == kind("delta=3e-05 is high.")
    assert kind("against insiders: 1") != kind("against outsiders: 1")
