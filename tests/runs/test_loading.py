"""`runs.train` and `runs.load`, as a library's user calls them."""

import dataclasses
import json
import shutil

import flax.linen as nn
import jax
import numpy as np
import pytest

from fedjax_private import models, runs
from fedjax_private.choices import Settings, setting
from fedjax_private.datasets import DatasetError
from tests.runs.small import CLASSES, FEATURES, ROW_NAMES, spec


class Pooled(nn.Module):
    """A classifier of token numbers, or of rows of floats."""

    widths: tuple = (4,)
    num_classes: int = CLASSES

    @nn.compact
    def __call__(self, inputs):
        if inputs.dtype == np.int32:
            inputs = nn.Embed(20, 8)(inputs).reshape(len(inputs), -1)
        for width in self.widths:
            inputs = nn.tanh(nn.Dense(width)(inputs))
        return nn.Dense(self.num_classes)(inputs)


def hidden(input_shape, num_classes):
    return Pooled((5,), num_classes)


def accuracy(loaded, dataset):
    guesses = loaded.predict(dataset.test.inputs).argmax(axis=1)
    return float((guesses == dataset.test.labels).mean())


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    "arm",
    [
        pytest.param(arm, marks=[pytest.mark.needs_openfhe] if it.encrypted else [])
        for arm, it in runs.ARMS.items()
    ],
)
def test_every_arm_is_trained_recorded_and_loaded(arm, blobs, train):
    result = train(arm=arm, momentum=0.0)
    traits = runs.ARMS[arm]
    assert [row["round"] for row in result.rows] == [1, 2]
    assert list(result.row)[: len(ROW_NAMES)] == list(ROW_NAMES)
    assert lines(result.directory / "runs.jsonl") == [
        json.loads(json.dumps(result.row))
    ]
    assert len(lines(result.directory / "rounds.jsonl")) == 2
    assert result.accuracy == result.row["accuracy"] > 1 / CLASSES
    assert (result.epsilon is not None) is traits.private
    insiders = traits.private and traits.federated
    assert (result.epsilon_insider is not None) is insiders
    config = json.loads((result.directory / "config.json").read_text())
    (described,) = config["runs"].values()
    assert described["spec"]["dataset"] == {"name": "blobs"}
    assert config["versions"]["jax"]

    loaded = runs.load(result.directory)
    clients = 1 if traits.pooled else 3
    assert loaded.name == result.prepared.spec.name == f"{arm}-{clients}-iid-0"
    assert loaded.rows == lines(result.directory / "runs.jsonl")
    assert loaded.config == config and loaded.spec == described["spec"]
    assert (loaded.dataset, loaded.num_classes) == ("blobs", CLASSES)
    assert loaded.class_names == ("0", "1", "2")
    jax.tree.map(np.testing.assert_array_equal, loaded.models, result.models)
    if arm != "local":
        assert accuracy(loaded, blobs) == pytest.approx(result.accuracy)
        jax.tree.map(np.testing.assert_array_equal, loaded.params, result.params)
        return
    for several in (loaded, result):
        with pytest.raises(ValueError, match="has 3 models, one of each client"):
            assert several.params
    logits = jax.vmap(loaded.model.apply, (0, None))(loaded.models, blobs.test.inputs)
    assert logits.shape == (3, len(blobs.test), CLASSES)


@pytest.fixture(scope="module")
def result(train):
    return train()


def test_predictions_are_logits_of_stored_inputs(result, blobs):
    loaded = runs.load(result.directory)
    logits = loaded.predict(blobs.test.inputs[:5])
    assert logits.shape == (5, CLASSES) and logits.dtype == np.float32
    expected = result.model.apply(result.params, blobs.test.inputs[:5])
    np.testing.assert_allclose(logits, expected, rtol=1e-6)
    assert loaded.input_shape == (FEATURES,)
    assert loaded.normalization == blobs.normalization


@pytest.mark.parametrize(
    "model", [Pooled((4,)), Pooled([4]), Pooled, hidden], ids=lambda m: type(m).__name__
)
def test_models_given_as_objects_are_given_again_to_load(model, blobs, train):
    result = train(model=model)
    name = getattr(model, "__name__", "Pooled")
    assert result.row["model"] == name == result.prepared.spec.model_entry.name
    loaded = runs.load(result.directory, model=model)
    assert accuracy(loaded, blobs) == pytest.approx(result.accuracy)
    with pytest.raises(ValueError, match="given as an object: give it as model"):
        runs.load(result.directory)
    with pytest.raises(ValueError, match="does not fit the model"):
        runs.load(result.directory, model=Pooled((7,)))


def test_a_ready_model_is_given_again_to_load(blobs, train):
    model = models.for_dataset("linear", blobs)
    result = train(model=model)
    assert result.model is model
    loaded = runs.load(result.directory, model=model)
    assert loaded.model is model
    assert accuracy(loaded, blobs) == pytest.approx(result.accuracy)
    with pytest.raises(ValueError, match="give it as model"):
        runs.load(result.directory)


def test_an_object_is_not_taken_for_the_built_in_model_of_its_name(blobs, train):
    def linear(input_shape, num_classes):
        return Pooled((), num_classes)

    result = train(model=linear)
    assert result.row["model"] == "linear"
    with pytest.raises(ValueError, match="give it as model"):
        runs.load(result.directory)


