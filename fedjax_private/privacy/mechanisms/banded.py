"""DP-FTRL with banded square-root noise under cyclic Poisson sampling.

With b bands the records are split into b groups, one of which is sampled at each step
with probability b q: a record takes part every b-th step, and the expected batch is
that of DP-SGD with probability q. See `BandedNoise` and `CyclicPoissonSampling`.
"""

import dataclasses

from fedjax_private import choices
from fedjax_private.privacy.clipping import FlatClipping
from fedjax_private.privacy.mechanisms.mechanism import Mechanism, MechanismSettings
from fedjax_private.privacy.noise import BandedNoise, square_root_coefficients
from fedjax_private.privacy.plan import PrivacyPlan
from fedjax_private.privacy.sampling import CyclicPoissonSampling


@dataclasses.dataclass(frozen=True)
class BandedSettings(choices.Settings):
    """Settings of banded noise."""

    bands: int | None = choices.setting(
        None,
        "bands of the noise, and groups of records (default: as many as "
        "1 / sampling_probability and the steps allow)",
        choices.at_least(1),
    )


def _make(settings: MechanismSettings, own: BandedSettings) -> PrivacyPlan:
    """Returns the plan; at q above 1/2 it has one band and is DP-SGD.

    Raises:
        ValueError: more bands than 1 / q or the steps allow.
    """
    q = settings.sampling_probability
    most = max(1, min(int(1 / q + 1e-9), settings.steps))
    bands = most if own.bands is None else own.bands
    if bands > most:
        raise ValueError(
            f"bands must be at most {most}, the lesser of 1 / sampling_probability and "
            f"the steps, got {bands}."
        )
    return PrivacyPlan(
        CyclicPoissonSampling(min(1.0, bands * q), bands),
        FlatClipping(settings.clip_norm),
        BandedNoise(settings.noise_multiplier, square_root_coefficients(bands)),
        settings.expected_batch_size,
        settings.neighbors,
    )


BANDED = Mechanism(
    "banded",
    "DP-FTRL: noise correlated over steps (Choquette-Choo et al. 2023)",
    _make,
    BandedSettings,
)
