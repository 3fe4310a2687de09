"""Progress: a bar on a terminal, a line every few seconds elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import rich.console
import rich.progress

from experiments.command import say
from experiments.reports import comparison
from experiments.reports.averages import Row
from experiments.reports.markdown import number
from fedjax_private import runs

# Where nobody watches, a line is printed at the first round and then this often.
SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def progress(
    total_rounds: int,
    console: rich.console.Console,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[str, Row | None], None]]:
    """A display of the rounds of all runs, as `runs.Advance` tells of them.

    Args:
        total_rounds: of all runs together.
        console: where it is shown.
        clock: seconds; for tests.
    """
    if not console.is_terminal:
        lines = Lines(total_rounds, clock)
        yield lambda name, row: say(console, *lines.after(name, row))
        return
    bar = rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.TaskProgressColumn(),
        rich.progress.TextColumn("time left"),
        rich.progress.TimeRemainingColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task("", total=total_rounds)
        yield lambda name, row: bar.update(
            task, advance=row is not None, description=name
        )


class Lines:
    """Lines that say how far runs are, not more often than is of use.

    Args:
        total_rounds: of all runs together.
        clock: seconds.
    """

    def __init__(self, total_rounds: int, clock: Callable[[], float]) -> None:
        self._total, self._clock = total_rounds, clock
        self._done = 0
        self._printed: float | None = None
        # Rounds before, and when they ended: the first round also compiles.
        self._since: tuple[int, float] | None = None
        self._accuracy: dict[str, float] = {}  # of each run, at its last evaluation

    def after(self, name: str, row: Row | None) -> list[str]:
        """The line after a round of a run, if one is due; None begins the run."""
        if row is None:
            return []
        now = self._clock()
        self._done += 1
        self._since = self._since or (self._done, now)
        if row["accuracy"] is not None:
            self._accuracy[name] = row["accuracy"]
        if self._printed is not None and now - self._printed < SECONDS_BETWEEN_LINES:
            return []
        self._printed = now
        parts = [f"{name}: round {row['round']}"]
        if name in self._accuracy:
            parts.append(f"accuracy {self._accuracy[name]:.4f}")
        if row["epsilon"] is not None:
            parts.append(f"epsilon so far {number(row['epsilon'], '.3f')}")
        parts.append(f"{self._done} of {self._total} rounds in all")
        before, started = self._since
        if self._done > before:
            each = (now - started) / (self._done - before)
            parts.append(f"{_duration(each * (self._total - self._done))} left")
        return [", ".join(parts)]


def _duration(seconds: float) -> str:
    """Seconds, minutes or hours, as exact as is of use."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def train_all(
    specs: Sequence[runs.Spec],
    inputs: runs.Inputs,
    directory: runs.RunDirectory,
    console: rich.console.Console,
    finished: Callable[[runs.Spec, dict[str, Any]], None],
) -> list[str]:
    """Trains all runs as `runs.train_all` does, and shows how far they are."""

    def shown(spec: runs.Spec, row: dict[str, Any]) -> None:
        say(console, comparison.line(row, spec.label))
        finished(spec, row)

    rounds = sum(spec.hyperparameters.rounds for spec in specs)
    with progress(rounds, console) as advance:
        return runs.train_all(
            specs,
            inputs,
            directory,
            finished=shown,
            failed=lambda sentence: say(console, sentence),
            advance=advance,
        )
