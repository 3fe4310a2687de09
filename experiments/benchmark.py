"""Measures speed, against other libraries and against the machine's own limits.

    python -m experiments.benchmark --suite=clients --peers

Contenders take turns after a warm-up; quote medians and ratios of one call. `--peers`
builds virtual environments for the other libraries once, in the user's cache.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.box
import rich.table

from experiments import command, flags, runtime
from experiments.benchmarks import peers
from experiments.config import flag

USAGE = """Measures speed: medians of interleaved repeats, beside the machine's limits.

usage: python -m experiments.benchmark --suite=clients [--peers] [flags]"""

SUITES = (
    "clients", "round", "encryption", "inference", "accounting", "sweep",
    "rounds_to_accuracy",
)  # fmt: skip
ENCRYPTED = ("encryption", "inference")
ALL = "all"


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """What to measure."""

    suite: tuple[str, ...] = flag(SUITES[:5], f"of {', '.join(SUITES)}")
    peers: tuple[str, ...] = flag(
        (), f"other libraries (alone: all that fit): {', '.join(peers.PEERS)}"
    )
    repeats: int = flag(15, "times that each contender is run")
    quick: bool = flag(False, "tiny cases: a look at the command, not a result")
    out: str | None = flag(None, "file for a JSON line per case")

    def __post_init__(self) -> None:
        for name in self.suite:
            if name not in SUITES:
                raise ValueError(
                    f"unknown {name!r}: --suite takes {', '.join(SUITES)}."
                )
        for name in self.peers:
            if name not in (ALL, *peers.PEERS):
                raise ValueError(
                    f"unknown {name!r}: --peers takes {', '.join(peers.PEERS)}."
                )
        if self.repeats < 1:
            raise ValueError(f"--repeats must be at least 1, got {self.repeats}.")


def _cases(suite: str, quick: bool) -> Sequence[Any]:
    from experiments.benchmarks import (
        accounting,
        communication,
        encryption,
        inference,
        learning,
        sweeping,
    )

    made: Mapping[str, Callable[[bool], Sequence[Any]]] = {
        "clients": learning.client_cases,
        "round": learning.round_cases,
        "encryption": encryption.encryption_cases,
        "inference": inference.inference_cases,
        "accounting": accounting.accounting_cases,
        "sweep": sweeping.sweep_cases,
        "rounds_to_accuracy": communication.communication_cases,
    }
    return made[suite](quick)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _table(row: Mapping[str, Any]) -> rich.table.Table:
    """A case: ours, the peers', and how many times faster ours is."""
    faster = "examples_per_second" in row
    what = "examples a second" if faster else "seconds"
    shown = rich.table.Table(title=f"{row['suite']}/{row['case']}: {what}")
    parts = (
        {"": ("examples_per_second" if faster else "seconds", row["peers"])}
        if faster or "seconds" in row
        else {
            part: (
                f"seconds_{part}",
                {n: v[f"seconds_{part}"] for n, v in row["peers"].items()},
            )
            for part in row["parts"]
        }
    )
    for column in ("", "median", "quartiles", "ours is faster by"):
        shown.add_column(column, justify="left" if not column else "right")
    for part, (name, others) in parts.items():
        low, high = row[f"{name}_quartiles"]
        own = row[name]
        shown.add_row(
            f"ours {part}", _number(own), f"{_number(low)} - {_number(high)}", ""
        )
        for peer, value in others.items():
            ratio = own / value if faster else value / own
            shown.add_row(f"{peer} {part}", _number(value), "", f"{ratio:.2f}x")
    if "limit_examples_per_second" in row:
        limit = row["limit_examples_per_second"]
        share = row["examples_per_second"] / limit
        shown.add_row("the machine's limit", _number(limit), "", f"{share:.2f}x")
    return shown


def _derived() -> rich.table.Table:
    """What parameters are derived for the default options."""
    from experiments.benchmarks.encryption import DERIVED_COLUMNS, derived

    shown = rich.table.Table(title="derived parameters", box=rich.box.SIMPLE)
    for column in DERIVED_COLUMNS:
        shown.add_column(column, no_wrap=column == "scheme")
    for row in derived():
        shown.add_row(*row)
    return shown


def benchmark(argv: Sequence[str]) -> int:
    """The command; returns its exit status."""
    argv = [f"--peers={ALL}" if arg == "--peers" else arg for arg in argv]
    parsed = flags.parse(USAGE, (BenchmarkConfig,), argv)
    what = parsed[BenchmarkConfig]
    out = Path(what.out) if what.out else None
    if out is not None:
        flags.checked(lambda: _writable(out))
    # Not the compiled code of earlier runs: the first call is measured too.
    runtime.start(keep_compiled=False)
    from experiments import build
    from experiments.benchmarks import communication, measure

    console = command.console()

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True, style="dim")

    wanted = tuple(peers.PEERS) if ALL in what.peers else what.peers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    common = {
        "versions": runtime.versions(),
        "machine": runtime.machine(),
        "limits": measure.limits(what.repeats),
    }
    for name, value in common["limits"].items():
        console.print(f"{name}: {_number(value)}", highlight=False)
    status = 0
    for suite in what.suite:
        if suite in ENCRYPTED and (reason := build.unavailable()):
            console.print(f"Not run: {suite}. {reason}", soft_wrap=True)
            status = 1
            continue
        if suite == "encryption":
            console.print(_derived())
        for case in _cases(suite, what.quick):
            row = measure.measure(case, wanted, what.repeats, cores, say)
            rounds = suite == "rounds_to_accuracy"
            console.print(communication.table(row) if rounds else _table(row))
            if out is not None:
                with out.open("a") as file:
                    file.write(json.dumps(row | common) + "\n")
    return status


def _writable(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        raise ValueError(
            f"cannot write to {path} ({error.strerror}): name another file with --out."
        ) from error


if __name__ == "__main__":
    command.main(benchmark)
