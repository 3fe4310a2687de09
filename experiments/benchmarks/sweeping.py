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


class _Command:
    """The sweep with a cache of compiled code of its own, empty at first.

    Args:
        arguments: of the command.
        cold: whether the cache is emptied before each time.
    """

    def __init__(self, arguments: tuple[str, ...], cold: bool) -> None:
        self._arguments, self._cold = arguments, cold
        self._cache = tempfile.TemporaryDirectory(prefix="sweep-cache-")

    def repeat(self, times: int) -> list[float]:
        """See `Work`."""
        seconds = []
        for _ in range(times):
            if self._cold:
                self._cache.cleanup()
                self._cache = tempfile.TemporaryDirectory(prefix="sweep-cache-")
            with tempfile.TemporaryDirectory() as out:
                start = time.perf_counter()
                subprocess.run(
                    [
                        sys.executable,
                        "-m",
                        "experiments.sweep",
                        *self._arguments,
                        f"--out={out}/run",
                    ],
                    check=True,
                    env={**os.environ, "XDG_CACHE_HOME": self._cache.name},
                    stdout=subprocess.DEVNULL,
                )
                seconds.append(time.perf_counter() - start)
        return seconds


def _open(arguments: tuple[str, ...], cold: bool) -> tuple[Work, Any]:
    work = _Command(arguments, cold)
    if not cold:
        work.repeat(1)
    return work, {}


def _cases(quick: bool) -> list[Case]:
    """`--quick` with an empty cache and a full one, and the whole sweep."""
    cases = [
        ("quick_cold", ("--quick",), True, 3),
        ("quick_warm", ("--quick",), False, 3),
    ]
    if not quick:
        cases.append(("full_cold", (), True, 1))
    return [
        Case("sweep", name, {}, functools.partial(_open, arguments, cold), most=most)
        for name, arguments, cold, most in cases
    ]


SWEEP = Suite("sweep", "the sweep as a user starts it", _cases)
