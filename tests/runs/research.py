"""A researcher's own file: one entry of each kind, in no package of ours.

The tests put its folder on the path and choose the entries as `research:NAME`.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fedjax_private import aggregation, algorithms, clients, models
from fedjax_private.choices import Settings, at_least, positive, setting
from fedjax_private.datasets import Dataset, Examples, Normalization, Partitioner
from fedjax_private.privacy import (
    Clipping,
    GaussianNoise,
    Mechanism,
    Noise,
    PoissonSampling,
    PrivacyPlan,
    accounting as acc,
    per_example_gradients,
)
from fedjax_private.privacy.mechanisms import MECHANISMS
from fedjax_private.trust import Decryptor

# Data: a function of no arguments.


def rings() -> Dataset:
    """Points of the plane on two rings, and which ring it is."""
    rng = np.random.default_rng(5)

    def examples(count):
        labels = np.arange(count, dtype=np.int32) % 2
        angles = rng.uniform(0, 2 * np.pi, count)
        points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        points *= 1.0 + labels[:, None]
        return Examples(points.astype(np.float32), labels)

    return Dataset("rings", examples(240), examples(100), 2, Normalization(0.0, 1.0))


# Partition: a function, and an entry with a setting.


def interleaved(labels, clients, rng):
    return [np.arange(k, len(labels), clients) for k in range(clients)]


@dataclasses.dataclass(frozen=True)
class Most(Settings):
    """Of `capped`."""

    most: int = setting(50, "records of a client", at_least(1))


CAPPED = Partitioner(
    "capped",
    "interleaved, and the rest is left out",
    lambda labels, clients, own, rng: [
        part[: own.most] for part in interleaved(labels, clients, rng)
    ],
    Most,
)


# Model: an entry that takes an activation and has a setting.


class Rings(nn.Module):
    num_classes: int
    width: int
    activation: object

    @nn.compact
    def __call__(self, inputs):
        hidden = self.activation(nn.Dense(self.width)(inputs))
        return nn.Dense(self.num_classes)(hidden)


@dataclasses.dataclass(frozen=True)
class Width(Settings):
    """Of `RINGS`."""

    width: int = setting(16, "units of the hidden layer", at_least(1))


RINGS = models.ModelEntry(
    "rings",
    "one hidden layer",
    lambda shape, classes, activation, own: Rings(classes, own.width, activation),
    ("tanh", "relu"),
    "relu",
    augmentable=False,
    settings=Width,
)


class Layers(nnx.Module):
    """The same network in nnx: a class that takes `rngs`."""

    def __init__(self, num_classes, *, rngs):
        self.hidden = nnx.Linear(2, 16, rngs=rngs)
        self.last = nnx.Linear(16, num_classes, rngs=rngs)

    def __call__(self, inputs):
        return self.last(nnx.relu(self.hidden(inputs)))


# Clients: one trains twice as long; one, private, leaves the momentum out.


def twice(loss, values):
    """Two epochs where the run asks for one."""
    epochs = 2 * (values.local_epochs or 1)
    config = clients.SgdConfig(
        values.learning_rate, batch_size=values.batch_size, epochs=epochs
    )
    return clients.sgd(loss, config)


def scored(loss, values):
    """A client function whose metrics have names of its own."""
    trainer = twice(loss, values)

    def train(state, data, keys):
        state, metrics = trainer.train(state, data, keys)
        return state, {"examples": metrics["examples"], "accuracy": 0.5}

    return dataclasses.replace(trainer, train=train)


PRIVATE = clients.ClientEntry(
    "private",
    "DP-SGD without momentum",
    lambda loss, values, plan, own: clients.dp_sgd(
        loss, clients.DpSgdConfig(values.learning_rate, 0.0, values.noisy_steps), plan
    ),
    private=True,
)


# Server: a function of the learning rate.


def signs(learning_rate):
    """Steps of one size in every coordinate."""
    return optax.chain(
        optax.stateless(lambda updates, params: jax.tree.map(jnp.sign, updates)),
        optax.sgd(learning_rate),
    )


# Algorithm: federated averaging whose server steps shrink.


@dataclasses.dataclass(frozen=True)
class Decay(Settings):
    """Of `SHRINKING`."""

    decay: float = setting(0.5, "factor of each next server step", positive)


def _shrinking(task):
    trainer = task.trainer("dp_sgd" if task.plan else "sgd")
    steps = optax.exponential_decay(1.0, 1, task.settings.decay)
    return algorithms.fedavg(
        clients.federated(trainer, task.weight()),
        optax.sgd(steps),
        task.sums,
        task.params_like,
        task.backend,
        clients.kept(trainer),
    )


SHRINKING = algorithms.AlgorithmEntry(
    "shrinking",
    "FedAvg with server steps that shrink",
    _shrinking,
    arms=("fl", "fl_dp"),
    training=algorithms.Training.DP_SGD,
    price=lambda terms, own: algorithms.local_price(terms),
    takes_client=True,
    settings=Decay,
)


# Scheme: sums of numbers that a box hands out once.


@dataclasses.dataclass(frozen=True)
class Box(Settings):
    """Of `BOXED`."""

    scale: float = setting(1.0, "of what is put in", positive)


class Boxed(aggregation.PlainAggregation):
    """Plain sums whose vectors are scaled on the way."""

    description = "A box."

    def __init__(self, settings, task):
        super().__init__(task.vector_size, task.trust)
        self._scale = settings.scale

    @property
    def codec(self):
        return aggregation.Codec(
            lambda key, vector: vector * self._scale,
            lambda total: jnp.asarray(total, jnp.float32) / self._scale,
        )


BOXED = aggregation.SchemeEntry(
    name="boxed",
    summary="sums in a box",
    settings=Box,
    decryptor=lambda settings: Decryptor.KEY_AUTHORITY,
    describe=lambda settings, task: f"A box of scale {settings.scale:g}.",
    make=Boxed,
)


# Mechanism: Laplace noise on gradients that are clipped coordinate by coordinate.


@dataclasses.dataclass(frozen=True)
class ClippedLaplace(acc.Event):
    scale: float  # over the L1 bound


def _rdp(event, orders, neighbors, price):
    if event.scale == 0:
        return np.full_like(orders, np.inf)
    pure = neighbors.sensitivity / event.scale
    return np.minimum(pure, orders * pure**2 / 2)  # Bun, Steinke 2016, proposition 3.3


acc.register(ClippedLaplace, _rdp, pure=lambda e, n: n.sensitivity / e.scale)


@dataclasses.dataclass(frozen=True)
class CoordinateClipping(Clipping):
    """Each of the P coordinates to at most C / P, so that the L1 norm is at most C."""

    norm = 1

    def summed(self, loss):
        gradients_of = per_example_gradients(loss)

        def summed(params, inputs, labels, valid, state):
            gradients = gradients_of(params, inputs, labels)
            bound = self.clip_norm / gradients.shape[1] * (1 - 1e-5)
            finite = jnp.isfinite(gradients).all(axis=1) & valid
            clipped = jnp.clip(gradients, -bound, bound)
            return jnp.where(finite[:, None], clipped, 0.0).sum(axis=0)

        return summed


@dataclasses.dataclass(frozen=True)
class LaplaceNoise(Noise):
    norm = 1

    def add(self, key, total, bound, state):
        scale = self.noise_multiplier * bound
        return total + scale * jax.random.laplace(key, total.shape), state

    def event(self, sampler, steps):
        return acc.Repeated(sampler.event(ClippedLaplace(self.noise_multiplier)), steps)


def laplace(settings):
    return PrivacyPlan(
        PoissonSampling(settings.sampling_probability),
        CoordinateClipping(settings.clip_norm),
        LaplaceNoise(settings.noise_multiplier),
        settings.expected_batch_size,
        settings.neighbors,
    )


@dataclasses.dataclass(frozen=True)
class More(Settings):
    """Of `CAREFUL`."""

    margin: float = setting(1.0, "noise over what the price needs", at_least(1.0))


def _careful(settings, own):
    gaussian = MECHANISMS.find("gaussian").make(settings, Settings())
    noise = GaussianNoise(settings.noise_multiplier * own.margin)
    return dataclasses.replace(gaussian, noise=noise)


CAREFUL = Mechanism("careful", "more noise than is needed", _careful, More)


# What is no entry.

NUMBER = 1


AIMLESS = dataclasses.replace(SHRINKING, make=lambda task: "no algorithm")
FREE = dataclasses.replace(SHRINKING, price=lambda terms, own: None)


def not_a_plan(settings):
    return "no plan"


def not_a_trainer(loss, values):
    return "no trainer"
