"""A clip norm that follows the gradients, and pays for what it learns of them."""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp

from fedjax_private.privacy.clipping import (
    ROUNDING_MARGIN,
    Clipping,
    SumFn,
)
from fedjax_private.privacy.gradients.sums import example_gradients, total_norms
from fedjax_private.typing import Array, LossFn, Params


@dataclasses.dataclass(frozen=True)
class AdaptiveClipping(Clipping):
    """A clip norm C_t that follows a quantile of the gradients' norms.

    Andrew, Thakkar, McMahan, Ramaswamy 2021, "Differentially Private Learning with
    Adaptive Clipping". Each record contributes, besides its gradient over C_t, whether
    that was below C_t, less 1/2; both are weighted so that they have norm 1 together,
    and one noise serves both. With z the noise multiplier and s the share, the count's
    noise is sigma_b = z / (2 sqrt s), the gradients' is z_delta C_t with z_delta =
    z / sqrt(1 - s) = (z^-2 - (2 sigma_b)^-2)^(-1/2): their theorem 1. The price of the
    count is thus in the noise, and the event is that of z.

    Attributes:
        clip_norm: C_0.
        quantile: of the norms, that C_t follows.
        learning_rate: of log C_t.
        share: s, of the squared bound, that pays for the count; in (0, 1).

    Formal guarantees: a contribution's L2 norm, gradient and count together, is at most
    1; C_t is post-processing of earlier steps' outputs.
    """

    quantile: float = 0.5
    learning_rate: float = 0.2
    share: float = 0.05
    extra: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.quantile <= 1.0:
            raise ValueError(f"a quantile lies in [0, 1], got {self.quantile}.")
        if not 0.0 <= self.learning_rate < float("inf"):
            raise ValueError(
                f"the clip norm's learning rate is finite and not negative, got "
                f"{self.learning_rate}."
            )
        if not 0.0 < self.share < 1.0:
            raise ValueError(f"the count's share lies in (0, 1), got {self.share}.")

    @property
    def bound(self) -> float:
        """1: contributions are in units of C_t."""
        return 1.0

    @property
    def _weights(self) -> tuple[float, float]:
        """Of a gradient of norm 1, and of a count of 1/2 more or less."""
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
