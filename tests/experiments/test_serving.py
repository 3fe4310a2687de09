import json
import shutil

import jax
import numpy as np
import pytest

from experiments import serving
from experiments.train import train
from fedjax_private import models, simulation
from fedjax_private.datasets import load
from fedjax_private.inference.compiling.compiler import UnsupportedLayerError

pytestmark = pytest.mark.usefixtures("full_precision")

SMALL = ("--model=polynomial_cnn", "--rounds=1", "--clients=2", "--augmentations=1")


def trained(out, *argv):
    assert train(["train", *SMALL, *argv, f"--out={out}"]) == 0
    return out


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("serving") / "run", "--arm=fl")


@pytest.fixture
def copy(directory, tmp_path):
    """The run's directory, to be changed."""
    return shutil.copytree(directory, tmp_path / "copy")


@pytest.mark.parametrize(
    "arm",
    [
        "centralized",
        "fl_dp",
        pytest.param("private_ai", marks=pytest.mark.needs_openfhe),
    ],
)
def test_every_arm_s_model_is_served_as_it_was_trained(arm, tmp_path):
    served = serving.load_served(trained(tmp_path / "run", f"--arm={arm}"))
    images = load("mnist_5k").test.inputs[:50]
    clear = served.plain(images)
    compiled = served.circuit.plain(served.normalization(images))
    np.testing.assert_allclose(compiled, clear, atol=1e-4)
    # Trained: its parameters are not the initial ones.
    initial = served.model.init(jax.random.key(0))
    changed = jax.tree.map(
        lambda a, b: np.any(np.asarray(a != b)), initial, served.params
    )
    assert all(jax.tree.leaves(changed))


def test_what_is_served_is_described(directory):
    served = serving.load_served(directory)
    assert served.name == "fl-2-iid-0" and served.dataset == "mnist_5k"
    assert served.input_shape == (28, 28, 1)
    assert served.classes == tuple("0123456789")
    assert len(served.circuit.bounds) == len(served.circuit.layers) + 1
    # Five levels: affine, square, affine, square, affine.
    assert [type(layer).__name__ for layer in served.circuit.layers] == [
        "Affine", "Polynomial", "Affine", "Polynomial", "Affine",
    ]  # fmt: skip
    row = json.loads((directory / "runs.jsonl").read_text().splitlines()[-1])
    test = load("mnist_5k").test
    right = served.plain(test.inputs).argmax(1) == test.labels
    assert right.mean() == pytest.approx(row["accuracy"], abs=0.002)


def change(copy, *names, value):
    """Changes one value of a config.json."""
    config = json.loads((copy / "config.json").read_text())
    place = config
    for name in names[:-1]:
        place = place[name]
    place[names[-1]] = value
    (copy / "config.json").write_text(json.dumps(config))


def test_the_activation_is_the_one_that_was_trained_with(copy):
    """Also where it was the tuned table's, and the table has changed since."""
    used = ("arms", "fl", "2", "activation")
    change(copy, *used, value="square")
    served = serving.load_served(copy)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    square = models.for_dataset("polynomial_cnn", load("mnist_5k"), activation="square")
    expected = square.apply(served.params, pixels)
    np.testing.assert_allclose(served.plain(pixels), expected, rtol=1e-5)
    change(copy, "settings", "training", "activation", value="relu_chebyshev")
    again = serving.load_served(copy).plain(pixels)
    assert np.abs(again - expected).max() > 0.1


def test_a_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no run: --model"):
        serving.load_served(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"settings": {"data": 3}}', "\udcff"]
)
def test_another_config_is_named(text, copy):
    (copy / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"config\.json is not of experiments\.train"):
        serving.load_served(copy)


def test_a_run_that_did_not_end_is_named(copy):
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(ValueError, match="holds no checkpoint"):
        serving.load_served(copy)


def test_one_of_several_checkpoints_is_asked_for(copy):
    one = copy / "checkpoints" / "fl-2-iid-0"
    shutil.copytree(one, one.with_name("fl-2-iid-1"))
    with pytest.raises(ValueError, match="choose one of fl-2-iid-0, fl-2-iid-1"):
        serving.load_served(copy)
    assert serving.load_served(copy, "fl-2-iid-1").name == "fl-2-iid-1"
    with pytest.raises(ValueError, match="no checkpoint"):
        serving.load_served(copy, "../checkpoints/fl-2-iid-1")


def test_the_models_of_clients_alone_are_not_one_model(copy):
    one = copy / "checkpoints" / "fl-2-iid-0"
    one.rename(one.with_name("local-2-iid-0"))
    with pytest.raises(ValueError, match="holds 2 models, one of each client"):
        serving.load_served(copy)


def test_a_checkpoint_of_another_model_is_named(copy):
    change(copy, "settings", "training", "model", value="linear")
    with pytest.raises(ValueError, match="does not fit the model"):
        serving.load_served(copy)


def test_layers_without_an_encrypted_form_are_named(copy):
    change(copy, "settings", "training", "model", value="tutorial_cnn")
    change(copy, "settings", "training", "activation", value="relu")
    model = models.for_dataset("tutorial_cnn", load("mnist_5k"))
    stacked = jax.vmap(model.init)(jax.random.split(jax.random.key(0), 1))
    simulation.save(copy / "checkpoints" / "fl-2-iid-1", stacked)
    with pytest.raises(UnsupportedLayerError, match="polynomial"):
        serving.load_served(copy, "fl-2-iid-1")


def test_scattering_is_refused_before_any_work(copy):
    change(copy, "settings", "training", "model", value="scattering_linear")
    with pytest.raises(UnsupportedLayerError, match="--model=polynomial_cnn"):
        serving.load_served(copy)
