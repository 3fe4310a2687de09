"""Clients whose records are parabolas, so that rounds can be worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_private import simulation
from fedjax_private.aggregation import PlainAggregation, make
from fedjax_private.datasets import ClientData
from fedjax_private.trust import Decryptor, Trust

START = {"w": jnp.float32(1.0)}


def loss(params, inputs, labels):
    """a / 2 (w - b)^2 of a record (a, b), whose gradient is a (w - b)."""
    return 0.5 * inputs.reshape(-1).astype(jnp.float32) * (params["w"] - labels) ** 2


def shards(*records):
    """The clients' records [(a, b), ...]; padding would be noticed if it took part."""
    length = max(map(len, records)) + 1
    inputs = np.full((len(records), length, 1, 1, 1), 250, np.uint8)
    labels = np.full((len(records), length), 999, np.int32)
    mask = np.arange(length) < np.array([len(own) for own in records])[:, None]
    for client, own in enumerate(records):
        for place, (a, b) in enumerate(own):
            inputs[client, place], labels[client, place] = a, b
    return ClientData(inputs, labels, mask)


def uneven(seed=0):
    """Four clients of 3, 1, 6 and 2 records that differ in all there is."""
    generator = np.random.default_rng(seed)
    return shards(
        *(
            [(generator.integers(1, 5), generator.integers(-4, 5)) for _ in range(n)]
            for n in (3, 1, 6, 2)
        )
    )


def sums(vector_size, uploads):
    return make(
        "none",
        vector_size=vector_size,
        trust=Trust(uploads, Decryptor.NOBODY_NEEDED),
    )


def rounds(algorithm, data, schedule, *, vector_size=2, **options):
    """Every round, its client states copied before the next may overwrite them."""
    nothing = simulation.Evaluation(np.zeros(1), np.zeros(1))
    scheme = sums(vector_size, len(schedule[0]))
    if algorithm.trust is not None:  # in the clear: the same sums, nobody protected
        scheme = PlainAggregation(vector_size, algorithm.trust)
    done = simulation.simulate(
        algorithm,
        scheme,
        data,
        START,
        schedule,
        simulation.root_keys(0, 0),
        evaluate=lambda params: nothing,
        **options,
    )
    return [
        (one, jax.tree.map(np.array, jax.device_get(one.client_states))) for one in done
    ]


def weights(done):
    """w after each round, (rounds,) float32."""
    return np.array([float(one.server_state.params["w"]) for one, _ in done])
