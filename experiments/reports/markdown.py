"""Formats numbers, means over seeds and tables as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.reports.averages import Cell

# Heads of columns -> the name of a row's value, and the form of its mean over seeds.
Means = Mapping[str, tuple[str, str]]

# The form of numbers that are too small for their own.
SMALL = ".2g"


def accuracy(cell: Cell | None) -> str:
    """Mean and standard deviation over seeds, as printed in tables."""
    if cell is None:
        return "not run"
    return mean_and_deviation(cell, "accuracy", ".3f") or "diverged"


def mean_and_deviation(cell: Cell, name: str, form: str) -> str:
    """The same of any measured value; nothing where it does not apply."""
    mean, deviation = cell.mean(name), cell.deviation(name)
    if mean is None or deviation is None:
        return number(mean, form)
    text = number(mean, form)
    # In the digits of the mean, where that is too small for the form.
    form = form if text == format(mean, form) else SMALL
    return f"{text} ± {deviation:{form}}"


def number(value: float | None, form: str) -> str:
    """A number, or nothing where it does not apply.

    One that the form would round to zero is written with its first digits.
    """
    if value is None:
        return ""
    text = format(value, form)
    return format(value, SMALL) if value and not text.strip("-0.,") else text


def means(cell: Cell | None, columns: Means) -> list[str]:
    """A cell's part of a table's line."""
    if cell is None:
        return [""] * len(columns)
    return [number(cell.mean(name), form) for name, form in columns.values()]


def markdown_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table; its lines have one entry for each of the head."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def filled_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table without the columns that hold nothing."""
    kept = [i for i in range(len(head)) if any(line[i] for line in body)]
    return markdown_table(
        [head[i] for i in kept], [[line[i] for i in kept] for line in body]
    )


def settings_table(
    head: Sequence[str], runs: Iterable[tuple[tuple[str, ...], Mapping[str, Any]]]
) -> str:
    """The settings of runs, a line for all that share the values under `head`.

    Args:
        head: of the columns before the settings.
        runs: of each run its values of those columns, and its settings by name.
    """
    used: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for key, settings in runs:
        used.setdefault(key, []).append(settings)
    names = list(next(iter(used.values()))[0])
    return filled_table(
        [*head, *(name.replace("_", " ") for name in names)],
        [
            [*key, *(distinct(several, name) for name in names)]
            for key, several in used.items()
        ],
    )


def distinct(several: Sequence[Mapping[str, Any]], name: str) -> str:
    """A setting; all of its values where they differ."""
    return ", ".join(
        format(value, ".4g") if isinstance(value, float) else str(value)
        for value in dict.fromkeys(each.get(name) for each in several)
        if value is not None
    )


def searches(searched_on: Iterable[str | None]) -> list[str]:
    """A sentence on the data whose training part hyper-parameters were searched on.

    Args:
        searched_on: of each run with DP the data set; None where nothing was searched.
    """
    names = [name for name in dict.fromkeys(searched_on) if name is not None]
    if not names:
        return []
    return [
        "Hyper-parameters were searched on a split of the training data of "
        f"{' and of '.join(names)}. That search is not part of epsilon."
    ]
