import flax.linen as nn
import jax
import numpy as np
import pytest

from fedjax_private import models
from fedjax_private.datasets import Normalization


def test_loss_is_the_cross_entropy_per_example():
    model = models.from_flax(models.Mlp(10), (28, 28, 1), Normalization())
    params = model.init(jax.random.key(0))
    inputs = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    labels = np.array([1, 5, 9], np.int32)
    logits = np.asarray(model.apply(params, inputs), np.float64)
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(3), labels]
    np.testing.assert_allclose(model.loss(params, inputs, labels), expected, rtol=1e-5)


class Penalised(nn.Module):
    """A linear classifier that penalises each example by its first input."""

    @nn.compact
    def __call__(self, inputs):
        self.sow(models.PENALTIES, "first", inputs[:, 0])
        return nn.Dense(3)(inputs)


def test_what_a_module_sows_is_added_to_its_loss():
    model = models.from_flax(Penalised(), (4,), Normalization(0.0, 1.0))
    params = model.init(jax.random.key(0))
    assert set(params) == {"Dense_0"}
    inputs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    labels = np.arange(5, dtype=np.int32) % 3
    log_probabilities = jax.nn.log_softmax(model.apply(params, inputs))
    expected = inputs[:, 0] - np.asarray(log_probabilities)[np.arange(5), labels]
    np.testing.assert_allclose(model.loss(params, inputs, labels), expected, rtol=1e-5)


def test_parameters_are_counted_in_arrays_and_shapes():
    tree = {"a": np.zeros((2, 3)), "b": [jax.ShapeDtypeStruct((4,), np.float32)]}
    assert models.parameter_count(tree) == 10
    with pytest.raises(ValueError, match=r"params must hold arrays.*got Mlp"):
        models.parameter_count({"a": models.Mlp(3)})


def test_a_key_is_no_number_and_a_shape_is_no_number():
    model = models.from_flax(models.Mlp(3), (4,), Normalization())
    with pytest.raises(ValueError, match=r"key must be a key.*key\(0\), got 0"):
        model.init(0)
    new, old = (model.init(make(3)) for make in (jax.random.key, jax.random.PRNGKey))
    jax.tree.map(np.testing.assert_array_equal, new, old)
    with pytest.raises(ValueError, match=r"shape of one example, such as .*got 4"):
        models.from_flax(models.Mlp(3), 4, Normalization())


@pytest.mark.parametrize(
    ("inputs", "labels", "words"),
    [
        ((2, 5), (2,), r"shape \(B, 4\) that the model was built for, got \(2, 5\)"),
        ((4,), (1,), r"shape \(B, 4\) .* got \(4,\)"),
        ((), (1,), r"shape \(B, 4\) .* got \(\)"),
        ((2, 4), (3,), r"one for each of 2 inputs, got the shape \(3,\)"),
        ((2, 4), (2, 3), r"one for each of 2 inputs, got the shape \(2, 3\)"),
    ],
)
def test_shapes_other_than_the_model_s_are_named(inputs, labels, words):
    model = models.from_flax(models.Mlp(3), (4,), Normalization())
    params = model.init(jax.random.key(0))
    with pytest.raises(ValueError, match=words):
        model.loss(params, np.zeros(inputs, np.float32), np.zeros(labels, np.int32))
    if len(labels) == 1 and inputs != (2, 4):
        with pytest.raises(ValueError, match=words):
            model.apply(params, np.zeros(inputs, np.float32))
