"""Progress: a bar on a terminal, a line per finished run elsewhere."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import rich.console
import rich.progress


@dataclasses.dataclass(frozen=True)
class Progress:
    """How a command reports its progress.

    Attributes:
        advance: (name of the run in progress, rounds just done) -> None.
        say: prints a line, or anything that rich renders, above the bar.
    """

    advance: Callable[[str, int], None]
    say: Callable[[rich.console.RenderableType], None]


@contextlib.contextmanager
def progress(total_rounds: int, console: rich.console.Console) -> Iterator[Progress]:
    """A progress bar over the rounds of all runs together."""
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
        yield Progress(
            advance=lambda name, rounds: bar.update(
                task, advance=rounds, description=name
            ),
            say=lambda line: console.print(line, highlight=False, soft_wrap=True),
        )
