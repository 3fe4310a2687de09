"""Rounds to a target accuracy, reached or not."""

import json

import pytest

from experiments.benchmark import benchmark
from experiments.benchmarks import communication


@pytest.mark.slow
def test_fedavg_needs_fewer_rounds_than_fedsgd(tmp_path, capsys):
    out = tmp_path / "rows.jsonl"
    arguments = ["--suite=rounds_to_accuracy", "--quick", "--repeats=1", f"--out={out}"]
    assert benchmark(["benchmark", *arguments]) == 0
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    iid, shards, fedsgd = (row[name] for name in communication.PARTITIONS)
    assert 4 * iid["rounds"] <= fedsgd["rounds"]
    assert shards["rounds"] < fedsgd["rounds"]
    for finish in (iid, shards, fedsgd):
        assert finish["accuracy"] >= row["target"] and finish["seconds"] > 0
    assert f"{fedsgd['rounds'] / iid['rounds']:.1f}x" in capsys.readouterr().out


def test_a_target_that_was_not_reached_gives_a_bound_or_none():
    short = {"rounds": 5, "seconds": 10.0, "accuracy": 0.96}
    capped = {"rounds": None, "seconds": 30.0, "accuracy": 0.9}
    row = {"cap": 400, "fedavg_iid": short, "fedavg_shards": capped, "fedsgd": capped}
    fewer = communication.times_fewer
    assert fewer(row, "fedavg_iid", "rounds") == "over 80.0x"
    assert fewer(row, "fedavg_iid", "seconds") == "over 3.0x"
    assert fewer(row, "fedavg_shards", "rounds") == "unknown"
    assert fewer({**row, "fedsgd": short}, "fedavg_iid", "rounds") == "1.0x"
    columns = communication.table(
        {"suite": "rounds_to_accuracy", "case": "m", "target": 0.95, **row}
    ).columns
    assert [*columns[1].cells] == ["5", "not reached in 400", "not reached in 400"]
