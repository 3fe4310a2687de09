"""The ledger: replay, budgets, cohorts, and crashes at any point."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import fedjax_private.privacy.accounting as accounting
from fedjax_private.privacy.accounting import (
    Approximate,
    BudgetExceeded,
    Gaussian,
    Ledger,
    LedgerConflict,
    Neighbors,
    NoPrivacy,
    Poisson,
    RdpAccountant,
    Repeated,
    Unsupported,
    WithoutReplacement,
    fingerprint,
    journal,
)

ADD = Neighbors.ADD_REMOVE
DELTA = 1e-5
STEP = Poisson(0.01, Gaussian(1.0))


def cost(event, count=1):
    return RdpAccountant(neighbors=ADD).compose(event, count).spent(DELTA).epsilon


def charge(ledger, round_number, clients=(0, 1, 2), event=STEP, count=1, **other):
    values = {
        "clients": clients,
        "round_number": round_number,
        "event": event,
        "count": count,
        "fingerprint": fingerprint(f"key {round_number}".encode()),
        "digest": "digest",
    }
    return ledger.charge(**(values | other))


@pytest.fixture(params=["disk", "memory"])
def ledger(request, tmp_path):
    path = tmp_path / "ledger.jsonl" if request.param == "disk" else None
    with Ledger(path, ADD) as opened:
        yield opened


def test_sequential_and_parallel_composition(ledger):
    assert ledger.epsilon(DELTA) == 0
    assert charge(ledger, 0, [0, 1, 2], count=100)
    assert charge(ledger, 1, [2, 7], count=50)
    assert ledger.epsilon(DELTA) == cost(STEP, 150)
    assert ledger.events_of(2) == {STEP: 150}
    steps = {0: 100, 1: 100, 2: 150, 7: 50}
    assert ledger.epsilons(DELTA) == {k: cost(STEP, n) for k, n in steps.items()}
    # The dearest client is not the one with the most entries.
    charge(ledger, 2, [7], event=Gaussian(0.5))
    assert ledger.epsilon(DELTA) == ledger.epsilons(DELTA)[7] > cost(STEP, 150)


def test_counts_and_repetitions_are_alike(ledger):
    charge(ledger, 0, [0], count=30)
    charge(ledger, 1, [1], event=Repeated(STEP, 30))
    charge(ledger, 2, [2], event=Repeated(STEP, 15), count=2)
    assert len(set(ledger.epsilons(DELTA).values())) == 1


def test_replay_costs_nothing_and_anything_else_is_a_conflict(ledger):
    assert charge(ledger, 3, count=10)
    spent = ledger.epsilons(DELTA)
    assert not charge(ledger, 3, count=10)
    assert not charge(ledger, 3, clients=np.array([2, 0, 1]), count=10)
    same = fingerprint(b"key 3")
    for other in (
        {"count": 11},
        {"count": 9},
        {"digest": "other params"},
        {"event": Poisson(0.01, Gaussian(1.1))},
        {"clients": [0, 1]},
        {"clients": [5]},
    ):
        with pytest.raises(LedgerConflict, match="subtract"):
            charge(ledger, 3, **({"count": 10} | other))
    with pytest.raises(LedgerConflict):
        charge(ledger, 4, count=10, fingerprint=same)
    assert ledger.epsilons(DELTA) == spent


def test_the_budget_stops_before_the_step_that_would_exceed_it(tmp_path):
    budget = (cost(STEP, 25) * 1.0001, DELTA)
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, ADD, budget)
    for round_number in range(2):
        charge(ledger, round_number, count=10)
    size = path.stat().st_size
    with pytest.raises(BudgetExceeded, match="nothing was charged"):
        charge(ledger, 2, [2, 9], count=6)
    assert path.stat().st_size == size
    assert ledger.epsilon(DELTA) == cost(STEP, 20)
    assert 9 not in ledger.epsilons(DELTA)
    # The refused key is still fresh, and others can go on.
    assert charge(ledger, 2, [9], count=6)
    assert charge(ledger, 3, [2], count=5)
    with pytest.raises(BudgetExceeded):
        charge(ledger, 4, [2])
    ledger.close()
    with Ledger(path, ADD, budget) as again, pytest.raises(BudgetExceeded):
        charge(again, 4, [2])


def test_impossible_charges_are_refused(ledger):
    for wrong in (
        {"clients": []},
        {"clients": [-1]},
        {"clients": [1, 1]},
        {"clients": [0.5]},
        {"count": 0},
        {"fingerprint": ""},
    ):
        with pytest.raises(ValueError, match=r"client|count|fingerprint"):
            charge(ledger, 0, **wrong)
    with pytest.raises(Unsupported):
        charge(ledger, 0, event=WithoutReplacement(10, 1, Gaussian(1)))
    assert ledger.epsilon(DELTA) == 0
    assert charge(ledger, 0)


def test_files_that_are_no_ledgers_are_refused(tmp_path):
    with pytest.raises(TypeError, match="Neighbors"):
        Ledger(None, "add_remove")
    for budget in ((-1, DELTA), (1, 0), (1, 1)):
        with pytest.raises(ValueError, match="budget"):
            Ledger(None, ADD, budget)
    path = tmp_path / "ledger.jsonl"
    for text in ("something else", "something\n", '{"ledger":99,"neighbors":"x"}\n'):
        path.write_text(text)
        with pytest.raises(ValueError, match="not a ledger"):
            Ledger(path, ADD)
    path.unlink()
    Ledger(path, ADD).close()
    with pytest.raises(ValueError, match="do not add up"):
        Ledger(path, Neighbors.REPLACE_ONE)


def test_reading_back(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, ADD) as ledger:
        charge(ledger, 0, range(100), count=3)
        charge(ledger, 1, [5, 6, 7, 50, 99], event=Gaussian(2))
        before = ledger.epsilons(DELTA)
    with Ledger(path, ADD) as again:
        assert again.epsilons(DELTA) == before
        assert not charge(again, 0, range(100), count=3)
        with pytest.raises(LedgerConflict):
            charge(again, 0, range(101), count=3)
        assert charge(again, 2, [5])
    with pytest.raises(ValueError, match="closed"):
        charge(again, 3)


def test_one_process_at_a_time(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, ADD)
    with pytest.raises(BlockingIOError, match="open elsewhere"):
        Ledger(path, ADD)
    ledger.close()
    Ledger(path, ADD).close()
    Ledger(path, ADD)  # dropped without closing
    Ledger(path, ADD).close()


def test_the_file_holds_no_key_and_stays_small(tmp_path):
    path = tmp_path / "ledger.jsonl"
    key = bytes(range(16))
    with Ledger(path, ADD, (50.0, DELTA)) as ledger:
        charge(ledger, 0, range(10_000), fingerprint=fingerprint(key))
    text = path.read_text()
    assert key.hex() not in text
    assert fingerprint(key) in text
    assert len(text) < 500
    [header, entry] = map(json.loads, text.splitlines())
    assert header == {"ledger": 1, "neighbors": "add_remove"}
    assert entry["clients"] == "0-9999"


def test_the_work_follows_distinct_histories_and_not_clients(monkeypatch):
    composed, compose = [], RdpAccountant.compose

    def counted(self, *arguments):
        composed.append(arguments)
        return compose(self, *arguments)

    monkeypatch.setattr(RdpAccountant, "compose", counted)
    generator = np.random.default_rng(0)
    counts = np.zeros(10_000, dtype=int)
    with Ledger(None, ADD, (100.0, DELTA)) as ledger:
        for round_number in range(200):
            if round_number % 4:
                cohort = np.arange(10_000)
            else:
                cohort = generator.choice(10_000, 1000, replace=False)
            charge(ledger, round_number, cohort)
            counts[cohort] += 1
        # A history here is a number of steps: there are no more than 200.
        assert len(composed) <= 200
        monkeypatch.undo()
        assert ledger.epsilon(DELTA) == cost(STEP, int(counts.max()))
        client = int(counts.argmin())
        assert ledger.epsilons(DELTA)[client] == cost(STEP, int(counts[client]))


def rows(path):
    return path.read_bytes().splitlines(keepends=True)


def test_a_cut_at_any_byte_over_counts(tmp_path):
    """Whatever is left of the last line, nobody is found to have spent less."""
    source = tmp_path / "source.jsonl"
    with Ledger(source, ADD) as ledger:
        charge(ledger, 0, range(10), count=5)
        charge(ledger, 1, range(3, 6), event=Repeated(Gaussian(4.0), 3), count=2)
        earlier = ledger.epsilons(DELTA)
        charge(ledger, 2, range(3, 6), event=Repeated(Gaussian(4.0), 3), count=2)
        spent = ledger.epsilons(DELTA)
    whole = source.read_bytes()
    start = len(whole) - len(rows(source)[-1])
    path = tmp_path / "cut.jsonl"
    cuts = {start, start + 1, len(whole) - 2, len(whole) - 1}
    for cut in sorted(cuts | set(range(start, len(whole), 5))):
        path.write_bytes(whole[:cut])
        with Ledger(path, ADD) as ledger:
            found = ledger.epsilons(DELTA)
            # Without a byte of it the last charge never happened.
            least = earlier if cut == start else spent
            assert all(found[client] >= least[client] for client in range(10)), cut
        repaired = path.read_bytes()
        assert repaired.startswith(whole[:cut])
        with Ledger(path, ADD) as ledger:
            assert ledger.epsilons(DELTA) == found
            # What was cut off was not charged under its key, but for the line's end.
            again = charge(
                ledger, 2, range(3, 6), event=Repeated(Gaussian(4.0), 3), count=2
            )
            assert again is (cut < len(whole) - 1)
        # A crash during the repair itself.
        for second in range(cut, len(repaired)):
            if second % 97 and second != cut + 1:
                continue
            path.write_bytes(repaired[:second])
            with Ledger(path, ADD) as ledger:
                twice = ledger.epsilons(DELTA)
                assert all(twice[client] >= least[client] for client in range(10))


def test_a_cut_within_the_first_lines(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, ADD) as ledger:
        charge(ledger, 0)
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with Ledger(path, ADD) as ledger:
            charge(ledger, 1, [4])
            assert ledger.epsilons(DELTA)[4] >= cost(STEP)
        with Ledger(path, ADD) as ledger:
            assert ledger.epsilons(DELTA)[4] >= cost(STEP)


def test_damage_elsewhere_is_not_repaired(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, ADD) as ledger:
        for round_number in range(3):
            charge(ledger, round_number)
    header, first, second, third = rows(path)
    path.write_bytes(header + first + second[:30] + b"\n" + third)
    with pytest.raises(ValueError, match="damaged"):
        Ledger(path, ADD)


def test_no_noise_is_drawn_where_the_disk_fails(tmp_path, monkeypatch):
    with Ledger(tmp_path / "ledger.jsonl", ADD) as ledger:

        def fail(descriptor):
            raise OSError("disk full")

        monkeypatch.setattr(journal.os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            charge(ledger, 0)


CRASH = """
import os, random, signal, sys, time
from fedjax_private.privacy.accounting import *
from fedjax_private.privacy.accounting import journal
path, runs = sys.argv[1], int(sys.argv[2])
step = Poisson(0.01, Gaussian(1.0))
random.seed(7)
write = os.write

