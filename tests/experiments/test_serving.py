"""Trained runs, compiled for encrypted inputs."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.serving import load_served
from fedjax_private import models, runs
from fedjax_private.datasets import load
from fedjax_private.inference import UnsupportedLayerError

pytestmark = pytest.mark.usefixtures("full_precision")

SMALL = runs.Spec(
    arm="fl", clients=2, model="polynomial_cnn", rounds=1, augmentations=1
)


def trained(out, **settings):
    """The directory of a short run."""
    spec = dataclasses.replace(SMALL, **settings).used_only()
    return runs.train(spec, out=out).directory


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return runs.train(SMALL, out=tmp_path_factory.mktemp("serving") / "run")


@pytest.fixture(scope="module")
def served(result):
    return load_served(result.directory)


@pytest.mark.parametrize(
    "arm",
    [
        "centralized",
        "fl_dp",
        pytest.param("private_ai", marks=pytest.mark.needs_openfhe),
    ],
)
def test_every_arm_s_model_is_served_as_it_was_trained(arm, tmp_path):
    served = load_served(trained(tmp_path / "run", arm=arm))
    images = load("mnist_5k").test.inputs[:50]
    compiled = served.circuit.plain(served.run.normalization(images))
    np.testing.assert_allclose(compiled, served.run.predict(images), atol=1e-4)
    initial = served.run.model.init(jax.random.key(0))
    changed = jax.tree.map(
        lambda a, b: np.any(np.asarray(a != b)), initial, served.run.params
    )
    assert all(jax.tree.leaves(changed))


def test_what_is_served(result, served):
    assert served.run.name == "fl-2-iid-0" and served.run.dataset == "mnist_5k"
    assert served.run.input_shape == (28, 28, 1)
    assert served.run.num_classes == 10
    test = load("mnist_5k").test
    right = served.run.predict(test.inputs).argmax(1) == test.labels
    assert right.mean() == pytest.approx(result.accuracy, abs=0.002)


def test_the_circuit_has_five_levels_and_bounds(served):
    assert len(served.circuit.bounds) == len(served.circuit.layers) + 1
    assert [type(layer).__name__ for layer in served.circuit.layers] == [
        "Affine", "Polynomial", "Affine", "Polynomial", "Affine",
    ]  # fmt: skip


@pytest.mark.parametrize("activation", ["square", "relu_chebyshev"])
def test_the_activation_is_the_one_of_the_training(activation, tmp_path):
    served = load_served(trained(tmp_path / "run", activation=activation))
    digits = load("mnist_5k")
    images = digits.test.inputs[:3]
    model = models.for_dataset("polynomial_cnn", digits, activation=activation)
    expected = model.apply(served.run.params, images)
    np.testing.assert_allclose(served.run.predict(images), expected, rtol=1e-5)


def test_a_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere is no directory"):
        load_served(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no trained run"):
        load_served(tmp_path)


def test_a_run_of_the_directory_is_chosen_by_name(result):
    assert load_served(result.directory, "fl-2-iid-0").run.name == "fl-2-iid-0"
    with pytest.raises(ValueError, match="no run 'fl-2-iid-1': choose one of"):
        load_served(result.directory, "fl-2-iid-1")


def test_the_models_of_clients_alone_are_not_one_model(tmp_path):
    with pytest.raises(ValueError, match="has 2 models, one of each client"):
        load_served(trained(tmp_path / "run", arm="local"))


def test_layers_without_an_encrypted_form_are_named(tmp_path):
    out = trained(tmp_path / "run", model="tutorial_cnn", activation="relu")
    with pytest.raises(UnsupportedLayerError, match="polynomial"):
        load_served(out)


def test_features_have_no_encrypted_form(tmp_path):
    out = trained(tmp_path / "run", model="scattering_linear")
    with pytest.raises(UnsupportedLayerError, match="train polynomial_cnn"):
        load_served(out)
