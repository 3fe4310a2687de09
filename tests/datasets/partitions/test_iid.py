import numpy as np

from fedjax_private.datasets import PARTITIONS, partition
from tests.datasets.partitions.skews import LABELS, label_skew


def test_iid_is_close_to_the_whole():
    assert label_skew(partition(LABELS, 8, "iid", 0)) < 0.06


def test_size_skew_is_the_standard_deviation_of_log_sizes():
    labels = np.zeros(2_000_000, np.int32)
    scheme = PARTITIONS.choose("iid", {"size_skew": 0.7})
    sizes = np.array([len(part) for part in partition(labels, 2_000, scheme, 0)])
    assert abs(np.log(sizes).std() - 0.7) < 0.03
