"""The benchmark command: rows as they are written, and bad input."""

import json

import numpy as np
import pytest

from experiments.benchmark import benchmark


def run(out, *arguments):
    """Runs the command with tiny cases; returns its rows."""
    flags = ["--quick", "--repeats=1", f"--out={out}", *arguments]
    assert benchmark(["benchmark", *flags]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_rows_are_written_as_cases_finish(tmp_path, capsys):
    rows = run(tmp_path / "rows.jsonl", "--suite=accounting")
    assert [row["case"] for row in rows] == ["price", "calibrate"]
    for row in rows:
        assert row["seconds"] > 0 and row["repeats"] == 1
        assert row["limits"]["matrix_product_gflops"] > 0
        assert row["versions"]["jax"]
    assert "accounting/price" in capsys.readouterr().out


def test_a_suite_of_the_user_s_own(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_suite.py").write_text(
        "from experiments.benchmarks.measure import Case, timed\n"
        "from experiments.benchmarks.suites import Suite\n"
        "case = Case('none', {'size': 3}, lambda: (timed(lambda: None), {}))\n"
        "MINE = Suite('mine', 'nothing at all', lambda quick: [case])\n"
    )
    (row,) = run(tmp_path / "rows.jsonl", "--suite=my_suite:MINE")
    assert (row["suite"], row["case"], row["size"]) == ("my_suite:MINE", "none", 3)


@pytest.mark.slow
@pytest.mark.needs_openfhe
def test_an_encrypted_prediction_is_measured(tmp_path, capsys):
    (row,) = run(tmp_path / "rows.jsonl", "--suite=inference")
    for part in ("encrypt", "evaluate", "decrypt"):
        assert row[f"seconds_{part}"] > 0
    assert row["images"] == 1 and row["max_error"] < 1e-2
    assert 0 < row["upload_bytes"] <= 4e6 and 0 < row["key_bytes"] <= 150e6
    assert row["predicted_seconds"] > 0
    assert "inference/single" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.needs_openfhe
def test_encrypted_sums_and_rounds_are_measured(tmp_path, capsys):
    sums, rounds = run(tmp_path / "rows.jsonl", "--suite=encryption")
    for part in ("encrypt", "add", "decrypt"):
        assert sums[f"seconds_{part}"] > 0
    assert sums["bytes_per_parameter"] > 8 and sums["max_error"] < 1e-3
    for scheme in ("none", "ckks", "exact", "masks"):
        assert rounds[f"seconds_{scheme}"] > 0
    assert "derived parameters" in capsys.readouterr().out


@pytest.mark.slow
def test_steps_and_rounds_are_measured(tmp_path):
    private, plain, rounds = run(tmp_path / "rows.jsonl", "--suite=clients,round")
    keys = {"suite", "case", "clients", "batch", "model", "peers"}
    for row in (private, plain):
        assert keys <= set(row)
        assert row["examples_per_second"] > 0 and row["limit_examples_per_second"] > 0
        assert np.isfinite(row["seconds_first_call"])
    assert rounds["seconds"] > 0 and rounds["seconds_first_round"] > 0


@pytest.mark.parametrize(
    ("argument", "part"),
    [
        ("--suite=speed", "--suite 'speed' is unknown"),
        ("--suite=", "--suite must name at least one"),
        ("--peers=nobody", "--peers must be names of torch, "),
        ("--repeats=0", "--repeats must be at least 1"),
        ("--out=/proc/nothing/here", "--out=/proc/nothing/here"),
    ],
)
def test_bad_input_is_one_sentence(argument, part, capsys):
    with pytest.raises(SystemExit) as ended:
        benchmark(["benchmark", argument])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert part in message and message.count("\n") == 1
