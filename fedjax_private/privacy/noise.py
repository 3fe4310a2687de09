"""Gaussian and banded noise with resolved tails, and the keys that it is drawn from.

`jax.random.normal` in float32 cannot exceed 5.42 standard deviations and takes 2^23
values, so a tail event tells neighbouring data sets apart with a probability near
typical deltas. `gaussian` resolves the tail instead.
"""

import abc
import dataclasses
import hashlib
import math
import os
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_private import choices
from fedjax_private.privacy.accounting.events import (
    BandedMatrix,
    Event,
    Gaussian,
    Repeated,
)
from fedjax_private.privacy.sampling import Sampler
from fedjax_private.typing import Array, PRNGKey


def noise_key(noise_seed: int | None, run: str = "") -> PRNGKey:
    """Returns the root key of a run's privacy noise.

    Args:
        noise_seed: None takes 64 bits from the operating system; the key is then
            written nowhere. A number gives a bit-repeatable run, whose epsilon holds
            in simulation only, since whoever knows the seed can subtract the noise.
            It is hashed to 64 bits, since `jax.random.key` keeps 32.
        run: differs between the runs of one seeded experiment: with equal noise, the
            difference of two releases would reveal the difference of their sums.
    """
    material = os.urandom(8)
    if noise_seed is not None:
        seed = f"privacy noise {noise_seed} {run}"
        material = hashlib.sha256(seed.encode()).digest()[:8]
    return jax.random.wrap_key_data(
        jnp.asarray(np.frombuffer(material, np.uint32)), impl="threefry2x32"
    )


def gaussian(key: PRNGKey, shape: tuple[int, ...], stddev: float | Array) -> Array:
    """Returns independent N(0, stddev^2) samples, float32, with a resolved tail.

    A uniform variate in (0, 1/2] with 64 random bits, most of them near zero where
    float32 is densest, goes through the inverse normal CDF, and a further bit gives
    the sign: the largest magnitude is about 9.1 stddev, reached as often as the normal
    law says.

    Formal guarantees: as a mechanism, the Gaussian mechanism's in real arithmetic. Like
    every floating-point implementation it is open to the attack of Mironov (2012,
    "On significance of the least significant bits") on the low-order bits; and the
    generator (threefry2x32) is statistically sound but has a 64-bit key.
    """
    bits = jax.random.bits(key, (3, *shape), jnp.uint32)
    high = bits[0].astype(jnp.float32)
    low = bits[1].astype(jnp.float32)
    # (high + low 2^-32 + 2^-33) 2^-33 in (0, 1/2]: where `high` is small its float is
    # exact and `low` fills in the digits below it.
    tail = (high + low * 2.0**-32 + 2.0**-33) * 2.0**-33
    magnitude = -jax.scipy.special.ndtri(jnp.minimum(tail, 0.5))
    sign = jnp.where(bits[2] >> 31 == 1, 1.0, -1.0)
    return sign * magnitude * jnp.asarray(stddev, jnp.float32)


def add_noise(vector: Array, noise: Array) -> Array:
    """Returns vector + noise, in the vector's type.

    Raises:
        TypeError: the type is narrower than float32: rounding would undo the noise.
    """
    if vector.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(f"noise needs float32 or wider, got {vector.dtype}.")
    return vector + noise.astype(vector.dtype)


@dataclasses.dataclass(frozen=True)
class Noise(abc.ABC):
    """Base of noises: what a plan adds to the bounded sum of every step.

    Attributes:
        noise_multiplier: the noise's standard deviation (or the scale that its event is
            stated in) over the bound on one record's contribution; finite, 0 or more.
        norm: 1 or 2: the event assumes contributions that are bounded in this norm.
        correlated: whether steps share noise. Then only a run as a whole has a price,
            and all of it is charged before its first step.
    """

    noise_multiplier: float
    norm: ClassVar[int] = 2
    correlated: ClassVar[bool] = False

    def __post_init__(self) -> None:
        choices.check(self, noise_multiplier=choices.not_negative)

    def init(self, size: int) -> Any:
        """Returns the state before the first step, for sums of `size` entries.

        `()` is no state. The state stays with the client: it may hold noise that
        protects a release.
        """
        return ()

    @abc.abstractmethod
    def add(
        self, key: PRNGKey, total: Array, bound: float, state: Any
    ) -> tuple[Array, Any]:
        """Adds noise to a sum of contributions, each of norm at most `bound`.

        `key` must be fresh: one for every client, round and step. Returns the next
        step's state too.
        """

    @abc.abstractmethod
    def event(self, sampler: Sampler, steps: int) -> Event:
        """Returns the event of a run of `steps` steps with this sampler."""

    def summed(self, count: int) -> "Noise":
        """Returns the noise of a sum to which `count` clients each added this noise.

        A noise that defines it can be shared by the clients of an encrypted sum.

        Raises:
            ValueError: the law of such a sum is unknown.
        """
        raise ValueError(
            f"{type(self).__name__} cannot be shared by clients, since it has no "
            "method summed(count), which returns the noise of a sum of so many "
            "clients' noises: give it one, or use noise=local."
        )

    def share(
        self, key: PRNGKey, total: Array, bound: float, unit: float, state: Any
    ) -> tuple[Array, Any]:
        """Adds a client's share of the noise to its sum, before encryption.

        Returns:
            The slots, in multiples of `unit`, and the next step's state.
        """
        noisy, state = self.add(key, total, bound, state)
        return noisy / jnp.float32(unit), state


