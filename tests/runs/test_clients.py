"""Facts about clients: shards, and accuracies of each."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from fedjax_private import runs
from fedjax_private.datasets import Examples, client_data
from fedjax_private.runs.clients import class_counts, client_accuracy, shards
from tests.runs.small import CLASSES, spec

# Two clients and two classes: (3, 1) and (0, 2) records.
LABELS = np.array([0, 0, 0, 1, 1, 1], np.int32)
PARTS = [np.arange(4), np.arange(4, 6)]


def prepared(test_labels=(0, 0, 1, 1), owners=None, arm="fl", asked=None):
    train = Examples(np.zeros((6, 2), np.float32), LABELS)
    test = SimpleNamespace(labels=np.array(test_labels))
    asked_for = spec(arm=arm, client_statistics=asked)
    return SimpleNamespace(
        spec=asked_for,
        clients=2,
        data=client_data(train, PARTS),
        dataset=SimpleNamespace(num_classes=2, test=test, class_names=("no", "yes")),
        test_owners=owners,
        client_names=("north", "south"),
    )


def test_shards_are_counted_by_class():
    np.testing.assert_array_equal(class_counts(prepared()), [[3, 1], [0, 2]])
    assert shards(prepared()) == {
        "sizes": {"min": 2, "median": 3.0, "max": 4},
        "classes": {"min": 1, "median": 1.5, "max": 2},
        "class_counts": [[3, 1], [0, 2]],
        "class_names": ("no", "yes"),
        "client_names": ("north", "south"),
    }


def test_many_clients_are_not_listed(blobs):
    ready = runs.prepare(spec(clients=40), blobs)
    assert class_counts(ready).sum() == len(blobs.train)
    assert shards(ready)["class_counts"] is None
    assert shards(ready)["sizes"] == {"min": 6, "median": 6.0, "max": 6}


def accuracies(*args, **settings):
    got = client_accuracy(prepared(**settings), np.array(args, bool))
    return got["client_accuracy_mean"], got["client_accuracy_worst_tenth"]


def test_accuracies_of_classes_are_weighted_by_those_of_the_client():
    # Class 0 is right once in two, class 1 always: 3/4 * 1/2 + 1/4 = 0.625, and 1.
    assert accuracies([1, 0, 1, 1]) == (pytest.approx(0.8125), pytest.approx(0.625))


def test_models_of_their_own_are_scored_on_their_client():
    got = accuracies([1, 1, 1, 1], [1, 1, 0, 0], arm="local")
    assert got == (pytest.approx(0.5), pytest.approx(0.0))


def test_test_examples_that_name_their_client_are_its_own():
    owners = np.array([1, 1, 1, 0])
    assert accuracies([1, 0, 0, 1], owners=owners) == (
        pytest.approx((1 + 1 / 3) / 2),
        pytest.approx(1 / 3),
    )
    # They tell nothing of training records, so that arms with DP have them as well.
    private = accuracies([1, 0, 0, 1], owners=owners, arm="fl_dp")
    assert private[0] == pytest.approx((1 + 1 / 3) / 2)
    for arm in ("fl", "fl_dp"):
        left_out = accuracies([1, 0, 0, 1], owners=owners, arm=arm, asked=False)
        assert left_out == (None, None)
    only_one = accuracies([1, 0, 0, 1], owners=np.zeros(4, int))
    assert only_one == (0.5, 0.5)
    nobody_s = accuracies([1, 0, 0, 1], owners=np.array([-1, 0, 0, 0]))
    assert nobody_s == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_a_class_without_test_examples_has_no_accuracy():
    assert accuracies([1, 0], test_labels=(0, 0)) == (0.5, 0.5)  # of the first client


def test_the_worst_tenth_is_at_least_one_client(blobs):
    ready = runs.prepare(spec(clients=30, partition="shards"), blobs)
    wrong = np.ones((1, len(blobs.test)), bool)
    wrong[0, blobs.test.labels == 0] = False
    counts = class_counts(ready)
    each = np.sort(1 - counts[:, 0] / counts.sum(axis=1))
    got = client_accuracy(ready, wrong)
    assert got["client_accuracy_mean"] == pytest.approx(each.mean())
    assert got["client_accuracy_worst_tenth"] == pytest.approx(each[:3].mean())


def test_dp_leaves_out_what_no_epsilon_covers_unless_told(blobs):
    private = prepared(arm="fl_dp")
    assert shards(private) is None and accuracies([1, 0, 1, 1], arm="fl_dp")[0] is None
    asked = prepared(arm="fl_dp", asked=True)
    assert shards(asked) == shards(prepared())
    assert accuracies([1, 0, 1, 1], arm="fl_dp", asked=True)[0] == pytest.approx(0.8125)
    assert shards(prepared(asked=False)) is None
    pooled = runs.prepare(spec(arm="centralized"), blobs)
    assert shards(pooled) is None


def test_a_run_s_row_has_them(blobs, train):
    row = train().row
    assert 1 / CLASSES < row["client_accuracy_worst_tenth"] <= 1.0
    assert row["client_accuracy_mean"] >= row["client_accuracy_worst_tenth"]
    counts = [list(blobs.test.labels).count(label) for label in range(CLASSES)]
    assert row["largest_class"] == pytest.approx(max(counts) / sum(counts))
    even = dataclasses.replace(blobs, test=blobs.train)
    row = train(even, clients=1).row  # one client, whose records are the test set's
    assert row["client_accuracy_mean"] == pytest.approx(row["accuracy"])
