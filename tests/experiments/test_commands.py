"""The commands as a user runs them, mostly in processes of their own."""

import itertools
import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest
from experiments.arms import ARMS
from fedjax_private.simulation.records import ROW_NAMES, read_rows

from experiments import pricing
from experiments.config import SweepConfig
from experiments.train import train
from fedjax_private.encryption.openfhe.backend import interpreter
from fedjax_private.privacy.accounting import Ledger, from_json

SMALL = ("--model=linear", "--rounds=2", "--clients=3")


def run(command, *argv, **options):
    return subprocess.run(
        [*interpreter(), "-m", f"experiments.{command}", *map(str, argv)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    out = tmp_path_factory.mktemp("quick") / "run"
    return run("sweep", "--quick", f"--out={out}"), out


@pytest.mark.slow
@pytest.mark.needs_openfhe
def test_a_quick_sweep_leaves_every_file_and_row(quick):
    finished, out = quick
    assert finished.returncode == 0, finished.stderr
    rows = read_rows(out / "runs.jsonl")
    cells = {(r["arm"], r["clients"], r["partition"], r["seed"]) for r in rows}
    arms = SweepConfig().arms
    assert cells == set(itertools.product(arms, (4, 8), ("iid", "shards"), (0,)))
    assert len(rows) == len(cells)
    for row in rows:
        assert list(row) == list(ROW_NAMES)
        arm = ARMS[row["arm"]]
        private = ("epsilon", "delta", "noise_multiplier", "clip_norm", "steps")
        encrypted = ("encryption", "seconds_encrypt", "max_aggregation_error")
        assert all((row[name] is not None) is arm.private for name in private)
        assert all((row[name] is not None) is arm.encrypted for name in encrypted)
        federated = arm.federated
        assert (row["upload_bytes_per_client_round"] is not None) is federated
        assert (row["epsilon_insider"] is not None) is (federated and arm.private)
        assert 0.1 < row["accuracy"] <= 1.0
        assert (row["honest_clients"] is not None) is arm.shared
        if arm.private:
            assert 2.8 < row["epsilon"] <= 2.9
        if arm.shared:
            assert row["epsilon"] < row["epsilon_insider"] < 5
        if arm.encrypted:
            assert 0 < row["max_aggregation_error"] < 1e-4
    for name in ("config.json", "rounds.jsonl", "summary.csv", "report.md"):
        assert (out / name).stat().st_size > 100
    assert (out / "accuracy_clients.png").read_bytes().startswith(b"\x89PNG")
    assert any((out / "tb").rglob("events*"))
    assert any((out / "checkpoints").iterdir())
    assert json.loads((out / "config.json").read_text())["versions"]["jax"]


@pytest.mark.slow
@pytest.mark.needs_openfhe
def test_a_quick_sweep_prints_its_runs_and_its_table(quick):
    finished, out = quick
    lines = [x for x in finished.stdout.splitlines() if "seed=0" in x]
    assert len(lines) == 2 + 5 * 4  # pooled arms once, the others in every cell
    assert "paper's accuracy" in finished.stdout
    assert str(out) in finished.stdout.replace("\n", "")


def test_equal_seeds_give_equal_numbers_and_free_noise_does_not(tmp_path):
    def seeded(name, *flags):
        out = tmp_path / name
        finished = run("train", "--arm=fl_dp", *SMALL, *flags, f"--out={out}")
        assert finished.returncode == 0, finished.stderr
        (row,) = read_rows(out / "runs.jsonl")
        return row["loss"], out

    first, out = seeded("a", "--noise_seed=7")
    again, _ = seeded("b", "--noise_seed=7")
    free, free_out = seeded("c")
    assert first == again != free
    assert "those of a simulation" in (out / "report.md").read_text()
    # The ledger holds a charge per round, and no key of the noise.
    charges = (free_out / "ledger" / "fl_dp-3-iid-0.jsonl").read_text()
    assert charges.count("fingerprint") == 2
    assert "noise_key" not in charges


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--clients=4001",), "--clients"),
        (("--dataset=no_such_set",), "no_such_set"),
        (("--cohort=4",), "--cohort"),
        (("--out=/proc/nowhere",), "--out"),
    ],
)
def test_bad_input_ends_before_any_training(tmp_path, flags, named):
    finished = run("train", "--arm=fl", *SMALL, *flags, cwd=tmp_path)
    assert finished.returncode == 2
    (line,) = finished.stderr.splitlines()
    assert line.startswith("error: ")
    assert named in line
    assert not (tmp_path / "runs").exists()


