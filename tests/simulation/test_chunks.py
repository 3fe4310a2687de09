import jax
import numpy as np
import pytest

from fedjax_private.simulation.chunks import (
    chunk_length,
    filled,
    first_rows,
    put,
    spread,
    take,
)


def tree(clients):
    return {"a": np.arange(clients), "b": np.arange(2.0 * clients).reshape(-1, 2)}


@pytest.mark.parametrize("cohort", [1, 3, 8, 100])
@pytest.mark.parametrize("most", [1, 7, 64])
def test_chunks_of_one_length_cover_a_cohort(cohort, most):
    devices = jax.local_device_count()
    length = chunk_length(cohort, most)
    assert length % devices == 0
    assert length < most + devices
    assert length * -(-cohort // length) >= cohort


def test_rows_are_taken_and_put_back_in_place():
    whole, ids = tree(5), np.array([1, 4])
    rows = take(whole, ids, 5)
    np.testing.assert_array_equal(rows["a"], ids)
    changed = jax.tree.map(lambda leaf: leaf + 100, rows)
    back = put(whole, changed, ids, 5)
    assert back is whole
    assert whole["a"].tolist() == [0, 101, 2, 3, 104]
    np.testing.assert_array_equal(whole["b"][[1, 4]], changed["b"])


def test_all_rows_are_the_tree_itself():
    whole, rows = tree(3), tree(3)
    everybody = np.arange(3)
    assert take(whole, everybody, 3) is whole
    assert put(whole, rows, everybody, 3) is rows


def test_filled_up_with_zeros_and_cut_again():
    whole = tree(3)
    longer = filled(whole, 2)
    assert longer["a"].tolist() == [0, 1, 2, 0, 0]
    assert not longer["b"][3:].any()
    assert filled(whole, 0) is whole
    again = first_rows(longer, 3)
    jax.tree.map(np.testing.assert_array_equal, again, whole)
    assert first_rows((), 3) == ()


def test_spread_keeps_the_values():
    clients = 2 * jax.local_device_count()
    whole = tree(clients)
    jax.tree.map(np.testing.assert_array_equal, spread(whole), whole)
