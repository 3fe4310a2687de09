"""The signature that every client function has."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from fedjax_private.datasets.clients import ClientData
from fedjax_private.typing import Broadcast, ClientKeys, ClientState, Metrics, Params


class ClientOutput(NamedTuple):
    """What one client gives away in one round.

    Attributes:
        update: a pytree of float32 arrays to be *added* over clients, weights already
            applied. It is packed into one vector and goes through the aggregation.
        metrics: sums for the simulation's own eyes; empty in DP arms.
    """

    update: Params
    metrics: Metrics


# (what the server sent, what the client kept, its shard, its keys) -> (what it gives
# away, what it keeps). Pure, jittable, vmappable; one client, no leading axis.
ClientUpdate: TypeAlias = Callable[
    [Broadcast, ClientState, ClientData, ClientKeys], tuple[ClientOutput, ClientState]
]
