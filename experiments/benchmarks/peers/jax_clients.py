"""Local steps of many clients in JAX: with JAX Privacy, and as textbooks write them."""

import itertools
import operator
from collections.abc import Callable
from typing import Any

import cases
import jax
import jax.numpy as jnp
from jax_networks import mean_loss, tutorial_cnn
from work import Work, fastest

# (params, images, labels, key) of one client -> its new params.
Step = Callable[[Any, jax.Array, jax.Array, jax.Array], Any]

# Unrolling more clients than this takes minutes to compile.
MOST_UNROLLED = 32


def build(peer: str, case: dict[str, Any], threads: int) -> Work:
    """The work of `jax_privacy` or `naive_jax`."""
    del threads  # the process's affinity decides
    clients = cases.ClientsCase(**case)
    if peer == "jax_privacy":
        return fastest(_variants(clients, jax_privacy_step(clients.batch)))
    step = textbook_step if clients.private else plain_step
    return fastest({"vmap": _variants(clients, step)["vmap"]})


_loss = mean_loss(tutorial_cnn)


def _descend(params: Any, gradients: Any) -> Any:
    rate = cases.CLIENT_LEARNING_RATE
    return jax.tree.map(lambda p, g: p - rate * g, params, gradients)


def plain_step(
    params: Any, images: jax.Array, labels: jax.Array, key: jax.Array
) -> Any:
    """One step of plain SGD on a batch; returns the new parameters."""
    del key
    return _descend(params, jax.grad(_loss)(params, images, labels))


def textbook_step(
    params: Any, images: jax.Array, labels: jax.Array, key: jax.Array
) -> Any:
    """DP-SGD: `vmap` of `grad` over the examples, clipping and noise."""

    def clipped(image: jax.Array, label: jax.Array) -> Any:
        gradient = jax.grad(_loss)(params, image[None], label[None])
        squares = [jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient)]
        scale = jnp.minimum(1.0, cases.CLIP_NORM / jnp.sqrt(sum(squares)))
        return jax.tree.map(lambda leaf: leaf * scale, gradient)

    each = jax.vmap(clipped)(images, labels)
    leaves, structure = jax.tree.flatten(each)
    deviation = cases.NOISE_MULTIPLIER * cases.CLIP_NORM
    noisy = [
        jnp.sum(leaf, axis=0) + deviation * jax.random.normal(key, leaf.shape[1:])
        for leaf, key in zip(leaves, jax.random.split(key, len(leaves)), strict=True)
    ]
    gradient = jax.tree.unflatten(structure, [leaf / len(images) for leaf in noisy])
    return _descend(params, gradient)


def jax_privacy_step(batch: int) -> Step:
    """DP-SGD with JAX Privacy's transformations."""
    from jax_privacy import clipped_grad, noise_addition

    gradient = clipped_grad(
        _loss,
        l2_clip_norm=cases.CLIP_NORM,
        normalize_by=batch,
        batch_argnums=(1, 2),
    )
    deviation = cases.NOISE_MULTIPLIER * gradient.sensitivity()

    def step(params: Any, images: jax.Array, labels: jax.Array, key: jax.Array) -> Any:
        privatizer = noise_addition.gaussian_privatizer(stddev=deviation, prng_key=key)
        clipped = gradient(params, images, labels)
        noisy, _ = privatizer.update(clipped, privatizer.init(params))
        return _descend(params, noisy)

    return step


def _variants(
    case: cases.ClientsCase, step: Step
) -> dict[str, Callable[[], list[Any]]]:
    """Three ways to map a step over clients; each returns the new weights."""
    stacked = jax.device_put((case.parameters(), *case.data()))
    separate = [
        jax.tree.map(operator.itemgetter(k), stacked) for k in range(case.clients)
    ]
    jax.block_until_ready((stacked, separate))
    numbers = itertools.count()

    @jax.jit
    def keys(seed: int) -> list[jax.Array]:
        return list(jax.random.split(jax.random.key(seed), case.clients))

    @jax.jit
    def mapped(seed: int, stacked: Any) -> Any:
        keys = jax.random.split(jax.random.key(seed), case.clients)
        return jax.vmap(step)(*stacked, keys)

    @jax.jit
    def unrolled(seed: int, separate: list[Any]) -> list[Any]:
        keys = jax.random.split(jax.random.key(seed), case.clients)
        return [step(*own, key) for own, key in zip(separate, keys, strict=True)]

    single = jax.jit(step)

    def loop(seed: int, separate: list[Any]) -> list[Any]:
        each = zip(separate, keys(seed), strict=True)
        return [single(*own, key) for own, key in each]

    def finished(program: Callable, arguments: Any) -> Callable[[], Any]:
        return lambda: jax.block_until_ready(program(next(numbers), arguments))

    variants = {"vmap": finished(mapped, stacked), "loop": finished(loop, separate)}
    if case.clients <= MOST_UNROLLED:
        variants["unrolled"] = finished(unrolled, separate)
    return variants
