"""Slices clients into chunks of equal length, padded, and places them on devices."""

from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import NamedSharding, PartitionSpec

from fedjax_private.clients.for_each import CLIENT_AXIS, client_mesh

Ids = npt.NDArray[np.int64]


def take(tree: Any, ids: Ids, clients: int) -> Any:
    """Returns rows of a pytree by client id; the tree itself for all clients."""
    if len(ids) == clients:
        return tree
    return jax.tree.map(lambda leaf: leaf[ids], tree)


def put(tree: Any, rows: Any, ids: Ids, clients: int) -> Any:
    """Writes rows back in place and returns the tree; all rows replace it."""
    if len(ids) == clients:
        return rows
    for leaf, row in zip(jax.tree.leaves(tree), jax.tree.leaves(rows), strict=True):
        leaf[ids] = np.asarray(row)
    return tree


def chunk_length(cohort: int, most: int) -> int:
    """Returns the clients of a chunk: one length, divisible by the number of devices.

    It is at most `most`, rounded up to a multiple of that number. One length for a
    whole run means one compilation. Clients without records fill the last chunk.
    """
    devices = client_mesh().size
    length = -(-cohort // -(-cohort // most))
    return length + -length % devices


def filled(tree: Any, missing: int) -> Any:
    """Returns host arrays with rows of zeros for the clients that a chunk lacks."""
    if missing == 0:
        return tree
    return jax.tree.map(
        lambda leaf: np.concatenate(
            [leaf, np.zeros((missing, *leaf.shape[1:]), leaf.dtype)]
        ),
        jax.device_get(tree),
    )


def first_rows(tree: Any, count: int) -> Any:
    """Returns the first rows, cut on the host, so that devices do not communicate."""
    if jax.tree.leaves(tree) and jax.tree.leaves(tree)[0].shape[0] == count:
        return tree
    return jax.tree.map(lambda leaf: leaf[:count], jax.device_get(tree))


def spread(per_client: Any) -> Any:
    """Moves arrays with a leading client axis to the devices, an equal part to each.

    The number of clients must be divisible by that of the devices.
    """
    return jax.device_put(
        per_client, NamedSharding(client_mesh(), PartitionSpec(CLIENT_AXIS))
    )
