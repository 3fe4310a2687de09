"""The signature of client functions."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from fedjax_private.datasets.clients import ClientData
from fedjax_private.typing import Broadcast, ClientKeys, ClientState, Metrics, Params


class ClientOutput(NamedTuple):
    """The output of one client in one round.

    Attributes:
        update: a pytree of float32 arrays to be *added* over clients, weights already
            applied. It is packed into one vector and goes through the aggregation.
        metrics: sums that only the simulation sees; empty in DP arms.
    """

    update: Params
    metrics: Metrics


# (broadcast, client state, shard, keys) -> (output, next client state). Pure, jittable
# and vmappable; one client, no leading axis.
ClientUpdate: TypeAlias = Callable[
    [Broadcast, ClientState, ClientData, ClientKeys], tuple[ClientOutput, ClientState]
]
