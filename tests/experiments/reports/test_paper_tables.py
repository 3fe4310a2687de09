"""The report of `experiments.tables`, from made-up runs."""

import csv
import dataclasses

import pytest

from experiments.reports import paper_tables
from experiments.reports.predictions import Predictions
from experiments.reports.table_runs import TablesConfig
from fedjax_private.runs import ARMS
from tests.experiments.reports.made_up import results, section, table

ENCRYPTED = Predictions(
    name="polynomial_cnn-centralized-1-iid-0",
    packing="batch",
    images=1000,
    accuracy=0.961,
    plain_accuracy=0.962,
    agreement=0.999,
    largest_difference=1e-3,
    seconds_per_image=0.01,
    request_bytes=10**6,
    answer_bytes=10**5,
    key_bytes=10**8,
)


def accuracy(spec):
    """Falls with clients alone, and less with FL."""
    slope = 0.01 if spec.arm == "local" else 0.001
    return 0.9 - slope * spec.client_count + 0.001 * spec.seed


@pytest.fixture(scope="module")
def digits():
    found = results(TablesConfig(seeds=2, clients=(4, 8)), accuracy)
    return dataclasses.replace(found, encrypted=[ENCRYPTED])


@pytest.fixture(scope="module")
def written(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("tables")
    assert paper_tables.write(out, digits, ["Not run: something."])
    return out


@pytest.fixture(scope="module")
def report(written):
    return (written / "report.md").read_text()


def test_every_table_and_figure_is_there(written, report):
    titles = [line for line in report.splitlines() if line.startswith("## ")]
    assert len(titles) == len(set(titles)) >= 9
    for name in (
        "figure_1",
        "accuracy_epsilon_clients",
        "accuracy_epsilon",
        "encryption_cost",
    ):
        assert (written / f"{name}.png").stat().st_size > 5_000
        assert f"({name}.png)" in report
    assert "not run" not in report
    assert "**Not run: something.**" in report


def test_our_figures_stand_beside_the_paper_s(report):
    *_, encrypted = table(section(report, "Table 1"))
    assert encrypted["model"] == "polynomial_cnn"
    assert (encrypted["accuracy"], encrypted["paper"]) == ("0.961", "*0.950*")
    third = section(report, "Table 3")
    assert (
        "| IID | 4 | 0.861 ± 0.001 | *0.731 ± 0.03* | 0.897 ± 0.001 | *0.824 ± 0.02* |"
    ) in third
    assert "non-IID (2-class shards)" in third


def test_all_eight_combinations_of_fl_dp_and_he_have_a_line(report):
    lines = table(section(report, "The table that the paper lacks: FL x DP x HE"))
    marks = {(line["FL"], line["DP"], line["HE"]) for line in lines}
    assert len(lines) == len(marks) == 8
    assert all((line["epsilon, outsiders"] != "") == bool(line["DP"]) for line in lines)


def test_every_private_run_has_its_unit_and_adversaries(digits, report):
    text = section(report, "Privacy")
    private = [spec for spec in digits.prepared if ARMS[spec.arm].private]
    assert text.count("| record |") == len(private)
    assert "- PRIVATE-AI (FL + DP + HE), insiders: the server." in text
    assert "- FL + DP: everybody." in text


def test_the_summary_has_a_line_for_every_run(digits, written):
    lines = list(csv.DictReader((written / "summary.csv").open()))
    assert len(lines) == len(digits.prepared)
    assert {line["seeds"] for line in lines} == {"1", "2"}


def test_runs_that_are_missing_are_said_to_be(digits, tmp_path):
    some = {spec: row for spec, row in digits.rows.items() if spec.arm != "fl_he"}
    interrupted = dataclasses.replace(digits, rows=some, encrypted=())
    assert paper_tables.write(tmp_path, interrupted, [])
    assert "not run" in (tmp_path / "report.md").read_text()


def test_the_scarce_profile_checks_the_shape_of_table_3(tmp_path):
    what = TablesConfig(profile="paper_shape", seeds=1, clients=(4, 8))
    assert paper_tables.write(tmp_path, results(what, accuracy), [])
    text = (tmp_path / "report.md").read_text()
    assert "Declared scarcity: 1024 training examples of mnist_5k" in text
    assert "DOES NOT HOLD" not in text and ": holds." in text
    level = results(what, lambda spec: 0.9)
    assert not paper_tables.write(tmp_path, level, [])
    assert "DOES NOT HOLD" in (tmp_path / "report.md").read_text()
    quick = dataclasses.replace(what, quick=True)  # a look need not hold
    assert paper_tables.write(tmp_path, results(quick, lambda spec: 0.9), [])


def test_other_data_carry_no_figure_of_the_paper(tmp_path):
    what = TablesConfig(seeds=1, clients=(4, 8))
    found = results(what, accuracy)
    rows = {spec: {**row, "dataset": "other"} for spec, row in found.rows.items()}
    paper_tables.write(tmp_path, dataclasses.replace(found, rows=rows), [])
    text = (tmp_path / "report.md").read_text()
    assert "italics" not in text and "*0." not in text
    assert "| paper |" not in text and "the paper's centralised" not in text.lower()
