import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from fedjax_private import models
from fedjax_private.datasets import Normalization
from fedjax_private.privacy import (
    AdaptiveClipping,
    AutomaticClipping,
    FlatClipping,
    PerLayerClipping,
)

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
    summed, state = clipping.bounded_sum(loss), clipping.init()
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
    bound = clipping.bound
    assert bound == (1.0 if clipping.extra else C)
    assert removed <= bound + rounding
    assert replaced <= 2 * bound + rounding
    if 100 < scale < 1e15 and not isinstance(clipping, PerLayerClipping):
        assert removed > 0.99 * bound  # nor is it far from what is claimed


def test_clipped_norms_never_exceed_the_bound_by_rounding(clipping, total):
    valid = np.ones(1, bool)
    for seed in range(200):
        inputs, labels = draw(seed, 1)
        one = np.asarray(total(inputs * 30, labels * 30, valid), np.float64)
        assert np.linalg.norm(one) <= clipping.bound


@pytest.mark.parametrize("name", ["fedavg_cnn", "tutorial_cnn", "mlp_2nn"])
def test_no_contribution_exceeds_the_bound_by_rounding(name):
    model = models.build(
        name, input_shape=(28, 28, 1), num_classes=10, normalization=Normalization()
    )
    params, count = model.init(jax.random.key(0)), 10
    inputs = np.random.default_rng(1).integers(0, 256, (count, 28, 28, 1), np.uint8)
    labels = np.arange(count, dtype=np.int32)
    bounded = FlatClipping(0.01).bounded_sum(model.loss)

    def one(i):
        valid = jnp.arange(count) == i
        return ravel_pytree(bounded(params, inputs, labels, valid, ()))[0]

    contributions = jax.jit(lambda: jax.lax.map(one, jnp.arange(count)))()
    norms = np.linalg.norm(np.asarray(contributions, np.float64), axis=1)
    assert max(norms) <= 0.01
    assert min(norms) > 0.01 * (1 - 1e-4)


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


def test_clippings_say_which_gradients_they_cut():
    norms = jnp.array([[0.6, 0.8, jnp.inf]])
    assert FlatClipping(C).cuts(norms, norms[0]).tolist() == [0, 1, 1]
    # Of two arrays, each has C / sqrt(2).
    edge = C / math.sqrt(2)
    pair = jnp.array([[0.99 * edge, 1.01 * edge], [1.01 * edge, 0.0]])
    cut = PerLayerClipping(C).cuts(pair, jnp.linalg.norm(pair, axis=0))
    assert cut.tolist() == [[0, 1], [1, 0]]
    for kind in set(KINDS) - {FlatClipping, PerLayerClipping}:
        assert kind(C).cuts(jnp.ones((1, 2)), jnp.ones(2)) is None
