import numpy as np

from fedjax_private.datasets import PARTITIONS, partition
from tests.datasets.partitions.skews import LABELS, label_skew


def dirichlet(alpha):
    return PARTITIONS.choose("dirichlet", {"alpha": alpha})


def test_alpha_orders_the_skew():
    skews = [
        np.mean([label_skew(partition(LABELS, 16, dirichlet(a), s)) for s in range(3)])
        for a in (0.01, 0.1, 1.0, 100.0)
    ]
    assert skews == sorted(skews, reverse=True)
    assert skews[0] > 0.75
    assert skews[-1] < 0.1


def test_mixes_have_the_stated_mean_and_spread():
    # One of many clients draws nearly independently of the others, so that the share
    # of a class is Beta(alpha, 9 alpha): mean 0.1, variance 0.09 / (10 alpha + 1).
    labels = np.repeat(np.arange(10), 20_000)
    parts = partition(labels, 400, dirichlet(1.0), 0)
    shares = np.array([np.mean(labels[part] == 0) for part in parts])
    assert abs(shares.mean() - 0.1) < 1e-6
    # The last clients to draw take what is left, hence the tolerance.
    assert abs(shares.var() / (0.09 / 11) - 1) < 0.35
