import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private import models
from fedjax_private.datasets import Normalization


def build(name, **options):
    options = {"input_shape": (28, 28, 1), "num_classes": 10} | options
    return models.build(name, normalization=Normalization(), **options)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("tutorial_cnn", 26_010),
        ("tutorial_cnn_gn", 26_106),
        ("shallow_cnn", 16 * (7 * 7 + 1) + 10 * (7 * 7 * 16 + 1)),
        ("fedavg_cnn", 1_663_370),
        ("fedavg_cnn_small", 114_314),
        ("mlp_2nn", 199_210),
        ("linear", 7_850),
    ],
)
def test_parameter_counts_are_the_published_ones(name, count):
    shapes = jax.eval_shape(build(name).init, jax.random.key(0))
    assert models.parameter_count(shapes) == count


def test_other_image_shapes_and_classes():
    model = build("tutorial_cnn", input_shape=(32, 32, 3), num_classes=47)
    params = model.init(jax.random.key(0))
    logits = model.apply(params, jnp.zeros((2, 32, 32, 3), jnp.uint8))
    assert logits.shape == (2, 47)


def test_loss_is_the_cross_entropy_per_example():
    model = build("linear")
    params = model.init(jax.random.key(0))
    inputs = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    labels = np.array([1, 5, 9], np.int32)
    logits = np.asarray(model.apply(params, inputs), np.float64)
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(3), labels]
    np.testing.assert_allclose(model.loss(params, inputs, labels), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"name": "resnet"}, "--model"),
        ({"name": "linear", "activation": "cubic"}, "--activation"),
        ({"name": "tutorial_cnn", "input_shape": (6, 6, 1)}, "cannot take images"),
    ],
)
def test_bad_choices_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        build(**options)
