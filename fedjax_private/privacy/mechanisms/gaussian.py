"""DP-SGD: Poisson sampling, clipping, independent Gaussian noise.

Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang 2016, "Deep Learning with
Differential Privacy". The entries differ in their clipping.
"""

import dataclasses

from fedjax_private import choices
from fedjax_private.privacy.clipping import (
    AutomaticClipping,
    Clipping,
    FlatClipping,
    PerLayerClipping,
)
from fedjax_private.privacy.mechanisms.mechanism import Mechanism, MechanismSettings
from fedjax_private.privacy.noise import GaussianNoise
from fedjax_private.privacy.plan import PrivacyPlan
from fedjax_private.privacy.sampling import PoissonSampling


def dp_sgd_plan(settings: MechanismSettings, clipping: Clipping) -> PrivacyPlan:
    """Returns the plan of DP-SGD with a given clipping."""
    return PrivacyPlan(
        PoissonSampling(settings.sampling_probability),
        clipping,
        GaussianNoise(settings.noise_multiplier),
        settings.expected_batch_size,
        settings.neighbors,
    )


@dataclasses.dataclass(frozen=True)
class AutomaticSettings(choices.Settings):
    """Settings of automatic clipping."""

    clip_stability: float = choices.setting(
        AutomaticClipping.stability,
        "what is added to a gradient's norm before dividing by it",
        choices.positive,
    )


GAUSSIAN = Mechanism(
    "gaussian",
    "DP-SGD (Abadi et al. 2016): Poisson sampling, flat clipping, Gaussian noise",
    lambda settings, own: dp_sgd_plan(settings, FlatClipping(settings.clip_norm)),
)
PER_LAYER = Mechanism(
    "per_layer",
    "DP-SGD with each parameter array clipped by itself (McMahan et al. 2018)",
    lambda settings, own: dp_sgd_plan(settings, PerLayerClipping(settings.clip_norm)),
)
AUTOMATIC = Mechanism(
    "automatic",
    "DP-SGD with normalised gradients (Bu et al. 2023)",
    lambda settings, own: dp_sgd_plan(
        settings, AutomaticClipping(settings.clip_norm, own.clip_stability)
    ),
    AutomaticSettings,
)
