"""`experiments.sweep`: what it runs, and what it leaves."""

import itertools
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from experiments.sweep import (
    QUICK_ROUNDS,
    SweepConfig,
    labelled,
    quick,
    specs,
    sweep,
)
from experiments.tune import TuneConfig
from fedjax_private.encryption.openfhe.backend import interpreter
from fedjax_private.runs import ARMS, Spec, checkpoints, read_rows
from fedjax_private.runs.settings_files import Entry, SettingsFile
from tests.experiments.commands import SMALL, last, run
from tests.runs.small import ROW_NAMES


def test_a_sweep_is_a_run_for_every_cell():
    what = SweepConfig(
        arms=tuple(ARMS), clients=(2, 4), partitions=("iid", "shards"), seeds=3
    )
    cells = list(specs(what, Spec(rounds=5)))
    assert len(cells) == len(set(cells)) == len(ARMS) * 2 * 2 * 3
    assert {spec.rounds for spec in cells} == {5}
    seeds = [spec.seed for spec in cells]
    assert seeds == sorted(seeds)  # a whole comparison comes before the next
    assert set(SweepConfig().arms) == set(ARMS) - {"private_ai_local"}


def test_pooled_data_are_trained_once_a_seed():
    what = SweepConfig(clients=(2, 4))
    run_by = {spec.used_only() for spec in specs(what, Spec())}
    for arm in what.arms:
        count = sum(spec.arm == arm for spec in run_by)
        assert count == 3 * (1 if ARMS[arm].pooled else 4)


def test_quick_leaves_what_was_named():
    small, base = quick(SweepConfig(clients=(6,)), Spec(), frozenset({"clients"}))
    assert (small.clients, small.seeds) == ((6,), 1)
    assert base.rounds == QUICK_ROUNDS
    what, base = quick(SweepConfig(quick=True), Spec(), frozenset())
    assert {(cell.clients, cell.seed) for cell in specs(what, base)} == {(4, 0), (8, 0)}
    assert {cell.clients for cell in specs(SweepConfig(), Spec())} == {4, 8, 16, 32}
    assert quick(SweepConfig(), Spec(rounds=9), frozenset())[1].rounds == 9


def test_the_data_number_their_clients_unless_told():
    def places(**given):
        cells = specs(SweepConfig(arms=("fl",), seeds=1, **given), Spec())
        return [(cell.clients, cell.partition_name) for cell in cells]

    both = {"partitions": ("iid", "natural")}
    own, dealt = (None, "natural"), [(k, "iid") for k in (4, 8, 16, 32)]
    assert places(partitions=("natural",)) == [own]
    assert places(**both) == [own, *dealt]
    assert places(**both, clients=(3,)) == [(3, "iid"), (3, "natural")]
    tuned = TuneConfig(**both).places()
    names = {clients: [p.name for p in several] for clients, several in tuned.items()}
    assert names == {None: ["natural"], 4: ["iid"]}


def test_bad_settings_are_refused_in_python_too():
    for values, named in (
        ({"arms": ("magic",)}, "arms names 'magic'"),
        ({"clients": ()}, "clients needs at least one value"),
        ({"partitions": ("iid", "iid")}, "partitions names a value twice"),
        ({"clients": (0,)}, "clients must be at least 1"),
    ):
        with pytest.raises(ValueError, match=named):
            SweepConfig(**values)


def test_a_small_sweep_in_this_process(tmp_path, capsys):
    out = tmp_path / "run"
    flags = ("--arms=centralized,fl,local", "--partitions=iid,dirichlet", "--alpha=1")
    assert sweep(last("sweep", *flags, *SMALL, "--seeds=2", f"--out={out}")) == 0
    rows = read_rows(out / "runs.jsonl")
    cells = {(r["arm"], r["clients"], r["partition"], r["seed"]) for r in rows}
    assert len(rows) == len(cells) == 3 * 1 * 2 * 2
    names = checkpoints.names(out)
    assert {row["run"] for row in rows} == set(names) and len(names) == 2 + 2 * 4
    config = json.loads((out / "config.json").read_text())
    dirichlet = config["runs"]["fl-3-dirichlet-0"]["spec"]["partition"]
    assert dirichlet == {"name": "dirichlet", "size_skew": 0.0, "alpha": 1.0}
    assert set(config["runs"]) == {name for name in names if name.endswith("-0")}
    assert "2 seed(s)" in (out / "report.md").read_text()
    shown = capsys.readouterr().out
    assert len([x for x in shown.splitlines() if "seed=" in x]) == len(names)


def test_a_warning_that_runs_share_is_printed_once(tmp_path, capsys):
    out = tmp_path / "run"
    flags = ("--arms=fl_dp", "--partitions=iid", "--noise_multiplier=5", "--delta=0.1")
    assert sweep(last("sweep", *flags, *SMALL, "--seeds=2", f"--out={out}")) == 0
    shared = "Warning: delta=0.1 is above 1/4000"
    assert capsys.readouterr().out.count(shared) == 1
    assert all(len(row["warnings"]) for row in read_rows(out / "runs.jsonl"))


