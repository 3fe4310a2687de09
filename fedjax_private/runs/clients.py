"""Facts about the clients of a run: their shards, and the accuracy of each.

Sizes and class counts of shards are facts about the clients' records, which no epsilon
covers. Runs with DP therefore leave them out unless `Spec.client_statistics` asks for
them, which is meant for simulations on public data. Accuracies on test examples that
name their clients tell nothing of training records; `client_statistics=False` leaves
them out as well.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.runs.preparation import Prepared

# Class counts are listed for at most so many clients and classes.
MOST_LISTED = 32


def class_counts(prepared: Prepared) -> npt.NDArray[np.int64]:
    """Returns how many records of each class each client has: (clients, classes)."""
    labels, mask = np.asarray(prepared.data.labels), np.asarray(prepared.data.mask)
    clients, classes = prepared.clients, prepared.dataset.num_classes
    cells = np.arange(clients)[:, None] * classes + labels
    counts = np.bincount(cells[mask], minlength=clients * classes)
    return counts.reshape(clients, classes)


def shards(prepared: Prepared) -> dict[str, Any] | None:
    """Returns shard sizes and class counts for config.json; None where left out.

    `sizes` and `classes` hold the smallest, the median and the largest number of
    records of a client, and of its classes; `class_counts` the counts of each client,
    where there are at most `MOST_LISTED` clients and classes; `class_names` the names
    of classes that have one; `client_names` those of clients that the data name.
    """
    if not _about_shards(prepared):
        return None
    counts = class_counts(prepared)
    listed = max(counts.shape) <= MOST_LISTED
    return {
        "sizes": _range(counts.sum(axis=1)),
        "classes": _range((counts > 0).sum(axis=1)),
        "class_counts": counts.tolist() if listed else None,
        "class_names": prepared.dataset.class_names,
        "client_names": prepared.client_names if listed else None,
    }


def client_accuracy(
    prepared: Prepared, correct: npt.NDArray[np.bool_] | None
) -> dict[str, float | None]:
    """Returns the mean accuracy over clients, and that of the worst tenth of them.

    Where the test examples name their clients, a client's accuracy is that on its own
    test examples. Otherwise it is the model's accuracy on each class of the test set,
    weighted by the client's class frequencies: what it would be on test examples that
    are distributed over the classes as the client's records are. These frequencies are
    facts about the records: runs with DP give None, unless `client_statistics` is set.
    `client_statistics=False` gives None in all runs. Pooled data have no clients.

    Args:
        prepared: the run.
        correct: (models, test examples): which example each model classifies rightly.
            One model, or one a client. None where nobody counted.
    """
    values = None if correct is None else _accuracies(prepared, correct)
    if values is None or not len(values):
        return {"client_accuracy_mean": None, "client_accuracy_worst_tenth": None}
    worst = np.sort(values)[: math.ceil(len(values) / 10)]
    return {
        "client_accuracy_mean": float(values.mean()),
        "client_accuracy_worst_tenth": float(worst.mean()),
    }


def _accuracies(
    prepared: Prepared, correct: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64] | None:
    """The accuracy of each client that has one."""
    if prepared.spec.traits.pooled or prepared.spec.client_statistics is False:
        return None
    test, classes = prepared.dataset.test, prepared.dataset.num_classes
    model_of = np.arange(prepared.clients) * (len(correct) > 1)
    if (owners := prepared.test_owners) is not None:
        owned = owners >= 0
        counts = np.bincount(owners[owned], minlength=prepared.clients)
        right = np.stack(
            [
                np.bincount(owners[owned], each[owned], prepared.clients)
                for each in correct
            ]
        )
        tested = np.flatnonzero(counts)
        return np.asarray(right[model_of[tested], tested] / counts[tested])
    if not _about_shards(prepared):
        return None
    tests = np.bincount(test.labels, minlength=classes)
    right = np.stack([np.bincount(test.labels, each, classes) for each in correct])
    by_class = right / np.maximum(tests, 1)  # (models, classes)
    # Classes without test examples have no accuracy: the others stand for them.
    weights = class_counts(prepared) * (tests > 0)
    kept = np.flatnonzero(weights.sum(axis=1))
    sums = (weights[kept] * by_class[model_of[kept]]).sum(axis=1)
    return np.asarray(sums / weights[kept].sum(axis=1))


def _about_shards(prepared: Prepared) -> bool:
    """Whether facts about shards may be written."""
    arm, asked = prepared.spec.traits, prepared.spec.client_statistics
    return not arm.pooled and (not arm.private if asked is None else asked)


def _range(values: npt.NDArray[np.int64]) -> dict[str, float]:
    return {
        "min": int(values.min()),
        "median": float(np.median(values)),
        "max": int(values.max()),
    }
