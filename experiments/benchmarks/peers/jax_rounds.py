"""A round of federated averaging in plain JAX: `vmap` of `lax.scan`."""

import itertools
from typing import Any

import cases
import jax
import jax.numpy as jnp
from jax_networks import mean_loss, round_cnn
from work import Work, fastest


def build(peer: str, case: dict[str, Any], threads: int) -> Work:
    """The work of `naive_jax`."""
    del peer, threads  # the process's affinity decides
    what = cases.RoundCase(**case)
    params, images, labels = jax.device_put((what.parameters(), *what.data()))
    loss = mean_loss(round_cnn)

    def train(params: Any, images: jax.Array, labels: jax.Array, key: jax.Array) -> Any:
        """One client; returns its update."""

        def step(own: Any, chosen: jax.Array) -> tuple[Any, None]:
            gradient = jax.grad(loss)(own, images[chosen], labels[chosen])
            rate = cases.ROUND_LEARNING_RATE
            return jax.tree.map(lambda p, g: p - rate * g, own, gradient), None

        keys = jax.random.split(key, what.epochs)
        orders = [jax.random.permutation(k, what.examples) for k in keys]
        batches = jnp.concatenate(orders).reshape(-1, what.batch)
        own, _ = jax.lax.scan(step, params, batches)
        return jax.tree.map(jnp.subtract, own, params)

    @jax.jit
    def federated_averaging(params: Any, seed: int) -> Any:
        keys = jax.random.split(jax.random.key(seed), what.clients)
        updates = jax.vmap(train, (None, 0, 0, 0))(params, images, labels, keys)
        weights = jnp.full(what.clients, float(what.examples))

        def average(update: jax.Array) -> jax.Array:
            return jnp.tensordot(weights, update, 1) / jnp.sum(weights)

        return jax.tree.map(
            lambda p, u: p + cases.SERVER_LEARNING_RATE * average(u), params, updates
        )

    numbers = itertools.count()

    def work() -> Any:
        return jax.block_until_ready(federated_averaging(params, next(numbers)))

    return fastest({"vmap": work})
