"""Suite `accounting`: what pricing and calibrating a run costs."""

import functools
from collections.abc import Callable
from typing import Any

from experiments.benchmarks.measure import Case, Work, timed
from experiments.benchmarks.suites import Suite
from fedjax_private.privacy.accounting import (
    Gaussian,
    Neighbors,
    Poisson,
    RdpAccountant,
    Repeated,
    calibrate_noise_multiplier,
)

DELTA = 1e-5


def _event(noise_multiplier: float, steps: int) -> Repeated:
    return Repeated(Poisson(250 / 60_000, Gaussian(noise_multiplier)), steps)


def _price(steps: int) -> None:
    accountant = RdpAccountant(neighbors=Neighbors.ADD_REMOVE)
    accountant.compose(_event(1.3, steps)).epsilon(DELTA)


def _calibrate(steps: int) -> None:
    calibrate_noise_multiplier(
        lambda noise: _event(noise, steps), 2.9, DELTA, Neighbors.ADD_REMOVE
    )


def _open(call: Callable[[int], None], steps: int) -> tuple[Work, Any]:
    work = timed(lambda: call(steps))
    return work, {"seconds_first_call": work()}


def _cases(quick: bool) -> list[Case]:
    """DP-SGD's event on 60,000 records, in batches of 250."""
    steps = 1_000 if quick else 100_000
    calls = {"price": _price, "calibrate": _calibrate}
    return [
        Case(name, {"steps": steps}, functools.partial(_open, call, steps))
        for name, call in calls.items()
    ]


ACCOUNTING = Suite("accounting", "what pricing and calibrating a run costs", _cases)
