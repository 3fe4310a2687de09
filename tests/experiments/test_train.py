"""`experiments.train`, mostly in this process."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.train import train
from fedjax_private import runs
from fedjax_private.runs import read_rows
from tests.experiments.commands import SMALL, last, run

RESEARCH = Path(__file__).parent.parent / "runs"  # holds research.py


def trained(out, *flags):
    """The row of a run that ends well."""
    assert train(last("train", *SMALL, *flags, f"--out={out}")) == 0
    (row,) = read_rows(out / "runs.jsonl")
    return row


def refused(capsys, out, *flags):
    """The sentence with which a run is refused before any work."""
    with pytest.raises(SystemExit) as exit_:
        train(last("train", *SMALL, *flags, f"--out={out}"))
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert not (out / "runs.jsonl").exists()
    return line


def test_a_run_leaves_every_file_and_prints_its_result(tmp_path, capsys):
    out = tmp_path / "run"
    row = trained(out, "--arm=fl_dp", "--noise_multiplier=1")
    printed = capsys.readouterr().out
    assert f"accuracy {row['accuracy']:.4f}  epsilon {row['epsilon']:.3f}" in printed
    assert f"written to {out}" in printed
    assert "no tuned settings for data set mnist_5k and model linear" in printed
    assert row["settings_from"].startswith("borrowed from mnist_5k/tutorial_cnn")
    assert "Largest class: 0." in (out / "report.md").read_text()
    not_better = row["accuracy"] <= row["largest_class"]
    assert ("Largest class" in printed) == not_better
    for name in ("config.json", "rounds.jsonl", "summary.csv", "report.md"):
        assert (out / name).stat().st_size > 100
    assert (out / "rounds.png").read_bytes().startswith(b"\x89PNG")
    assert "The operating system seeded" in (out / "report.md").read_text()
    config = json.loads((out / "config.json").read_text())
    assert config["command"] == "train" and "--arm=fl_dp" in config["argv"]
    assert list(config["runs"]) == ["fl_dp-3-iid-0"]
    loaded = runs.load(out)
    assert loaded.rows == [row] and loaded.spec["noise_multiplier"] == 1.0


def test_warnings_are_printed_and_reported_once(tmp_path, capsys):
    out = tmp_path / "run"
    row = trained(out, "--arm=fl_dp", "--noise_multiplier=0.3", "--clip_norm=1e6")
    assert len(row["warnings"]) == 3  # the last on the loss that such noise leaves
    printed, report = capsys.readouterr().out, (out / "report.md").read_text()
    for sentence in row["warnings"]:
        assert printed.count(f"Warning: {sentence}\n") == 1
        assert report.count(sentence) == 1
    # Prices are known before the work, clipping after it.
    assert printed.index("Warning: epsilon") < printed.index("Warning: clip_norm")


@pytest.mark.slow
def test_a_seeded_run_repeats_in_another_process(tmp_path):
    """With equal charges: they do not depend on where in memory an entry lies."""
    found = []
    for name in ("here", "there"):
        out = tmp_path / name
        flags = ("--arm=fl_dp", "--noise_multiplier=1", "--noise_seed=7")
        finished = run(*last("train", *SMALL, *flags, f"--out={out}"))
        assert finished.returncode == 0, finished.stderr
        (row,) = read_rows(out / "runs.jsonl")
        ledger = out / "ledger" / "fl_dp-3-iid-0.jsonl"
        found.append((row["loss"], ledger.read_text().splitlines()[1:]))
        assert "those of a simulation" in (out / "report.md").read_text()
    assert found[0] == found[1]
    assert len(found[0][1]) == 2


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--arm=fl", "--clients=4001"), "--clients=4001 is more than the 4000"),
        (("--arm=fl", "--dataset=no_such_set"), "no_such_set"),
        (("--arm=fl", "--dataset=nowhere:data"), "nowhere"),
        (("--arm=fl", "--cohort=4"), "--cohort must lie between 1 and the 3 clients"),
        (("--arm=fl", "--model=polynomial_cnn", "--activation=tanh"), "--activation"),
        (("--arm=fl", "--algorithm=truex"), "--algorithm=truex is for arm private_ai"),
        (("--arm=fl", "--client=dp_sgd"), "--client=dp_sgd noises its steps"),
        (
            ("--arm=fl_dp", "--noise=distributed"),
            "give --arm=private_ai or leave out --n",
        ),
        (("--arm=fl_dp", "--mechanism=magic"), "--mechanism 'magic' is unknown"),
        (("--arm=fl_dp", "--mechanism=nowhere:f"), "--mechanism=nowhere:f"),
        (
            ("--arm=fl", "--algorithm=scaffold", "--drop_out=0.1"),
            "without some: leave out --drop_out",
        ),
        (
            ("--arm=private_ai", "--encryption=none"),
            "--encryption=none lets the server read every share",
        ),
    ],
)
def test_bad_input_ends_before_any_training(flags, named, tmp_path, capsys):
    out = tmp_path / "run"
    assert named in refused(capsys, out, *flags)
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--arm=fl --epsilon=1", "--epsilon has no effect: arm fl adds no noise; choo"),
        ("--arm=fl --delta=1e-5", "--delta has no effect"),  # the default, but given
        ("--arm=fl_dp --batch_size=8", "sample records with --sampling_probability"),
        (
            "--arm=fl --encryption=ckks",
            "--encryption has no effect: arm fl encrypts no",
        ),
        ("--arm=fl --precision=1e-3", "--precision has no effect: arm fl encrypts no"),
        ("--arm=centralized", "--clients has no effect: arm centralized holds all"),
        ("--arm=local --cohort=2", "--cohort has no effect: arm local has no server"),
        (
            "--arm=fl_he --fan_out=3",
            "--fan_out has no effect: it needs --topology=tr",
        ),
        ("--arm=fl --algorithm=fedsgd --local_steps=2", "--algorithm=fedsgd does not"),
        (
            "--arm=fl --activation=relu",
            "model linear takes none; choose another --mode",
        ),
    ],
)
def test_a_flag_that_has_no_effect_is_bad_input(flags, named, tmp_path, capsys):
    out = tmp_path / "run"
    assert named in refused(capsys, out, *flags.split())
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--arm=fl --seed=0,1", "one value, got '0,1': for a run with each, give"),
        (
            "--arm=fl --seed=0,1",
            "experiments.sweep --seeds=3, which are the seeds 0",
        ),
        ("--arm=fl,fl_dp", "give experiments.sweep --arms=fl,fl_dp."),
        ("--arm=fl --clients=4,8", "give experiments.sweep --clients=4,8."),
        ("--arm=fl_dp --epsilon=1,2", 'give experiments.sweep --vary="epsilon=1,2".'),
        ("--partition=iid,shards", "give experiments.sweep --partitions=iid,shards."),
        (
            "--partition=dirichlet --alpha 0.1,1",
            'experiments.sweep --vary="alpha=0.1,1"',
        ),
        ("--noise=local,distributed", '--vary="noise=local,distributed".'),
        ("--arm=fl_dp --epsilon=1,x", "--epsilon=1,x: takes a number, got '1,x'."),
    ],
)
def test_a_list_of_values_is_for_a_sweep(flags, named, tmp_path, capsys):
    assert named in refused(capsys, tmp_path / "run", *flags.split())


@pytest.mark.needs_openfhe
@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--local_steps=2", "take one step a round; give --noise=local, or leave"),
        ("--noprotect", "--noprotect lets released sums reveal the key"),
        ("--honest_clients=4", "--honest_clients must lie between 1 and the 3 uploads"),
        ("--mechanism=adaptive", "use --noise=local or another --mechanism"),
        ("--key_holder=clients --epsilon_against=insiders", "another --encryption"),
    ],
)
def test_noise_that_cannot_be_shared_is_bad_input(flag, named, tmp_path, capsys):
    out = tmp_path / "run"
    assert named in refused(capsys, out, "--arm=private_ai", *flag.split())
    assert not out.exists()


def test_bad_input_of_a_process_is_one_line_and_leaves_nothing(tmp_path):
    finished = run(*last("train", "--arm=fl", *SMALL, "--clients=4001"), cwd=tmp_path)
    assert finished.returncode == 2
    (line,) = finished.stderr.splitlines()
    assert line.startswith("error: --clients=4001")
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_written_is_named(capsys):
    named = refused(capsys, Path("/proc/nowhere"), "--arm=fl")
    assert "cannot write to --out=/proc/nowhere" in named


def test_a_directory_that_holds_a_run_is_not_written_again(tmp_path, capsys):
    (tmp_path / "runs.jsonl").write_text("{}\n")
    with pytest.raises(SystemExit) as exit_:
        train(last("train", "--arm=fl", *SMALL, f"--out={tmp_path}"))
    assert exit_.value.code == 2
    assert "or pass --overwrite" in capsys.readouterr().err
    assert (tmp_path / "runs.jsonl").read_text() == "{}\n"
    assert trained(tmp_path, "--arm=fl", "--overwrite")["arm"] == "fl"


OWN_CLIENTS = """
import jax
import jax.numpy as jnp
from fedjax_private import clients

