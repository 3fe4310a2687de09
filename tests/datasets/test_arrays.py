"""Data sets from arrays: classes and clients by name."""

import numpy as np
import pytest

from fedjax_private.datasets import DatasetError, Normalization, from_arrays

X, X_TEST = np.arange(8.0).reshape(4, 2), np.zeros((2, 2))


def made(y, y_test, **others):
    return from_arrays("own", X, y, X_TEST, y_test, **others)


@pytest.mark.parametrize(
    ("y", "y_test", "names", "numbers"),
    [
        (["b", "a", "b", "c"], ["a", "d"], "abcd", [1, 0, 1, 2]),
        (np.array(["b", "a", "b", "a"], object), ["a", "b"], "ab", [1, 0, 1, 0]),
        (np.array([b"x", b"y", b"x", b"x"]), ["y", "y"], "xy", [0, 1, 0, 0]),
        ([5, 1, 2, 5], [1, 2], "125", [2, 0, 1, 2]),
        ([-1, 1, 1, 1], np.array([1, 1], np.uint8), ("-1", "1"), [0, 1, 1, 1]),
        ([True, False, True, True], [True, True], ("False", "True"), [1, 0, 1, 1]),
        (["10", "9", "2", "9"], ["9", "2"], ("2", "9", "10"), [2, 1, 0, 1]),
    ],
)
def test_classes_are_numbered_in_order(y, y_test, names, numbers):
    dataset = made(y, y_test)
    assert dataset.class_names == tuple(names)
    assert dataset.num_classes == len(names)
    assert dataset.train.labels.tolist() == numbers
    named = [str(each) for each in np.asarray(y_test).tolist()]
    assert [dataset.class_names[i] for i in dataset.test.labels] == named


def test_labels_that_are_class_numbers_already_stay():
    dataset = made([5, 1, 2, 5], [0, 2], num_classes=10)
    assert (dataset.num_classes, dataset.class_names) == (10, None)
    assert dataset.train.labels.tolist() == [5, 1, 2, 5]
    with pytest.raises(DatasetError, match=r"run from 1 to 5, outside 0\.\.3"):
        made([5, 1, 2, 5], [0, 2], num_classes=4)


def test_clients_with_training_examples_come_first():
    dataset = made(
        [0, 1, 0, 1],
        [0, 1],
        clients=["Chur", "Bern", "Chur", "Zug"],
        test_clients=["Aarau", "Zug"],
    )
    assert dataset.client_names == ("Bern", "Chur", "Zug", "Aarau")
    assert dataset.train.clients.tolist() == [1, 0, 1, 2]
    assert dataset.test.clients.tolist() == [3, 2]
    numbers = made([0, 1, 0, 1], [0, 1], clients=[7, 7, 40, 12])
    assert numbers.client_names == ("7", "12", "40")
    assert numbers.train.clients.tolist() == [0, 0, 2, 1]
    assert numbers.test.clients is None is made([0, 1, 0, 1], [0, 1]).client_names


def test_bytes_are_divided_by_255_and_floats_taken_as_they_are():
    assert made([0, 1, 0, 1], [0, 1]).normalization == Normalization(0.0, 1.0)
    pixels = from_arrays(
        "own", X.astype(np.uint8), [0, 1, 0, 1], X_TEST.astype(np.uint8), [0, 1]
    )
    assert pixels.normalization == Normalization(0.0, 255.0)
    own = Normalization(1.0, 2.0)
    assert made([0, 1, 0, 1], [0, 1], normalization=own).normalization == own


@pytest.mark.parametrize(
    ("y", "y_test", "others", "words"),
    [
        (
            [1.0, 0.0, 1.0, 0.0],
            [0, 1],
            {},
            r"y_train must be .* got float64 \(4,\): give y_train.astype\(int\)",
        ),
        (
            np.eye(4, dtype=int),
            [0, 1],
            {},
            r"y_train must be a vector.*\(4, 4\): give y_train.argmax\(axis=1\)",
        ),
        (
            [[0], [1], [0], [1]],
            [0, 1],
            {},
            r"y_train must be a vector.*\(4, 1\): give y_train.ravel\(\)",
        ),
        (
            [None, "a", "b", "a"],
            ["a", "b"],
            {},
            r"y_train must be .*got object \(4,\): give y_train.astype\(str\)",
        ),
        (["a", "b", "a", "b"], [0, 1], {}, "labels are of several kinds, int and str"),
        (["a"] * 4, ["a"] * 2, {}, "every label is 'a'; a classifier needs at least"),
        (["a", "b", "a"], ["a", "b"], {}, r"own: training labels must .*\(4,\), got"),
        ([0, 1, 0, 1], [0, 1], {"clients": [0, 1]}, r"training clients must .*\(4,\)"),
        ([0, 1, 0, 1], [0, 1], {"clients": [0.5] * 4}, "clients must be a vector"),
        (
            [0, 1, 0, 1],
            [0, 1],
            {"clients": ["a"] * 4, "test_clients": [1, 2]},
            "clients are of several kinds",
        ),
        ([0, 1, 0, 1], [0, 1], {"test_clients": [1, 2]}, "without clients: give both"),
    ],
)
def test_what_cannot_be_numbered_is_one_sentence(y, y_test, others, words):
    with pytest.raises(DatasetError, match=words):
        made(y, y_test, **others)


def test_labels_that_are_measurements_are_refused():
    x, y = np.zeros((30, 2)), np.arange(30)
    with pytest.raises(DatasetError, match="40 labels have 30 distinct values, which"):
        from_arrays("own", x, y, x[:10], y[:10])
    assert from_arrays("own", x, y // 2, x[:10], y[:10] // 2).num_classes == 15
    few = y[:20]  # as many classes as records, and no more than twenty
    assert from_arrays("own", x[:20], few, x[:1], few[:1]).num_classes == 20


def test_inputs_that_are_no_array_of_numbers():
    with pytest.raises(DatasetError, match="own: training inputs are ragged"):
        from_arrays("own", [[1, 2], [3]], [0, 1], [[1, 2]], [0])
    with pytest.raises(DatasetError, match="own: test inputs hold 1 values"):
        from_arrays("own", [[1.0], [2.0]], [0, 1], [[np.nan]], [0])
