"""Small data, and small runs on them."""

import dataclasses
import shutil

import numpy as np
import pytest

from fedjax_private import runs
from fedjax_private.datasets import Dataset, Examples, Normalization
from tests.runs.small import CLASSES, FEATURES, spec


def _examples(rng, centers, count):
    labels = np.arange(count, dtype=np.int32) % CLASSES
    inputs = centers[labels] + 0.3 * rng.standard_normal((count, FEATURES))
    return Examples(inputs.astype(np.float32), labels)


@pytest.fixture(scope="session")
def blobs():
    """A table of floats (N, 6) in three classes that are easily told apart."""
    rng = np.random.default_rng(0)
    centers = 2 * rng.standard_normal((CLASSES, FEATURES))
    train, test = (_examples(rng, centers, count) for count in (240, 90))
    return Dataset("blobs", train, test, CLASSES, Normalization(0.0, 1.0))


@pytest.fixture(scope="session")
def tokens():
    """Sentences of eight token numbers, whose first one tells the class."""
    rng = np.random.default_rng(1)

    def examples(count):
        inputs = rng.integers(CLASSES, 20, (count, 8)).astype(np.int32)
        inputs[:, 0] = np.arange(count) % CLASSES
        return Examples(inputs, inputs[:, 0].copy())

    return Dataset("sentences", examples(240), examples(90), CLASSES)


@pytest.fixture(scope="session")
def train(blobs, tmp_path_factory):
    """Settings of a spec -> the result of the run, in a directory of its own."""

    def trained(dataset=blobs, model=None, **settings):
        out = tmp_path_factory.mktemp("run") / "out"
        return runs.train(spec(**settings), out=out, dataset=dataset, model=model)

    return trained


@pytest.fixture
def prepare(blobs):
    """Settings of a spec -> the prepared run."""
    return lambda **settings: runs.prepare(spec(**settings), blobs)


@pytest.fixture(scope="session")
def copied(tmp_path_factory):
    """Result -> a copy of it, whose files can be changed."""

    def copy(result):
        folder = tmp_path_factory.mktemp("copy") / "run"
        shutil.copytree(result.directory, folder)
        return dataclasses.replace(result, directory=folder)

    return copy
