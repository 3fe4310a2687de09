"""DP-SGD whose clip norm follows the gradients' norms, at a price that is paid."""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp

from fedjax_private import choices
from fedjax_private.privacy.clipping import ROUNDING_MARGIN, Clipping, SumFn
from fedjax_private.privacy.gradients.sums import example_gradients
from fedjax_private.privacy.gradients.types import total_norms
from fedjax_private.privacy.mechanisms.gaussian import dp_sgd_plan
from fedjax_private.privacy.mechanisms.mechanism import Mechanism, MechanismSettings
from fedjax_private.privacy.plan import PrivacyPlan
from fedjax_private.typing import Array, LossFn, Params


def _inside_unit(value: float) -> str | None:
    return None if 0.0 < value < 1.0 else "must lie in (0, 1)"


@dataclasses.dataclass(frozen=True)
class AdaptiveClipping(Clipping):
    """A clip norm C_t that follows a quantile of the gradients' norms.

    Andrew, Thakkar, McMahan, Ramaswamy 2021, "Differentially Private Learning with
    Adaptive Clipping". Besides its gradient over C_t, each record contributes 1/2 if
    the gradient's norm is at most C_t, and -1/2 otherwise. Weights give the two norm 1
    together, and one noise serves both. With z the noise multiplier and s the share,
    the count's noise is sigma_b = z / (2 sqrt s), the gradients' is z_delta C_t with
    z_delta = z / sqrt(1 - s) = (z^-2 - (2 sigma_b)^-2)^(-1/2): their theorem 1. The
    price of the count is thus in the noise, and the event is that of z.

    Attributes:
        clip_norm: C_0.
        quantile: the quantile of the norms that C_t follows.
        learning_rate: of log C_t.
        share: s, the share of the squared bound that pays for the count; in (0, 1).

    Formal guarantees: a contribution's L2 norm, gradient and count together, is at most
    1; C_t is post-processing of earlier steps' outputs.
    """

    quantile: float = 0.5
    learning_rate: float = 0.2
    share: float = 0.05
    extra: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        choices.check(
            self,
            quantile=choices.between(0, 1),
            learning_rate=choices.not_negative,
            share=_inside_unit,
        )

    @property
    def bound(self) -> float:
        """1: contributions are in units of C_t."""
        return 1.0

    @property
    def _weights(self) -> tuple[float, float]:
        """The weights of a gradient over C_t, and of the count."""
        return math.sqrt(1.0 - self.share), 2.0 * math.sqrt(self.share)

    def init(self) -> Array:
        """C_0."""
        return jnp.float32(self.clip_norm)

    def summed(self, loss: LossFn) -> SumFn:
        """See `Clipping`; the state is C_t."""
        gradients_of = example_gradients(loss)
        gradient_weight, count_weight = (
            weight * (1.0 - ROUNDING_MARGIN) for weight in self._weights
        )

        def summed(
            params: Params, inputs: Array, labels: Array, valid: Array, state: Array
        ) -> tuple[Params, Array]:
            gradients = gradients_of(params, inputs, labels)
            norms = total_norms(gradients)
            keep = valid & jnp.isfinite(norms)
            factors = gradient_weight / jnp.maximum(norms, state)
            below = jnp.where(norms <= state, 0.5, -0.5)
            count = count_weight * jnp.sum(jnp.where(keep, below, 0.0))
            return gradients.weighted_sum(jnp.where(keep, factors, 0.0)), count

        return summed

    def finish(self, mean: Array, state: Array) -> tuple[Array, Array]:
        """Undoes the weights, and moves log C_t towards the quantile."""
        gradient_weight, count_weight = self._weights
        below = mean[-1] / count_weight + 0.5
        moved = state * jnp.exp(-self.learning_rate * (below - self.quantile))
        # Six orders of magnitude around C_0: noise must not end in 0 or inf.
        following = jnp.clip(moved, self.clip_norm * 1e-6, self.clip_norm * 1e6)
        return mean[:-1] * (state / gradient_weight), following


@dataclasses.dataclass(frozen=True)
class AdaptiveSettings(choices.Settings):
    """Settings of adaptive clipping; see `AdaptiveClipping`."""

    clip_quantile: float = choices.setting(
        AdaptiveClipping.quantile,
        "quantile of the gradients' norms that the clip norm follows",
        choices.between(0, 1),
    )
    clip_learning_rate: float = choices.setting(
        AdaptiveClipping.learning_rate,
        "step size of the clip norm's logarithm",
        choices.not_negative,
    )
    clip_share: float = choices.setting(
        AdaptiveClipping.share,
        "share of the squared bound that pays for the quantile",
        _inside_unit,
    )


def _make(settings: MechanismSettings, own: AdaptiveSettings) -> PrivacyPlan:
    clipping = AdaptiveClipping(
        settings.clip_norm, own.clip_quantile, own.clip_learning_rate, own.clip_share
    )
    return dp_sgd_plan(settings, clipping)


ADAPTIVE = Mechanism(
    "adaptive",
    "DP-SGD whose clip norm follows a quantile of the norms (Andrew et al. 2021)",
    _make,
    AdaptiveSettings,
)
