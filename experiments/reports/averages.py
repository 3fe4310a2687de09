"""Rows averaged over seeds: a cell holds the rows that differ in their seed alone."""

import dataclasses
import json
import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from fedjax_private.hyperparameters import Hyperparameters
from fedjax_private.runs import ARMS
from fedjax_private.runs.tuned import given_in

Row = Mapping[str, Any]

# What a run measures, with a mean and a deviation over seeds.
MEASURED = (
    "accuracy",
    "loss",
    "client_accuracy_mean",
    "client_accuracy_worst_tenth",
    "epsilon",
    "epsilon_insider",
    "seconds_total",
    "seconds_train",
    "seconds_encrypt",
    "seconds_add",
    "seconds_decrypt",
    "upload_bytes_per_client_round",
    "max_aggregation_error",
)

# That, what else a run derives, and its own name, place and time. Everything else of a
# row is a setting, also what an entry of the user's own brings along.
NOT_SETTINGS = frozenset(
    (
        *MEASURED,
        "run",
        "seed",
        "time",
        "largest_class",
        "version",
        "warnings",
        "settings_from",
        "epsilon_claimed",
        "steps",
        "void_rounds",
        "recovered_holders",
        "lost_uploads",
    )
)

# What has tuned values, which may differ from arm to arm and from epsilon to epsilon.
TUNABLE = frozenset(field.name for field in dataclasses.fields(Hyperparameters))


class Cell(NamedTuple):
    """All seeds of one arm at one place, with one value for each setting."""

    arm: str
    partition: str
    clients: int
    rows: list[Row]

    def values(self, name: str) -> list[float]:
        """The rows' values of a name, without nulls."""
        return [row[name] for row in self.rows if row.get(name) is not None]

    def mean(self, name: str) -> float | None:
        """Mean over seeds; None where the name does not apply."""
        values = self.values(name)
        return statistics.fmean(values) if values else None

    def deviation(self, name: str) -> float | None:
        """Sample standard deviation; None for fewer than two seeds, or infinities."""
        values = self.values(name)
        spread = len(values) > 1 and all(map(math.isfinite, values))
        return statistics.stdev(values) if spread else None

    def setting(self, name: str) -> Any:
        """The value of a setting, the same in all rows; None where it has none."""
        return None if name in _derived(self.rows[0]) else self.rows[0].get(name)

    def tuned(self, name: str) -> bool:
        """Whether a hyper-parameter has its tuned value, as it was not given."""
        origin = self.rows[0].get("settings_from")
        return origin is not None and name in TUNABLE - given_in(origin)

    @property
    def settings(self) -> dict[str, Any]:
        """All settings by name."""
        return settings_of(self.rows[0])

    @property
    def bytes_per_parameter(self) -> float | None:
        """Of a client's upload in a round; None where nothing is uploaded."""
        uploads = self.mean("upload_bytes_per_client_round")
        return uploads / self.rows[0]["params"] if uploads else None


def settings_of(row: Row) -> dict[str, Any]:
    """The settings of a row."""
    left_out = NOT_SETTINGS | _derived(row)
    return {name: value for name, value in row.items() if name not in left_out}


def _derived(row: Row) -> set[str]:
    """What follows from the target epsilon, and may differ with the seed's cohorts."""
    return {"noise_multiplier"} if row.get("epsilon_target") is not None else set()


def cells(rows: Sequence[Row]) -> list[Cell]:
    """Groups rows into cells, ordered by partition, clients and arm.

    Rows with different settings, whichever these are, are never in one cell. Where a
    seed occurs twice with the same settings, rows do not say what differed: each is a
    cell of its own, with its run as the setting `repeated_run`.
    """
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        key = json.dumps(settings_of(row), sort_keys=True, default=str)
        groups.setdefault(key, []).append(row)
    apart = [part for group in groups.values() for part in _without_repetitions(group)]
    order = list(ARMS)
    partitions = list(dict.fromkeys(row["partition"] for row in rows))
    return sorted(
        (
            Cell(row["arm"], row["partition"], row["clients"], group)
            for group in apart
            for row in group[:1]
        ),
        key=lambda c: (partitions.index(c.partition), c.clients, order.index(c.arm)),
    )


def _without_repetitions(group: list[Row]) -> list[list[Row]]:
    """The rows in one list, or where a seed occurs twice, each in its own."""
    if len({row["seed"] for row in group}) == len(group):
        return [group]
    runs, names = [row.get("run") for row in group], []
    for position, run in enumerate(runs):
        again = runs[:position].count(run)
        names.append(f"{run} ({again + 1})" if again else run)
    apart = zip(group, names, strict=True)
    return [[{**row, "repeated_run": name}] for row, name in apart]
