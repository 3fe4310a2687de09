"""What a run leaves behind: a directory of plain files, written as the run goes."""

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedjax_private.choices import check_kind

# Everything that a command may write; overwriting removes these and nothing else.
OWN_NAMES = (
    "config.json",
    "runs.jsonl",
    "rounds.jsonl",
    "predictions.jsonl",
    "ledger",
    "summary.csv",
    "report.md",
    "accuracy_clients.png",
    "comparison.png",
    "rounds.png",
    "shards.png",
    "figure_1.png",
    "accuracy_epsilon_clients.png",
    "accuracy_epsilon.png",
    "encryption_cost.png",
    "tb",
    "checkpoints",
)


def _plain(value: Any) -> Any:
    """JSON has no inf and NaN: infinities become strings, NaN becomes null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """The output directory of one command. Rows are on disk when a call returns."""

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @classmethod
    def create(cls, path: str | Path, *, overwrite: bool = False) -> "RunDirectory":
        """Makes the directory ready.

        Raises:
            ValueError: it cannot be written, or holds a run and may not be overwritten.
        """
        check_kind("out", path, (str, os.PathLike), "the path of a directory")
        path = Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ValueError(
                f"cannot write to out={path} ({error.strerror}): name another "
                "directory."
            ) from error
        held = [path / name for name in OWN_NAMES if (path / name).exists()]
        if held and not overwrite:
            raise ValueError(
                f"out={path} already holds a run: name another directory, or pass "
                "overwrite=True."
            )
        for name in held:
            shutil.rmtree(name) if name.is_dir() else name.unlink()
        return cls(path)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes config.json."""
        text = json.dumps(_plain(config), indent=2)
        (self.path / "config.json").write_text(text + "\n")

    def add_run(self, row: Mapping[str, Any]) -> None:
        """Appends a row to runs.jsonl."""
        self._append("runs.jsonl", row)

    def add_round(self, row: Mapping[str, Any]) -> None:
        """Appends a row to rounds.jsonl."""
        self._append("rounds.jsonl", row)

    def runs(self) -> list[dict[str, Any]]:
        """All rows of runs.jsonl."""
        return read_rows(self.path / "runs.jsonl")

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        with (self.path / name).open("a") as file:
            file.write(json.dumps(_plain(row)) + "\n")


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; "inf" becomes a float again. Empty if missing."""
    path = Path(path)
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        {k: float(v) if v in ("inf", "-inf") else v for k, v in row.items()}
        for row in rows
    ]
