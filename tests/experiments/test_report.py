"""`experiments.report`: reports of directories that commands have left."""

import csv
import json
import shutil

import pytest

from experiments.report import report
from experiments.reports.comparison import FILES
from experiments.train import train
from fedjax_private.runs import RunDirectory, read_rows
from tests.experiments.commands import SMALL, last
from tests.experiments.reports.made_up import row, section, table


def left(folder, *rows, **config):
    """A directory with rows and a config."""
    directory = RunDirectory.create(folder)
    directory.write_config({"command": "sweep", "runs": {}} | config)
    for each in rows:
        directory.add_run(each)
    return folder


def made(*argv):
    """Makes a report, successfully."""
    assert report(["report", *map(str, argv)]) == 0


def refused(capsys, *argv):
    """The sentence with which a report is refused."""
    with pytest.raises(SystemExit) as exit_:
        made(*argv)
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    flags = ("--arm=fl_dp", "--noise_multiplier=1", "--client_statistics")
    assert train(last("train", *SMALL, *flags, f"--out={out}")) == 0
    return out


def test_a_report_is_made_again_as_it_was(trained, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    first = (folder / "report.md").read_text()
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    made(folder)
    assert (folder / "report.md").read_text() == first
    assert "## Clients" in first and "(shards.png)" in first
    for name in ("summary.csv", "rounds.png", "shards.png"):
        assert (folder / name).exists()
    assert f"written to {folder}" in capsys.readouterr().out
    assert read_rows(folder / "runs.jsonl") == read_rows(trained / "runs.jsonl")


def test_directories_stand_beside_each_other(trained, tmp_path):
    other = left(tmp_path / "other", row("fl_dp", 3, accuracy=0.5))
    out = tmp_path / "report"
    made(trained, other, f"--out={out}")
    lines = list(csv.DictReader((out / "summary.csv").open()))
    assert {line["directory"] for line in lines} == {str(trained), str(other)}
    assert {line["seeds"] for line in lines} == {"1"}
    assert not (out / "runs.jsonl").exists()
    made(trained, other, f"--out={out}")  # a report may be replaced


def test_the_directory_is_told_where_other_things_differ_too(tmp_path, capsys):
    one = left(tmp_path / "one", row("fl", 4))
    two = left(tmp_path / "two", row("fl_dp", 8))
    made(one, two, f"--out={tmp_path / 'report'}")
    lines = list(csv.DictReader((tmp_path / "report" / "summary.csv").open()))
    assert [line["directory"] for line in lines] == [str(one), str(two)]
    assert "directory" in capsys.readouterr().out


def test_equal_settings_in_two_directories_are_never_averaged(tmp_path):
    one = left(tmp_path / "one", row("fl", 4, 0, 0.5))
    two = left(tmp_path / "two", row("fl", 4, 0, 0.7))
    made(one, two, f"--out={tmp_path / 'report'}")
    text = (tmp_path / "report" / "report.md").read_text()
    (line,) = table(section(text, "Accuracy"))
    assert (line[str(one)], line[str(two)]) == ("0.500", "0.700")


def test_what_a_sweep_varied_and_noted_is_kept(tmp_path):
    rows = [row("fl_dp", epsilon_target=epsilon) for epsilon in (0.5, 8.0)]
    folder = left(
        tmp_path / "run",
        *rows,
        vary=["epsilon"],
        metric="seconds_total",
        notes=["Failed: something."],
    )
    made(folder)
    text = (folder / "report.md").read_text()
    assert text.startswith("# Seconds of a run against target epsilon")
    assert "**Failed: something.**" in text
    made(folder, "--metric=accuracy")
    assert (folder / "report.md").read_text().startswith("# Test accuracy against")


def test_rows_of_earlier_versions_are_read(tmp_path):
    names = ("run", "arm", "clients", "partition", "seed", "dataset", "model")
    old = {name: row("fl")[name] for name in (*names, "accuracy", "params")}
    folder = left(tmp_path / "old", old, {**old, "arm": "fl_dp", "epsilon": 2.9})
    (folder / "config.json").unlink()
    made(folder)
    assert "| FL | 0.900 |" in (folder / "report.md").read_text()


def test_the_report_of_tables_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = left(tmp_path / "tables", row("fl"), command="tables")
    (folder / "report.md").write_text("the tables")
    made(folder)
    assert (folder / "report.md").read_text() == "the tables"
    (out,) = (tmp_path / "runs").glob("report-*")
    assert "# FL: accuracy" in (out / "report.md").read_text()


def test_a_metric_that_no_run_has_is_said_to_be_missing(tmp_path):
    folder = left(tmp_path / "run", row("fl"), row("fl", 8))
    made(folder, "--metric=epsilon")
    assert "No run has measured epsilon" in (folder / "report.md").read_text()


def test_bad_input_is_one_sentence(trained, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    damaged = left(tmp_path / "damaged", row("fl"))
    (damaged / "runs.jsonl").write_text("{not json\n")
    other = left(tmp_path / "other", {"run": "a", "arm": "fl"})
    arm = left(tmp_path / "arm", row("fl") | {"arm": "magic"})
    for argv, named in (
        ((), "give a directory that train, sweep or tables wrote"),
        ((tmp_path / "nowhere",), "nowhere is no directory"),
        ((empty,), "empty holds no finished run"),
        ((damaged,), f"the files of {damaged} cannot be read"),
        ((other,), "has no clients: another version wrote it"),
        ((arm,), "has arm 'magic'"),
        ((trained, "--metric=beauty"), "--metric must be one of accuracy, loss"),
        ((trained, "--colour=red"), "colour"),
        ((trained, f"--out={damaged}"), f"--out={damaged} holds runs of its own"),
        ((trained, "--out=/proc/nowhere"), "cannot write to --out=/proc/nowhere"),
    ):
        assert named in refused(capsys, *argv)
    assert json.loads((damaged / "config.json").read_text())["command"] == "sweep"
