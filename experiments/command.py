"""What all commands share around a run: output directory, config.json, the ways out."""

import dataclasses
import datetime
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rich.console

from experiments import runtime
from experiments.config import OutputConfig, Settings
from experiments.tuned import hyperparameters
from fedjax_private.simulation import RunDirectory

INTERRUPTED = 130


def console() -> rich.console.Console:
    """Standard output; wide enough for the tables where it is no terminal."""
    terminal = rich.console.Console()
    return terminal if terminal.is_terminal else rich.console.Console(width=120)


def directory(command: str, output: OutputConfig) -> RunDirectory:
    """Makes the command's output directory ready.

    Raises:
        ValueError: see `RunDirectory.create`.
    """
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
    path = Path(output.out) if output.out else Path("runs") / f"{command}-{now}"
    return RunDirectory.create(path, overwrite=output.overwrite)


def config_of(
    command: str,
    what: Any,
    settings: Settings,
    arms: Sequence[str],
    clients: Sequence[int],
    argv: Sequence[str],
) -> dict[str, Any]:
    """The content of config.json; `arms` holds what each uses at each client count."""

    def values(arm: str, count: int) -> dict[str, Any]:
        return dataclasses.asdict(hyperparameters(arm, count, settings))

    return {
        "command": command,
        "argv": list(argv),
        "run": dataclasses.asdict(what),
        "settings": dataclasses.asdict(settings),
        "arms": {arm: {k: values(arm, k) for k in clients} for arm in arms},
        "versions": runtime.versions(),
        "machine": runtime.machine(),
    }


def main(command: Callable[[Sequence[str]], int]) -> None:
    """Runs a command; Ctrl-C between its own clean-up ends it with status 130."""
    try:
        status = command(sys.argv)
    except KeyboardInterrupt:
        print("interrupted.", file=sys.stderr)
        status = INTERRUPTED
    raise SystemExit(status)
