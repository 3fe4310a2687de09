import json
from pathlib import Path

import pytest

from fedjax_private.runs import RunDirectory, read_rows


def test_rows_are_on_disk_at_once_and_read_back(tmp_path):
    directory = RunDirectory.create(tmp_path / "new" / "run")
    directory.write_config({"a": (1, 2), "b": float("nan")})
    config = json.loads((directory.path / "config.json").read_text())
    assert config == {"a": [1, 2], "b": None}
    row = {"arm": "fl", "epsilon": float("inf"), "loss": float("nan"), "delta": None}
    directory.add_run(row)
    (back,) = directory.runs()
    assert back == row | {"loss": None} and list(back) == list(row)
    directory.add_round({"round": 1, "least": float("-inf")})
    directory.add_round({"round": 2, "links": {"up": float("inf")}})
    first, second = read_rows(directory.path / "rounds.jsonl")
    assert first["least"] == float("-inf")
    assert second["links"] == {"up": "inf"}
    assert read_rows(directory.path / "nothing.jsonl") == []


def test_a_directory_that_holds_a_run_is_kept_unless_told_otherwise(tmp_path):
    directory = RunDirectory.create(tmp_path)
    directory.add_run({"arm": "fl"})
    (tmp_path / "ledger").mkdir()
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="pass overwrite=True"):
        RunDirectory.create(tmp_path)
    assert RunDirectory.create(tmp_path, overwrite=True).runs() == []
    assert not (tmp_path / "ledger").exists()
    assert (tmp_path / "thesis.tex").exists()


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write to out="):
        RunDirectory.create(tmp_path / "file")


def test_paths_may_be_text(tmp_path):
    path = str(tmp_path / "run")
    assert RunDirectory.create(path) == RunDirectory(path) == RunDirectory(Path(path))
    RunDirectory(path).add_run({"arm": "fl"})
    assert read_rows(f"{path}/runs.jsonl") == RunDirectory(path).runs()
    with pytest.raises(ValueError, match="out must be the path of a directory, got No"):
        RunDirectory.create(None)
