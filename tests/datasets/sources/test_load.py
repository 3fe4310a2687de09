"""Names of data sets, and data sets of the user's own."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from fedjax_private.datasets import SOURCES, Dataset, DatasetError, load


def test_imports_stay_light():
    code = (
        "import sys; import fedjax_private.datasets as d; d.partition; "
        "d.SOURCES.find('mnist'); d.PARTITIONS.entries(); "
        "print([m for m in ('tensorflow_datasets', 'tensorflow', 'mlxtend', 'jax') "
        "if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fashion_mnits", r"unknown data set 'fashion_mnits' \(did you mean fashion_m"),
        ("", "dataset '' is unknown.*mnist_5k, .*idx:DIR, a TFDS name"),
        ("../../nowhere", "dataset '../../nowhere' is unknown: choose one of mnist_5k"),
        ("huggingface:mnist", "No module named 'huggingface'"),
        ("emnist/balancd", "configurations of emnist are.*balanced"),
        ("mnist:9.9.9", "cannot open 'mnist:9.9.9'.*only: 3"),
        ("emnist/balanced:9.9.9", r"cannot be loaded at version 9\.9\.9"),
        ("penguins", "no image classification set.*has features, species; try"),
    ],
)
def test_names_that_cannot_be_loaded(tmp_path, name, words):
    with pytest.raises(ValueError, match=words):
        load(name, data_dir=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("mnist_5k", "mnist_5k"),
        ("idx:/some/where", "idx:DIR"),
        ("idx:1.2.3", "idx:DIR"),
        ("mnist", "a TFDS name"),
        ("emnist/balanced", "a TFDS name"),
        ("emnist/balanced:3.0.1", "a TFDS name"),
        ("mnist:3.0.1", "a TFDS name"),
    ],
)
def test_the_source_of_a_name_bears_it(name, source):
    found = SOURCES.find(name)
    assert found == dataclasses.replace(SOURCES.find(source), name=name)
    assert found == SOURCES.find(name) and hash(found) == hash(SOURCES.find(name))


def test_files_and_directories_without_their_form(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("pets", "my pets"):
        (tmp_path / name).mkdir()
    for name, meant in (
        ("my.npz", "npz:my.npz"),
        ("nosuch.csv", "csv:nosuch.csv"),
        ("a b.tsv", "csv:a b.tsv"),
        ("pets", "folder:pets"),
        ("my pets", "folder:my pets"),
    ):
        with pytest.raises(ValueError, match=rf"'{name}'.*did you mean {meant}\?"):
            load(name)


def test_settings_that_a_source_does_not_have(tmp_path):
    with pytest.raises(ValueError, match="data_dir is no setting of dataset idx:/"):
        load(f"idx:{tmp_path}", data_dir=tmp_path)
    with pytest.raises(DatasetError, match="holds none of train-images"):
        load(f"idx:{tmp_path}", data_dir=None)


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module outside the tree: a function, a data set, an entry, and misfits."""
    (tmp_path / "own_sets.py").write_text(
        """
import dataclasses

import numpy as np

from fedjax_private.choices import Settings, at_least, setting
from fedjax_private.datasets import Dataset, Examples, Normalization, Source


def make(size=6):
    inputs = np.arange(size * 4, dtype=np.float32).reshape(size, 4)
    examples = Examples(inputs, np.arange(size, dtype=np.int32) % 2)
    return Dataset("own", examples, examples, 2, Normalization(0.0, 1.0))


DATASET = make()


@dataclasses.dataclass(frozen=True)
class Sized(Settings):
    size: int = setting(4, "number of examples", at_least(1))


SOURCE = Source("sized", "of any size", lambda name, s: make(s.size), Sized)
NUMBER = 3


def wrong():
    return [1, 2]
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "own_sets"


@pytest.mark.parametrize("attribute", ["make", "DATASET"])
def test_data_sets_of_the_users(own_module, attribute):
    dataset = load(f"{own_module}:{attribute}", data_dir=None)
    assert isinstance(dataset, Dataset)
    assert dataset.train.inputs.shape == (6, 4)
    assert dataset.train.inputs.dtype == np.float32


def test_a_source_of_the_users_has_settings(own_module):
    assert len(load(f"{own_module}:SOURCE").train) == 4
    assert len(load(f"{own_module}:SOURCE", size=9).test) == 9
    choice = SOURCES.choose(f"{own_module}:SOURCE", {"size": 5})
    assert (len(load(choice).train), len(load(choice, size=3).train)) == (5, 3)
    with pytest.raises(ValueError, match="size must be at least 1"):
        load(f"{own_module}:SOURCE", size=0)
    with pytest.raises(
        ValueError, match=f"data_dir is no setting of dataset {own_module}"
    ):
        load(f"{own_module}:SOURCE", data_dir="/nowhere")


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("NUMBER", "own_sets:NUMBER must be a Dataset.*got int"),
        ("wrong", "own_sets:wrong must be a Dataset, got list"),
        ("missing", "no attribute 'missing'"),
    ],
)
def test_attributes_that_are_no_data_sets(own_module, attribute, words):
    with pytest.raises(ValueError, match=words):
        load(f"{own_module}:{attribute}")


def test_arrays_are_told_what_makes_a_data_set_of_them():
    with pytest.raises(
        ValueError, match=r"got ndarray: make one .* by datasets.from_a"
    ):
        load(np.zeros((3, 2)))