def changed(change):
    def client(loss, values):
        usual = clients.sgd(loss, clients.SgdConfig(0.1, batch_size=64))
        train = lambda *shard: change(*usual.train(*shard))
        return clients.Trainer(usual.init, train)
    return client

def broken(state, metrics):
    return state, {"loss": float("much")}

def times_nan(state, metrics):
    params = jax.tree.map(lambda leaf: leaf * jnp.nan, state.params)
    return state._replace(params=params), metrics

nan = changed(times_nan)
alone = changed(lambda state, metrics: state)
bad = changed(broken)
"""


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "nan",
            "training of fl-3-iid-0 diverged, as its model or its loss on test "
            "records is not finite: give a smaller --learning_rate, or mend",
        ),
        (
            "alone",
            "train of a Trainer must return two values, (state, metrics), got "
            "TrainState",
        ),
        ("bad", "could not convert string to float: 'much' (own_clients.py, line 14)"),
    ],
)
def test_faults_of_own_clients_end_with_one_sentence(
    name, sentence, tmp_path, capsys, monkeypatch
):
    (tmp_path / "own_clients.py").write_text(OWN_CLIENTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_clients", raising=False)
    out = tmp_path / "run"
    client = f"--client=own_clients:{name}"
    assert train(last("train", "--arm=fl", *SMALL, client, f"--out={out}")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: fl-3-iid-0 failed: ") and sentence in line
    assert read_rows(out / "runs.jsonl") == []
    rounds = read_rows(out / "rounds.jsonl") if name == "nan" else []
    assert len(rounds) == (2 if name == "nan" else 0)


@pytest.mark.needs_openfhe
def test_training_that_cannot_be_encrypted_ends_with_one_sentence(tmp_path, capsys):
    out = tmp_path / "run"
    argv = last("train", "--arm=fl_he", *SMALL, "--learning_rate=1e38", f"--out={out}")
    assert train(argv) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: fl_he-3-iid-0 failed: ")
    assert "not finite" in line and "give a lower --learning_rate" in line
    assert read_rows(out / "runs.jsonl") == []


def test_a_run_of_void_rounds_only_is_no_result(tmp_path, capsys):
    flags = ("--arm=fl", "--clients=2", "--drop_out=0.999", f"--out={tmp_path / 'o'}")
    assert train(last("train", *SMALL, *flags)) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: fl-2-iid-0 failed: every round of ")
    assert "lower --drop_out" in said
    assert all(row["void"] for row in read_rows(tmp_path / "o" / "rounds.jsonl"))
    assert read_rows(tmp_path / "o" / "runs.jsonl") == []


def test_without_openfhe_an_encrypted_arm_says_what_it_needs(tmp_path):
    """An empty module in OpenFHE's place, as on a platform it has no wheel for."""
    (tmp_path / "openfhe.py").write_text("raise ImportError('no such platform')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    finished = run("train", "--arm=fl_he", *SMALL, env=environment)
    assert finished.returncode == 2
    assert "CPython 3.10" in finished.stderr


@pytest.mark.needs_openfhe
def test_the_report_tells_epsilons_and_sums(tmp_path):
    out = tmp_path / "run"
    shared = ("--arm=private_ai", "--encryption=exact", "--noise_multiplier=2")
    row = trained(out, *shared, "--key_holder=clients")
    assert row["epsilon_insider"] == float("inf")
    text = (out / "report.md").read_text()
    assert "BASELINE" in text
    assert f"| {row['epsilon']:.4f} | inf |" in text
    assert "and read single uploads" in text


class TestOwnEntries:
    """A researcher's file beside the place where the command is given."""

    def test_a_fork_s_mechanism_is_run_from_its_folder(self, tmp_path):
        out = tmp_path / "run"
        finished = run(
            "train",
            "--arm=fl_dp",
            *SMALL,
            "--epsilon=1.5",
            "--mechanism=research:laplace",
            f"--out={out}",
            env=os.environ | {"PYTHONPATH": os.fspath(RESEARCH)},
        )
        assert finished.returncode == 0, finished.stderr
        (row,) = read_rows(out / "runs.jsonl")
        assert 1.49 < row["epsilon"] <= 1.5
        assert row["steps"] == 4
        assert np.isfinite(row["loss"])
        assert "mechanism research:laplace" in (out / "report.md").read_text()

    @pytest.fixture
    def on_the_path(self, monkeypatch):
        monkeypatch.syspath_prepend(RESEARCH)

    @pytest.mark.usefixtures("on_the_path")
    def test_many_at_once_with_settings_of_their_own(self, tmp_path):
        row = trained(
            tmp_path / "run",
            "--arm=fl",
            "--dataset=research:rings",
            "--model=research:RINGS",
            "--width=12",
            "--partition=research:CAPPED",
            "--most=30",
            "--algorithm=research:SHRINKING",
            "--decay=0.9",
            "--client=research:twice",
        )
        named = ("dataset", "model", "partition", "algorithm", "params")
        assert [row[name] for name in named] == [
            "rings",
            "research:RINGS",
            "research:CAPPED",
            "research:SHRINKING",
            3 * 12 + 13 * 2,
        ]
        loaded = runs.load(tmp_path / "run")
        assert loaded.spec["partition"] == {"name": "research:CAPPED", "most": 30}

    @pytest.mark.usefixtures("on_the_path")
    def test_a_scheme_and_a_server_optimizer(self, tmp_path):
        row = trained(
            tmp_path / "run",
            "--arm=fl_he",
            "--encryption=research:BOXED",
            "--scale=8",
            "--server_optimizer=research:signs",
            "--server_learning_rate=0.01",
        )
        assert row["encryption"] == "research:BOXED"
        assert "A box of scale 8" in (tmp_path / "run" / "report.md").read_text()

    @pytest.mark.usefixtures("on_the_path")
    @pytest.mark.parametrize(
        ("flag", "named"),
        [
            ("--mechanism=research:NUMBER", "--mechanism=research:NUMBER must be"),
            ("--mechanism=research:not_a_plan", "--mechanism=research:not_a_plan"),
            ("--mechanism=research:nothing", "no attribute 'nothing'"),
            ("--partition=research:CAPPED --most=0", "--most must be at least 1"),
            ("--width=3", "width"),
        ],
    )
    def test_bad_ones_are_bad_input(self, flag, named, tmp_path, capsys):
        out = tmp_path / "run"
        assert named in refused(capsys, out, "--arm=fl_dp", *flag.split())
        assert not out.exists()
