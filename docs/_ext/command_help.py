"""The directive `command-help`: what a command, such as `experiments.sweep`, prints
for `--help`.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


def help_of(command: str) -> str:
    """The help text of `python -m command`, as a terminal of 88 columns shows it."""
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run(
        [sys.executable, "-m", *command.split(), "--help"],
        cwd=root,
        env={**os.environ, "COLUMNS": "88", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.rstrip().replace(str(Path.home()), "~")


class CommandHelp(SphinxDirective):
    """Shows the help text of the command that its argument names."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """The text as one literal block."""
        self.env.note_reread()  # flags change with files that Sphinx does not know
        text = help_of(self.arguments[0])
        return [nodes.literal_block(text, text, language="none")]


def setup(app: Any) -> dict[str, bool]:
    """Is called by Sphinx."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
