"""Progress: a bar on a terminal, a line per finished run elsewhere."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import rich.console
import rich.progress

from experiments.command import say
from experiments.reports import comparison
from fedjax_private import runs


@contextlib.contextmanager
def progress(
    total_rounds: int, console: rich.console.Console
) -> Iterator[Callable[[str, int], None]]:
    """A bar over the rounds of all runs; takes a run's name and its new rounds."""
    bar = rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.TaskProgressColumn(),
        rich.progress.TextColumn("time left"),
        rich.progress.TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=total_rounds)
        yield lambda name, rounds: bar.update(task, advance=rounds, description=name)


def train_all(
    specs: Sequence[runs.Spec],
    inputs: runs.Inputs,
    directory: runs.RunDirectory,
    console: rich.console.Console,
    finished: Callable[[runs.Spec, dict[str, Any]], None],
) -> list[str]:
    """Trains all runs as `runs.train_all` does, and shows how far they are."""

    def shown(spec: runs.Spec, row: dict[str, Any]) -> None:
        say(console, comparison.line(row))
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
