"""A small task that the tests of the round loop share."""

import jax
import numpy as np
import pytest

from fedjax_private import models, simulation
from fedjax_private.datasets import (
    Examples,
    Normalization,
    client_data,
    partition,
)


@pytest.fixture(scope="module")
def examples():
    """Two classes told apart by which half of a 4x4 image is bright."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 70).astype(np.int32)
    inputs = generator.integers(0, 100, (70, 4, 4, 1))
    inputs[labels == 1, 2:] += 120
    inputs[labels == 0, :2] += 120
    return Examples(inputs.astype(np.uint8), labels)


@pytest.fixture(scope="module")
def model():
    return models.build(
        "linear",
        input_shape=(4, 4, 1),
        num_classes=2,
        normalization=Normalization(),
    )


@pytest.fixture(scope="module")
def data(examples):
    """The shards of five clients."""
    return client_data(examples, partition(examples.labels, 5, "iid", 0))


@pytest.fixture(scope="module")
def params(model):
    return model.init(jax.random.key(0))


@pytest.fixture(scope="module")
def evaluate(model, examples):
    return simulation.evaluator(model)(examples)
