"""The entry of a mechanism: from a run's settings to the plan that it trains under."""

import dataclasses
from collections.abc import Callable
from typing import Any

from fedjax_private import choices
from fedjax_private.privacy.accounting.events import Neighbors
from fedjax_private.privacy.plan import PrivacyPlan


@dataclasses.dataclass(frozen=True)
class MechanismSettings:
    """What every mechanism is given by the run.

    Attributes:
        sampling_probability: the expected fraction of the records in a step.
        clip_norm: bound on one record's gradient, in the mechanism's own sense.
        noise_multiplier: the noise over that bound. Calibration varies this alone, and
            epsilon must not grow with it.
        expected_batch_size: sampling_probability times the public number of records.
        neighbors: the relation that defines "one record".
        steps: the most that any client takes in the whole run.
    """

    sampling_probability: float
    clip_norm: float
    noise_multiplier: float
    expected_batch_size: float
    neighbors: Neighbors
    steps: int


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """An entry: sampling, clipping and noise under one name.

    Attributes:
        name: by which it is chosen.
        summary: one line.
        make: (the run's settings, the mechanism's own) -> plan.
        settings: the class of the mechanism's own settings.
    """

    name: str
    summary: str
    make: Callable[[MechanismSettings, Any], PrivacyPlan]
    settings: type[choices.Settings] = choices.Settings

    def __post_init__(self) -> None:
        form = "a function (MechanismSettings, settings) -> PrivacyPlan"
        choices.check_call(f"make of mechanism {self.name}", self.make, 2, form)


def adapted(name: str, function: Any) -> Mechanism:
    """Returns the entry of a user's own function from `MechanismSettings` to a plan.

    Raises:
        ValueError: it is no such function.
    """
    form = "a Mechanism, or a function (MechanismSettings) -> PrivacyPlan"
    choices.check_call(f"mechanism={name}", function, 1, form)
    summary = (function.__doc__ or name).strip().splitlines()[0]
    return Mechanism(name, summary, lambda settings, own: function(settings))


def make_plan(
    choice: choices.Choice[Mechanism], settings: MechanismSettings
) -> PrivacyPlan:
    """Returns the plan of a chosen mechanism for a run's settings.

    Raises:
        ValueError: the mechanism does not accept the settings, or returns no plan for
            the run's neighbouring relation.
    """
    form = "a choice of MECHANISMS, as MECHANISMS.choose(name) returns"
    choices.check_kind("choice", choice, choices.Choice, form)
    plan = choice.entry.make(settings, choice.settings)
    form = "a function that returns a PrivacyPlan"
    choices.check_kind(f"mechanism={choice.name}", plan, PrivacyPlan, form)
    if plan.neighbors is not settings.neighbors:
        raise ValueError(
            f"mechanism={choice.name} is for neighbors={plan.neighbors.value}, not for "
            f"the run's {settings.neighbors.value}."
        )
    return plan
