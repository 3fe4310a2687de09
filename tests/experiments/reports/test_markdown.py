from experiments.reports.averages import cells
from experiments.reports.markdown import (
    accuracy,
    distinct,
    markdown_table,
    mean_and_deviation,
    means,
    number,
    settings_table,
)
from tests.experiments.reports.made_up import row


def test_accuracies_are_mean_and_deviation():
    def shown(*values):
        (cell,) = cells([row("fl", 4, i, value) for i, value in enumerate(values)])
        return accuracy(cell)

    assert shown(0.90, 0.94) == "0.920 ± 0.028"
    assert shown(0.9) == "0.900"
    assert shown(None) == "diverged"
    assert accuracy(None) == "not run"


def test_numbers_that_do_not_apply_are_empty():
    assert number(None, ".3f") == ""
    assert number(0.12345, ".3f") == "0.123"
    assert number(float("inf"), ".3f") == "inf"


def test_tables_have_a_head():
    table = markdown_table(["a", "b"], [["1", "2"]])
    assert table.splitlines() == ["| a | b |", "| --- | --- |", "| 1 | 2 |"]


def test_means_stand_in_their_columns():
    columns = {"seconds": ("seconds_total", ".1f"), "epsilon": ("epsilon", ".2f")}
    (cell,) = cells([row("fl", 4, seed, seconds_total=seed) for seed in (0, 1)])
    assert means(cell, columns) == ["0.5", ""]
    assert means(None, columns) == ["", ""]


def test_settings_of_runs_with_the_same_key_share_a_line():
    runs = [(("FL",), {"clip_norm": 0.1}), (("FL",), {"clip_norm": 0.5})]
    table = settings_table(["arm"], [*runs, (("DP",), {"clip_norm": None})])
    assert table == markdown_table(
        ["arm", "clip norm"], [["FL", "0.1, 0.5"], ["DP", ""]]
    )


def test_values_that_differ_are_listed_once():
    counts = [{"rate": 0.25, "rounds": 3}, {"rate": 0.125, "rounds": 3}, {"rate": None}]
    assert distinct(counts, "rate") == "0.25, 0.125"
    assert distinct(counts[:2], "rounds") == "3"


def test_small_numbers_are_not_written_as_zero():
    assert number(1e-6, ".3f") == "1e-06"
    assert number(-0.0004, ".3f") == "-0.0004"
    assert number(0.0, ".3f") == "0.000"
    assert number(0.0006, ".3f") == "0.001"
    small = cells([row("fl_dp", seed=seed, epsilon=1e-6 * seed) for seed in (1, 2)])
    assert mean_and_deviation(small[0], "epsilon", ".2f") == "1.5e-06 ± 7.1e-07"