def slowly(descriptor, data):  # so that some of the crashes cut a line
    return write(descriptor, data[:5])

def spend(pipe, first):
    journal.os.write = slowly
    ledger = Ledger(path, Neighbors.ADD_REMOVE)
    for round_number in range(first, first + 10_000):
        ledger.charge(
            clients=range(20), round_number=round_number, event=step, digest="d",
            fingerprint=fingerprint(f"{first} {round_number}".encode()),
        )
        write(pipe, b".")  # here the noise is drawn

drawn = charged = 0
for run in range(runs):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        spend(writer, run * 10_000)
    os.close(writer)
    for _ in range(random.randrange(4)):  # let it draw so many times
        drawn += len(os.read(reader, 1))
    time.sleep(random.uniform(0, 0.003))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while seen := os.read(reader, 1 << 16):
        drawn += len(seen)
    os.close(reader)
    with Ledger(path, Neighbors.ADD_REMOVE) as ledger:
        for client in (0, 19) if drawn else ():
            charged = sum(ledger.events_of(client).values())
            assert charged >= drawn, (run, charged, drawn)
text = open(path).read()
print(drawn, charged, text.count('"repairs"'))
"""


def test_killing_between_charge_and_noise_at_fifty_points(tmp_path):
    root = pathlib.Path(accounting.__file__).parents[3]
    output = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path / "ledger.jsonl"), "50"],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert output.returncode == 0, output.stderr
    drawn, charged, repairs = map(int, output.stdout.split())
    assert drawn > 30
    # At most one charge too many a crash, and one more for each line mended.
    assert drawn <= charged <= drawn + 50 + repairs


def test_no_privacy_is_infinite(ledger):
    charge(ledger, 0, event=NoPrivacy())
    assert ledger.epsilon(DELTA) == float("inf")


def test_a_ledger_keeps_failures_and_names_the_adversary(tmp_path):
    path, failing = tmp_path / "ledger.jsonl", Approximate(Gaussian(4.0), 1e-8)

    def opened():
        return Ledger(path, ADD, (3.0, 1e-5), adversary="the world and the server")

    def charge(ledger, number):
        return ledger.charge(
            clients=[3],
            round_number=number,
            event=Repeated(failing, 2),
            fingerprint=str(number),
            digest="d",
        )

    with opened() as ledger:
        assert charge(ledger, 1)
        before = ledger.epsilon(1e-5)
    header = json.loads(path.read_text().splitlines()[0])
    assert header["adversary"] == "the world and the server"
    assert header["neighbors"] == "add_remove"
    with opened() as ledger:
        assert ledger.epsilon(1e-5) == before
        assert not charge(ledger, 1)  # a replay
        assert charge(ledger, 2)
        assert ledger.events_of(3) == {failing: 4}
        assert ledger.epsilon(DELTA) == cost(failing, 4)
        # A failure that leaves no epsilon is beyond any budget.
        with pytest.raises(BudgetExceeded):
            ledger.charge(
                clients=[3],
                round_number=3,
                event=Approximate(Gaussian(1e6), 1e-4),
                fingerprint="3",
                digest="d",
            )
