from experiments.reports.averages import cells
from experiments.reports.markdown import accuracy, distinct, markdown_table, number
from tests.experiments.reports.made_up import row


def test_accuracies_are_mean_and_deviation():
    def shown(*values):
        (cell,) = cells([row("fl", 4, i, value) for i, value in enumerate(values)])
        return accuracy(cell)

    assert shown(0.90, 0.94) == "0.920 ± 0.028"
    assert shown(0.9) == "0.900"
    assert shown(None) == "diverged"


def test_numbers_that_do_not_apply_are_empty():
    assert number(None, ".3f") == ""
    assert number(0.12345, ".3f") == "0.123"
    assert number(float("inf"), ".3f") == "inf"


def test_tables_have_a_head_and_an_empty_line_after_them():
    assert markdown_table(["a", "b"], [["1", "2"]]) == [
        "| a | b |",
        "| --- | --- |",
        "| 1 | 2 |",
        "",
    ]


def test_values_that_differ_are_listed_once():
    counts = [{"rate": 0.25, "rounds": 3}, {"rate": 0.125, "rounds": 3}, {"rate": None}]
    assert distinct(counts, "rate") == "0.25, 0.125"
    assert distinct(counts[:2], "rounds") == "3"
