"""Timing: whose turn it is, and what a row holds."""

import time

import pytest

from experiments.benchmarks import measure
from experiments.benchmarks.peers import client
from experiments.benchmarks.peers.environments import PeerUnavailable


class Fake:
    """Reports known seconds, and logs its turns."""

    def __init__(self, name, seconds, log):
        self.name, self.seconds, self.log = name, seconds, log
        self.ready = {"variant": name}

    def repeat(self, times):
        self.log.append((self.name, times))
        return [self.seconds] * times

    def close(self):
        self.log.append((self.name, "closed"))


STEP = {"clients": 2, "batch": 4, "model": "tutorial_cnn", "private": True}


@pytest.fixture
def log(monkeypatch):
    turns = []

    def start(name, case, threads, say):
        assert case == STEP
        if name == "opacus_ghost":
            raise PeerUnavailable("there is no ghost here.")
        # One thread suits this one best.
        return Fake(f"{name}-{threads}", 0.1 * threads, turns)

    monkeypatch.setattr(client, "start", start)
    return turns


def test_contenders_take_turns(log):

    def ours():
        log.append(("ours", 1))
        return 0.02

    case = measure.Case(
        "step",
        {"clients": 2},
        lambda: (ours, {"seconds_first_call": 1.0}),
        for_peers=STEP,
        examples=8,
        operations=1e6,
    )
    said = []
    wanted = ("torch_func", "opacus_ghost", "torch", "tenseal")
    row = measure.measure("clients", case, wanted, 3, 2, said.append)
    turns = [entry for entry in log if entry[1] in (1, 2)]
    assert turns == [("ours", 1), ("ours", 1), ("torch_func-1", 2)] * 3
    assert ("torch_func-2", "closed") in log and log[-1] == ("torch_func-1", "closed")
    assert row["examples_per_second"] == pytest.approx(400)
    assert row["peers"] == {"torch_func": pytest.approx(80)}
    assert row["peers_set_up"] == {"torch_func": {"variant": "torch_func-1"}}
    assert row["peers_missing"] == {"opacus_ghost": "there is no ghost here."}
    assert row["seconds_first_call"] == 1.0
    assert row["limit_examples_per_second"] > 0
    assert any("no ghost" in line for line in said)


def test_parts_have_medians_of_their_own():
    seconds = iter([[1.0, 10.0], [3.0, 30.0], [2.0, 20.0]])
    case = measure.Case(
        "one", {}, lambda: (lambda: next(seconds), {}), parts=("add", "decrypt"), most=3
    )
    row = measure.measure("sums", case, (), 100, 1, lambda line: None)
    assert row["repeats"] == 3
    assert row["seconds_add"] == 2.0 and row["seconds_decrypt"] == 20.0
    assert row["seconds_add_quartiles"] == [1.5, 2.5]


def test_a_call_is_timed_until_its_result_is_there():
    assert measure.timed(lambda: time.sleep(0.02))() >= 0.02
