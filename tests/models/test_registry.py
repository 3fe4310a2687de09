"""Models by name, and models of the user's own."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private import models
from fedjax_private.datasets import Dataset, Examples, Normalization


def build(model, **options):
    options = {"input_shape": (28, 28, 1), "num_classes": 10} | options
    return models.build(model, normalization=Normalization(), **options)


def dataset_of(inputs, classes=3):
    labels = np.arange(len(inputs), dtype=np.int32) % classes
    examples = Examples(inputs, labels)
    return Dataset("drawn", examples, examples, classes)


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
        ("polynomial_cnn", 23_532),
    ],
)
def test_parameter_counts_are_the_published_ones(name, count):
    shapes = jax.eval_shape(build(name).init, jax.random.key(0))
    assert models.parameter_count(shapes) == count
    assert f"{count:,} parameters" in models.MODELS.find(name).summary


def test_other_image_shapes_and_classes():
    model = build("tutorial_cnn", input_shape=(32, 32, 3), num_classes=47)
    params = model.init(jax.random.key(0))
    logits = model.apply(params, jnp.zeros((2, 32, 32, 3), jnp.uint8))
    assert logits.shape == (2, 47)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "resnet"}, "model 'resnet' is unknown: choose one of tutorial_cnn"),
        ({"model": "linear", "activation": "cubic"}, "activation 'cubic'.*tanh"),
        ({"model": "mlp_2nn", "activation": "cubic"}, "activation 'cubic'.*tanh"),
        ({"model": "tutorial_cnn", "input_shape": (6, 6, 1)}, "cannot take.*linear"),
        (
            {"model": "tutorial_cnn", "input_shape": (20,)},
            r"images.*or model=mlp_2nn\.",
        ),
        ({"model": "tutorial_cnn", "input_shape": (9, 9)}, "takes.*add a last axis of"),
    ],
)
def test_bad_choices_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        build(**options)


def test_a_model_without_activations_ignores_them():
    key, inputs = jax.random.key(0), jnp.ones((2, 28, 28, 1), jnp.uint8)
    logits = [
        model.apply(model.init(key), inputs)
        for model in (build("linear"), build("linear", activation="tanh"))
    ]
    np.testing.assert_array_equal(*logits)


def test_entries_can_be_keys():
    for entry in models.MODELS.entries():
        assert hash(models.MODELS.choose(entry)) == hash(
            models.MODELS.choose(entry.name)
        )


def test_linear_models_take_vectors():
    inputs = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    dataset = dataclasses.replace(
        dataset_of(inputs), normalization=Normalization(0.0, 1.0)
    )
    model = models.for_dataset("linear", dataset)
    params = model.init(jax.random.key(0))
    kernel = np.asarray(params["Dense_0"]["kernel"])
    np.testing.assert_allclose(model.apply(params, inputs), inputs @ kernel, rtol=1e-4)


class Tokens(nn.Module):
    """A classifier of sequences."""

    num_classes: int

    @nn.compact
    def __call__(self, tokens):
        return nn.Dense(self.num_classes)(nn.Embed(9, 4)(tokens).mean(1))


def test_models_of_token_numbers():
    dataset = dataset_of(np.array([[1, 8, 3], [0, 2, 5], [7, 7, 7]], np.int32))
    model = models.for_dataset(Tokens(3), dataset)
    params = model.init(jax.random.key(0))
    losses = model.loss(params, dataset.train.inputs, dataset.train.labels)
    assert losses.shape == (3,)
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("name", sorted({*models.MODELS} - {"scattering_linear"}))
def test_models_without_an_embedding_refuse_token_numbers(name):
    dataset = dataset_of(np.ones((3, 28, 28, 1), np.int32))
    with pytest.raises(ValueError, match=f"{name} takes no token numbers.*input_scale"):
        models.for_dataset(name, dataset)


def test_a_ready_model_passes():
    dataset = dataset_of(np.zeros((3, 28, 28, 1), np.uint8))
    model = models.for_dataset("linear", dataset)
    assert models.for_dataset(model, dataset) is model
    for other in (model, "linear", nn.Dense(3)):
        assert models.features(other, dataset) is dataset


@pytest.mark.parametrize(
    "model", [Tokens(3), Tokens, lambda input_shape, num_classes: Tokens(num_classes)]
)
def test_modules_and_functions_as_they_are(model):
    dataset = dataset_of(np.zeros((3, 5), np.int32))
    params = models.for_dataset(model, dataset).init(jax.random.key(0))
    assert models.parameter_count(params) == 9 * 4 + 3 * 5
    with pytest.raises(ValueError, match="model int must be a ModelEntry"):
        models.for_dataset(3, dataset)


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module outside the tree, with models of every form, and misfits."""
    (tmp_path / "own_models.py").write_text(
        """
import dataclasses

import flax.linen as nn

from fedjax_private.choices import Settings, at_least, setting
from fedjax_private.models import ModelEntry


class Network(nn.Module):
    num_classes: int
    hidden: int = 4

    @nn.compact
    def __call__(self, inputs):
        x = nn.relu(nn.Dense(self.hidden)(inputs.reshape((len(inputs), -1))))
        return nn.Dense(self.num_classes)(x)


def make(input_shape, num_classes):
    assert input_shape == (4, 2, 1)
    return Network(num_classes)


INSTANCE = Network(3)


@dataclasses.dataclass(frozen=True)
class Width(Settings):
    hidden: int = setting(4, "units of the hidden layer", at_least(1))


ENTRY = ModelEntry(
    "own",
    "a network",
    lambda shape, classes, activation, settings: Network(classes, settings.hidden),
    settings=Width,
)


class Needy(nn.Module):
    width: int


class Stateful(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        x = nn.BatchNorm(use_running_average=True)(inputs)
        return nn.Dense(3)(x.reshape((len(x), -1)))


class Wide(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(7)(inputs)


class Empty(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return inputs.reshape((len(inputs), -1))[:, :3]


def picky(input_shape, num_classes):
    return Picky()


class Picky(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        raise ValueError("sequences only")


def wrong(input_shape, num_classes):
    return "a network"


def typo(input_shape, num_classes):
    return nn.Dens(num_classes)


class Typo(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.Dens(3)(inputs)


NUMBER = 3
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "own_models"


@pytest.mark.parametrize("attribute", ["Network", "make", "INSTANCE", "ENTRY"])
def test_models_of_the_users(own_module, attribute):
    dataset = dataset_of(np.zeros((3, 4, 2, 1), np.uint8))
    name = f"{own_module}:{attribute}"
    model = models.for_dataset(name, dataset, activation="tanh")
    params = model.init(jax.random.key(0))
    assert models.parameter_count(params) == 4 * 9 + 3 * 5
    logits = model.apply(params, dataset.test.inputs)
    assert (logits.shape, logits.dtype) == ((3, 3), jnp.float32)
    assert models.MODELS.find(name) == models.MODELS.find(name)
    assert models.MODELS.find(name).augmentable


def test_settings_of_the_users(own_module):
    choice = models.MODELS.choose(f"{own_module}:ENTRY", {"hidden": 2})
    model = models.for_dataset(choice, dataset_of(np.zeros((3, 4), np.float32)))
    assert models.parameter_count(model.init(jax.random.key(0))) == 2 * 5 + 3 * 3


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("NUMBER", "must be a ModelEntry, a Flax module.*got 3"),
        ("missing", "no attribute 'missing'"),
        ("wrong", "must return a Flax module, got str"),
        ("Needy", r"'width'.*a function of input_shape and num_classes"),
        ("Stateful", "keeps state in batch_stats.*GroupNorm"),
        ("Wide", r"must return logits \(B, 3\), got \(2, 4, 2, 7\)"),
        ("Empty", "no parameters"),
        ("picky", r"shape \(4, 2, 1\) \(sequences only \(own_models.py, line \d+\)\)"),
        ("typo", r"failed with .*no attribute 'Dens' \(own_models.py, line \d+\)\)\."),
        ("Typo", r"cannot take .*no attribute 'Dens' \(own_models.py, line \d+\)\)"),
    ],
)
def test_models_of_the_users_are_checked(own_module, attribute, words):
    dataset = dataset_of(np.zeros((3, 4, 2, 1), np.uint8))
    with pytest.raises(ValueError, match=words):
        models.for_dataset(f"{own_module}:{attribute}", dataset)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda data: models.for_dataset(data, "linear"), "dataset must be a Dataset"),
        (lambda data: models.for_dataset("linear", data.train), "got Examples"),
        (lambda data: models.for_dataset("linear", "mnist_5k"), "got 'mnist_5k'"),
        (lambda data: models.augmented("linear", 2), "model must be a Model.*'linear'"),
        (
            lambda data: models.for_dataset(lambda shape, classes: shape.size, data),
            r"failed with input_shape=\(4,\) and num_classes=3 .*no attribute 'size'",
        ),
    ],
)
def test_arguments_of_another_kind_are_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call(dataset_of(np.zeros((3, 4), np.float32)))
