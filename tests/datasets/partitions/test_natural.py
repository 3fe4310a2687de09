"""Clients that the data name."""

import numpy as np
import pytest

from fedjax_private.datasets import Partitioner, named_clients, partition

LABELS = np.array([0, 1, 0, 1, 0, 1])
GROUPS = np.array([7, 2, 7, 7, 30, 2], np.int32)


def deal(clients=None, scheme="natural", groups=GROUPS):
    parts = partition(LABELS, clients, scheme, 0, groups=groups)
    return [part.tolist() for part in parts]


@pytest.mark.parametrize("clients", [None, 3])
def test_each_named_client_has_its_own_in_the_order_of_numbers(clients):
    assert deal(clients) == [[1, 5], [0, 2, 3], [4]]
    assert named_clients("natural", GROUPS) == 3
    assert named_clients("iid", GROUPS) is None is named_clients("iid", None)


@pytest.mark.parametrize("clients", [2, 4])
def test_another_number_of_clients_is_refused(clients):
    with pytest.raises(ValueError, match=f"clients={clients} and the data name 3: "):
        deal(clients)


def test_data_that_name_no_clients_are_refused():
    with pytest.raises(ValueError, match=r"needs data that name .*give client_column"):
        deal(groups=None)
    with pytest.raises(ValueError, match="clients must be given with partition=iid"):
        deal(scheme="iid")


@pytest.mark.parametrize("groups", [GROUPS[:5], GROUPS / 2, GROUPS[:, None]])
def test_groups_are_a_vector_of_whole_numbers(groups):
    with pytest.raises(ValueError, match="groups must be a vector of 6 integers"):
        deal(groups=groups)


def test_a_partitioner_of_the_users_may_deal_by_groups():
    def pairs(labels, clients, settings, rng, *, groups):
        return [np.flatnonzero((groups > 7) == side) for side in (False, True)]

    two = Partitioner("pairs", "of wards", pairs, count=lambda groups: 2)
    assert deal(scheme=two) == [[0, 1, 2, 3, 5], [4]]
