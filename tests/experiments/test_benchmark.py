"""The benchmark: what it measures, in which order, and what its rows say."""

import json
import time

import numpy as np
import pytest

from experiments import benchmark
from experiments.benchmarks import learning, measure, peers


class Fake:
    """Takes a known time and writes down when it was its turn."""

    def __init__(self, name, seconds, log):
        self.name, self.seconds, self.log = name, seconds, log
        self.ready = {"variant": name}

    def repeat(self, times):
        self.log.append((self.name, times))
        return [self.seconds] * times

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.log.append((self.name, "closed"))

    def close(self):
        self.log.append((self.name, "closed"))


STEP = {"clients": 2, "batch": 4, "model": "tutorial_cnn", "private": True}


@pytest.fixture
def log(monkeypatch):
    turns = []

    def start(name, case, threads, say):
        assert case == STEP
        if name == "opacus_ghost":
            raise peers.PeerUnavailable("there is no ghost here.")
        # One thread suits this one best.
        return Fake(f"{name}-{threads}", 0.1 * threads, turns)

    monkeypatch.setattr(peers, "start", start)
    return turns


def test_contenders_take_turns_and_the_row_says_what_they_did(log):
    case = measure.Case(
        "clients",
        "step",
        {"clients": 2},
        lambda: (Fake("ours", 0.02, log), {"seconds_first_call": 1.0}),
        for_peers=STEP,
        examples=8,
        operations=1e6,
    )
    said = []
    wanted = ("torch_func", "opacus_ghost", "torch", "tenseal")
    row = measure.measure(case, wanted, 3, 2, said.append)
    turns = [entry for entry in log if entry[1] == 2]
    assert turns == [("ours", 2), ("torch_func-1", 2)] * 3
    assert ("torch_func-2", "closed") in log and log[-1] == ("torch_func-1", "closed")
    assert row["examples_per_second"] == pytest.approx(400)
    assert row["peers"] == {"torch_func": pytest.approx(80)}
    assert row["peers_set_up"] == {"torch_func": {"variant": "torch_func-1"}}
    assert row["peers_missing"] == {"opacus_ghost": "there is no ghost here."}
    assert row["seconds_first_call"] == 1.0
    assert row["limit_examples_per_second"] > 0
    assert any("no ghost" in line for line in said)
    benchmark._table(row)


def test_parts_of_a_time_have_medians_of_their_own():
    times = [[1.0, 10.0], [3.0, 30.0], [2.0, 20.0]]
    found = measure._seconds(times, ("add", "decrypt"))
    assert found["seconds_add"] == 2.0
    assert found["seconds_decrypt"] == 20.0
    assert found["seconds_add_quartiles"] == [1.5, 2.5]


def test_a_call_is_timed_until_its_result_is_there():
    (seconds,) = measure.Call(lambda: time.sleep(0.02)).repeat(1)
    assert seconds >= 0.02


def test_operations_are_those_of_the_layers():
    """tutorial_cnn by hand: multiply-adds forward, for weights, and for inputs."""
    conv1, conv2 = 14 * 14 * 64 * 16, 5 * 5 * 256 * 32
    dense1, dense2 = 512 * 32, 32 * 10
    expected = 2 * (2 * conv1 + 3 * conv2 + 3 * dense1 + 3 * dense2)
    counted = learning.operations(learning._model("tutorial_cnn"))
    assert counted == pytest.approx(expected, rel=1e-3)


def test_rows_are_written_as_cases_finish(tmp_path, capsys):
    out = tmp_path / "rows.jsonl"
    arguments = ["--suite=accounting", "--quick", "--repeats=1", f"--out={out}"]
    assert benchmark.benchmark(["benchmark", *arguments]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["case"] for row in rows] == ["price", "calibrate"]
    for row in rows:
        assert row["seconds"] > 0 and row["repeats"] == 1
        assert row["limits"]["matrix_product_gflops"] > 0
        assert row["versions"]["jax"]
    assert "accounting/price" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.needs_openfhe
def test_an_encrypted_prediction_is_measured(tmp_path, capsys):
    out = tmp_path / "rows.jsonl"
    arguments = ["--suite=inference", "--quick", "--repeats=1", f"--out={out}"]
    assert benchmark.benchmark(["benchmark", *arguments]) == 0
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    for part in ("encrypt", "evaluate", "decrypt"):
        assert row[f"seconds_{part}"] > 0
    assert row["images"] == 1 and row["max_error"] < 1e-2
    assert 0 < row["upload_bytes"] <= 4e6 and 0 < row["key_bytes"] <= 150e6
    assert "inference/single" in capsys.readouterr().out


@pytest.mark.slow
def test_steps_and_rounds_are_measured(tmp_path):
    out = tmp_path / "rows.jsonl"
    arguments = ["--suite=clients,round", "--quick", "--repeats=1", f"--out={out}"]
    assert benchmark.benchmark(["benchmark", *arguments]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    private, plain, rounds = rows
    keys = {"suite", "case", "clients", "batch", "model", "examples_per_second"}
    for row in (private, plain):
        assert keys | {"limit_examples_per_second", "peers"} <= set(row)
        assert 0 < row["examples_per_second"] < row["limit_examples_per_second"]
        assert np.isfinite(row["seconds_first_call"])
    assert rounds["seconds"] > 0 and rounds["seconds_first_round"] > 0


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("--suite=speed", "--suite"),
        ("--peers=nobody", "--peers"),
        ("--repeats=0", "--repeats"),
        ("--out=/proc/nothing/here", "--out"),
    ],
)
def test_bad_input_is_one_sentence(argument, named, capsys):
    with pytest.raises(SystemExit) as ended:
        benchmark.benchmark(["benchmark", argument])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert named in message and message.count("\n") == 1
