"""Warnings of several runs: those that differ in numbers only are told once."""

import re
from collections.abc import Iterable

# What follows a warning that other runs have with other numbers.
ALSO = " (Also in "


def kind(warning: str) -> str:
    """The same text for warnings that differ in numbers only, told or not yet told."""
    return re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "#", warning.partition(ALSO)[0])


def told_once(of_runs: Iterable[Iterable[str]]) -> list[str]:
    """The first warning of each kind, with the number of runs that have others.

    Args:
        of_runs: the warnings of each run.
    """
    found: dict[str, list[str]] = {}
    for warnings in of_runs:
        for each in dict.fromkeys(warnings):
            found.setdefault(kind(each), []).append(each)
    return [_told(several) for several in found.values()]


def _told(several: list[str]) -> str:
    first, others = several[0], len(several) - 1
    if len(set(several)) == 1:
        return first
    runs = "1 other run" if others == 1 else f"{others} other runs"
    return f"{first}{ALSO}{runs}, with other numbers.)"
