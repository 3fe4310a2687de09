"""Looks up finished runs of `experiments.tables` for its tables and curves."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reports import paper, table_runs
from experiments.reports.averages import Cell, Row
from experiments.reports.predictions import Predictions
from experiments.reports.table_runs import CNN, PARTITIONS, DataConfig, TablesConfig
from fedjax_private.runs import Prepared, Spec

NAMES = {"iid": "IID", "shards": "non-IID (2-class shards)"}


@dataclasses.dataclass(frozen=True)
class Results:
    """The rows of all runs, found by what was run.

    Attributes:
        what: the command's settings.
        data: of the data set.
        rows: spec -> row; specs of all seeds.
        prepared: of every spec at seed 0.
        encrypted: predictions on encrypted images, of models at seed 0.
    """

    what: TablesConfig
    data: DataConfig
    rows: Mapping[Spec, Row]
    prepared: Mapping[Spec, Prepared]
    encrypted: Sequence[Predictions] = ()

    @property
    def like_the_paper(self) -> bool:
        """Whether the paper's figures stand beside those of the data set."""
        return next(iter(self.rows.values()))["dataset"] in paper.DATASETS

    def cell(self, arm: str, *place: Any, **changes: Any) -> Cell | None:
        """All seeds of a run; see `table_runs.spec`. None where none has finished."""
        wanted = self.what.short(table_runs.spec(self.data, arm, *place, **changes))
        found = [
            row
            for spec, row in self.rows.items()
            if dataclasses.replace(spec, seed=0) == wanted
        ]
        if not found:
            return None
        return Cell(arm, wanted.partition_name, wanted.client_count, found)

    def cells(self) -> list[Cell]:
        """A cell for each run, whatever tells it apart from others."""
        groups: dict[Spec, list[Row]] = {spec: [] for spec in self.prepared}
        for spec, row in self.rows.items():
            groups[dataclasses.replace(spec, seed=0)].append(row)
        return [
            Cell(spec.arm, spec.partition_name, spec.client_count, rows)
            for spec, rows in groups.items()
            if rows
        ]


def panels(
    found: Results, arms: Sequence[str], pooled: str, **changes: Any
) -> list[Row]:
    """Rows of a figure over clients and partitions; pooled ones in every panel."""
    rows: list[Row] = []
    central = found.cell(pooled, **changes)
    for partition, clients in itertools.product(PARTITIONS, found.what.clients):
        for arm in arms:
            cell = found.cell(arm, clients, partition, **changes)
            rows += cell.rows if cell else []
        for row in central.rows if central else []:
            rows.append({**row, "partition": partition, "clients": clients})
    return rows


def epsilon_curves(found: Results) -> dict[str, list[Cell]]:
    """Arm -> its cells at every epsilon."""
    epsilons = sorted((*table_runs.EPSILONS, *table_runs.MORE_EPSILONS))
    curves = {
        arm: [found.cell(arm, epsilon=epsilon) for epsilon in epsilons]
        for arm in ("centralized_dp", "private_ai")
    }
    return {arm: [c for c in cells if c] for arm, cells in curves.items()}


def cost_cells(found: Results) -> list[Cell]:
    """PRIVATE-AI's cells at every number of clients."""
    high = {"epsilon": table_runs.EPSILONS[1]}
    cells = [found.cell("private_ai", k, "iid", **high) for k in found.what.clients]
    return [cell for cell in cells if cell]


def shape(found: Results) -> tuple[list[str], bool]:
    """Checks the shape of Table 3: sentences, and whether all of it holds."""
    lines, everything = [], True
    counts = sorted(found.what.clients)

    def mean(arm: str, clients: int, partition: str) -> float:
        cell = found.cell(arm, clients, partition, model=CNN)
        value = cell.mean("accuracy") if cell else None
        return math.nan if value is None else value

    for partition in PARTITIONS:
        local = [mean("local", k, partition) for k in counts]
        fl = [mean("fl", k, partition) for k in counts]
        claims = {
            "accuracy without FL falls with every step in clients": all(
                b < a for a, b in itertools.pairwise(local)
            ),
            "FL is above it at every number of clients": all(
                b > a for a, b in zip(local, fl, strict=True)
            ),
            f"FL loses less from {counts[0]} to {counts[-1]} clients "
            f"({fl[0] - fl[-1]:.3f} against {local[0] - local[-1]:.3f})": (
                fl[0] - fl[-1] < local[0] - local[-1]
            ),
        }
        for claim, holds in claims.items():
            everything &= holds
            verdict = "holds" if holds else "DOES NOT HOLD"
            lines.append(f"- {NAMES[partition]}: {claim}: {verdict}.")
    return lines, everything
