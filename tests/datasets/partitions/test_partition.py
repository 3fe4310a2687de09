"""What holds for every partitioner, and partitioners of the user's own."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fedjax_private.datasets import PARTITIONS, Partitioner, partition
from tests.datasets.partitions.skews import LABELS

VALUES = {
    "size_skew": [0.0, 0.3, 1.0, 5.0, 100.0],
    "classes_per_client": [1, 2, 3, 7, 1000],
    "alpha": [5e-324, 1e-9, 0.1, 0.5, 10, 1e308],
}


# Those that deal to any number of clients.
FREE = [entry for entry in PARTITIONS.entries() if entry.count is None]


@st.composite
def schemes(draw):
    entry = draw(st.sampled_from(FREE))
    names = [field for field in VALUES if hasattr(entry.settings(), field)]
    values = {name: draw(st.sampled_from(VALUES[name])) for name in names}
    return PARTITIONS.choose(entry, values)


label_arrays = st.lists(st.integers(-3, 12), min_size=1, max_size=200).map(np.array)


@settings(max_examples=300, deadline=None)
@given(
    labels=label_arrays, scheme=schemes(), seed=st.integers(0, 2**64), data=st.data()
)
def test_every_example_at_exactly_one_client_and_none_empty(labels, scheme, seed, data):
    clients = data.draw(st.integers(1, len(labels)))
    parts = partition(labels, clients, scheme, seed)
    assert len(parts) == clients
    assert all(len(part) for part in parts)
    assert all(part.dtype == np.int64 and (np.diff(part) > 0).all() for part in parts)
    np.testing.assert_array_equal(
        np.sort(np.concatenate(parts)), np.arange(len(labels))
    )
    if scheme.settings.size_skew == 0:
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
    again = partition(labels, clients, scheme, seed)
    assert all(map(np.array_equal, parts, again))


@pytest.mark.parametrize("size_skew", [0.0, 1.0])
@pytest.mark.parametrize("name", [entry.name for entry in FREE])
def test_seeds_give_different_partitions(name, size_skew):
    scheme = PARTITIONS.choose(name, {"size_skew": size_skew})
    first, second = (partition(LABELS, 8, scheme, seed) for seed in (0, 1))
    assert not all(map(np.array_equal, first, second))


def test_a_name_an_entry_and_a_choice_are_the_same():
    parts = [
        partition(LABELS, 8, scheme, 0)
        for scheme in ("shards", PARTITIONS.find("shards"), PARTITIONS.choose("shards"))
    ]
    assert all(map(np.array_equal, parts[0], parts[1]))
    assert all(map(np.array_equal, parts[0], parts[2]))


@pytest.mark.parametrize(
    ("clients", "words"),
    [(0, "must be at least 1"), (-3, "1 to 5"), (6, "at most 5")],
)
def test_bad_numbers_of_clients(clients, words):
    with pytest.raises(ValueError, match=r"^clients") as error:
        partition(np.arange(5), clients, "iid", 0)
    assert words in str(error.value)


def test_bad_labels_seed_and_name():
    with pytest.raises(ValueError, match="vector of integers"):
        partition(np.zeros((2, 2), int), 1, "iid", 0)
    with pytest.raises(ValueError, match="vector of integers"):
        partition(np.zeros(3), 1, "iid", 0)
    with pytest.raises(ValueError, match=r"^seed"):
        partition(np.arange(3), 1, "iid", -1)
    with pytest.raises(ValueError, match=r"'IID' is unknown.*iid, shards, dirichlet"):
        partition(np.arange(3), 1, "IID", 0)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("iid", "size_skew", -0.1),
        ("iid", "size_skew", float("nan")),
        ("iid", "size_skew", 101),
        ("shards", "size_skew", -1),
        ("shards", "classes_per_client", 0),
        ("dirichlet", "alpha", 0),
        ("dirichlet", "alpha", -1),
        ("dirichlet", "alpha", float("nan")),
        ("dirichlet", "alpha", float("inf")),
        ("dirichlet", "size_skew", float("inf")),
        ("iid", "alpha", 0.5),  # not its own
    ],
)
def test_bad_settings_are_named(name, setting, value):
    with pytest.raises(ValueError, match=f"^{setting}"):
        PARTITIONS.choose(name, {setting: value})


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module outside the tree: a bare function, an entry with a setting, a number."""
    (tmp_path / "own_partitions.py").write_text(
        """
import dataclasses

import numpy as np

from fedjax_private.choices import Settings, at_least, setting
from fedjax_private.datasets import Partitioner


def interleaved(labels, clients, rng):
    order = rng.permutation(len(labels))
    return [order[k::clients] for k in range(clients)]


@dataclasses.dataclass(frozen=True)
class Capped(Settings):
    most: int = setting(2, "examples per client", at_least(1))


CAPPED = Partitioner(
    "capped",
    "few examples each",
    lambda labels, clients, settings, rng: [
        np.arange(len(labels))[k::clients][: settings.most] for k in range(clients)
    ],
    Capped,
)
NUMBER = 3
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "own_partitions"


def test_a_function_of_the_users(own_module):
    parts = partition(LABELS, 7, f"{own_module}:interleaved", 0)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(4000))
    assert all((np.diff(part) > 0).all() for part in parts)
    other = partition(LABELS, 7, f"{own_module}:interleaved", 1)
    assert not all(map(np.array_equal, parts, other))


def test_an_entry_of_the_users(own_module):
    scheme = PARTITIONS.choose(f"{own_module}:CAPPED", {"most": 3})
    assert scheme.described() == {"name": f"{own_module}:CAPPED", "most": 3}
    assert [len(part) for part in partition(LABELS, 5, scheme, 0)] == [3] * 5
    with pytest.raises(ValueError, match="most must be at least 1"):
        PARTITIONS.choose(f"{own_module}:CAPPED", {"most": 0})


@pytest.mark.parametrize(
    ("attribute", "words"),
    [("NUMBER", "got int"), ("missing", "no attribute 'missing'")],
)
def test_attributes_that_are_no_partitioners(own_module, attribute, words):
    with pytest.raises(ValueError, match=words):
        partition(LABELS, 2, f"{own_module}:{attribute}", 0)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (None, "for each of the 2 clients, got NoneType"),
        ([[0, 1, 2]], "for each of the 2 clients, got 1"),
        ([[0], []], "client 1 without examples"),
        ([[0], [0.5]], "vectors of integers, got float64"),
        ([[0], [[1]]], "vectors of integers"),
        ([[True, False], [1]], "vectors of integers, got bool"),
        ([[0], [5]], r"client 1 positions from 5 to 5, outside 0\.\.4"),
        ([[-1], [1]], "client 0 positions from -1"),
        ([[0, 1], [1]], "example 1 2 times"),
        ([[0, 3, 3], [1]], "example 3 2 times"),
    ],
)
def test_partitions_of_the_users_are_checked(parts, words):
    own = Partitioner("own", "given parts", lambda *_: parts)
    with pytest.raises(ValueError, match=f"partition own.*{words}"):
        partition(np.arange(5), 2, own, 0)


def test_any_iterable_of_parts_will_do():
    own = Partitioner("own", "rows", lambda *_: np.array([[1, 0], [3, 2]], np.uint8))
    for part, row in zip(
        partition(np.arange(5), 2, own, 0), [[0, 1], [2, 3]], strict=True
    ):
        np.testing.assert_array_equal(part, row)
        assert part.dtype == np.int64
    lazy = Partitioner("own", "lazy", lambda *_: ([k] for k in range(2)))
    assert len(functools.reduce(np.append, partition(LABELS, 2, lazy, 0))) == 2
