"""DP-SGD with per-layer clipping; see `PerLayerClipping`."""

from typing import Any

from fedjax_private.privacy.clipping import PerLayerClipping
from fedjax_private.privacy.mechanisms.gaussian import dp_sgd_plan
from fedjax_private.privacy.mechanisms.mechanism import Mechanism, MechanismSettings
from fedjax_private.privacy.plan import PrivacyPlan


def _make(settings: MechanismSettings, own: Any) -> PrivacyPlan:
    return dp_sgd_plan(settings, PerLayerClipping(settings.clip_norm))


PER_LAYER = Mechanism(
    "per_layer",
    "DP-SGD with each parameter array clipped by itself (McMahan et al. 2018)",
    _make,
)
