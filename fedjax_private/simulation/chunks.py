"""Clients in chunks of one length: rows of pytrees, on the host and on the devices."""

from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import NamedSharding, PartitionSpec

from fedjax_private.clients.for_each import CLIENT_AXIS, client_mesh

Ids = npt.NDArray[np.int64]


def take(tree: Any, ids: Ids, clients: int) -> Any:
    """Rows of a pytree by client id; the tree itself where that is all of them."""
    if len(ids) == clients:
        return tree
    return jax.tree.map(lambda leaf: leaf[ids], tree)


def put(tree: Any, rows: Any, ids: Ids, clients: int) -> Any:
    """Writes rows back, in place where they are some of a host array's."""
    if len(ids) == clients:
        return rows
    for leaf, row in zip(jax.tree.leaves(tree), jax.tree.leaves(rows), strict=True):
        leaf[ids] = np.asarray(row)
    return tree


def chunk_length(cohort: int, most: int) -> int:
    """Clients a chunk: all chunks alike, and divisible by the number of devices.

    None is above `most`, unless the next multiple of that number is. One length for a
    whole run means one compilation. What the last chunk lacks is filled up with clients
    that have no records.
    """
    devices = client_mesh().size
    length = -(-cohort // -(-cohort // most))
    return length + -length % devices


def filled(tree: Any, missing: int) -> Any:
    """Host arrays with zeros in place of the clients that a chunk lacks."""
    if missing == 0:
        return tree
    return jax.tree.map(
        lambda leaf: np.concatenate(
            [leaf, np.zeros((missing, *leaf.shape[1:]), leaf.dtype)]
        ),
        jax.device_get(tree),
    )


def first_rows(tree: Any, count: int) -> Any:
    """The first rows, taken on the host, where a device's part needs no other's."""
    if jax.tree.leaves(tree) and jax.tree.leaves(tree)[0].shape[0] == count:
        return tree
    return jax.tree.map(lambda leaf: leaf[:count], jax.device_get(tree))


def spread(per_client: Any) -> Any:
    """Moves arrays with a leading client axis to the devices, each its own clients'.

    The number of clients must be divisible by that of the devices.
    """
    return jax.device_put(
        per_client, NamedSharding(client_mesh(), PartitionSpec(CLIENT_AXIS))
    )
