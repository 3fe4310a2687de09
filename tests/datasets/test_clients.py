import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private.datasets import (
    ClientData,
    Examples,
    client_data,
)


def make(labels):
    labels = np.asarray(labels, np.int32)
    pixels = np.arange(len(labels) * 6) % 255 + 1  # never 0, which is padding
    return Examples(pixels.reshape(-1, 2, 3, 1).astype(np.uint8), labels)


def test_client_data_pads_and_masks():
    examples = make([5, 6, 7, 8])
    data = client_data(examples, [np.array([0, 2, 3]), np.array([1])])
    assert data.inputs.shape == (2, 4, 2, 3, 1)
    assert (data.inputs.dtype, data.labels.dtype, data.mask.dtype) == (
        np.uint8,
        np.int32,
        np.bool_,
    )
    np.testing.assert_array_equal(data.labels, [[5, 7, 8, 0], [6, 0, 0, 0]])
    np.testing.assert_array_equal(data.mask, [[1, 1, 1, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(data.inputs[0, :3], examples.inputs[[0, 2, 3]])
    assert not data.inputs[~data.mask].any()
    np.testing.assert_array_equal(data.mask.sum(axis=1), [3, 1])
    taken = data.take([1, 1, 0])
    np.testing.assert_array_equal(taken.mask.sum(axis=1), [1, 1, 3])
    with pytest.raises(IndexError):
        data.take([2])


def test_client_data_is_a_pytree_that_vmaps():
    data = client_data(make([1, 2, 3]), [np.array([0, 1]), np.array([2])])
    assert len(jax.tree.leaves(data)) == 3
    assert isinstance(jax.tree.map(jnp.asarray, data), ClientData)

    def one_client(client):
        assert client.inputs.shape == (2, 2, 3, 1)
        return jnp.sum(client.labels * client.mask), jnp.sum(client.mask)

    sums, counts = jax.jit(jax.vmap(one_client))(data)
    np.testing.assert_array_equal(sums, [3, 3])
    np.testing.assert_array_equal(counts, [2, 1])
    picked = jax.jit(lambda data, ids: data.take(ids))(data, jnp.array([1]))
    np.testing.assert_array_equal(picked.labels, [[3, 0]])


@pytest.mark.parametrize(
    ("largest", "length"), [(0, 1), (1, 1), (3, 4), (4, 4), (5, 8)]
)
def test_lengths_are_powers_of_two(largest, length):
    data = client_data(make(range(5)), [np.arange(largest), np.arange(0)])
    assert data.mask.shape == (2, length)


def test_client_data_rejects_positions():
    with pytest.raises(ValueError, match="at least one client"):
        client_data(make([0]), [])
    for bad in ([-1], [3]):
        with pytest.raises(ValueError, match="outside the 3 examples"):
            client_data(make([0, 1, 2]), [np.array(bad)])
    empty = client_data(make([0]), [np.array([], int)])
    np.testing.assert_array_equal(empty.mask, [[False]])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int32])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_client_data_of_any_shape(shape, dtype):
    inputs = np.arange(1, 4 * np.prod(shape, dtype=int) + 1, dtype=dtype)
    examples = Examples(inputs.reshape(4, *shape), np.arange(4, dtype=np.int32))
    data = client_data(examples, [np.array([3, 1]), np.array([0])])
    assert (data.inputs.shape, data.inputs.dtype) == ((2, 2, *shape), dtype)
    np.testing.assert_array_equal(data.inputs[0], examples.inputs[[3, 1]])
    assert not data.inputs[1, 1].any()
