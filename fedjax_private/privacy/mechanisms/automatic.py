"""DP-SGD with normalised gradients; see `AutomaticClipping`."""

import dataclasses

from fedjax_private import choices
from fedjax_private.privacy.clipping import AutomaticClipping
from fedjax_private.privacy.mechanisms.gaussian import dp_sgd_plan
from fedjax_private.privacy.mechanisms.mechanism import Mechanism, MechanismSettings
from fedjax_private.privacy.plan import PrivacyPlan


@dataclasses.dataclass(frozen=True)
class AutomaticSettings(choices.Settings):
    """Settings of automatic clipping."""

    clip_stability: float = choices.setting(
        AutomaticClipping.stability,
        "what is added to a gradient's norm before dividing by it",
        choices.positive,
    )


def _make(settings: MechanismSettings, own: AutomaticSettings) -> PrivacyPlan:
    clipping = AutomaticClipping(settings.clip_norm, own.clip_stability)
    return dp_sgd_plan(settings, clipping)


AUTOMATIC = Mechanism(
    "automatic",
    "DP-SGD with normalised gradients (Bu et al. 2023)",
    _make,
    AutomaticSettings,
)