def test_nothing_is_written_before_all_cells_are_checked(tmp_path, capsys):
    out = tmp_path / "run"
    for flag, named in (
        ("--cohort=4", "--cohort must lie between 1 and the 3 clients"),
        ("--clients=3,5000", "--clients=5000 is more than the 4000 training examples"),
        ("--arms=fl,fl_dp --noise=distributed", "arm fl_dp encrypts nothing"),
        ("--arms=fl_dp --epsilon=1,2", "--epsilon takes one value, got '1,2': for"),
        ("--arms=fl,local --epsilon=1", "--epsilon has no effect: arm fl adds no"),
        ("--arms=centralized --cohort=2", "--clients has no effect"),
        ("--arms=fl --partitions=iid --epsilon=1", "--epsilon has no effect"),
    ):
        with pytest.raises(SystemExit) as exit_:
            sweep(last("sweep", "--arms=fl", *SMALL, *flag.split(), f"--out={out}"))
        assert exit_.value.code == 2
        assert named in capsys.readouterr().err
    assert not out.exists()


@pytest.fixture(scope="module")
def quickly(tmp_path_factory):
    out = tmp_path_factory.mktemp("quick") / "run"
    return run("sweep", "--quick", f"--out={out}"), out


@pytest.mark.slow
@pytest.mark.needs_openfhe
def test_a_quick_sweep_leaves_every_file_and_row(quickly):
    finished, out = quickly
    assert finished.returncode == 0, finished.stderr
    rows = read_rows(out / "runs.jsonl")
    cells = {(r["arm"], r["clients"], r["partition"], r["seed"]) for r in rows}
    arms = SweepConfig().arms
    assert cells == set(itertools.product(arms, (4, 8), ("iid", "shards"), (0,)))
    assert len(rows) == len(cells)
    for row in rows:
        assert list(row)[: len(ROW_NAMES)] == list(ROW_NAMES)
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
            assert 0 < row["max_aggregation_error"] < 1e-3
    for name in ("config.json", "rounds.jsonl", "summary.csv", "report.md"):
        assert (out / name).stat().st_size > 100
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert any((out / "tb").rglob("events*"))
    assert any((out / "checkpoints").iterdir())
    assert json.loads((out / "config.json").read_text())["versions"]["jax"]


@pytest.mark.slow
@pytest.mark.needs_openfhe
def test_a_quick_sweep_prints_its_runs_and_its_table(quickly):
    finished, out = quickly
    lines = [x for x in finished.stdout.splitlines() if "seed=0" in x]
    assert len(lines) == 2 + 5 * 4  # pooled arms once, the others in every cell
    assert "paper's accuracy" in finished.stdout
    assert str(out) in finished.stdout.replace("\n", "")


@pytest.mark.slow
def test_interrupted_sweeps_keep_what_has_finished(tmp_path):
    # Where this runs in the background it ignores the signal, as its children would.
    own = signal.signal(signal.SIGINT, signal.default_int_handler)
    flags = ("--arms=fl", "--seeds=500", f"--out={tmp_path}")
    process = subprocess.Popen(
        [*interpreter(), "-m", "experiments.sweep", *flags, *SMALL],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, own)
    try:
        deadline = time.monotonic() + 400
        while not read_rows(tmp_path / "runs.jsonl") and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130
    assert str(tmp_path) in out.replace("\n", "")
    assert "Traceback" not in err
    assert read_rows(tmp_path / "runs.jsonl")
    assert (tmp_path / "report.md").exists()


