import dataclasses
import json
from types import SimpleNamespace

import pytest

from experiments import command
from experiments.settings import flags
from fedjax_private import datasets, runs
from fedjax_private.aggregation import SCHEMES
from fedjax_private.runs import Spec


def parsed(*argv):
    return flags.parse("usage", (Spec, command.OutputConfig), ["command", *argv])


def test_directories_are_named_after_the_command_and_the_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = command.directory("train", parsed())
    assert first.path.parent.name == "runs" and first.path.is_dir()
    assert first.path.name.startswith("train-2")
    out = parsed(f"--out={tmp_path / 'mine'}")
    assert command.directory("train", out).path == tmp_path / "mine"


def test_what_cannot_run_here_is_told(monkeypatch, capsys):
    scheme = SCHEMES.find("ckks")
    lacking = {"unavailable": lambda: "Not on this machine."}
    broken = type(scheme)(**{**vars(scheme), **lacking})
    specs = [
        Spec(arm=arm, clients=clients, encryption=broken)
        for clients in (2, 4)
        for arm in ("fl", "fl_he", "private_ai")
    ]
    able, notes = command.available(specs, parsed())
    assert able == [spec for spec in specs if spec.arm == "fl"]
    assert notes == ["Not run: fl_he, private_ai. Not on this machine."]
    assert command.available(able, parsed()) == (able, [])
    with pytest.raises(SystemExit) as exit_:
        command.available(specs[1:3], parsed())
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "error: Not on this machine.\n"


def test_a_command_ends_with_its_status_and_after_ctrl_c_with_130(capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    for work, status in ((lambda argv: 0, 0), (lambda argv: 1, 1), (interrupted, 130)):
        with pytest.raises(SystemExit) as exit_:
            command.main(work)
        assert exit_.value.code == status
    assert capsys.readouterr().err == "interrupted.\n"


def test_tables_are_wide_where_there_is_no_terminal():
    assert command.console().width == 160


def test_flags_of_a_sweep_are_called_as_they_are(capsys):
    given = dataclasses.replace(parsed(), given=frozenset({"partitions"}))
    command.check_effects([Spec(arm="centralized"), Spec(arm="fl")], given)
    with pytest.raises(SystemExit) as exit_:
        command.check_effects([Spec(arm="centralized")], given)
    assert exit_.value.code == 2
    assert "partitions has no effect: arm centralized" in capsys.readouterr().err


def test_a_settings_file_serves_the_arms_that_it_has_entries_for(tmp_path, capsys):
    path = tmp_path / "mine.json"
    kind = {"dataset": "mnist_5k", "model": "linear", "algorithm": "fedavg"}
    entry = {**kind, "steps": "fl", "hyperparameters": {"rounds": 7}}
    path.write_text(json.dumps({"version": 1, "entries": [entry]}))
    arms = ("fl", "fl_he", "local", "fl_dp")
    specs = [Spec(arm=arm, model="linear", settings=path) for arm in arms]
    served = [spec.used_only() for spec in specs]
    assert [spec.settings is None for spec in served] == [False, False, True, True]
    (note,) = command.unserved(specs)
    assert "--settings has no entry for arm local, fl_dp, which takes" in note
    assert command.unserved(served) == []
    given = dataclasses.replace(parsed(), given=frozenset({"settings"}))
    command.check_effects(specs, given)
    with pytest.raises(SystemExit) as exit_:
        command.check_effects(specs[2:], given)
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --settings={path} has no effect: the run needs")
    assert "settings for steps of local of mnist_5k and linear" in line
    assert "tune --arm=local --dataset=mnist_5k --model=linear " in line
    assert line.endswith(f"--settings_out={path}, or leave out --settings.")


def test_the_search_that_is_advised_is_that_of_the_run():
    """Its partition, clients and rounds; all arms; and how the values were found."""
    dirichlet = datasets.PARTITIONS.choose("dirichlet", {"alpha": 0.3})
    usual = {"model": "linear", "partition": dirichlet, "clients": 5, "rounds": 3}
    asked = [Spec(arm="fl", **usual), Spec(arm="fl_dp", noise_multiplier=1.0, **usual)]
    examples = datasets.load("mnist_5k")
    (note,) = command.borrowed([runs.prepare(each, examples) for each in asked])
    assert "borrowed from mnist_5k/tutorial_cnn (searched), " in note
    assert note.endswith(
        "find your own by python -m experiments.tune --arm=fl --dataset=mnist_5k "
        "--model=linear --partitions=dirichlet --alpha=0.3 --clients=5 --rounds=3 "
        "(and for --arm=fl_dp)."
    )
    pooled = Spec(arm="centralized", model="linear")
    (note,) = command.borrowed([runs.prepare(pooled, examples)])
    assert note.endswith("--arm=centralized --dataset=mnist_5k --model=linear.")


def test_settings_that_were_searched_elsewhere_have_a_note(tmp_path):
    path = tmp_path / "mine.json"
    kind = {"dataset": "mnist_5k", "model": "linear", "algorithm": "fedavg"}
    values = {"hyperparameters": {"rounds": 7}, "search": {"partitions": ["iid"]}}
    entry = {**kind, "steps": "local_dp", "epsilon": 2.9, "cohort": 4, **values}
    path.write_text(json.dumps({"version": 1, "entries": [entry]}))
    usual = {"arm": "fl_dp", "model": "linear", "settings": path}
    assert Spec(**usual).settings_from.unlike == ()
    origin = Spec(**usual, partition="shards", epsilon=1.0).settings_from
    sentences = (
        "searched on partition iid, and the run takes shards",
        "searched at epsilon 2.9, and the run takes 1",
    )
    assert origin.unlike == sentences and "; ".join(sentences) in str(origin)
    notes = command.borrowed([SimpleNamespace(settings_from=origin)])
    place = f"Note: settings {path} at epsilon 2.9, 4 clients were "
    assert notes == [f"{place}{sentence}." for sentence in sentences]
