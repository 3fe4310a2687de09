"""Rows averaged over seeds: a cell is one arm at one client count and partition."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fedjax_private.runs import ARMS

Row = Mapping[str, Any]


class Cell(NamedTuple):
    """All seeds of one arm at one client count and partition."""

    arm: str
    partition: str
    clients: int
    rows: list[Row]

    def values(self, name: str) -> list[float]:
        """The rows' values of a name, without nulls."""
        return [row[name] for row in self.rows if row[name] is not None]

    def mean(self, name: str) -> float | None:
        """Mean over seeds; None where the name does not apply."""
        values = self.values(name)
        return statistics.fmean(values) if values else None

    def deviation(self, name: str) -> float | None:
        """Sample standard deviation; None for fewer than two seeds, or infinities."""
        values = self.values(name)
        spread = len(values) > 1 and all(map(math.isfinite, values))
        return statistics.stdev(values) if spread else None

    @property
    def bytes_per_parameter(self) -> float | None:
        """Of a client's upload in a round; None where nothing is uploaded."""
        uploads = self.mean("upload_bytes_per_client_round")
        return uploads / self.rows[0]["params"] if uploads else None


def cells(rows: Sequence[Row]) -> list[Cell]:
    """Groups rows into cells, ordered by partition, clients and arm."""
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        key = (row["arm"], row["partition"], row["clients"])
        groups.setdefault(key, []).append(row)
    order = list(ARMS)
    partitions = list(dict.fromkeys(row["partition"] for row in rows))
    return sorted(
        (Cell(*key, group) for key, group in groups.items()),
        key=lambda c: (partitions.index(c.partition), c.clients, order.index(c.arm)),
    )
