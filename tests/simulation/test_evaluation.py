import jax
import numpy as np
import pytest

from fedjax_private import simulation


def test_accuracy_and_loss_equal_numpy(model, examples, evaluate):
    stack = jax.vmap(model.init)(jax.random.split(jax.random.key(9), 3))
    got = evaluate(stack)
    for index in range(3):
        one = jax.tree.map(lambda leaf, index=index: leaf[index], stack)
        logits = np.asarray(model.apply(one, examples.inputs), np.float64)
        picked = logits[np.arange(70), examples.labels]
        losses = np.log(np.exp(logits).sum(1)) - picked
        right = logits.argmax(1) == examples.labels
        np.testing.assert_array_equal(got.correct[index], right)
        assert got.accuracy[index] == right.mean()
        assert got.loss[index] == pytest.approx(losses.mean(), rel=1e-5)


def test_models_and_examples_are_told_from_other_things(model, params):
    with pytest.raises(ValueError, match=r"model must be a Model.*got 'linear'"):
        simulation.evaluator("linear")
    with pytest.raises(ValueError, match=r"such as dataset.test: evaluate=.*got dict"):
        simulation.evaluator(model)(params)


def test_one_model_needs_a_leading_axis(params, evaluate):
    with pytest.raises(ValueError, match=r"leading axis over models.*leaf\[None\]"):
        evaluate(params)