@pytest.mark.slow
def test_without_openfhe_plain_arms_run_and_encrypted_ones_say_why(tmp_path):
    """An empty module in OpenFHE's place, as on a platform it has no wheel for."""
    (tmp_path / "openfhe.py").write_text("raise ImportError('no such platform')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    out = tmp_path / "run"
    flags = ("--arms=fl,fl_he", "--seeds=1", "--partitions=iid", f"--out={out}")
    both = run("sweep", *flags, *SMALL, env=environment)
    assert both.returncode == 1
    assert [row["arm"] for row in read_rows(out / "runs.jsonl")] == ["fl"]
    assert "CPython 3.10" in (out / "report.md").read_text()


@pytest.mark.needs_openfhe
def test_a_run_that_fails_is_reported_beside_the_others(tmp_path, capsys):
    out = tmp_path / "run"
    flags = ("--arms=fl_he", "--partitions=iid", "--seeds=1")
    vary = "--vary=learning_rate=0.1,1e38"
    assert sweep(last("sweep", *flags, vary, *SMALL, f"--out={out}")) == 1
    assert [row["learning_rate"] for row in read_rows(out / "runs.jsonl")] == [0.1]
    for told in (capsys.readouterr().out, (out / "report.md").read_text()):
        (line,) = [each for each in told.splitlines() if "Failed: " in each]
        assert "client 0: the vector has an entry that is not finite" in line


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    """A sweep over noise, in one of two arms, and alpha, in one of two partitions."""
    out = tmp_path_factory.mktemp("varied") / "run"
    flags = ("--arms=fl,fl_dp", "--partitions=iid,dirichlet", "--seeds=2")
    vary = "--vary=noise_multiplier=0.5,8;alpha=0.1,10"
    assert sweep(last("sweep", *flags, vary, *SMALL, f"--out={out}")) == 0
    return out


class TestVaried:
    """What `--vary` names, beside arms, clients and partitions."""

    def test_every_combination_is_trained_and_no_more(self, varied):
        rows = read_rows(varied / "runs.jsonl")
        found = [
            (r["arm"], r["partition"], r["noise_multiplier"], r.get("alpha"), r["seed"])
            for r in rows
        ]
        places = [("iid", None), ("dirichlet", 0.1), ("dirichlet", 10.0)]
        wanted = [
            (arm, partition, noise, alpha, seed)
            for seed in (0, 1)
            for partition, alpha in places
            for arm, noises in (("fl", [None]), ("fl_dp", [0.5, 8.0]))
            for noise in noises
        ]
        assert sorted(map(str, found)) == sorted(map(str, wanted))
        names = checkpoints.names(varied)
        assert {row["run"] for row in rows} == set(names)
        assert "noise_multiplier=8.0,alpha=10.0-fl_dp-3-dirichlet-1" in names

    def test_reports_hold_every_value_and_mix_none(self, varied):
        text = (varied / "report.md").read_text()
        assert text.startswith("# Test accuracy against noise multiplier")
        for title in ("IID", "non-IID (dirichlet), alpha 0.1", "alpha 10"):
            assert f"{title}\n\n| arm, noise multiplier | 0.5 | 8 |" in text
        assert "(comparison.png)" in text
        config = json.loads((varied / "config.json").read_text())
        assert config["vary"] == ["noise_multiplier", "alpha"]
        assert config["metric"] == "accuracy"


def test_runs_of_one_name_are_refused_before_any_is_trained(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    files = [Path("a_b.csv"), Path("a/b.csv")]
    files[1].parent.mkdir()
    for file in files:
        lines = [f"{n},{'yes' if n % 2 else 'no'}" for n in range(40)]
        file.write_text("\n".join(["dose,label", *lines]))
    out = tmp_path / "run"
    flags = ("--arms=fl", "--partitions=iid", "--seeds=1", f"--out={out}")
    named = ",".join(f"csv:{file}" for file in files)
    with pytest.raises(SystemExit) as exit_:
        vary = f"--vary=dataset={named};label=label;ranges=*=raw"
        sweep(last("sweep", *flags, *SMALL, vary))
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: two runs have the name ")
    assert "dataset=csv_a_b.csv," in line
    assert not out.exists()


def test_runs_are_labelled_by_the_path_of_a_settings_file_alone(tmp_path):
    values = tuple((name, 1) for name in ("rounds", "local_epochs", "batch_size"))
    entry = Entry("mnist_5k", "linear", "fl", "fedavg", None, 3, values)
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for file in files:
        SettingsFile(str(file), (entry,)).write()
    text = ",".join(map(str, files))
    what = SweepConfig(
        arms=("fl",),
        clients=(3,),
        partitions=("iid",),
        seeds=1,
        vary=f"settings={text}",
    )
    cells = specs(what, Spec(model="linear"))
    labels = [labelled(cell.used_only(), what.varied).label for cell in cells]
    assert labels == [f"settings={file}" for file in files]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--vary=colour=red", "--vary names 'colour', which is no flag of these runs"),
        ("--vary=momentum=fast", "momentum takes a number, got 'fast'"),
        ("--vary=momentum=0,2", "--momentum must lie in [0, 1), got 2"),
        ("--vary=momentum", "--vary takes name=a,b pairs"),
        ("--vary=clients=3,4", "has a flag of its own: give --clients=4,8 instead"),
        ("--vary=seed=0,1", "give --seeds=3 instead"),
        ("--vary=label=a", "--vary names 'label', which is no flag of these runs"),
        ("--vary=momentum=0 --momentum=0.9", "given as well: leave out --momentum"),
        ("--vary=epsilon=1,2", "--epsilon has no effect"),  # no arm has DP
        ("--vary=algorithm=fedavg,truex", "--algorithm=truex is for arm private_ai"),
        ("--metric=beauty", "--metric must be one of accuracy, loss"),
        ("--metric=epsilon", "--metric=epsilon is measured in none of the arms fl"),
    ],
)
def test_what_cannot_vary_is_bad_input(flags, named, tmp_path, capsys):
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as exit_:
        sweep(last("sweep", "--arms=fl", *SMALL, *flags.split(), f"--out={out}"))
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
    assert not out.exists()


def test_another_metric_is_compared(tmp_path, capsys):
    out = tmp_path / "run"
    flags = ("--arms=fl", "--partitions=iid", "--seeds=1", "--metric=loss")
    argv = last("sweep", *flags, *SMALL, "--clients=2,3", f"--out={out}")
    assert sweep(argv) == 0
    assert (out / "report.md").read_text().startswith("# Test loss against clients")
    assert "test loss" in capsys.readouterr().out
