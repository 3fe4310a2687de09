"""`fedjax-private COMMAND`, the same as `python -m experiments.COMMAND`.

Only the chosen command is imported. Modules of the user's own are found in the current
directory (`--model=module:attribute`), as with `python -m`.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

from experiments import command
from experiments.settings import flags
from fedjax_private import __version__

# Each is the function of that name in the module of that name.
COMMANDS = {
    "sweep": "trains all arms for several client counts, and compares them",
    "train": "trains one arm",
    "tables": "makes the paper's tables and figures, with its numbers beside ours",
    "infer": "serves a trained model for encrypted predictions, or asks a server",
    "tune": "searches hyper-parameters on a split of the training data",
    "report": "makes a report again, or compares directories",
    "benchmark": "measures speed, also against other libraries",
}
HELP = ("--help", "-h", "-help", "--helpfull", "help")


def usage() -> str:
    """What `--help` prints: the commands, with a line each."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "Private federated learning with differential privacy and encryption.",
            "",
            f"usage: {flags.PROGRAM} COMMAND [flags]",
            "       python -m experiments.COMMAND [flags]",
            "",
            *(f"  {name:<{width}}  {line}" for name, line in COMMANDS.items()),
            "",
            f"`{flags.PROGRAM} COMMAND --help` lists the flags of a command;",
            f"`{flags.PROGRAM} --version` prints the version.",
        ]
    )


def main(argv: Sequence[str]) -> int:
    """Runs the command that the first argument names; returns its exit status."""
    name, rest = (argv[1], argv[2:]) if len(argv) > 1 else ("--help", [])
    if name in HELP:
        print(usage())
        return 0
    if name == "--version":
        print(f"{flags.PROGRAM} {__version__}")
        return 0
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        close = difflib.get_close_matches(name, COMMANDS, n=2)
        meant = f"did you mean {' or '.join(close)}?" if close else ""
        flags.fail(f"unknown command {name!r}: {meant or f'give one of {known}.'}")
    chosen = getattr(importlib.import_module(f"experiments.{name}"), name)
    status: int = chosen([f"{flags.PROGRAM} {name}", *rest])
    return status


def run() -> None:
    """The console script."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    command.main(main)


if __name__ == "__main__":
    run()
