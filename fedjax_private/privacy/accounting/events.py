"""Events: frozen descriptions of what was run, free of any price.

`noise_multiplier` is everywhere the noise's standard deviation (Laplace: its scale)
over C, the bound on one record's contribution. An event reads the same under every
neighbouring relation; the accountant derives the sensitivity from C.

Events are hashable values: `Gaussian(1) == Gaussian(1.0)`, and two runs of the same
mechanism are the same event. `serialization` writes them as JSON.
"""

import dataclasses
import enum
import math
import operator


class Neighbors(enum.Enum):
    """When two data sets count as neighbours.

    Attributes:
        ADD_REMOVE: one holds a record that the other lacks.
        REPLACE_ONE: they differ in one record's value; a sum of contributions bounded
            by C then moves by 2C.
        ZERO_OUT: one record's contribution is replaced by zero (Kairouz et al. 2021,
            "Practical and Private (Deep) Learning without Sampling or Shuffling").
    """

    ADD_REMOVE = "add_remove"
    REPLACE_ONE = "replace_one"
    ZERO_OUT = "zero_out"

    @property
    def sensitivity(self) -> float:
        """The most that a sum of contributions bounded by 1 can move: 1 or 2."""
        return 2.0 if self is Neighbors.REPLACE_ONE else 1.0


@dataclasses.dataclass(frozen=True)
class Event:
    """Base of all events. A fork's event is a frozen, hashable dataclass of this."""


@dataclasses.dataclass(frozen=True)
class NoPrivacy(Event):
    """The data were released as they are: epsilon is infinite."""


@dataclasses.dataclass(frozen=True)
class Gaussian(Event):
    """Gaussian noise on a sum of contributions of L2 norm at most C.

    Attributes:
        noise_multiplier: the noise's standard deviation over C; finite, 0 or more.
    """

    noise_multiplier: float

    def __post_init__(self) -> None:
        _real(self, "noise_multiplier", 0)


@dataclasses.dataclass(frozen=True)
class Laplace(Event):
    """Laplace noise on a sum of contributions of L1 norm at most C.

    Attributes:
        noise_multiplier: the noise's scale over C; finite, 0 or more.
    """

    noise_multiplier: float

    def __post_init__(self) -> None:
        _real(self, "noise_multiplier", 0)


@dataclasses.dataclass(frozen=True)
class RandomizedResponse(Event):
    """Each record's bucket, reported truthfully or else drawn uniformly.

    Attributes:
        noise_parameter: the probability of a uniform draw, in [0, 1].
        num_buckets: the number of buckets, 1 or more.
    """

    noise_parameter: float
    num_buckets: int

    def __post_init__(self) -> None:
        _real(self, "noise_parameter", 0, 1)
        _whole(self, "num_buckets", 1)


@dataclasses.dataclass(frozen=True)
class ZCdp(Event):
    """A mechanism known to be rho-zCDP under the accountant's relation."""

    rho: float

    def __post_init__(self) -> None:
        _real(self, "rho", 0)


@dataclasses.dataclass(frozen=True)
class Pure(Event):
    """A mechanism known to be epsilon-DP (delta 0) under the accountant's relation."""

    epsilon: float

    def __post_init__(self) -> None:
        _real(self, "epsilon", 0)


@dataclasses.dataclass(frozen=True)
class Composed(Event):
    """Several events on the same data, each free to depend on earlier outputs."""

    events: tuple[Event, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "events", tuple(self.events))
        for event in self.events:
            check_event(event)


@dataclasses.dataclass(frozen=True)
class Repeated(Event):
    """One event `count` times on the same data (0 or more)."""

    event: Event
    count: int

    def __post_init__(self) -> None:
        check_event(self.event)
        _whole(self, "count", 0)


@dataclasses.dataclass(frozen=True)
class Poisson(Event):
    """An event run on a sample that each record joins independently.

    Everything inside the event sees one and the same sample: steps that sample afresh
    are `Repeated(Poisson(q, event), steps)`, not `Poisson(q, Repeated(event, steps))`.

    Attributes:
        sampling_probability: each record's probability, in [0, 1].
        event: what is run on the sample.
    """

    sampling_probability: float
    event: Event

    def __post_init__(self) -> None:
        _real(self, "sampling_probability", 0, 1)
        check_event(self.event)


