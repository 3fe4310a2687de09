"""Directories that commands have written, read for a report."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reports.averages import Row
from fedjax_private.runs import ARMS, read_rows

# What every report needs of a row; versions before wrote other rows.
NEEDED = ("run", "arm", "clients", "partition", "seed", "dataset", "model", "accuracy")

# What reports read; None where an earlier version wrote none.
KNOWN = (
    *NEEDED,
    "params",
    "train_examples",
    "largest_class",
    "algorithm",
    "rounds",
    "loss",
    "epsilon",
    "delta",
    "epsilon_insider",
    "epsilon_claimed",
    "unit",
    "mechanism",
    "noise_multiplier",
    "encryption",
    "honest_clients",
    "seconds_total",
)


@dataclasses.dataclass(frozen=True)
class Source:
    """What a directory holds.

    Attributes:
        path: as it was given.
        rows: of runs.jsonl, each with the path as its directory.
        rounds: of rounds.jsonl.
        config: of config.json, empty where there is none.
    """

    path: Path
    rows: list[Row]
    rounds: list[Row]
    config: Mapping[str, Any]

    @property
    def command(self) -> str:
        """The command that wrote the directory."""
        return str(self.config.get("command", ""))


def read(path: Path) -> Source:
    """Reads a directory.

    Raises:
        ValueError: it holds no finished run, or one that cannot be read.
    """
    if not path.is_dir():
        raise ValueError(f"{path} is no directory.")
    try:
        rows = read_rows(path / "runs.jsonl")
        rounds = read_rows(path / "rounds.jsonl")
        text = path / "config.json"
        config = json.loads(text.read_text()) if text.exists() else {}
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"the files of {path} cannot be read: {error}.") from error
    if not rows:
        raise ValueError(
            f"{path} holds no finished run: name a directory that train, sweep or "
            "tables wrote."
        )
    for row in rows:
        missing = [name for name in NEEDED if name not in row]
        if missing or row["arm"] not in ARMS or not isinstance(config, dict):
            what = f"no {missing[0]}" if missing else f"arm {row['arm']!r}"
            raise ValueError(
                f"a row of {path}/runs.jsonl has {what}: another version wrote it."
            )
    place = {"directory": str(path)}
    rows = [dict.fromkeys(KNOWN) | row | place for row in rows]
    return Source(path, rows, rounds, config)


def joined(sources: Sequence[Source]) -> dict[str, Any]:
    """The config of several directories, whose runs have their names and places.

    Versions and machines that differ stand beside each other.
    """
    return {
        "runs": {
            f"{source.path}/{name}": run
            for source in sources
            for name, run in source.config.get("runs", {}).items()
        },
        "versions": _beside([s.config.get("versions", {}) for s in sources]),
        "machine": _beside([s.config.get("machine", {}) for s in sources]),
    }


def vary(sources: Sequence[Source]) -> list[str]:
    """The flags that were varied."""
    return list(
        dict.fromkeys(name for s in sources for name in s.config.get("vary", ()))
    )


def notes(sources: Sequence[Source]) -> list[str]:
    """What the reports of the directories said in bold."""
    several = len(sources) > 1
    return [
        f"{source.path}: {note}" if several else note
        for source in sources
        for note in source.config.get("notes", ())
    ]


def _beside(several: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    names = dict.fromkeys(name for each in several for name in each)
    return {
        name: " and ".join(
            dict.fromkeys(str(each[name]) for each in several if each.get(name))
        )
        for name in names
    }
