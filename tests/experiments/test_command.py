import dataclasses
import json

import pytest

from experiments import command
from experiments.settings import flags
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
    assert line.startswith(f"error: --settings={path} has no effect: the run takes")
    assert line.endswith(f"--settings_out={path}, or leave out --settings.")
