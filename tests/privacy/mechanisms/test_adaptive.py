"""The clip norm that follows a quantile: its price, its target, its limits."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from fedjax_private.privacy import (
    MECHANISMS,
    AdaptiveClipping,
    MechanismSettings,
    make_plan,
)
from fedjax_private.privacy.accounting import Neighbors

C = 0.7
PARAMS = {"b": jnp.float32(0.0), "w": jnp.zeros(3)}


def loss(params, inputs, labels):
    """Its gradient is the label and the input."""
    return inputs @ params["w"] + params["b"] * labels


def test_the_price_of_the_count_is_that_of_andrew_et_al():
    """One noise of multiplier z is z_delta on the gradient, sigma_b on the count."""
    z, share, size = 1.7, 0.2, 200_000
    clipping = AdaptiveClipping(C, share=share)
    state = jnp.float32(0.3)  # C_t
    noise = z * np.random.default_rng(0).normal(size=(size, 2))
    released = jax.vmap(lambda mean: clipping.finish(mean, state))(jnp.asarray(noise))
    sigma_b = z / (2 * math.sqrt(share))
    z_delta = (z**-2 - (2 * sigma_b) ** -2) ** -0.5
    gradient, following = map(np.asarray, released)
    assert gradient.std() == pytest.approx(z_delta * 0.3, rel=0.01)
    below = clipping.quantile - np.log(following / 0.3) / clipping.learning_rate
    assert below.mean() == pytest.approx(0.5, abs=0.05)
    assert below.std() == pytest.approx(sigma_b, rel=0.01)


@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
def test_the_clip_norm_finds_its_quantile(quantile):
    norms = np.random.default_rng(1).exponential(size=200).astype(np.float32)
    inputs, labels = np.zeros((200, 3), np.float32), norms
    clipping = AdaptiveClipping(10.0, quantile=quantile)
    summed = clipping.bounded_sum(loss)

    @jax.jit
    def step(state):
        total = summed(PARAMS, inputs, labels, np.ones(200, bool), state)
        return clipping.finish(ravel_pytree(total)[0] / 200, state)

    state = clipping.init()
    for _ in range(150):
        gradient, state = step(state)
    assert (norms <= float(state)).mean() == pytest.approx(quantile, abs=0.05)
    assert gradient[0] == pytest.approx(np.minimum(norms, state).mean(), rel=0.01)


def test_the_clip_norm_stays_finite_and_positive():
    clipping = AdaptiveClipping(C, learning_rate=100.0)
    for count, limit in ((1e9, C * 1e-6), (-1e9, C * 1e6)):
        _, state = clipping.finish(jnp.array([0.0, count]), clipping.init())
        assert float(state) == pytest.approx(limit)


def test_settings_go_into_the_clipping():
    chosen = MECHANISMS.choose(
        "adaptive", {"clip_quantile": 0.9, "clip_learning_rate": 0.5, "clip_share": 0.1}
    )
    settings = MechanismSettings(0.25, C, 2.0, 40.0, Neighbors.ADD_REMOVE, 80)
    assert make_plan(chosen, settings).clipping == AdaptiveClipping(C, 0.9, 0.5, 0.1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("clip_quantile", 1.1), ("clip_learning_rate", -1.0), ("clip_share", 1.0)],
)
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        MECHANISMS.choose("adaptive", {name: value})
