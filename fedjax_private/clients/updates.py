"""Client functions: train on a shard, and make the update that is uploaded."""

import dataclasses
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from fedjax_private import choices
from fedjax_private.clients.local_dp_sgd import sampled_sum
from fedjax_private.clients.training import Trainer, check_keys, check_trainer
from fedjax_private.datasets.clients import ClientData
from fedjax_private.privacy.shares import SharedPlan
from fedjax_private.programs import depends_on
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


@dataclasses.dataclass(frozen=True)
class _ByExamples:
    normaliser: float

    def __call__(self, data: ClientData) -> Array:
        return data.mask.sum(dtype=jnp.float32) / self.normaliser


def by_examples(normaliser: float) -> Weight:
    """Returns weights by a client's example count over a public normaliser.

    The normaliser, such as the expected total over a cohort, cancels in the mean; it
    keeps the sum of the weights near 1, as encrypted sums need. Not for DP arms: a
    count is a fact about the records.

    Raises:
        ValueError: a normaliser that is not positive and finite.
    """
    weight = _ByExamples(normaliser)
    choices.check(weight, normaliser=choices.positive)
    return weight


def equally(cohort: int) -> Weight:
    """Returns the same public weight for every client of a cohort.

    Raises:
        ValueError: a cohort that is not a number of clients.
    """
    if not isinstance(cohort, numbers.Integral) or cohort < 1:
        got = choices.shown(cohort)
        raise ValueError(f"cohort must be the clients of a round, a number, got {got}.")
    return lambda data: jnp.float32(1.0 / cohort)


def kept(trainer: Trainer) -> Callable[[Params], ClientState]:
    """Returns params -> first state of a `federated` client.

    That is the state of its privacy mechanism, or `()`.

    Raises:
        ValueError: it is no trainer.
    """
    check_trainer(trainer)
    return lambda params: trainer.init(params).mechanism


def federated(trainer: Trainer, weight: Weight) -> ClientUpdate:
    """Returns the client function that sends its weighted difference.

    The client trains from the broadcast params. The update is `{"delta": weight *
    (trained - broadcast), "weight": weight}`: the server takes the weighted mean from
    the two sums, so that no client's weight needs to be known. The client's state is
    that of its privacy mechanism; see `kept`.

    Raises:
        ValueError: an argument of another kind; example counts as weights of a private
            trainer, at once or, for a function of one's own, when it is traced; or a
            state that is not `kept`'s.
    """
    check_trainer(trainer)
    check_weight(weight)
    if trainer.private and isinstance(weight, _ByExamples):
        raise _counts_records()

    def client_update(
        broadcast: Params, state: ClientState, data: ClientData, keys: ClientKeys
    ) -> tuple[ClientOutput, ClientState]:
        check_keys(keys)
        start = trainer.init(broadcast)
        fitting: Any = jax.tree.structure(start.mechanism)
        if fitting != jax.tree.structure(state):
            raise ValueError(
                "the client's state is not that of its privacy mechanism: give the "
                "algorithm init_client=clients.kept(trainer)."
            )
        trained, metrics = trainer.run(start._replace(mechanism=state), data, keys)
        if trainer.private and depends_on(weight, data):
            raise _counts_records()
        share = weight(data)
        delta = jax.tree.map(
            lambda new, old: share * (new - old), trained.params, broadcast
        )
        output = ClientOutput({"delta": delta, "weight": share}, metrics)
        return output, trained.mechanism

    return client_update


def sharing_noise(loss: LossFn, plan: SharedPlan) -> ClientUpdate:
    """Returns the client function that sends a sum of clipped gradients with a share.

    It takes one step a round. The update is the share (P,) of a sum, in the arithmetic
    of its noise: integers are slots of an exact sum, reals are still to be encoded; see
    `SharedPlan.share`. The client's state is that of its mechanism,
    `plan.plan.init(params)` at first. There are no metrics and no weight: nothing but
    the noisy sum may leave a client.

    Formal guarantees: those of `plan`, for released sums only; an upload by itself
    carries one share. `keys` must be fresh in every round; only `keys.noise` is used.
    """
    form = "a SharedPlan, as privacy.shared(make, noise_multiplier, trust) returns"
    choices.check_kind("plan", plan, SharedPlan, form)
    sum_of_sample = sampled_sum(loss, plan.plan)

    def client_update(
        broadcast: Params, state: ClientState, data: ClientData, keys: ClientKeys
    ) -> tuple[ClientOutput, ClientState]:
        total = sum_of_sample(broadcast, state, data, keys, 0)
        slots, state = plan.share(jax.random.fold_in(keys.noise, 0), total, state)
        return ClientOutput(slots, {}), state

    return client_update


def check_weight(weight: Any) -> None:
    """Raises ValueError unless it is a function of a shard."""
    if weight in (equally, by_examples):
        name = weight.__name__
        raise ValueError(
            f"weight must be clients.{name} called with its number, such as "
            f"clients.{name}({'8' if weight is equally else '4000'})."
        )
    form = "a function (shard) -> weight, as clients.equally(cohort) returns"
    choices.check_call("weight", weight, 1, form)


def _counts_records() -> ValueError:
    return ValueError(
        "weight must not depend on the records of a private trainer, whose number no "
        "noise hides: give clients.equally(cohort)."
    )
