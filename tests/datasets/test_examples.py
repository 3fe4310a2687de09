import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private.datasets import (
    Dataset,
    DatasetError,
    Examples,
    Normalization,
    split_validation,
)
from fedjax_private.datasets.examples import apportion


def make(labels):
    labels = np.asarray(labels, np.int32)
    pixels = np.arange(len(labels) * 6) % 255 + 1  # never 0, which is padding
    return Examples(pixels.reshape(-1, 2, 3, 1).astype(np.uint8), labels)


def test_examples_take_and_len():
    examples = make([3, 1, 2])
    assert len(examples) == 3
    taken = examples.take(np.array([2, 0]))
    np.testing.assert_array_equal(taken.labels, [2, 3])
    np.testing.assert_array_equal(taken.inputs, examples.inputs[[2, 0]])


@pytest.mark.parametrize(
    ("inputs", "labels", "words"),
    [
        (np.array([["f"], ["m"]]), np.zeros(2, int), "got <U1 .*csv:FILE"),
        (np.zeros((2, 3), complex), np.zeros(2, int), "inputs.*got complex128"),
        (np.full((2, 3), 2**31), np.zeros(2, int), "inputs run from 2147483648.*int32"),
        ([[0, 1], [np.nan, 3]], [0, 1], r"1 values .* example 1, column 0 \(counted"),
        (np.full((2, 3), 1e39), [0, 1], "6 values that .*beyond float32"),
        (np.full(2, np.inf), [0, 1], r"in example 0 \(counted from 0\): fill"),
        (np.zeros((2, 3)), ["a", "b"], "labels .*got <U1 .*datasets.from_arrays"),
        (
            np.zeros((2, 3)),
            np.eye(2, dtype=int),
            r"labels .*\(2,\), got int64 \(2, 2\)",
        ),
        (np.zeros((2, 3)), [0, 2**40], "labels run from 0 to 1099511627776"),
        (np.array(3, np.uint8), np.zeros(1, np.int32), "inputs"),
        (np.zeros((2, 3, 3, 1), np.uint8), np.zeros(3, np.int32), "labels"),
        (np.zeros((2, 3, 3, 1), np.uint8), np.zeros(2), "labels"),
    ],
)
def test_examples_reject_other_arrays(inputs, labels, words):
    with pytest.raises(ValueError, match=words):
        Examples(inputs, labels)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (np.uint8, np.uint8),
        (np.float64, np.float32),
        (np.float16, np.float32),
        (np.bool_, np.float32),
        (np.int64, np.int32),
        (np.uint16, np.int32),
        (np.int8, np.int32),
    ],
)
def test_inputs_are_cast(given, stored):
    values = np.array([[0, 1], [1, 1]])
    examples = Examples(values.astype(given), np.zeros(2, int))
    assert examples.inputs.dtype == stored
    np.testing.assert_array_equal(examples.inputs, values)


@pytest.mark.parametrize("given", [np.bool_, np.uint8, np.int64, np.uint64])
def test_labels_and_clients_are_cast(given):
    numbers = np.array([1, 0, 1]).astype(given)
    examples = Examples(np.zeros((3, 2)), numbers, numbers[::-1])
    assert examples.labels.dtype == examples.clients.dtype == np.int32
    np.testing.assert_array_equal(examples.labels, [1, 0, 1])
    assert examples.take(np.array([2, 1])).clients.tolist() == [1, 0]
    train, validation = split_validation(examples, 0.34, seed=0)
    assert {len(train.clients), len(validation.clients)} == {1, 2}
    assert Examples([[1.0], [2.0]], [0, 1]).clients is None


def test_dataset_checks_itself():
    train, test = make([0, 1, 2]), make([0])
    assert Dataset("d", train, test, 3).normalization == Normalization()
    with pytest.raises(DatasetError, match=r"0 to 2, outside 0\.\.1"):
        Dataset("d", train, test, 2)
    with pytest.raises(DatasetError, match="test set is empty"):
        Dataset("d", train, test.take(np.array([], int)), 3)
    wide = Examples(np.zeros((1, 2, 4, 1), np.uint8), np.zeros(1, np.int32))
    with pytest.raises(DatasetError, match="class_names has 2 names for 3 classes"):
        Dataset("d", train, test, 3, class_names=("a", "b"))
    with pytest.raises(DatasetError, match="clients run from -1; they are numbered"):
        Dataset("d", dataclasses.replace(train, clients=[0, -1, 0]), test, 3)
    with pytest.raises(DatasetError, match="test inputs"):
        Dataset("d", train, wide, 3)
    floats = Examples(test.inputs.astype(np.float32), test.labels)
    with pytest.raises(DatasetError, match=r"uint8 .* and test inputs float32"):
        Dataset("d", train, floats, 3)


def test_normalization_maps_bytes_to_the_unit_interval():
    every_byte = np.arange(256, dtype=np.uint8)
    result = Normalization()(every_byte)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, every_byte.astype(np.float32) / 255)
    assert (result[0], result[-1]) == (0, 1)
    compiled = jax.jit(Normalization(127.5, 127.5))(jnp.asarray(every_byte))
    assert compiled.dtype == jnp.float32
    np.testing.assert_allclose(compiled, np.linspace(-1, 1, 256), atol=1e-6)


def test_normalization_leaves_token_numbers():
    tokens = np.array([[1, 40_000]], np.int32)
    for result in (Normalization()(tokens), jax.jit(Normalization())(tokens)):
        assert result.dtype == np.int32
        np.testing.assert_array_equal(result, tokens)


@pytest.mark.parametrize("constants", [(0, 0), (np.nan, 1), (0, np.inf)])
def test_normalization_rejects_constants(constants):
    with pytest.raises(ValueError, match="scale other than 0"):
        Normalization(*constants)


def test_split_validation_is_stratified_seeded_and_complete():
    examples = make([0] * 60 + [1] * 30 + [2] * 10)
    train, validation = split_validation(examples, 0.2, seed=1)
    np.testing.assert_array_equal(np.bincount(validation.labels), [12, 6, 2])
    np.testing.assert_array_equal(np.bincount(train.labels), [48, 24, 8])
    both = np.concatenate([train.inputs, validation.inputs]).reshape(100, -1)
    assert len(np.unique(both, axis=0)) == len(
        np.unique(examples.inputs.reshape(100, -1), axis=0)
    )
    same, other = (split_validation(examples, 0.2, seed)[1] for seed in (1, 2))
    np.testing.assert_array_equal(validation.inputs, same.inputs)
    assert not np.array_equal(validation.inputs, other.inputs)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2, float("nan"), 0.01, 0.99])
def test_split_validation_rejects_fractions(fraction):
    with pytest.raises(ValueError, match="fraction"):
        split_validation(make([0, 1, 2]), fraction, seed=0)


def test_apportion_by_hand():
    # Exact shares 3.5, 2.1, 1.4: floors 3, 2, 1, and the one left goes to 0.5.
    np.testing.assert_array_equal(apportion(7, [5, 3, 2]), [4, 2, 1])
    np.testing.assert_array_equal(apportion(5, [1, 1, 1]), [2, 2, 1])
    np.testing.assert_array_equal(apportion(0, [1, 2]), [0, 0])
