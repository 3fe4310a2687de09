"""Least squares on rows of two values: clients whose training NumPy can repeat."""

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_private import clients
from fedjax_private.datasets import ClientData
from fedjax_private.privacy import (
    FlatClipping,
    GaussianNoise,
    PoissonSampling,
    PrivacyPlan,
)
from fedjax_private.privacy.accounting import Neighbors
from fedjax_private.typing import ClientKeys

COUNTS = (9, 4, 16)
PARAMS = {"b": jnp.float32(0.1), "w": jnp.array([0.3, -0.2], jnp.float32)}
START = np.array([0.1, 0.3, -0.2])  # the same in `ravel_pytree` order
ROOTS = ClientKeys(jax.random.key(3), jax.random.key(4))
SGD = clients.SgdConfig(learning_rate=0.05, momentum=0.9, batch_size=4, epochs=2)
PLAN = PrivacyPlan(
    PoissonSampling(0.6),
    FlatClipping(0.5),
    GaussianNoise(1.1),
    6,
    Neighbors.ADD_REMOVE,
)


def loss(params, inputs, labels):
    """Least squares on a single pixel row: (B, 1, 2, 1) uint8 -> (B,)."""
    features = inputs.reshape(inputs.shape[0], -1).astype(jnp.float32) / 255
    return 0.5 * (features @ params["w"] + params["b"] - labels) ** 2


def shards():
    """Three clients of `COUNTS` records; padding would be noticed if it took part."""
    generator = np.random.default_rng(0)
    size = max(COUNTS)
    mask = np.arange(size) < np.array(COUNTS)[:, None]
    inputs = generator.integers(0, 256, (len(COUNTS), size, 1, 2, 1), np.uint8)
    labels = generator.integers(0, 10, (len(COUNTS), size)).astype(np.int32)
    return ClientData(inputs, np.where(mask, labels, 9999).astype(np.int32), mask)


DATA = shards()


def keys_of(client):
    """The keys of one client."""
    return ClientKeys(*(jax.random.fold_in(root, client) for root in ROOTS))


def one(update):
    """A client function as `for_each_client` takes it."""

    def client(params, data, client_id):
        output, _ = update(params, (), data, keys_of(client_id))
        return output

    return client


def run(update, data=DATA, backend="map"):
    """The outputs of all clients."""
    each = clients.for_each_client(one(update), backend)
    return each(PARAMS, data, jnp.arange(data.mask.shape[0]))


def flat(delta):
    """A difference of one client as (3,)."""
    return np.concatenate([delta["b"][None], delta["w"]])


def of_client(output, client):
    """One client's part of all outputs."""
    return jax.tree.map(lambda leaf: leaf[client], output)
