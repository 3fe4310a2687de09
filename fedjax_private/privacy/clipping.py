"""Sums of per-example gradients with a bound on what one record can change."""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp

from fedjax_private.privacy.accounting.events import Neighbors
from fedjax_private.privacy.gradients.sums import example_gradients
from fedjax_private.privacy.gradients.types import total_norms
from fedjax_private.typing import Array, LossFn, Params

# float32 rounding can make a norm too small and so lift a contribution above the bound.
# The margin is ten times the largest excess seen on the library's models.
ROUNDING_MARGIN = 1e-5


# (params, inputs, labels, valid, state) -> sum; see `BoundedSum`.
SumFn: TypeAlias = Callable[[Params, Array, Array, Array, Any], Any]


@dataclasses.dataclass(frozen=True)
class BoundedSum:
    """A sum over records with a known sensitivity.

    Attributes:
        sum: (params, inputs (B, ...), labels (B,), valid (B,) bool, state) -> the sum
            of the records' contributions, a pytree that `ravel_pytree` makes (P +
            extra,) float32 of, the gradient's P first. The state is `Clipping.init`'s.
        bound: on the norm of any one record's contribution, all entries together.
        extra: entries of a contribution besides the P of its gradient.
    """

    sum: SumFn
    bound: float
    extra: int

    def sensitivity(self, neighbors: Neighbors) -> float:
        """Returns how far the sum moves between neighbours at most, in `bound`'s norm.

        Formal guarantees: the bound where a record is added, removed or zeroed out,
        twice as much where it is replaced, by the triangle inequality; in real
        arithmetic up to the rounding of the sum itself.
        """
        return self.bound * neighbors.sensitivity


@dataclasses.dataclass(frozen=True)
class BoundedVector:
    """A map of vectors into a ball.

    Attributes:
        clip: any vector (P,) -> a vector (P,) of norm at most `bound`.
        bound: the radius.
    """

    clip: Callable[[Array], Array]
    bound: float

    def sensitivity(self, neighbors: Neighbors) -> float:
        """Returns how far a sum of clipped vectors moves between neighbours at most.

        Formal guarantees: the bound where a vector is added, removed or zeroed out,
        twice as much where it is replaced, by the triangle inequality.
        """
        return self.bound * neighbors.sensitivity


def _check_clip_norm(clip_norm: float) -> None:
    if not 0.0 < clip_norm < math.inf:
        raise ValueError(f"clip_norm must be positive and finite, got {clip_norm}.")


def norm_clipping(clip_norm: float) -> BoundedVector:
    """Returns the map to L2 norm `clip_norm` at most: v min(1, clip_norm / |v|).

    A vector whose norm is not finite in float32 becomes zero.

    Raises:
        ValueError: a clip norm that is not positive and finite.
    """
    _check_clip_norm(clip_norm)
    radius = clip_norm * (1.0 - ROUNDING_MARGIN)

    def clip(vector: Array) -> Array:
        norm = jnp.linalg.norm(vector)
        scaled = vector * (radius / jnp.maximum(norm, radius))
        return jnp.where(jnp.isfinite(norm), scaled, 0.0)

    return BoundedVector(clip, clip_norm)


@dataclasses.dataclass(frozen=True)
class Clipping(abc.ABC):
    """Base of clippings: each bounds one record's contribution to a sum.

    Examples that are not valid, or whose gradient is not finite, contribute zero.

    Attributes:
        clip_norm: C, positive and finite.
        norm: 1 or 2, the norm of the bound; each noise is made for one of them.
        extra: entries of a contribution besides those of its gradient.
    """

    clip_norm: float
    norm: ClassVar[int] = 2
    extra: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _check_clip_norm(self.clip_norm)

    def init(self) -> Any:
        """Returns the state before the first step; `()` is no state."""
        return ()

    @property
    def bound(self) -> float:
        """The bound on one contribution's norm; C unless contributions are rescaled."""
        return self.clip_norm

    @abc.abstractmethod
    def summed(self, loss: LossFn) -> SumFn:
        """Returns the sum of contributions within the bound; see `BoundedSum`."""

    def bounded_sum(self, loss: LossFn) -> BoundedSum:
        """Returns the same sum together with its bound."""
        summed = self.summed(loss)

        def exact(
            params: Params, inputs: Array, labels: Array, valid: Array, state: Any
        ) -> Any:
            # Accelerators multiply float32 matrices in fewer bits by default; a norm
            # that is wrong in the third digit would let a record exceed C.
            with jax.default_matmul_precision("highest"):
                return summed(params, inputs, labels, valid, state)

        return BoundedSum(exact, self.bound, self.extra)

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

    def summed(self, loss: LossFn) -> SumFn:
        """See `Clipping`."""
        gradients_of = example_gradients(loss)
        bound = self.clip_norm * (1.0 - ROUNDING_MARGIN)

        def summed(
            params: Params, inputs: Array, labels: Array, valid: Array, state: Any
        ) -> Params:
            gradients = gradients_of(params, inputs, labels)
            norms = total_norms(gradients)
            factors = bound / jnp.maximum(norms, bound)
            keep = valid & jnp.isfinite(norms)
            return gradients.weighted_sum(jnp.where(keep, factors, 0.0))

        return summed


@dataclasses.dataclass(frozen=True)
class PerLayerClipping(Clipping):
    """Scales each of the L parameter arrays' gradients to norm C / sqrt(L) at most.

    An array with large gradients then does not shrink those of the others.

    Formal guarantees: a contribution's L2 norm is at most C, as the squares of the
    arrays' norms add up (McMahan et al. 2018, "Learning Differentially Private
    Recurrent Language Models", section 3.1).
    """

    def summed(self, loss: LossFn) -> SumFn:
        """See `Clipping`."""
        gradients_of = example_gradients(loss)

        def summed(
            params: Params, inputs: Array, labels: Array, valid: Array, state: Any
        ) -> Params:
            gradients = gradients_of(params, inputs, labels)
            arrays = len(gradients.norms)
            bound = self.clip_norm * (1.0 - ROUNDING_MARGIN) / math.sqrt(arrays)
            factors = bound / jnp.maximum(gradients.norms, bound)
            # An example counts as a whole or not at all.
            keep = valid & jnp.isfinite(total_norms(gradients))
            return gradients.weighted_sum(jnp.where(keep, factors, 0.0))

        return summed


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
        if not 0.0 < self.stability < float("inf"):
            raise ValueError(
                f"stability must be positive and finite, got {self.stability}."
            )

    def summed(self, loss: LossFn) -> SumFn:
        """See `Clipping`."""
        gradients_of = example_gradients(loss)
        bound = self.clip_norm * (1.0 - ROUNDING_MARGIN)

        def summed(
            params: Params, inputs: Array, labels: Array, valid: Array, state: Any
        ) -> Params:
            gradients = gradients_of(params, inputs, labels)
            norms = total_norms(gradients)
            factors = bound / (norms + self.stability)
            keep = valid & jnp.isfinite(norms)
            return gradients.weighted_sum(jnp.where(keep, factors, 0.0))

        return summed
