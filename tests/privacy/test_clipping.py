import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from fedjax_private.privacy import (
    AdaptiveClipping,
    AutomaticClipping,
    FlatClipping,
    PerLayerClipping,
)
from fedjax_private.privacy.accounting import Neighbors

C = 0.7
KINDS = [FlatClipping, PerLayerClipping, AutomaticClipping, AdaptiveClipping]


def loss(params, inputs, labels):
    """Its gradient is the input itself, so that sums can be worked out by hand."""
    return inputs @ params["w"] + params["b"] * labels


PARAMS = {"b": jnp.float32(0.0), "w": jnp.zeros(3)}


def contribution(kind, gradient):
    """One record's, in float64; the parameter arrays are b (1,) and w (3,)."""
    norm, bound = np.linalg.norm(gradient), C * (1 - 1e-5)
    if kind is FlatClipping:
        return gradient * min(1.0, bound / norm) if norm else gradient
    if kind is AutomaticClipping:
        return gradient * bound / (norm + 0.01)
    if kind is PerLayerClipping:
        layers = [gradient[:1], gradient[1:]]
        norms = [max(np.linalg.norm(layer), bound / math.sqrt(2)) for layer in layers]
        return np.concatenate(
            [
                layer * bound / math.sqrt(2) / norm
                for layer, norm in zip(layers, norms, strict=True)
            ]
        )
    scaled = gradient / max(norm, C) * math.sqrt(0.95)
    return np.append(scaled, math.sqrt(0.05) * (1 if norm <= C else -1))


def draw(seed, size):
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(size, 3)).astype(np.float32)
    return inputs, generator.normal(size=size).astype(np.float32)


@pytest.fixture(scope="module", params=KINDS)
def clipping(request):
    return request.param(C)


@pytest.fixture(scope="module")
def total(clipping):
    summed, state = clipping.bounded_sum(loss).sum, clipping.init()
    return jax.jit(lambda *batch: ravel_pytree(summed(PARAMS, *batch, state))[0])


def test_sum_equals_a_plain_loop(clipping, total):
    inputs, labels = draw(0, 50)
    inputs[:5] *= 1e-3  # some below the bound
    inputs[6] = 0.0
    labels[:7] = 0.0
    valid = np.arange(50) % 7 != 0
    gradients = np.column_stack([labels, inputs]).astype(np.float64)
    expected = sum(
        contribution(type(clipping), gradient) for gradient in gradients[valid]
    )
    assert expected.size == 4 + clipping.extra
    got = total(inputs, labels, valid)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_gradients_that_are_not_finite_contribute_nothing(total, bad):
    inputs, labels = draw(1, 4)
    clean = total(inputs, labels, np.array([True, False, True, True]))
    inputs[1, 2] = bad
    np.testing.assert_array_equal(clean, total(inputs, labels, np.ones(4, bool)))


def test_an_empty_batch_sums_to_zero(total):
    inputs, labels = draw(2, 4)
    assert not np.asarray(total(inputs, labels, np.zeros(4, bool))).any()


@pytest.mark.parametrize("seed", range(20))
def test_neighbouring_data_sets_differ_by_at_most_the_sensitivity(
    clipping, total, seed
):
    bounded = clipping.bounded_sum(loss)
    inputs, labels = draw(seed, 9)
    scale = 10.0 ** np.random.default_rng(seed).uniform(-2, 30)
    inputs[3] *= scale
    every = np.ones(9, bool)
    without = every.copy()
    without[3] = False
    other, opposite = inputs.copy(), labels.copy()
    other[3] *= -1
    opposite[3] *= -1
    full = total(inputs, labels, every)
    removed = np.linalg.norm(full - total(inputs, labels, without))
    replaced = np.linalg.norm(full - total(other, opposite, every))
    # The sum of nine clipped vectors itself rounds by some 1e-7.
    rounding = 1e-6
    bound = bounded.sensitivity(Neighbors.ADD_REMOVE)
    assert bound == bounded.sensitivity(Neighbors.ZERO_OUT) == clipping.bound
    assert bound == (1.0 if clipping.extra else C)
    assert removed <= bound + rounding
    assert bounded.sensitivity(Neighbors.REPLACE_ONE) == 2 * bound
    assert replaced <= 2 * bound + rounding
    if 100 < scale < 1e15 and not isinstance(clipping, PerLayerClipping):
        assert removed > 0.99 * bound  # nor is it far from what is claimed


def test_clipped_norms_never_exceed_the_bound_by_rounding(clipping, total):
    valid = np.ones(1, bool)
    for seed in range(200):
        inputs, labels = draw(seed, 1)
        one = np.asarray(total(inputs * 30, labels * 30, valid), np.float64)
        assert np.linalg.norm(one) <= clipping.bound


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("clip_norm", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_bounds_are_refused(kind, clip_norm):
    with pytest.raises(ValueError, match="clip_norm"):
        kind(clip_norm)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AutomaticClipping(1.0, stability=0.0),
        lambda: AdaptiveClipping(1.0, quantile=1.1),
        lambda: AdaptiveClipping(1.0, learning_rate=-1.0),
        lambda: AdaptiveClipping(1.0, share=0.0),
        lambda: AdaptiveClipping(1.0, share=1.0),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(ValueError, match="got"):
        make()


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
    summed = clipping.bounded_sum(loss).sum

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
