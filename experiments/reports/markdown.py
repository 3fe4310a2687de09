"""Numbers and tables as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reports.averages import Cell


def accuracy(cell: Cell) -> str:
    """Mean and standard deviation over seeds, as printed in tables."""
    mean, deviation = cell.mean("accuracy"), cell.deviation("accuracy")
    if mean is None:
        return "diverged"
    return f"{mean:.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")


def number(value: float | None, form: str) -> str:
    """A number, or nothing where it does not apply."""
    return "" if value is None else format(value, form)


def markdown_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, and an empty one."""

    def line(parts: Sequence[str]) -> str:
        return "| " + " | ".join(parts) + " |"

    return [line(head), line(["---"] * len(head)), *map(line, body), ""]


def distinct(counts: Sequence[Mapping[str, Any]], name: str) -> str:
    """A setting; one value per client count where they differ."""
    distinct = dict.fromkeys(each[name] for each in counts)
    return ", ".join(
        format(value, ".4g") if isinstance(value, float) else str(value)
        for value in distinct
        if value is not None
    )
