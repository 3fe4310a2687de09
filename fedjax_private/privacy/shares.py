"""Noise that the clients of one encrypted sum share.

Truex, Baracaldo, Anwar, Steinke, Ludwig, Zhang, Zhou, "A Hybrid Approach to
Privacy-Preserving Federated Learning", AISec 2019; Malekzadeh, Hasircioglu, Mital,
Katarya, Ozfatura, Gunduz, "Dopamine: Differentially Private Federated Learning on
Medical Data", 2021. Where a server sees only the sum of m uploads, each client adds a
noise share of variance sigma^2 C^2 / m: the sum then carries the noise of central
DP-SGD, for any number of clients and any division of the records.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_private.choices import check_call
from fedjax_private.privacy.accounting.events import (
    Approximate,
    DistributedDiscreteGaussian,
    Event,
    Neighbors,
    NoPrivacy,
    Repeated,
)
from fedjax_private.privacy.clipping import Clipping
from fedjax_private.privacy.discrete import (
    discrete_gaussian,
    discrete_gaussian_distance,
)
from fedjax_private.privacy.noise import GaussianNoise, Noise
from fedjax_private.privacy.plan import PrivacyPlan
from fedjax_private.privacy.sampling import Sampler
from fedjax_private.quantization import (
    NOT_FINITE,
    Grid,
    quantize,
    rounded_norm_bound,
)
from fedjax_private.trust import Adversary, Trust
from fedjax_private.typing import Array, PRNGKey

# The probability that the rounding of one step exceeds the sensitivity accounted for.
ROUNDING_FAILURE = 2.0**-64


@dataclasses.dataclass(frozen=True)
class DiscreteGaussianNoise(Noise):
    """Integer noise for exact sums: rounds at random, then adds N_Z(0, scale^2).

    Attributes:
        noise_multiplier: scale over the bound on one record's contribution.
        grid: the integers; its values are sums divided by that bound, so that a
            contribution has norm 1 at most.
        dimension: d, the number of entries of a sum.
        shares: the number of such noises in the sum that `event` describes.

    Formal guarantees: let S and S' be the sums of neighbours, g their difference, and u
    uniform in [0, 1)^d. floor(S/step + u) is randomised rounding of S/step, and floor(S
    /step + u) - floor(S'/step + u) is distributed like randomised rounding of g/step.
    So for all u but a set of probability `ROUNDING_FAILURE` the same for S and S', the
    integers differ by at most `rounded_norm_bound(1, d, grid, ROUNDING_FAILURE)`
    (Kairouz, Liu, Steinke 2021, for one vector; the coupling carries it over to a
    record within a sum), and the discrete noise then costs what
    `DistributedDiscreteGaussian` says. Every coordinate of the signal is cut off at the
    grid's ends before rounding and noise. This map is 1-Lipschitz in each coordinate,
    so that it moves sums no further apart, and the sensitivity holds. How many entries
    were cut depends on the records: the number leaves no client. Reduction mod 2^b
    afterwards is post-processing, and so is a count of noisy sums beyond the grid. The
    failure, and the sampler's distance from the exact law for every share, are those of
    `Approximate`. In exact arithmetic but for the float32 rounding of the sum of
    contributions itself and of its product with 1 / step.

    A sum with NaN or an infinity gets no noise. The client refuses to encrypt it, and
    that it stops is not covered. Clipping makes such a sum impossible for every set of
    records, because a record whose gradient is not finite contributes zero; the stop
    means that clipping itself is broken.
    """

    grid: Grid
    dimension: int
    shares: int = 1

    @property
    def scale(self) -> float:
        """The parameter sigma of one share, in grid steps."""
        return self.noise_multiplier / self.grid.step

    @property
    def sensitivity(self) -> float:
        """L2 sensitivity of the rounded sum to one record, in grid steps."""
        return rounded_norm_bound(1.0, self.dimension, self.grid, ROUNDING_FAILURE)

    def integers(self, key: PRNGKey, total: Array, bound: float) -> Array:
        """Returns noisy integers (d,), int32, of a sum (d,) of contributions.

        An entry that is not finite becomes `NOT_FINITE`, without noise.
        """
        rounding, noise = jax.random.split(key)
        rounded = quantize(rounding, total / jnp.float32(bound), self.grid)
        noisy = rounded + discrete_gaussian(noise, total.shape, self.scale)
        return jnp.where(rounded == NOT_FINITE, NOT_FINITE, noisy)

    def add(
        self, key: PRNGKey, total: Array, bound: float, state: Any
    ) -> tuple[Array, Any]:
        """See `Noise`."""
        integers = self.integers(key, total, bound)
        noisy = integers * jnp.float32(self.grid.step * bound)
        return jnp.where(integers == NOT_FINITE, jnp.nan, noisy), state

    def share(
        self, key: PRNGKey, total: Array, bound: float, unit: float, state: Any
    ) -> tuple[Array, Any]:
        """See `Noise`; slots are signed integers, which no reduction has changed."""
        return self.integers(key, total, bound), state

    def summed(self, count: int) -> "DiscreteGaussianNoise":
        """See `Noise`."""
        return dataclasses.replace(self, shares=self.shares * count)

    def event(self, sampler: Sampler, steps: int) -> Event:
        """Returns the steps' events, with failures of the rounding and the sampler."""
        exact = DistributedDiscreteGaussian(
            self.shares, self.scale, self.dimension, self.sensitivity
        )
        sampled = discrete_gaussian_distance(self.scale) * self.dimension * self.shares
        failing = Approximate(sampler.event(exact), ROUNDING_FAILURE + sampled)
        return Repeated(failing, steps)


@dataclasses.dataclass(frozen=True)
class SharedPlan:
    """DP-SGD whose noise the clients of one encrypted sum share: one release a step.

    Attributes:
        plan: of each client, which samples, clips and adds one share. Its
            `expected_batch_size` is that of all clients together.
        trust: the number of shares in a released sum, and how many are honest.
        value_bound: the largest absolute entry, in slots, of what a client sends,
            without its noise; what is beyond is cut off. None: no bound of its own.

    Formal guarantees: a run of n steps is, with respect to the records of any honest
    client, what `event(n, adversary)` describes, against that adversary (see `Trust`).
    It covers the released sums, one a step, of at least `trust.uploads` uploads each;
    it needs that the adversary decrypts nothing else, that clients add their shares,
    and that all sample with the plan's probability. A server that reads uploads, or a
    client's own steps between two releases, are not covered. Cutting off at
    `value_bound` comes before the noise and is 1-Lipschitz in each coordinate, so that
    sensitivities hold. How many entries were cut depends on the records, and leaves no
    client. The noisy sum is never cut off: what depends on single uploads with their
    noise would not be covered.

    Raises:
        ValueError: clients cannot share the plan's noise or clipping.
    """

    plan: PrivacyPlan
    trust: Trust
    value_bound: float | None = None

    def __post_init__(self) -> None:
        clipping = self.plan.clipping
        if clipping.extra or jax.tree.leaves(clipping.init()):
            raise ValueError(
                f"{type(clipping).__name__} follows noisy sums that no client sees "
                "under shared noise: use noise=local or another mechanism."
            )
        self.plan.noise.summed(self.trust.uploads)

    @property
    def neighbors(self) -> Neighbors:
        """The relation that defines "one record"."""
        return self.plan.neighbors

    @property
    def clipping(self) -> Clipping:
        """Of every client."""
        return self.plan.clipping

    @property
    def correlated(self) -> bool:
        """Whether only a run as a whole has a price; see `Noise`."""
        return self.plan.correlated

    @property
    def unit(self) -> float:
        """The value of a slot of 1, in entries of a sum of contributions: C times B.

        Without noise, the mean of clipped contributions then has no entry beyond 1.
        """
        return self.plan.clipping.bound * self.plan.expected_batch_size

    def event(self, steps: int, adversary: Adversary = Adversary.OUTSIDERS) -> Event:
        """Returns the event of `steps` steps for the records of an honest client."""
        if adversary is Adversary.INSIDERS and self.trust.insiders_read_uploads:
            return Repeated(NoPrivacy(), steps)
        noise = self.plan.noise.summed(self.trust.shares(adversary))
        return noise.event(self.plan.sampler, steps)

    def share(self, key: PRNGKey, total: Array, state: Any) -> tuple[Array, Any]:
        """Adds one share to a client's bounded sum (P,); returns slots (P,) and state.

        `key` must be fresh, secret, and used for nothing else.
        """
        steps, clip, past = state or (0, (), ())
        noise, bound = self.plan.noise, self.plan.clipping.bound
        if self.value_bound is not None:
            end = self.value_bound * self.unit
            cut = jnp.clip(total, -end, end)
            total = jnp.where(jnp.isfinite(total), cut, jnp.nan)
        slots, past = noise.share(key, total, bound, self.unit, past)
        return slots, type(state)(steps + 1, clip, past) if state else ()


def shared(
    make: Callable[[float], PrivacyPlan],
    noise_multiplier: float,
    trust: Trust,
    against: Adversary = Adversary.OUTSIDERS,
) -> SharedPlan:
    """Returns a plan whose shares add up to `noise_multiplier` for one adversary.

    Each client adds variance sigma^2 C^2 / m against outsiders, or / t against
    insiders; the other adversary then faces sigma sqrt(t / m), or sigma sqrt(m / t).

    Args:
        make: noise multiplier -> plan; see `SharedPlan` for its expected batch size.
        noise_multiplier: sigma.
        trust: m and t.
        against: the adversary who faces sigma.
    """
    form = "a function (noise multiplier) -> PrivacyPlan"
    check_call("make", make, 1, form)
    share = noise_multiplier / math.sqrt(trust.shares(against))
    return SharedPlan(make(share), trust)


def on_grid(
    plan: PrivacyPlan, dimension: int, sum_bound: float, bits: int
) -> PrivacyPlan:
    """Returns the plan with discrete Gaussian noise, for exact sums.

    Args:
        plan: with Gaussian noise.
        dimension: the number of entries of a sum.
        sum_bound: the largest entry of a sum, in the unit of `SharedPlan`.
        bits: sums are taken mod 2^bits.

    Raises:
        ValueError: the plan has other noise.
    """
    if type(plan.noise) is not GaussianNoise:
        raise ValueError(
            f"exact sums carry integer noise, and {type(plan.noise).__name__} is not: "
            "use encryption=ckks or encryption=threshold_ckks."
        )
    grid = Grid(bits, sum_bound * plan.expected_batch_size)
    noise = DiscreteGaussianNoise(plan.noise.noise_multiplier, grid, dimension)
    return dataclasses.replace(plan, noise=noise)


# The largest factor on sensitivity by rounding before more bits are taken. Sixteen bits
# are half the bytes and the time of eighteen, in sums of 32.
MOST_INFLATION = 1.1
MOST_BITS = 24  # of a grid; see `Grid`


def bits_for(sum_bound: float, expected_batch_size: float, dimension: int) -> int:
    """Returns the fewest bits for which rounding adds at most 10 % to sensitivity.

    `MOST_BITS` are returned where more would be needed.

    Args:
        sum_bound: the largest entry of a sum, in the unit of `SharedPlan`.
        expected_batch_size: of all clients together.
        dimension: the number of entries of a sum.
    """
    for bits in range(8, MOST_BITS):
        grid = Grid(bits, sum_bound * expected_batch_size)
        inflated = rounded_norm_bound(1.0, dimension, grid, ROUNDING_FAILURE)
        if inflated * grid.step <= MOST_INFLATION:
            return bits
    return MOST_BITS