@dataclasses.dataclass(frozen=True)
class WithoutReplacement(Event):
    """An event run on a uniformly drawn set of exactly `batch` of the records.

    Attributes:
        population: the (public) number of records, 1 or more.
        batch: how many of them are drawn, from 0 to `population`.
        event: what is run on the sample.
    """

    population: int
    batch: int
    event: Event

    def __post_init__(self) -> None:
        _whole(self, "population", 1)
        _whole(self, "batch", 0)
        if self.batch > self.population:
            raise ValueError(
                f"WithoutReplacement: batch is {self.batch}, more than the population "
                f"of {self.population}."
            )
        check_event(self.event)


@dataclasses.dataclass(frozen=True)
class BandedMatrix(Event):
    """A whole run with correlated noise (Choquette-Choo et al. 2023).

    The released sequence is a post-processing of C x + z: x stacks the steps' clipped
    sums, C is lower-triangular, banded and Toeplitz, and z is white Gaussian noise.

    Attributes:
        noise_multiplier: the standard deviation of z over the clip norm.
        coefficients: the first column of C down to its last band.
        steps: the number of steps of the run.
        min_separation: any two participations of one record lie at least this many
            steps apart.
        sampling_probability: 1 where every record of a step's group takes part. Less
            than 1 means the cyclic scheme of the amplification theorem: the records
            are split into `min_separation` groups independently of their values, step
            i looks at group i mod `min_separation` only, and each of its records joins
            with this probability. It needs min_separation >= the number of bands.
    """

    noise_multiplier: float
    coefficients: tuple[float, ...]
    steps: int
    min_separation: int
    sampling_probability: float = 1.0

    def __post_init__(self) -> None:
        _real(self, "noise_multiplier", 0)
        coefficients = tuple(float(c) for c in self.coefficients)
        if not coefficients or not all(math.isfinite(c) for c in coefficients):
            raise ValueError(
                "BandedMatrix: coefficients must be one or more finite numbers, got "
                f"{self.coefficients!r}."
            )
        object.__setattr__(self, "coefficients", coefficients)
        _whole(self, "steps", 0)
        _whole(self, "min_separation", 1)
        _real(self, "sampling_probability", 0, 1)


@dataclasses.dataclass(frozen=True)
class DistributedDiscreteGaussian(Event):
    """A sum of integer vectors, to which each share added discrete Gaussian noise.

    Attributes:
        shares: how many independent noise shares the released sum holds, 1 or more.
        scale: the parameter sigma of one share's discrete Gaussian, in units of the
            integer grid; the bound needs 0.5 or more.
        dimension: the number of coordinates.
        sensitivity: the L2 bound on one record's contribution, in units of the grid
            and after rounding (which inflates it).
    """

    shares: int
    scale: float
    dimension: int
    sensitivity: float

    def __post_init__(self) -> None:
        _whole(self, "shares", 1)
        _real(self, "scale", 0)
        _whole(self, "dimension", 1)
        _real(self, "sensitivity", 0)


@dataclasses.dataclass(frozen=True)
class Approximate(Event):
    """An event, but for a failure of small probability.

    On any two neighbours the outputs lie, together, within total variation `failure`
    of a pair that the event describes. The accountant takes it off delta. No other
    event may wrap this one: what a sampled failure costs depends on what fails.

    Attributes:
        event: what holds where nothing fails.
        failure: the total variation distance, in [0, 1].
    """

    event: Event
    failure: float

    def __post_init__(self) -> None:
        check_event(self.event)
        _real(self, "failure", 0, 1)


def check_event(event: object) -> None:
    """Raises TypeError if this is no event."""
    if not isinstance(event, Event):
        raise TypeError(f"an event was expected, got {event!r}.")


def _real(event: Event, name: str, low: float, high: float = math.inf) -> None:
    """Stores a field as a float, so that int, NumPy and float settings are alike."""
    given = getattr(event, name)
    value = float(given)
    if not (math.isfinite(value) and low <= value <= high):
        limits = (
            f"finite and at least {low}" if high == math.inf else f"{low} to {high}"
        )
        raise ValueError(
            f"{type(event).__name__}: {name} must be {limits}, got {given!r}."
        )
    object.__setattr__(event, name, value)


def _whole(event: Event, name: str, low: int) -> None:
    given = getattr(event, name)
    try:
        value = operator.index(given)
    except TypeError as error:
        raise ValueError(
            f"{type(event).__name__}: {name} must be a whole number, got {given!r}."
        ) from error
    if value < low:
        raise ValueError(
            f"{type(event).__name__}: {name} must be at least {low}, got {value}."
        )
    object.__setattr__(event, name, value)
