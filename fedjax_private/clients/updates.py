"""Client functions: train on a shard, and make the update that is uploaded."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from fedjax_private.clients.local_dp_sgd import sampled_sum
from fedjax_private.clients.training import Trainer
from fedjax_private.datasets.clients import ClientData
from fedjax_private.privacy.shares import SharedPlan
from fedjax_private.typing import (
    Array,
    Broadcast,
    ClientKeys,
    ClientState,
    LossFn,
    Metrics,
    Params,
)


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

# Shard -> weight of the client in the mean, () float32.
Weight: TypeAlias = Callable[[ClientData], Array]


def by_examples(normaliser: float) -> Weight:
    """Returns weights by a client's example count over a public normaliser.

    The normaliser, such as the expected total over a cohort, cancels in the mean; it
    keeps the sum of the weights near 1, as encrypted sums need. Not for DP arms: a
    count is a fact about the records.
    """
    return lambda data: data.mask.sum(dtype=jnp.float32) / normaliser


def equally(cohort: int) -> Weight:
    """Returns the same public weight for every client of a cohort."""
    return lambda data: jnp.float32(1.0 / cohort)


def kept(trainer: Trainer) -> Callable[[Params], ClientState]:
    """Returns params -> first state of a `federated` client.

    That is the state of its privacy mechanism, or `()`.
    """
    return lambda params: trainer.init(params).mechanism


def federated(trainer: Trainer, weight: Weight) -> ClientUpdate:
    """Returns the client function that sends its weighted difference.

    The client trains from the broadcast params. The update is `{"delta": weight *
    (trained - broadcast), "weight": weight}`: the server takes the weighted mean from
    the two sums, so that no client's weight needs to be known. The client's state is
    that of its privacy mechanism; see `kept`.
    """

    def client_update(
        broadcast: Params, state: ClientState, data: ClientData, keys: ClientKeys
    ) -> tuple[ClientOutput, ClientState]:
        start = trainer.init(broadcast)._replace(mechanism=state)
        trained, metrics = trainer.train(start, data, keys)
        share = weight(data)
        delta = jax.tree.map(
            lambda new, old: share * (new - old), trained.params, broadcast
        )
        output = ClientOutput({"delta": delta, "weight": share}, metrics)
        return output, trained.mechanism

    return client_update


def sharing_noise(loss: LossFn, plan: SharedPlan) -> ClientUpdate:
    """Returns the client function that sends a sum of clipped gradients with a share.

    It takes one step a round. The update is the slots (P,) of an encrypted sum, already
    encoded, since the share is added in their arithmetic; see `SharedPlan.share`. The
    client's state is that of its mechanism, `plan.plan.init(params)` at first. There
    are no metrics and no weight: nothing but the noisy sum may leave a client.

    Formal guarantees: those of `plan`, for released sums only; an upload by itself
    carries one share. `keys` must be fresh in every round; only `keys.noise` is used.
    """
    sum_of_sample = sampled_sum(loss, plan.plan)

    def client_update(
        broadcast: Params, state: ClientState, data: ClientData, keys: ClientKeys
    ) -> tuple[ClientOutput, ClientState]:
        total = sum_of_sample(broadcast, state, data, keys, 0)
        slots, state = plan.share(jax.random.fold_in(keys.noise, 0), total, state)
        return ClientOutput(slots, {}), state

    return client_update
