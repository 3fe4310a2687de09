"""The command that makes the paper's tables."""

import csv

import numpy as np
import pytest

from experiments.reports.table_runs import (
    SCARCE_EXAMPLES,
    DataConfig,
    TablesConfig,
    specs,
)
from experiments.tables import scarce, tables
from fedjax_private.datasets import load
from fedjax_private.runs import read_rows


def test_scarce_data_keep_the_share_of_each_class():
    digits = load("mnist_5k")
    few = scarce(digits, seed=3)
    assert len(few.train) == SCARCE_EXAMPLES
    assert few.test is digits.test
    counts = np.bincount(few.train.labels)
    expected = np.bincount(digits.train.labels) * SCARCE_EXAMPLES / len(digits.train)
    assert np.abs(counts - expected).max() < 1
    again, other = scarce(digits, seed=3), scarce(digits, seed=4)
    np.testing.assert_array_equal(few.train.inputs, again.train.inputs)
    assert not np.array_equal(few.train.inputs, other.train.inputs)


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--profile=poster", "--profile must be one of digits, paper_shape"),
        ("--clients=0", "--clients must be at least 1"),
        ("--seeds=0", "--seeds must be at least 1"),
        ("--dataset=no_such_set", "no_such_set"),
        ("--arm=fl", "arm"),  # every arm is run
    ],
)
def test_bad_input_is_one_sentence(flag, named, tmp_path, capsys):
    out = tmp_path / "tables"
    with pytest.raises(SystemExit) as ended:
        tables(["tables", flag, f"--out={out}"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and named in line
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.needs_openfhe
def test_quick_tables_end_to_end(tmp_path):
    out = tmp_path / "tables"
    assert tables(["tables", "--quick", "--clients=2", f"--out={out}"]) == 0
    rows = read_rows(out / "runs.jsonl")
    expected = specs(TablesConfig(quick=True, clients=(2,)), DataConfig())
    assert [row["run"] for row in rows] == [spec.name for spec in expected]
    text = (out / "report.md").read_text()
    for title in (
        "Table 1",
        "Table 3",
        "Tables 4 and 5",
        "FL x DP x HE",
        "Related work",
        "Privacy",
    ):
        assert title in text
    assert "not run" not in text
    (encrypted,) = read_rows(out / "predictions.jsonl")
    assert encrypted["images"] == 1000
    assert encrypted["agreement"] >= 0.999
    assert encrypted["largest_difference"] < 1e-2
    summary = list(csv.DictReader((out / "summary.csv").open()))
    assert len(summary) == len(rows)
    assert {line["seeds"] for line in summary} == {"1"}
    for name in (
        "figure_1",
        "accuracy_epsilon_clients",
        "accuracy_epsilon",
        "encryption_cost",
    ):
        assert (out / f"{name}.png").stat().st_size > 5_000
