"""Suite `accounting`: what pricing and calibrating a run costs."""

from typing import Any

from experiments.benchmarks.measure import Call, Case, Work
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


def _price(steps: int) -> tuple[Work, Any]:
    def price() -> None:
        accountant = RdpAccountant(neighbors=Neighbors.ADD_REMOVE)
        accountant.compose(_event(1.3, steps)).epsilon(DELTA)

    call = Call(price)
    (first,) = call.repeat(1)
    return call, {"seconds_first_call": first}


def _calibrate(steps: int) -> tuple[Work, Any]:
    call = Call(
        lambda: calibrate_noise_multiplier(
            lambda noise: _event(noise, steps), 2.9, DELTA, Neighbors.ADD_REMOVE
        )
    )
    (first,) = call.repeat(1)
    return call, {"seconds_first_call": first}


def _cases(quick: bool) -> list[Case]:
    """DP-SGD's event on 60,000 records, in batches of 250."""
    steps = 1_000 if quick else 100_000
    fields = {"steps": steps}
    return [
        Case("accounting", "price", fields, lambda: _price(steps)),
        Case("accounting", "calibrate", fields, lambda: _calibrate(steps)),
    ]


ACCOUNTING = Suite("accounting", "what pricing and calibrating a run costs", _cases)
