"""scikit-learn's breast cancer table."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from fedjax_private.datasets import Normalization, load
from fedjax_private.datasets.sources.breast_cancer import RANGES


@pytest.fixture(scope="module")
def dataset():
    return load("breast_cancer")


def test_the_split_is_fixed_and_by_class(dataset):
    assert dataset.train.inputs.shape == (455, 30)
    assert dataset.test.inputs.shape == (114, 30)
    assert dataset.class_names == ("benign", "malignant")
    assert np.bincount(dataset.train.labels).tolist() == [285, 170]
    assert np.bincount(dataset.test.labels).tolist() == [72, 42]
    again = load("breast_cancer")
    np.testing.assert_array_equal(again.test.inputs, dataset.test.inputs)


def test_every_record_is_there_once_scaled_by_typed_constants(dataset):
    table = load_breast_cancer()
    both = np.concatenate([dataset.train.inputs, dataset.test.inputs])
    low, high = RANGES.T
    raw = np.sort((both + 1) / 2 * (high - low) + low, axis=0)
    np.testing.assert_allclose(raw, np.sort(table.data, axis=0), rtol=1e-4, atol=1e-5)
    assert dataset.normalization == Normalization(0.0, 1.0)
    assert np.abs(both).max() <= 1
    # Malignant nuclei are larger.
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    assert both[labels == 1, 0].mean() > both[labels == 0, 0].mean()


def test_ranges_hold_the_table_and_are_two_digits_of_its_documentation():
    data = load_breast_cancer().data
    assert (RANGES[:, 0] <= data.min(axis=0)).all()
    assert (RANGES[:, 1] >= data.max(axis=0)).all()
    assert all(float(f"{value:.2g}") == value for value in RANGES.flat)