def test_an_entry_is_loaded_with_its_activation_and_settings(blobs, train):
    @dataclasses.dataclass(frozen=True)
    class Sizes(Settings):
        """Of the model."""

        widths: tuple[int, ...] = setting((4,), "of hidden layers")

    class Activated(nn.Module):
        widths: tuple
        activation: object

        @nn.compact
        def __call__(self, inputs):
            for width in self.widths:
                inputs = self.activation(nn.Dense(width)(inputs))
            return nn.Dense(CLASSES)(inputs)

    entry = models.ModelEntry(
        "activated",
        "an MLP",
        lambda shape, classes, activation, own: Activated(own.widths, activation),
        ("relu", "square"),
        "relu",
        settings=Sizes,
    )
    choice = models.MODELS.choose(entry, {"widths": (5, 3)})
    result = train(model=choice, activation="square", learning_rate=1e-4)
    assert result.prepared.parameters == 6 * 5 + 5 + 5 * 3 + 3 + 3 * 3 + 3
    for model in (entry, choice):
        loaded = runs.load(result.directory, model=model)
        assert accuracy(loaded, blobs) == pytest.approx(result.accuracy)


@pytest.mark.parametrize(
    "place", [{"arm": "fl"}, {"arm": "fl_dp", "noise_multiplier": 0.1}]
)
def test_token_numbers_are_learned(place, tokens, train):
    result = train(
        dataset=tokens,
        model=Pooled(()),
        rounds=8,
        local_steps=10,
        learning_rate=0.5,
        **place,
    )
    assert result.row["dataset"] == "sentences"
    assert result.accuracy > 0.6
    loaded = runs.load(result.directory, model=Pooled(()))
    assert accuracy(loaded, tokens) == pytest.approx(result.accuracy)


def test_data_sets_and_models_by_name_replace_the_spec_s(tmp_path):
    result = runs.train(
        spec(model="tutorial_cnn", rounds=1, local_steps=1),
        out=tmp_path / "run",
        dataset="mnist_5k",
        model="linear",
    )
    assert (result.row["dataset"], result.row["model"]) == ("mnist_5k", "linear")
    loaded = runs.load(str(tmp_path / "run"))
    assert (loaded.dataset, loaded.input_shape) == ("mnist_5k", (28, 28, 1))
    assert loaded.spec["model"] == {"name": "linear"}
    assert loaded.spec["dataset"] == {"name": "mnist_5k", "data_dir": None}
    assert loaded.load_dataset().name == "mnist_5k"


def test_data_sets_of_earlier_versions_are_found_again(result, copied):
    # They wrote the name alone, and the TFDS directory beside it.
    out = copied(result).directory
    (path,) = (out / "checkpoints").glob("*.json")
    of = json.loads(path.read_text())
    of["run"] |= {"dataset": "mnist_5k", "data_dir": None}
    path.write_text(json.dumps(of))
    loaded = runs.load(out)
    assert loaded.dataset == loaded.load_dataset().name == "mnist_5k"
    of["run"] |= {"dataset": "mnist", "data_dir": str(out)}
    path.write_text(json.dumps(of))
    with pytest.raises(DatasetError, match=f"mnist is not prepared in {out}"):
        runs.load(out).load_dataset()


def test_a_spec_may_hold_the_data_set_itself(blobs, tmp_path):
    result = runs.train(spec(dataset=blobs, rounds=1), out=tmp_path / "run")
    assert result.row["dataset"] == result.prepared.spec.dataset_name == "blobs"
    assert result.prepared.dataset is blobs


def test_nothing_is_written_before_all_is_checked(blobs, tmp_path):
    for wrong, named in (
        ({"cohort": 4}, "cohort must"),
        ({"algorithm": "distributed_dp_sgd"}, "is for arm private_ai"),
        ({"model": "polynomial_cnn"}, "polynomial_cnn takes images"),
    ):
        with pytest.raises(ValueError, match=named):
            runs.train(spec(**wrong), out=tmp_path / "run", dataset=blobs)
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_replaced_when_told_so(blobs, result, copied):
    out = copied(result).directory
    with pytest.raises(ValueError, match=r"already holds a run.*overwrite=True"):
        runs.train(spec(), out=out, dataset=blobs)
    advanced = []
    again = runs.train(
        spec(rounds=1),
        out=out,
        dataset=blobs,
        overwrite=True,
        advance=lambda name, row: advanced.append((name, row and row["round"])),
    )
    assert runs.load(out).rows == lines(out / "runs.jsonl")
    assert again.row["rounds"] == 1
    assert advanced == [("fl-3-iid-0", None), ("fl-3-iid-0", 1)]


class TestSeveralRuns:
    @pytest.fixture
    def folder(self, result, train, copied):
        """A directory of two runs."""
        folder = copied(result).directory
        other = train(seed=1, momentum=0.0).directory
        shutil.copytree(
            other / "checkpoints", folder / "checkpoints", dirs_exist_ok=True
        )
        with (folder / "runs.jsonl").open("a") as file:
            file.write((other / "runs.jsonl").read_text())
        return folder

    def test_one_is_chosen_by_name(self, folder, result):
        with pytest.raises(
            ValueError, match="2 runs: choose one of fl-3-iid-0, fl-3-iid-1"
        ):
            runs.load(folder)
        for seed in (0, 1):
            loaded = runs.load(folder, f"fl-3-iid-{seed}")
            (row,) = loaded.rows
            assert row["seed"] == loaded.spec["seed"] == seed

    @pytest.mark.parametrize("name", ["fl-3-iid-2", "../fl-3-iid-0", ""])
    def test_names_of_no_run_are_refused(self, name, folder):
        with pytest.raises(ValueError, match=f"holds no run {name!r}: choose one of"):
            runs.load(folder, name)


def test_directories_without_a_run_are_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere is no directory"):
        runs.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no trained run"):
        runs.load(tmp_path)
