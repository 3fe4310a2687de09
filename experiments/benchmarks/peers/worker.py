"""Runs one peer's work on request: python worker.py, in the peer's environment.

Requests are JSON lines on standard input, answers JSON lines on standard output:

    {"peer": "torch", "case": {...}, "threads": 1}
        -> {"ready": true, "warmup_seconds": 0.1, "variant": "...", "versions": {...}}
    {"repeat": 5}
        -> {"seconds": [0.1, 0.1, 0.1, 0.1, 0.1]}

or `{"error": "one sentence"}`, after which it ends; it also ends with its input. In
suites with `STAGES`, the seconds of a repeat are a list, one of each stage; the ready
line then has the `READY_NUMBERS` too. The output of libraries goes to standard error.

Imports neither `fedjax_private` nor `experiments`, and no library before the number of
threads is set.
"""

import importlib
import importlib.metadata
import json
import os
import sys
import traceback
from typing import Any, TextIO

from registry import PEERS, suite_of, unsuitable

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def main() -> int:
    """Serves until the input ends; returns the exit status."""
    answers = _own_standard_output()
    try:
        work = None
        for line in sys.stdin:
            request = json.loads(line)
            if work is None:
                work, answer = _start(**request)
            else:
                answer = {"seconds": [work.call() for _ in range(request["repeat"])]}
            print(json.dumps(answer), file=answers, flush=True)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        traceback.print_exc()
        print(json.dumps({"error": _sentence(error)}), file=answers, flush=True)
        return 1
    return 0


def _own_standard_output() -> TextIO:
    """Standard output, for answers only; other output goes to standard error."""
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return answers


def _start(peer: str, case: dict[str, Any], threads: int) -> tuple[Any, dict[str, Any]]:
    """The work, warmed up, and the ready line."""
    if reason := unsuitable(peer, case):
        raise ValueError(reason)
    _limit(threads)
    module = importlib.import_module(PEERS[peer].modules[suite_of(case)])
    work = module.build(peer, case, threads)
    versions = {name: importlib.metadata.version(name) for name in PEERS[peer].packages}
    return work, {"ready": True, **work.about, "versions": versions}


def _limit(threads: int) -> None:
    """Sets the number of threads; call before any library is imported.

    One thread also means one core: XLA starts a thread for each usable core.
    """
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    if threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _sentence(error: Exception) -> str:
    """The first line of an error's message; the error's type if there is none."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if isinstance(error, ValueError):
        return lines[0]
    return f"{type(error).__name__}: {lines[0]}"


if __name__ == "__main__":
    sys.exit(main())
