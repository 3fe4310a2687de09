"""What a run leaves behind: a directory of plain files, written as the run goes."""

import dataclasses
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# One row a run, in this order; null where a name does not apply.
ROW_NAMES = (
    "arm",
    "clients",
    "partition",
    "seed",
    "dataset",
    "model",
    "params",
    "train_examples",
    "rounds",
    "accuracy",
    "loss",
    "epsilon",
    "delta",
    "epsilon_insider",
    "noise_multiplier",
    "clip_norm",
    "sampling_probability",
    "steps",
    "honest_clients",
    "encryption",
    "seconds_total",
    "seconds_train",
    "seconds_encrypt",
    "seconds_add",
    "seconds_decrypt",
    "upload_bytes_per_client_round",
    "max_aggregation_error",
)

# Everything that a command may write; --overwrite removes these and nothing else.
OWN_NAMES = (
    "config.json",
    "runs.jsonl",
    "rounds.jsonl",
    "predictions.jsonl",
    "ledger",
    "summary.csv",
    "report.md",
    "accuracy_clients.png",
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

    @classmethod
    def create(cls, path: Path, *, overwrite: bool = False) -> "RunDirectory":
        """Makes the directory ready.

        Raises:
            ValueError: it cannot be written, or holds a run and may not be overwritten.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ValueError(
                f"cannot write to {path} ({error.strerror}): name another directory "
                "with --out."
            ) from error
        held = [path / name for name in OWN_NAMES if (path / name).exists()]
        if held and not overwrite:
            raise ValueError(
                f"{path} already holds a run: name another directory with --out, or "
                "pass --overwrite."
            )
        for name in held:
            shutil.rmtree(name) if name.is_dir() else name.unlink()
        return cls(path)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes config.json."""
        text = json.dumps(_plain(config), indent=2)
        (self.path / "config.json").write_text(text + "\n")

    def add_run(self, row: Mapping[str, Any]) -> None:
        """Appends a row to runs.jsonl.

        Raises:
            KeyError: the row lacks a name, or has one that is not in ROW_NAMES.
        """
        if set(row) != set(ROW_NAMES):
            raise KeyError(f"row names differ: {set(row) ^ set(ROW_NAMES)}")
        self._append("runs.jsonl", {name: row[name] for name in ROW_NAMES})

    def add_round(self, row: Mapping[str, Any]) -> None:
        """Appends a row to rounds.jsonl."""
        self._append("rounds.jsonl", row)

    def runs(self) -> list[dict[str, Any]]:
        """All rows of runs.jsonl."""
        return read_rows(self.path / "runs.jsonl")

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        with (self.path / name).open("a") as file:
            file.write(json.dumps(_plain(row)) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; "inf" becomes a float again. Empty if missing."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        {k: float(v) if v in ("inf", "-inf") else v for k, v in row.items()}
        for row in rows
    ]
