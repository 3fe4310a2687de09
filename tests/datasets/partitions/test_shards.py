import numpy as np
import pytest

from fedjax_private.datasets import PARTITIONS, partition
from tests.datasets.partitions.skews import LABELS, label_skew


def shards(labels, clients, count, seed=0, **values):
    values = {"classes_per_client": count, **values}
    return partition(labels, clients, PARTITIONS.choose("shards", values), seed)


def classes_held(parts):
    return np.array([len(np.unique(LABELS[part])) for part in parts])


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("clients", [10, 20])
def test_aligned_shards_hold_at_most_that_many_classes(clients, count):
    # 4,000 / (clients * count) divides or is divided by a class's 400 only in some
    # cases; a misaligned shard may straddle one boundary.
    parts = shards(LABELS, clients, count)
    aligned = 400 % (4000 // (clients * count)) == 0 and 4000 % (clients * count) == 0
    assert classes_held(parts).max() <= (count if aligned else 2 * count)
    assert label_skew(parts) > 0.6


def test_skewed_shards_still_hold_few_classes():
    parts = shards(LABELS, 20, 2, seed=3, size_skew=0.5)
    # A shard reaches over a further boundary only where it is longer than a class.
    assert np.median(classes_held(parts)) <= 4


def test_shards_follow_the_unbalanced_class_mix():
    labels = np.array([0] * 95 + [1] * 5)
    assert sum(1 in labels[part] for part in shards(labels, 10, 1)) == 1
