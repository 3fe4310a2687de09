"""Measures speed, against other libraries and against the machine's own limits.

    python -m experiments.benchmark --suite=clients --peers

After a warm-up, contenders take turns; quote medians and ratios of one call. `--peers`
builds virtual environments for the other libraries once, in the user's cache.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

from experiments import command
from experiments.benchmarks import measure
from experiments.benchmarks.peers.registry import PEERS
from experiments.benchmarks.suites import SUITES, number
from experiments.settings import flags
from fedjax_private import runs
from fedjax_private.choices import Settings, at_least, chosen, setting

USAGE = """Measures speed: medians of interleaved repeats, beside the machine's limits.

usage: python -m experiments.benchmark --suite=clients [--peers] [flags]"""

# Those that take minutes.
USUAL = ("clients", "round", "encryption", "inference", "accounting")
ALL = "all"


def _known_peers(names: tuple[str, ...]) -> str | None:
    if set(names) <= {ALL, *PEERS}:
        return None
    return f"must be names of {', '.join(PEERS)}, or {ALL}"


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig(Settings):
    """What to measure."""

    suite: tuple[str, ...] = chosen(SUITES, USUAL, "what to measure")
    peers: tuple[str, ...] = setting(
        (),
        f"other libraries (alone: all that fit): {', '.join(PEERS)}",
        _known_peers,
    )
    repeats: int = setting(15, "times that each contender is run", at_least(1))
    quick: bool = setting(False, "tiny cases: a look at the command, not a result")
    out: str | None = setting(None, "file for a JSON line per case")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.suite:
            raise ValueError("suite must name at least one suite.")


def benchmark(argv: Sequence[str]) -> int:
    """The command; returns its exit status."""
    argv = [f"--peers={ALL}" if arg == "--peers" else arg for arg in argv]
    what = flags.parse(USAGE, (BenchmarkConfig,), argv)[BenchmarkConfig]
    out = Path(what.out) if what.out else None
    if out is not None:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.open("a").close()
        except OSError as error:
            flags.fail(
                f"cannot write to --out={out} ({error.strerror}): name another file."
            )
    # Not the compiled code of earlier runs: the first call is measured too.
    runs.environment.start(keep_compiled=False)
    console = command.console()

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True, style="dim")

    wanted = tuple(PEERS) if ALL in what.peers else what.peers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    common = {
        "versions": runs.environment.versions(),
        "machine": runs.environment.machine(),
        "limits": measure.limits(what.repeats),
    }
    for name, value in common["limits"].items():
        console.print(f"{name}: {number(value)}", highlight=False)
    status = 0
    for suite in (SUITES.choose(choice).entry for choice in what.suite):
        if reason := suite.unavailable():
            console.print(f"Not run: {suite.name}. {reason}", soft_wrap=True)
            status = 1
            continue
        if (preface := suite.preface()) is not None:
            console.print(preface)
        for case in suite.cases(what.quick):
            row = measure.measure(suite.name, case, wanted, what.repeats, cores, say)
            console.print(suite.table(row))
            if out is not None:
                with out.open("a") as file:
                    file.write(json.dumps(row | common) + "\n")
    return status


if __name__ == "__main__":
    command.main(benchmark)
