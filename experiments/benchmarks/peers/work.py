"""Work that has been warmed up: in stages, or in the fastest of several ways.

Runs in the peers' environments: imports the standard library only.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

TRIES = 3


@dataclasses.dataclass(frozen=True)
class Work:
    """Work, warmed up.

    Attributes:
        call: does the work once; returns its seconds, or those of its stages.
        about: further fields of the ready line.
    """

    call: Callable[[], float | list[float]]
    about: Mapping[str, Any]


def staged(*stages: Callable[[Any], Any]) -> Callable[[], list[float]]:
    """Does stages one after another; returns the seconds of each.

    Args:
        *stages: result of the stage before (None at first) -> result.
    """

    def call() -> list[float]:
        result, seconds = None, []
        for stage in stages:
            started = time.perf_counter()
            following = stage(result)
            seconds.append(time.perf_counter() - started)
            result = following
        return seconds

    return call


def fastest(
    variants: Mapping[str, Callable[[], Any]],
    prepare: Callable[[], None] = lambda: None,
) -> Work:
    """Warms up every variant and keeps the fastest one on this machine.

    Args:
        variants: name -> function that does the work and waits for its results.
        prepare: runs before each call, untimed.

    Returns:
        The work; `about` has the variant's name and the seconds of its first call,
        compilation included.
    """

    def timed(work: Callable[[], Any]) -> float:
        prepare()
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    first = {name: timed(work) for name, work in variants.items()}
    best = dict.fromkeys(variants, 0.0)
    if len(variants) > 1:
        best = {
            name: min(timed(work) for _ in range(TRIES))
            for name, work in variants.items()
        }
    name = min(best, key=best.__getitem__)
    about = {"variant": name, "warmup_seconds": first[name]}
    return Work(lambda: timed(variants[name]), about)
