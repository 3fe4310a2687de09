"""Which records take part in a step, exactly as the accountant assumes."""

import abc
import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_private import choices
from fedjax_private.privacy.accounting.events import (
    Event,
    Neighbors,
    NoPrivacy,
    Poisson,
    WithoutReplacement,
)
from fedjax_private.typing import Array, PRNGKey


class Selection(NamedTuple):
    """Records drawn for one step, to be taken in physical batches of a fixed shape.

    Attributes:
        order: (N,) int32, record indices with the drawn ones first.
        drawn: () int32, how many were drawn.
    """

    order: Array
    drawn: Array

    def batches(self, size: int) -> Array:
        """Returns () int32, how many physical batches of `size` hold all drawn."""
        return -(-self.drawn // size)

    def batch(self, index: Array | int, size: int) -> tuple[Array, Array]:
        """Returns the `index`-th physical batch: indices and validity, both (size,)."""
        position = index * size + jnp.arange(size)
        valid = position < self.drawn
        return self.order[jnp.where(valid, position, 0)], valid


def _first(drawn: Array) -> Selection:
    # A stable sort keeps the drawn records in their own order: no further randomness.
    order = jnp.argsort(~drawn, stable=True).astype(jnp.int32)
    return Selection(order, drawn.sum(dtype=jnp.int32))


def poisson(key: PRNGKey, mask: Array, probability: float) -> Selection:
    """Draws each record independently with the given probability.

    All drawn records are processed, in as many physical batches as needed: nothing is
    truncated, so no correction to delta is due.

    Args:
        key: fresh for every step.
        mask: (N,) bool, False for padding, which is never drawn.
        probability: sampling probability q in [0, 1].

    Formal guarantees: a record is drawn with probability floor(q 2^32) / 2^32, at most
    q and at least q - 2^-32, independently of all others; a mechanism that is priced as
    `Poisson(q, event)` is therefore never under-priced.
    """
    if probability == 1.0:
        return _first(mask)
    threshold = jnp.uint32(int(probability * 2.0**32))
    bits = jax.random.bits(key, mask.shape, jnp.uint32)
    return _first(mask & (bits < threshold))


def shuffled(key: PRNGKey, mask: Array) -> Selection:
    """Returns all records in random order: an epoch of plain SGD.

    Formal guarantees: none. Shuffled batches earn no Poisson amplification (Chua et al.
    2024); this is for training without differential privacy.
    """
    rank = jnp.where(mask, jax.random.uniform(key, mask.shape), 2.0)
    return Selection(jnp.argsort(rank).astype(jnp.int32), mask.sum(dtype=jnp.int32))


@dataclasses.dataclass(frozen=True)
class Sampler(abc.ABC):
    """Base of samplers: they draw each step's records and name the step's event.

    Attributes:
        neighbors: the relations under which `event` describes the scheme.
        scheduled: whether `sample` needs the step's number in the whole run, as a
            schedule across rounds does. Otherwise steps count from each round's first,
            and no state is kept between rounds.
    """

    neighbors: ClassVar[frozenset[Neighbors]] = frozenset(Neighbors)
    scheduled: ClassVar[bool] = False

    @abc.abstractmethod
    def sample(self, key: PRNGKey, mask: Array, step: Array | int) -> Selection:
        """Draws one step's records.

        Args:
            key: the client's sampling key of the round, fresh in every round and as
                secret as a noise key: amplification holds against adversaries who do
                not know the sample. A sampler folds in what it needs of `step`.
            mask: (N,) bool, False for padding, which is never drawn. Neighbouring data
                sets differ in one place of it; all other records keep theirs.
            step: () int32, counted from 0; see `scheduled`.
        """

    @abc.abstractmethod
    def event(self, step_event: Event) -> Event:
        """Returns the event of a step that runs `step_event` on the drawn records."""

    @property
    def participation(self) -> tuple[int, float]:
        """Returns what `BandedMatrix` assumes of the sample.

        That is the least number of steps between two participations of one record, and
        the probability of each under the cyclic scheme; (1, 1.0) assumes nothing.
        """
        return 1, 1.0


@dataclasses.dataclass(frozen=True)
class PoissonSampling(Sampler):
    """Every record joins every step independently; see `poisson`.

    Formal guarantees: those of `poisson`; amplification by Poisson sampling (Mironov,
    Talwar, Zhang 2019, for Gaussian noise).
    """

    probability: float

    def __post_init__(self) -> None:
        choices.check(self, probability=choices.between(0, 1))

    def sample(self, key: PRNGKey, mask: Array, step: Array | int) -> Selection:
        """See `Sampler`."""
        return poisson(jax.random.fold_in(key, step), mask, self.probability)

    def event(self, step_event: Event) -> Event:
        """Returns the event of a Poisson sample."""
        return Poisson(self.probability, step_event)


@dataclasses.dataclass(frozen=True)
class FixedSizeSampling(Sampler):
    """Exactly `batch` of `population` places, drawn uniformly without replacement.

    The places are the first `population` of the shard. A shard with fewer records has
    empty places, which add nothing, so the rate is batch / population for every shard.
    Records past the population never take part.

    Formal guarantees: amplification by sampling without replacement, for replacing a
    record (Wang, Balle, Kasiviswanathan 2019); no other relation is claimed. The draw
    sorts 64 random bits a place, so that it is uniform unless two places tie: within
    population^2 2^-65 in total variation, 2e-13 a step at 2,500 places.
    """

    batch: int
    population: int
    neighbors: ClassVar[frozenset[Neighbors]] = frozenset({Neighbors.REPLACE_ONE})

    def __post_init__(self) -> None:
        WithoutReplacement(self.population, self.batch, NoPrivacy())  # checks both

    def sample(self, key: PRNGKey, mask: Array, step: Array | int) -> Selection:
        """See `Sampler`."""
        key = jax.random.fold_in(key, step)
        high, low = jax.random.bits(key, (2, self.population), jnp.uint32)
        places = jnp.lexsort((low, high))[: self.batch]
        # Places past the shard's end are empty.
        chosen = jnp.zeros(mask.shape, bool).at[places].set(True, mode="drop")
        return _first(mask & chosen)

    def event(self, step_event: Event) -> Event:
        """Returns the event of a sample without replacement."""
        return WithoutReplacement(self.population, self.batch, step_event)


@dataclasses.dataclass(frozen=True)
class ShuffledEpochs(Sampler):
    """Batches of `batch` from a fresh shuffle at each round's start and each epoch's.

    Formal guarantees: no amplification, although shuffled batches are often priced as
    if they were Poisson samples (Chua et al. 2024): every step is charged as if each
    record were in it. Adding or removing a record shifts all later batches by one,
    so that relation is not claimed.
    """

    batch: int
    neighbors: ClassVar[frozenset[Neighbors]] = frozenset(
        {Neighbors.REPLACE_ONE, Neighbors.ZERO_OUT}
    )

    def __post_init__(self) -> None:
        choices.check(self, batch=choices.at_least(1))

    def sample(self, key: PRNGKey, mask: Array, step: Array | int) -> Selection:
        """See `Sampler`."""
        # At least one step an epoch: every step of an empty shard draws nothing.
        per_epoch = jnp.maximum(-(-mask.sum(dtype=jnp.int32) // self.batch), 1)
        epoch, index = jnp.divmod(step, per_epoch)
        everyone = shuffled(jax.random.fold_in(key, epoch), mask)
        first = index * self.batch
        drawn = jnp.clip(everyone.drawn - first, 0, self.batch)
        return Selection(jnp.roll(everyone.order, -first), drawn)

    def event(self, step_event: Event) -> Event:
        """Returns the step's event itself: unamplified."""
        return step_event


@dataclasses.dataclass(frozen=True)
class CyclicPoissonSampling(Sampler):
    """Step i draws from group i mod `groups` only, each record independently.

    A record belongs to the group of its place in the shard, which does not depend on
    any record's values: neighbouring shards differ in one place and leave the others.

    Formal guarantees: the sampling scheme of the amplification theorem of
    Choquette-Choo et al. 2023, "(Amplified) Banded Matrix Factorization". A step by
    itself is no more than a Poisson sample, as which `event` names it; that over-counts
    a run with independent noise, where `BandedNoise` with the single coefficient 1 is
    the same mechanism at its true price.
    """

    probability: float
    groups: int
    scheduled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        choices.check(
            self, probability=choices.between(0, 1), groups=choices.at_least(1)
        )

    def sample(self, key: PRNGKey, mask: Array, step: Array | int) -> Selection:
        """See `Sampler`."""
        on_turn = jnp.arange(mask.size) % self.groups == step % self.groups
        key = jax.random.fold_in(key, step)
        return poisson(key, mask & on_turn, self.probability)

    def event(self, step_event: Event) -> Event:
        """Returns the event of a Poisson sample, for every group."""
        return Poisson(self.probability, step_event)

    @property
    def participation(self) -> tuple[int, float]:
        """Every `groups` steps a record can take part."""
        return self.groups, self.probability
