import dataclasses
import json
import shlex

import pytest

from experiments.train import train
from experiments.tune import searched, tune
from fedjax_private import runs
from fedjax_private.datasets import load
from fedjax_private.runs import Spec, read_rows
from tests.experiments.commands import SMALL, last


def test_what_a_settings_file_does_not_hold_is_not_searched():
    base = Spec(arm="fl", algorithm="fedprox")
    for name, value in (
        ("proximal", "0.1"),
        ("algorithm", "fedavg"),
        ("drop_out", "0.1"),
        ("evaluate_every", "2"),
    ):
        wanted = (
            f"grid names '{name}', which a settings file does not hold: give {name}"
        )
        with pytest.raises(ValueError, match=wanted):
            searched(base, {name: value})
    assert searched(base, {"momentum": "0.5"}).momentum == 0.5


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"colour": "red"}, "grid names 'colour', which is nothing to vary"),
        ({"clients": "4"}, "grid names 'clients'"),
        ({"epsilon": "1"}, "grid names 'epsilon', and would choose the least private"),
        ({"noise_multiplier": "1"}, "give noise_multiplier as a flag"),
        ({"delta": "0.1"}, "grid names 'delta'"),
        ({"encryption": "exact"}, "grid names 'encryption'"),
        ({"proximal": "0.1"}, "grid names 'proximal'"),  # of an algorithm not chosen
        ({"momentum": "fast"}, "grid: momentum takes a number, got 'fast'"),
    ],
)
def test_bad_values_are_refused(values, named):
    with pytest.raises(ValueError, match=named):
        searched(Spec(), values)


def tuned(folder, *flags, arm="fl"):
    """The lines of the log and the entries of the file of a search that ends well."""
    argv = last("tune", f"--arm={arm}", *SMALL, *flags)
    assert tune([*argv, f"--settings_out={folder / 'mine.json'}"]) == 0
    return read_rows(folder / "mine.jsonl"), entries(folder / "mine.json")


def entries(path):
    return json.loads(path.read_text())["entries"]


def test_tuning_scores_a_grid_on_held_out_training_data(tmp_path, capsys):
    grid = "--grid=learning_rate=0.0001,0.1"
    (first, second), (entry,) = tuned(tmp_path, grid)
    assert (first["learning_rate"], second["learning_rate"]) == (0.0001, 0.1)
    assert first["validation_accuracy"] < second["validation_accuracy"]
    assert first["held_out_examples"] == len(load("mnist_5k").train) / 5 == 800
    assert first["rounds"] == 2
    assert first["grid"] == {"learning_rate": "0.0001"}
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].startswith(f"{second['validation_accuracy']:.4f}")
    assert "written to" in shown[-1] and "--settings=" in shown[-1]
    assert entry["hyperparameters"]["learning_rate"] == 0.1
    assert (entry["steps"], entry["cohort"], entry["epsilon"]) == ("fl", 3, None)
    search = entry["search"]
    assert search["validation_accuracy"] == second["validation_accuracy"]
    assert (search["trials"], search["log"]) == (2, str(tmp_path / "mine.jsonl"))
    assert grid in shlex.split(search["command"])


def test_without_a_grid_hyper_parameters_are_searched_and_runs_take_them(tmp_path):
    """Found, written, read: the run trains with them and says so."""
    lines, (entry,) = tuned(tmp_path, "--trials=3", "--splits=2")
    assert [line["grid"] for line in lines[::2]] == [
        {},
        {"learning_rate": 0.00313},
        {"learning_rate": 0.0125},
    ]
    assert [line["split_seed"] for line in lines[:2]] == [2017, 2018]
    assert lines[0]["validation_accuracy"] != lines[1]["validation_accuracy"]
    path = tmp_path / "mine.json"
    spec = Spec(arm="fl_he", model="linear", settings=path)
    values = dataclasses.asdict(spec.hyperparameters)
    assert entry["hyperparameters"].items() <= values.items()
    assert str(spec.settings_from) == f"{path}, 3 clients (searched)"
    out = tmp_path / "run"
    argv = ["train", "--arm=fl", "--model=linear", "--clients=3", f"--settings={path}"]
    assert train([*argv, f"--out={out}"]) == 0
    (row,) = read_rows(out / "runs.jsonl")
    assert row["settings_from"] == f"{path}, 3 clients (searched)"
    assert row["rounds"] == 2
    report = (out / "report.md").read_text()
    assert f"- FL: {path}, 3 clients (searched)." in report
    config = json.loads((out / "config.json").read_text())
    assert config["runs"]["fl-3-iid-0"]["spec"]["settings"] == str(path)
    path.unlink()
    assert runs.load(out).rows == [row]


def test_a_file_takes_several_searches_and_keeps_the_better_of_equal_ones(
    tmp_path, capsys
):
    good, bad = "--grid=learning_rate=0.1", "--grid=learning_rate=0.0001"
    tuned(tmp_path, good, "--clients=2,3")
    _, several = tuned(tmp_path, good, "--noise_multiplier=1", arm="fl_dp")
    assert [(e["steps"], e["cohort"]) for e in several] == [
        ("fl", 2),
        ("fl", 3),
        ("local_dp", 3),
    ]
    assert several[2]["epsilon"] > 0
    capsys.readouterr()
    _, kept = tuned(tmp_path, bad)
    assert kept == several
    assert "keeps an earlier search's values" in capsys.readouterr().out
    _, replaced = tuned(tmp_path, bad, "--seeds=2")  # another measure
    assert replaced[1]["hyperparameters"]["learning_rate"] == 0.0001
    assert [e["cohort"] for e in replaced] == [2, 3, 3]


def test_ctrl_c_keeps_the_best_so_far(tmp_path, monkeypatch):
    train_together, calls = runs.train_together, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train_together(*arguments)

    monkeypatch.setattr(runs, "train_together", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path, "--grid=learning_rate=0.1,0.0001,1")
    (entry,) = entries(tmp_path / "mine.json")
    assert entry["hyperparameters"]["learning_rate"] == 0.1
    assert len(read_rows(tmp_path / "mine.jsonl")) == entry["search"]["trials"] - 1 == 2


def test_a_trial_that_fails_ends_no_search(tmp_path, monkeypatch, capsys):
    train_together, calls = runs.train_together, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise ValueError("out of range.")
        return train_together(*arguments)

    monkeypatch.setattr(runs, "train_together", failing)
    _, (entry,) = tuned(tmp_path, "--grid=learning_rate=0.1,0.0001")
    assert entry["hyperparameters"]["learning_rate"] == 0.0001
    assert "failed  learning_rate=0.1: out of range." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--grid=momentum", "--grid takes name=a,b pairs"),
        ("--grid=colour=red", "--grid names 'colour'"),
        ("--clients=0", "--clients must be at least 1"),
        ("--arm=magic", "--arm must be one of"),
        ("--seeds=0", "--seeds must be at least 1"),
        ("--grid=momentum=0 --trials=3", "--trials=N has no effect on a grid"),
        ("--settings_out=x.jsonl", "--settings_out=x.jsonl is the log as well"),
        ("--settings_out=.", "--settings_out=. is no file"),
        ("--settings_out=/dev/null/x.json", "--settings_out=/dev/null/x.json (File e"),
        ("--arm=fl --model=linear --clients=3201", "is more than the 3200"),
    ],
)
def test_bad_input_is_one_sentence(flag, named, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log.jsonl"
    more = [] if flag.startswith("--settings_out=x") else [f"--log={log}"]
    with pytest.raises(SystemExit) as exit_:
        tune(["tune", *flag.split(), *more])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and named in line
    assert not log.exists()
