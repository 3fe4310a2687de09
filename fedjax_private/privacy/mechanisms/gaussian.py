"""DP-SGD: Poisson sampling, flat clipping, independent Gaussian noise.

Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang 2016, "Deep Learning with
Differential Privacy".
"""

from typing import Any

from fedjax_private.privacy.clipping import Clipping, FlatClipping
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


def _make(settings: MechanismSettings, own: Any) -> PrivacyPlan:
    return dp_sgd_plan(settings, FlatClipping(settings.clip_norm))


GAUSSIAN = Mechanism(
    "gaussian",
    "DP-SGD (Abadi et al. 2016): Poisson sampling, flat clipping, Gaussian noise",
    _make,
)
