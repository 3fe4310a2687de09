"""Runs the code blocks of a Markdown page in order, and checks what they print.

A `python` block whose first line is `# name.py` is a file, which is written. Any other
`python` block is run; all of a page share their names. Each line of an `sh` block is a
command: those of this project are run through their functions. A `text` block is what
the block before it prints, or the error with which that ends. `...` stands for
anything, and numbers with a point may differ by `TOLERANCE`.
"""

import contextlib
import importlib
import io
import math
import re
import shlex
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")
ERROR = re.compile(r"^(?:\w+Error|error): .*", re.MULTILINE)
REAL = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
TOLERANCE = 0.03  # relative, or two units of the last digit shown

# Commands that pages show and tests leave out: they install, or need a screen.
SHOWN = ("git", "cd", "make", "pip", "source", "tensorboard")


class PageError(AssertionError):
    """What a page shows is not what happens."""


def run(text):
    """Runs a page in the current directory, which is on the path; returns its names."""
    names, files = {"__name__": "page"}, []
    printed, source = None, ""  # of the last block, while no text has followed it
    try:
        for language, block in BLOCK.findall(text):
            if language == "text":
                if printed is None:
                    raise PageError(f"no output is compared with:\n{block}")
                compare(block, printed, source)
                printed = None
                continue
            _no_error(printed, source)
            printed, source = None, block
            if language == "python" and (file := FILE.match(block)):
                files.append(file[1])
                Path(file[1]).write_text(block)
                importlib.invalidate_caches()
            elif language == "python":
                printed = _python(block, names)
            elif language == "sh":
                printed = "".join(map(_command, commands(block)))
        _no_error(printed, source)
    finally:
        for file in files:
            sys.modules.pop(Path(file).stem, None)
    return names


def commands(block):
    """The commands of an `sh` block, as lists of words, without comments."""
    joined = block.replace("\\\n", " ").splitlines()
    return [words for line in joined if (words := shlex.split(line, comments=True))]


def _no_error(printed, source):
    if printed is not None and (error := ERROR.search(printed)):
        raise PageError(f"{error[0]}\nends:\n{source}")


def _python(block, names):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            exec(compile(block, "page", "exec"), names)
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
    return out.getvalue()


def _command(words):
    if words[0] in SHOWN:
        return ""
    command, argv = found(words)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            status = command(argv)
        except SystemExit as stopped:
            status = stopped.code
    printed = out.getvalue()
    if status and not re.match("error: ", printed):
        raise PageError(f"{shlex.join(words)} ended with {status}:\n{printed}")
    return printed


def found(words):
    """The function of a command line, and its arguments."""
    if words[0] == "fedjax-private" and len(words) > 1:
        module = importlib.import_module(f"experiments.{words[1]}")
        return getattr(module, words[1]), words[1:]
    if words[:2] == ["python", "-m"] and words[2].endswith(".accounting"):
        return importlib.import_module(f"{words[2]}.__main__").main, words[3:]
    raise PageError(f"no test runs this command: {shlex.join(words)}")


def compare(expected, printed, source):
    """Raises unless what was printed agrees with what a page shows."""
    shown = re.split(rf"({REAL.pattern}|\.\.\.|\s+)", expected.strip())
    pattern, numbers = "", []
    for part in shown:
        if REAL.fullmatch(part):
            numbers.append(part)
            pattern += f"({REAL.pattern})"
        elif part == "...":
            pattern += r"(?:.|\n)*?"
        else:
            pattern += r"\s+" if part.isspace() else re.escape(part)
    got = re.fullmatch(pattern, printed.strip())
    if got is None:
        raise PageError(f"shown:\n{expected}\nprinted:\n{printed}\nby:\n{source}")
    for number, value in zip(numbers, got.groups(), strict=True):
        mantissa, _, exponent = number.partition("e")
        last = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
        close = {"rel_tol": TOLERANCE, "abs_tol": 2 * last}
        if not math.isclose(float(number), float(value), **close):
            raise PageError(
                f"{value} where {number} is shown, in:\n{printed}\nby:\n{source}"
            )
