"""Clipping of per-example gradients, and sums of what is clipped."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp

from fedjax_private import choices
from fedjax_private.privacy.gradients.sums import example_gradients
from fedjax_private.privacy.gradients.types import total_norms
from fedjax_private.typing import Array, LossFn, Params

# float32 rounding can make a norm too small and so lift a contribution above the bound.
# The margin is ten times the largest excess seen on the library's models.
ROUNDING_MARGIN = 1e-5

# (params, inputs (B, ...), labels (B,), valid (B,) bool, state of `Clipping.init`) ->
# the sum of the records' contributions, a pytree that `ravel_pytree` makes (P + extra,)
# float32 of, the gradient's P first.
SumFn: TypeAlias = Callable[[Params, Array, Array, Array, Any], Any]


def norm_clipping(clip_norm: float) -> Callable[[Array], Array]:
    """Returns the map to L2 norm `clip_norm` at most: v min(1, clip_norm / |v|).

    A vector whose norm is not finite in float32 becomes zero.

    Formal guarantees: between neighbours, a sum of clipped vectors moves by at most
    `clip_norm` times the relation's `sensitivity`, by the triangle inequality.

    Raises:
        ValueError: a clip norm that is not positive and finite.
    """
    if wrong := choices.positive(clip_norm):
        raise ValueError(f"clip_norm {wrong}, got {clip_norm}.")
    radius = clip_norm * (1.0 - ROUNDING_MARGIN)

    def clip(vector: Array) -> Array:
        norm = jnp.linalg.norm(vector)
        scaled = vector * (radius / jnp.maximum(norm, radius))
        return jnp.where(jnp.isfinite(norm), scaled, 0.0)

    return clip


@dataclasses.dataclass(frozen=True)
class Clipping:
    """Base of clippings: each bounds one record's contribution to a sum.

    Examples that are not valid, or whose gradient is not finite, contribute zero. A
    clipping defines `factors`, or `summed` where a contribution is more than a scaled
    gradient.

    Attributes:
        clip_norm: C, positive and finite.
        norm: 1 or 2, the norm of the bound; each noise is made for one of them.
        extra: entries of a contribution besides those of its gradient.

    Formal guarantees: in the bound's norm, the sum moves between neighbours by at most
    `bound` where a record is added, removed or zeroed out, twice as much where it is
    replaced, by the triangle inequality; in real arithmetic up to the rounding of the
    sum itself.
    """

    clip_norm: float
    norm: ClassVar[int] = 2
    extra: ClassVar[int] = 0

    def __post_init__(self) -> None:
        choices.check(self, clip_norm=choices.positive)

    def init(self) -> Any:
        """Returns the state before the first step; `()` is no state."""
        return ()

    @property
    def bound(self) -> float:
        """The bound on one contribution's norm; C unless contributions are rescaled."""
        return self.clip_norm

    def factors(self, norms: Array, total: Array) -> Array:
        """Returns what each example's gradient is multiplied by, (B,) or (L, B).

        Args:
            norms: (L, B), the norm of each example's gradient of each parameter array.
            total: (B,), its norm over all arrays together.
        """
        raise NotImplementedError

    def cuts(self, norms: Array, total: Array) -> Array | None:
        """Returns which gradients are made shorter; None where norms do not tell.

        The result is bool (B,), or (L, B) where parameter arrays are clipped apart.

        Args:
            norms: (L, B), as in `factors`.
            total: (B,), as in `factors`.
        """
        return None

    def summed(self, loss: LossFn) -> SumFn:
        """Returns the sum of contributions within the bound."""
        gradients_of = example_gradients(loss)

        def summed(
            params: Params, inputs: Array, labels: Array, valid: Array, state: Any
        ) -> Params:
            gradients = gradients_of(params, inputs, labels)
            total = total_norms(gradients)
            factors = self.factors(gradients.norms, total)
            # An example counts as a whole or not at all.
            keep = valid & jnp.isfinite(total)
            return gradients.weighted_sum(jnp.where(keep, factors, 0.0))

        return summed

    def bounded_sum(self, loss: LossFn) -> SumFn:
        """Returns the same sum, computed precisely enough for the bound to hold."""
        summed = self.summed(loss)

        def exact(
            params: Params, inputs: Array, labels: Array, valid: Array, state: Any
        ) -> Any:
            # Accelerators multiply float32 matrices in fewer bits by default; a norm
            # that is wrong in the third digit would let a record exceed C.
            with jax.default_matmul_precision("highest"):
                return summed(params, inputs, labels, valid, state)

        return exact

    def finish(self, mean: Array, state: Any) -> tuple[Array, Any]:
        """Turns a noisy sum over the expected batch (P + extra,) into a gradient (P,).

        This is post-processing of the release. Returns the next step's state too.
        """
        return mean, state


@dataclasses.dataclass(frozen=True)
class FlatClipping(Clipping):
    """Scales a gradient over all parameters together to norm C at most.

    Formal guarantees: a contribution's L2 norm is at most C (Abadi et al. 2016).
    """

    def factors(self, norms: Array, total: Array) -> Array:
        """See `Clipping`."""
        bound = self.clip_norm * (1.0 - ROUNDING_MARGIN)
        return bound / jnp.maximum(total, bound)

    def cuts(self, norms: Array, total: Array) -> Array | None:
        """See `Clipping`."""
        return total > self.clip_norm


@dataclasses.dataclass(frozen=True)
class PerLayerClipping(Clipping):
    """Scales each of the L parameter arrays' gradients to norm C / sqrt(L) at most.

    An array with large gradients then does not shrink those of the others.

    Formal guarantees: a contribution's L2 norm is at most C, as the squares of the
    arrays' norms add up (McMahan et al. 2018, "Learning Differentially Private
    Recurrent Language Models", section 3.1).
    """

    def factors(self, norms: Array, total: Array) -> Array:
        """See `Clipping`."""
        bound = self.clip_norm * (1.0 - ROUNDING_MARGIN) / math.sqrt(len(norms))
        return bound / jnp.maximum(norms, bound)

    def cuts(self, norms: Array, total: Array) -> Array | None:
        """See `Clipping`."""
        return norms > self.clip_norm / math.sqrt(len(norms))


@dataclasses.dataclass(frozen=True)
class AutomaticClipping(Clipping):
    """Normalises gradients: C g / (|g| + stability), so that C acts as a step size.

    Bu, Wang, Zha, Karypis 2023, "Automatic Clipping: Differentially Private Deep
    Learning Made Easier and Stronger" (AUTO-S; their stability constant is 0.01).

    Formal guarantees: a contribution's L2 norm is below C.
    """

    stability: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        choices.check(self, stability=choices.positive)

    def factors(self, norms: Array, total: Array) -> Array:
        """See `Clipping`."""
        bound = self.clip_norm * (1.0 - ROUNDING_MARGIN)
        return bound / (total + self.stability)
