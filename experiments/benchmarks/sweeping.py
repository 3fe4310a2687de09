"""Suite `sweep`: the sweep as a user starts it, in a process of its own."""

import functools
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from experiments.benchmarks.measure import Case, Work
from experiments.benchmarks.suites import Suite


def _open(arguments: tuple[str, ...], cold: bool) -> tuple[Work, Any]:
    """The sweep with a cache of compiled code of its own, an empty one if `cold`."""
    filled = tempfile.TemporaryDirectory(prefix="sweep-cache-")

    def once() -> float:
        with (
            tempfile.TemporaryDirectory(prefix="sweep-cache-") as empty,
            tempfile.TemporaryDirectory() as out,
        ):
            cache = empty if cold else filled.name
            command = [sys.executable, "-m", "experiments.sweep", *arguments]
            start = time.perf_counter()
            subprocess.run(
                [*command, f"--out={out}/run"],
                check=True,
                env={**os.environ, "XDG_CACHE_HOME": cache},
                stdout=subprocess.DEVNULL,
            )
            return time.perf_counter() - start

    if not cold:
        once()
    return once, {}


def _cases(quick: bool) -> list[Case]:
    """`--quick` with an empty cache and a full one, and the whole sweep."""
    cases = [
        ("quick_cold", ("--quick",), True, 3),
        ("quick_warm", ("--quick",), False, 3),
    ]
    if not quick:
        cases.append(("full_cold", (), True, 1))
    return [
        Case(name, {}, functools.partial(_open, arguments, cold), most=most)
        for name, arguments, cold, most in cases
    ]


SWEEP = Suite("sweep", "the sweep as a user starts it", _cases)
