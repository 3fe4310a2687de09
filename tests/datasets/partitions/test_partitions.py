import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_private.datasets.partitions import (
    Dirichlet,
    Iid,
    Shards,
    parse_scheme,
    partition,
)

skews = st.sampled_from([0.0, 0.3, 1.0, 5.0, 100.0])
schemes = st.one_of(
    st.builds(Iid, skews),
    st.builds(Shards, st.sampled_from([1, 2, 3, 7, 1000]), skews),
    st.builds(Dirichlet, st.sampled_from([5e-324, 1e-9, 0.1, 0.5, 10, 1e308]), skews),
)
label_arrays = st.lists(st.integers(-3, 12), min_size=1, max_size=200).map(np.array)


@settings(max_examples=300, deadline=None)
@given(labels=label_arrays, scheme=schemes, seed=st.integers(0, 2**64), data=st.data())
def test_every_example_at_exactly_one_client_and_none_empty(labels, scheme, seed, data):
    clients = data.draw(st.integers(1, len(labels)))
    parts = partition(labels, clients, scheme, seed)
    assert len(parts) == clients
    assert all(len(part) for part in parts)
    assert all(part.dtype == np.int64 and (np.diff(part) > 0).all() for part in parts)
    np.testing.assert_array_equal(
        np.sort(np.concatenate(parts)), np.arange(len(labels))
    )
    if scheme.size_skew == 0:
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
    again = partition(labels, clients, scheme, seed)
    assert all(map(np.array_equal, parts, again))


LABELS = np.repeat(np.arange(10, dtype=np.int32), 400)


def classes_held(parts):
    return np.array([len(np.unique(LABELS[part])) for part in parts])


def label_skew(parts):
    """Mean total variation distance of the clients' class mixes from the whole's."""
    mixes = np.array([np.bincount(LABELS[p], minlength=10) / len(p) for p in parts])
    return 0.5 * np.abs(mixes - 0.1).sum(axis=1).mean()


@pytest.mark.parametrize(
    "scheme", [Iid(), Shards(), Dirichlet(), Iid(1.0), Shards(2, 1.0)]
)
def test_seeds_give_different_partitions(scheme):
    first, second = (partition(LABELS, 8, scheme, seed) for seed in (0, 1))
    assert not all(map(np.array_equal, first, second))


def test_iid_is_close_to_the_whole():
    assert label_skew(partition(LABELS, 8, Iid(), 0)) < 0.06


@pytest.mark.parametrize("shards", [1, 2, 3])
@pytest.mark.parametrize("clients", [10, 20])
def test_aligned_shards_hold_at_most_that_many_classes(clients, shards):
    # 4,000 / (clients * shards) divides or is divided by a class's 400 only in some
    # cases; a misaligned shard may straddle one boundary.
    parts = partition(LABELS, clients, Shards(shards), 0)
    aligned = 400 % (4000 // (clients * shards)) == 0 and 4000 % (clients * shards) == 0
    assert classes_held(parts).max() <= (shards if aligned else 2 * shards)
    assert label_skew(parts) > 0.6


def test_skewed_shards_still_hold_few_classes():
    parts = partition(LABELS, 20, Shards(2, 0.5), 3)
    # A shard reaches over a further boundary only where it is longer than a class.
    assert np.median(classes_held(parts)) <= 4


def test_dirichlet_alpha_orders_the_skew():
    skews = [
        np.mean([label_skew(partition(LABELS, 16, Dirichlet(a), s)) for s in range(3)])
        for a in (0.01, 0.1, 1.0, 100.0)
    ]
    assert skews == sorted(skews, reverse=True)
    assert skews[0] > 0.75
    assert skews[-1] < 0.1


def test_dirichlet_mixes_have_the_stated_mean_and_spread():
    # One of many clients draws nearly independently of the others, so that the share
    # of a class is Beta(alpha, 9 alpha): mean 0.1, variance 0.09 / (10 alpha + 1).
    labels = np.repeat(np.arange(10), 20_000)
    parts = partition(labels, 400, Dirichlet(1.0), 0)
    shares = np.array([np.mean(labels[part] == 0) for part in parts])
    assert abs(shares.mean() - 0.1) < 1e-6
    # The last clients to draw take what is left, hence the tolerance.
    assert abs(shares.var() / (0.09 / 11) - 1) < 0.35


def test_size_skew_is_the_standard_deviation_of_log_sizes():
    labels = np.zeros(2_000_000, np.int32)
    sizes = np.array([len(part) for part in partition(labels, 2_000, Iid(0.7), 0)])
    assert abs(np.log(sizes).std() - 0.7) < 0.03


def test_shards_follow_the_unbalanced_class_mix():
    labels = np.array([0] * 95 + [1] * 5)
    parts = partition(labels, 10, Shards(1), 0)
    assert sum(1 in labels[part] for part in parts) == 1


@pytest.mark.parametrize(
    ("clients", "words"),
    [(0, "--clients must be at least 1"), (-3, "1 to 5"), (6, "at most 5")],
)
def test_bad_numbers_of_clients(clients, words):
    with pytest.raises(ValueError, match="--clients") as error:
        partition(np.arange(5), clients, Iid(), 0)
    assert words in str(error.value)


def test_bad_labels_and_seed():
    with pytest.raises(ValueError, match="vector of integers"):
        partition(np.zeros((2, 2), int), 1, Iid(), 0)
    with pytest.raises(ValueError, match="vector of integers"):
        partition(np.zeros(3), 1, Iid(), 0)
    with pytest.raises(ValueError, match="--seed"):
        partition(np.arange(3), 1, Iid(), -1)


@pytest.mark.parametrize(
    ("build", "flag"),
    [
        (lambda: Iid(-0.1), "--size_skew"),
        (lambda: Iid(float("nan")), "--size_skew"),
        (lambda: Iid(101), "--size_skew"),
        (lambda: Shards(2, -1), "--size_skew"),
        (lambda: Shards(0), "--classes_per_client"),
        (lambda: Dirichlet(0), "--alpha"),
        (lambda: Dirichlet(-1), "--alpha"),
        (lambda: Dirichlet(float("nan")), "--alpha"),
        (lambda: Dirichlet(float("inf")), "--alpha"),
        (lambda: Dirichlet(1, float("inf")), "--size_skew"),
    ],
)
def test_schemes_reject_values_and_name_the_flag(build, flag):
    with pytest.raises(ValueError, match=flag):
        build()


def test_parse_scheme():
    settings = {"alpha": 0.1, "classes_per_client": 3, "size_skew": 0.2}
    assert parse_scheme("iid", **settings) == Iid(0.2)
    assert parse_scheme("shards", **settings) == Shards(3, 0.2)
    assert parse_scheme("dirichlet", **settings) == Dirichlet(0.1, 0.2)
    # The settings of other schemes are not looked at.
    assert parse_scheme("iid", alpha=-1, classes_per_client=0) == Iid()
    with pytest.raises(ValueError, match=r"'IID'.*iid, shards and dirichlet"):
        parse_scheme("IID")