@dataclasses.dataclass(frozen=True)
class GaussianNoise(Noise):
    """Independent Gaussian noise at every step.

    Formal guarantees: each step is the Gaussian mechanism on what was sampled, in real
    arithmetic; see `gaussian`. Steps compose.
    """

    def summed(self, count: int) -> "GaussianNoise":
        """See `Noise`; the variances of independent Gaussian noises add up."""
        return GaussianNoise(self.noise_multiplier * math.sqrt(count))

    def add(
        self, key: PRNGKey, total: Array, bound: float, state: Any
    ) -> tuple[Array, Any]:
        """See `Noise`."""
        stddev = self.noise_multiplier * bound
        return add_noise(total, gaussian(key, total.shape, stddev)), state

    def event(self, sampler: Sampler, steps: int) -> Event:
        """Returns the steps' events, each by itself."""
        return Repeated(sampler.event(Gaussian(self.noise_multiplier)), steps)


@dataclasses.dataclass(frozen=True)
class BandedNoise(Noise):
    """Noise that later steps partly cancel: C^-1 z for a banded Toeplitz matrix C.

    z~_t = (z_t - sum_{j>0} c_j z~_{t-j}) / c_0, with z white. A trained model holds the
    noise of a sum of steps, which then grows more slowly than with independent steps.
    With b bands, a client keeps its last b - 1 vectors z~.

    Choquette-Choo, Ganesh, McKenna, McMahan, Rush, Thakurta, Xu 2023, "(Amplified)
    Banded Matrix Factorization: A unified approach to private training".

    Attributes:
        noise_multiplier: the standard deviation of z over the bound.
        coefficients: c_0, ..., c_{b-1}, the first column of C; c_0 is not 0. See
            `square_root_coefficients`.

    Formal guarantees: with x the steps' sums, all releases of a run, x + C^-1 z, are
    post-processing of C x + z, the event `BandedMatrix` (theorems there). It is a price
    for the run as a whole: charging rounds by themselves would forget that a record
    seen in one round also hides in later rounds' noise.
    """

    coefficients: tuple[float, ...] = (1.0,)
    correlated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        coefficients = self.coefficients
        if not (all(map(math.isfinite, coefficients)) and any(coefficients[:1])):
            raise ValueError(
                "coefficients must be finite and the first must not be 0, got "
                f"{coefficients}."
            )

    def init(self, size: int) -> Array:
        """Returns the last b - 1 steps' noise, latest first: zeros at first."""
        return jnp.zeros((len(self.coefficients) - 1, size), jnp.float32)

    def add(
        self, key: PRNGKey, total: Array, bound: float, state: Array
    ) -> tuple[Array, Array]:
        """See `Noise`."""
        first, *others = self.coefficients
        white = gaussian(key, total.shape, self.noise_multiplier * bound)
        noise = (white - jnp.asarray(others, jnp.float32) @ state) / first
        latest = jnp.concatenate([noise[None], state])[: len(others)]
        return add_noise(total, noise), latest

    def summed(self, count: int) -> "BandedNoise":
        """See `Noise`; every client must take part in every step."""
        multiplier = self.noise_multiplier * math.sqrt(count)
        return dataclasses.replace(self, noise_multiplier=multiplier)

    def event(self, sampler: Sampler, steps: int) -> Event:
        """Returns the event of the whole run."""
        separation, probability = sampler.participation
        return BandedMatrix(
            self.noise_multiplier, self.coefficients, steps, separation, probability
        )


def square_root_coefficients(bands: int) -> tuple[float, ...]:
    """Returns the first entries of the square root of the matrix of prefix sums.

    1, 1/2, 3/8, ...: (2k-1)!! / (2k)!!. Cut off after `bands`, they are near-optimal
    for sums of SGD steps (Kalinin, Lampert 2024, "Banded Square Root Matrix
    Factorization"), and they fall, as closer participations than the bands require.
    """
    if bands < 1:
        raise ValueError(f"bands must be at least 1, got {bands}.")
    column = [1.0]
    for k in range(1, bands):
        column.append(column[-1] * (2 * k - 1) / (2 * k))
    return tuple(column)
