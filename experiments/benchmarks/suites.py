"""The benchmark's suites: what each measures, and how its rows are shown."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import rich.table

from fedjax_private.choices import Registry, Settings

Row = Mapping[str, Any]


def number(value: float) -> str:
    """Three digits, and all of them before the decimal point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def times_table(row: Row) -> rich.table.Table:
    """Our speed in a case, the peers', and how many times faster ours is."""
    faster = "examples_per_second" in row
    unit = "examples a second" if faster else "seconds"
    table = rich.table.Table(title=f"{row['suite']}/{row['case']}: {unit}")
    for column in ("", "median", "quartiles", "ours is faster by"):
        table.add_column(column, justify="left" if not column else "right")
    # Part of the work -> its field in the row.
    fields = {"": "examples_per_second" if faster else "seconds"}
    if row["parts"]:
        fields = {part: f"seconds_{part}" for part in row["parts"]}
    for part, field in fields.items():
        ours, (low, high) = row[field], row[f"{field}_quartiles"]
        table.add_row(
            f"ours {part}", number(ours), f"{number(low)} - {number(high)}", ""
        )
        for peer, values in row["peers"].items():
            theirs = values[field] if part else values
            ratio = ours / theirs if faster else theirs / ours
            table.add_row(f"{peer} {part}", number(theirs), "", f"{ratio:.2f}x")
    if "limit_examples_per_second" in row:
        limit = row["limit_examples_per_second"]
        share = row["examples_per_second"] / limit
        table.add_row("the machine's limit", number(limit), "", f"{share:.2f}x")
    return table


def _nothing() -> None:
    return None


@dataclasses.dataclass(frozen=True)
class Suite:
    """Cases that are measured together.

    Attributes:
        name: by which it is chosen.
        summary: one line.
        cases: quick -> its cases (`measure.Case`); quick ones are tiny.
        table: row of a case -> what is printed of it.
        preface: () -> a table that is printed before the first case, or None.
        unavailable: () -> why it cannot run on this machine; None if it can.
        settings: it has none.
    """

    name: str
    summary: str
    cases: Callable[[bool], Sequence[Any]]
    table: Callable[[Row], rich.table.Table] = times_table
    preface: Callable[[], rich.table.Table | None] = _nothing
    unavailable: Callable[[], str | None] = _nothing
    settings: type[Settings] = Settings


_HERE = "experiments.benchmarks"
SUITES: Registry[Suite] = Registry(
    "suite",
    Suite,
    {
        "clients": f"{_HERE}.learning:CLIENTS",
        "round": f"{_HERE}.learning:ROUND",
        "encryption": f"{_HERE}.encryption:ENCRYPTION",
        "inference": f"{_HERE}.inference:INFERENCE",
        "accounting": f"{_HERE}.accounting:ACCOUNTING",
        "sweep": f"{_HERE}.sweeping:SWEEP",
        "rounds_to_accuracy": f"{_HERE}.communication:ROUNDS_TO_ACCURACY",
    },
)
