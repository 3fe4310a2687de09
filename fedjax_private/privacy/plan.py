"""`PrivacyPlan`: sampler, clipping and noise of a private run, and its event."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_private import choices
from fedjax_private.privacy.accounting.accountant import RdpAccountant
from fedjax_private.privacy.accounting.events import Event, Neighbors
from fedjax_private.privacy.clipping import Clipping, SumFn
from fedjax_private.privacy.noise import Noise
from fedjax_private.privacy.sampling import Sampler, Selection
from fedjax_private.typing import Array, LossFn, Params, PRNGKey


class PlanState(NamedTuple):
    """The state of a plan: steps taken, and the states of its parts."""

    steps: Array | int
    clipping: Any
    noise: Any


# In place of no state: the caller counts the steps, and the parts keep no state.
_NOTHING = PlanState(0, (), ())

# A run of so many steps is priced once, to find out whether its event has a price.
_PROBE_STEPS = 1000


@dataclasses.dataclass(frozen=True)
class PrivacyPlan:
    """DP-SGD's sampler, clipping, noise and divisor, tied to the event they cost.

    Attributes:
        sampler: draws the records of each step.
        clipping: bounds the contribution of each record.
        noise: is added to the sum, in units of that bound. Every client adds all of it
            to its own steps (local noise), so that its guarantee assumes no one else to
            be honest.
        expected_batch_size: the public number that a noisy sum is divided by. Never
            the realised batch size, which is private.
        neighbors: the relation that defines "one record".

    Formal guarantees: a client's run of n steps is, with respect to the records of that
    client, what `event(n)` describes, with the theorems that the three parts and the
    event name; it is what an accountant is to be charged. It protects against everyone
    who sees any function of the client's updates, the server and all other clients
    included.

    Raises:
        ValueError: the parts do not fit each other or this relation.
        Unsupported: the event has no price under this relation.
    """

    sampler: Sampler
    clipping: Clipping
    noise: Noise
    expected_batch_size: float
    neighbors: Neighbors

    def __post_init__(self) -> None:
        choices.check(self, expected_batch_size=choices.positive)
        for name, kind, what in (
            ("sampler", Sampler, "a Sampler, such as PoissonSampling(0.01)"),
            ("clipping", Clipping, "a Clipping, such as FlatClipping(1.0)"),
            ("noise", Noise, "a Noise, such as GaussianNoise(1.0)"),
            ("neighbors", Neighbors, "a relation, such as Neighbors.ADD_REMOVE"),
        ):
            choices.check_kind(name, getattr(self, name), kind, what)
        if self.neighbors not in self.sampler.neighbors:
            raise ValueError(
                f"{type(self.sampler).__name__} has no guarantee under neighbors="
                f"{self.neighbors.value}: choose another relation or sampler."
            )
        if self.clipping.norm != self.noise.norm:
            raise ValueError(
                f"{type(self.clipping).__name__} bounds the L{self.clipping.norm} norm "
                f"and {type(self.noise).__name__} is for the L{self.noise.norm} norm: "
                "choose two for the same norm."
            )
        RdpAccountant(neighbors=self.neighbors).compose(self.event(_PROBE_STEPS))

    @property
    def correlated(self) -> bool:
        """Whether only a run as a whole has a price; see `Noise`."""
        return self.noise.correlated

    def event(self, steps: int) -> Event:
        """Returns the event of `steps` steps for one client's records.

        Its cost never falls with the steps. Unless `correlated`, the events of a run's
        parts cost as much together as the run's.
        """
        return self.noise.event(self.sampler, steps)

    def init(self, params: Params) -> PlanState | tuple[()]:
        """Returns a client's state before the first step; `()` is no state."""
        size = sum(leaf.size for leaf in jax.tree.leaves(params))
        parts = self.clipping.init(), self.noise.init(size + self.clipping.extra)
        if not jax.tree.leaves(parts) and not self.sampler.scheduled:
            return ()
        return PlanState(jnp.int32(0), *parts)

    def sample(
        self, key: PRNGKey, mask: Array, index: Array | int, state: Any
    ) -> Selection:
        """Draws the records of the round's `index`-th step from a shard's mask (N,).

        `key` is the client's sampling key of the round.
        """
        step = state.steps if self.sampler.scheduled else index
        return self.sampler.sample(key, mask, step)

    def bounded_sum(self, loss: LossFn) -> SumFn:
        """Returns the sum of bounded contributions; its last argument is `state`."""
        bounded = self.clipping.bounded_sum(loss)

        def summed(
            params: Params, inputs: Array, labels: Array, valid: Array, state: Any
        ) -> Any:
            clip = (state or _NOTHING).clipping
            return bounded(params, inputs, labels, valid, clip)

        return summed

    def release(self, key: PRNGKey, total: Array, state: Any) -> tuple[Array, Any]:
        """Adds noise to a bounded sum; returns a gradient (P,) and the next state.

        `key` must be fresh: one for every client, round and step.
        """
        steps, clip, past = state or _NOTHING
        noisy, past = self.noise.add(key, total, self.clipping.bound, past)
        mean = noisy / jnp.float32(self.expected_batch_size)
        gradient, clip = self.clipping.finish(mean, clip)
        return gradient, PlanState(steps + 1, clip, past) if state else ()