def test_a_directory_that_holds_a_run_is_not_written_again(tmp_path):
    (tmp_path / "runs.jsonl").write_text("{}\n")
    finished = run("train", "--arm=fl", *SMALL, f"--out={tmp_path}")
    assert finished.returncode == 2
    assert "--overwrite" in finished.stderr
    assert (tmp_path / "runs.jsonl").read_text() == "{}\n"


def test_interrupted_sweeps_keep_what_has_finished(tmp_path):
    # Where this runs in the background it ignores the signal, as its children would.
    own = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [
            *interpreter(),
            *(
                "-m",
                "experiments.sweep",
                "--arms=fl",
                "--seeds=500",
                f"--out={tmp_path}",
            ),
            *SMALL,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, own)
    deadline = time.monotonic() + 200
    while not read_rows(tmp_path / "runs.jsonl") and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 130
    assert str(tmp_path) in out.replace("\n", "")
    assert "Traceback" not in err
    assert read_rows(tmp_path / "runs.jsonl")
    assert (tmp_path / "report.md").exists()


def test_without_openfhe_plain_arms_run_and_encrypted_ones_say_why(tmp_path):
    """An empty module in OpenFHE's place, as on a platform it has no wheel for."""
    (tmp_path / "openfhe.py").write_text("raise ImportError('no such platform')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    one = run("train", "--arm=fl_he", *SMALL, env=environment)
    assert one.returncode == 2
    assert "CPython 3.10" in one.stderr
    out = tmp_path / "run"
    both = run(
        "sweep",
        "--arms=fl,fl_he",
        "--seeds=1",
        "--partitions=iid",
        *SMALL,
        f"--out={out}",
        env=environment,
    )
    assert both.returncode == 1
    assert [row["arm"] for row in read_rows(out / "runs.jsonl")] == ["fl"]
    assert "CPython 3.10" in (out / "report.md").read_text()


def test_importing_the_accountant_alone_brings_neither_jax_nor_matplotlib():
    code = (
        "import sys, fedjax_private.privacy.accounting as a; a.RdpAccountant;"
        "print([m for m in ('jax', 'matplotlib') if m in sys.modules])"
    )
    finished = subprocess.run(
        [*interpreter(), "-c", code], capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == "[]"


@pytest.mark.needs_openfhe
def test_an_encrypted_run_equals_the_plain_one(tmp_path):
    losses = {}
    for arm in ("fl", "fl_he"):
        finished = run("train", f"--arm={arm}", *SMALL, f"--out={tmp_path / arm}")
        assert finished.returncode == 0, finished.stderr
        (row,) = read_rows(tmp_path / arm / "runs.jsonl")
        losses[arm] = row["loss"]
    # An accelerator adds up in another order each time.
    np.testing.assert_allclose(losses["fl"], losses["fl_he"], rtol=1e-4)


def test_tuning_scores_a_grid_on_held_out_training_data(tmp_path):
    log = tmp_path / "log.jsonl"
    grid = "learning_rate=0.0001,0.1"
    finished = run("tune", "--arm=fl", *SMALL, f"--grid={grid}", f"--log={log}")
    assert finished.returncode == 0, finished.stderr
    first, second = read_rows(log)
    assert (first["learning_rate"], second["learning_rate"]) == (0.0001, 0.1)
    assert first["validation_accuracy"] < second["validation_accuracy"]
    assert first["held_out_examples"] == 800
    assert first["rounds"] == 2


@pytest.mark.needs_openfhe
def test_training_that_cannot_be_encrypted_ends_with_one_sentence(tmp_path):
    wild = "--learning_rate=1e30"
    finished = run("train", "--arm=fl_he", *SMALL, wild, f"--out={tmp_path / 'run'}")
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
    assert "fl_he-3-iid-0 failed" in finished.stderr


@pytest.mark.needs_openfhe
def test_shared_noise_is_paid_for_in_two_ledgers(tmp_path):
    out = tmp_path / "run"
    flags = ("--arm=private_ai", "--encryption=exact", "--epsilon=2", "--noise_seed=1")
    assert train(["train", *flags, *SMALL, f"--out={out}"]) == 0
    (row,) = read_rows(out / "runs.jsonl")
    assert 1.98 < row["epsilon"] <= 2.0
    assert row["epsilon"] < row["epsilon_insider"] < 3.0
    assert (row["honest_clients"], row["steps"], row["encryption"]) == (2, 2, "exact")
    assert row["max_aggregation_error"] == 0
    assert row["accuracy"] > 0.1
    first, last = read_rows(out / "rounds.jsonl")
    assert [last["epsilon"], last["epsilon_insider"]] == pytest.approx(
        [row["epsilon"], row["epsilon_insider"]]
    )
    assert first["epsilon"] < last["epsilon"]
    assert first["void"] is False
    assert first["train_loss"] is first["saturated"] is None  # facts about records
    books = {}
    for path in (out / "ledger").iterdir():
        header, *charges = map(json.loads, path.read_text().splitlines())
        assert len(charges) == 2
        name, adversary, _ = path.name.split(".")
        assert name == "private_ai-3-iid-0"
        event = from_json(json.dumps(charges[0]["event"]))
        with Ledger(path, pricing.NEIGHBORS) as ledger:
            shares = event.event.event.event.shares
            books[adversary] = shares, ledger.epsilon(1e-5), header["adversary"]
    assert set(books) == {"outsiders", "insiders"}
    assert books["outsiders"][:2] == (3, pytest.approx(row["epsilon"]))
    assert books["insiders"][:2] == (2, pytest.approx(row["epsilon_insider"]))
    assert "the released sums only" in books["outsiders"][2]
    assert "all clients but 2 of every 3 in a sum" in books["insiders"][2]
    assert f"{row['epsilon_insider']:.4f}" in (out / "report.md").read_text()


@pytest.mark.needs_openfhe
def test_one_shared_key_leaves_insiders_no_epsilon(tmp_path):
    out = tmp_path / "run"
    flags = ("--arm=private_ai", "--encryption=exact", "--key_holder=clients")
    assert train(["train", *flags, *SMALL, f"--out={out}"]) == 0
    for name in ("runs.jsonl", "rounds.jsonl"):
        for line in (out / name).read_text().splitlines():
            assert json.loads(line)["epsilon_insider"] == "inf"
            assert json.loads(line)["epsilon"] <= 2.9
    (path,) = (out / "ledger").glob("*.insiders.jsonl")
    assert "and read single uploads" in path.read_text()
    assert "BASELINE" in (out / "report.md").read_text()


def test_void_rounds_are_told_and_cost_no_sums(tmp_path):
    out = tmp_path / "run"
    flags = ("--drop_out=0.4", "--min_uploads=2", "--rounds=6")
    assert train(["train", "--arm=fl", *SMALL, *flags, f"--out={out}"]) == 0
    rounds = read_rows(out / "rounds.jsonl")
    assert {row["void"] for row in rounds} == {True, False}
    for row in rounds:
        assert (row["seconds_add"] is None) is row["void"]
    (row,) = read_rows(out / "runs.jsonl")
    assert row["seconds_add"] == sum(r["seconds_add"] or 0 for r in rounds)
    assert row["upload_bytes_per_client_round"] == 4 * 7851


@pytest.mark.needs_openfhe
@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--encryption=none", "--noise=local or another --encryption"),
        ("--local_steps=2", "one step a released sum"),
    ],
)
def test_noise_that_cannot_be_shared_is_bad_input(tmp_path, capsys, flag, named):
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as exit_:
        train(["train", "--arm=private_ai", *SMALL, flag, f"--out={out}"])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and named in line
    assert not out.exists()
