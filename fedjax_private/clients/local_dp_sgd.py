"""Local DP-SGD: Poisson batches, per-example clipping, noise."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from fedjax_private import choices
from fedjax_private.choices import Settings
from fedjax_private.clients.entries import ClientEntry
from fedjax_private.clients.training import (
    MOST,
    Trainer,
    TrainState,
    add_up,
    check_shard,
    physical_batch_size,
    stepper,
)
from fedjax_private.datasets.clients import ClientData
from fedjax_private.hyperparameters import Hyperparameters
from fedjax_private.privacy.gradients.sums import check_loss
from fedjax_private.privacy.plan import PrivacyPlan
from fedjax_private.typing import Array, ClientKeys, LossFn, Metrics, Params


@dataclasses.dataclass(frozen=True)
class DpSgdConfig:
    """The training part of local DP-SGD; its `PrivacyPlan` holds the private part.

    Attributes:
        learning_rate: step size.
        momentum: heavy-ball coefficient in [0, 1).
        steps: noisy steps in one round.
        physical_batch_size: examples whose gradients are held at once; affects memory
            and speed only. None takes a size that was measured to be fast: on CPUs so
            few that they stay in the cache, elsewhere many.
    """

    learning_rate: float
    momentum: float = 0.0
    steps: int = 1
    physical_batch_size: int | None = None

    def __post_init__(self) -> None:
        choices.check(
            self,
            learning_rate=choices.positive,
            momentum=choices.below_one,
            steps=choices.at_least(1),
            physical_batch_size=choices.at_least(1),
        )


# Folded into a client's noise key for its samples. Steps fold in their own number for
# their noise, which never reaches it.
SAMPLES = 2**31 - 1


# (params, mechanism's state, shard, keys, step of the round) -> sum (P + extra,).
SampledSum: TypeAlias = Callable[
    [Params, Any, ClientData, ClientKeys, Array | int], Array
]


def sampled_sum(
    loss: LossFn, plan: PrivacyPlan, physical: int | None = None
) -> SampledSum:
    """Returns the function that draws a step's sample and sums bounded contributions.

    The sum has no noise yet and is private: only a plan's noise may follow. The sample
    comes from `keys.noise`; see `dp_sgd`.
    """
    check_loss(loss)
    form = "a PrivacyPlan, as a mechanism makes"
    choices.check_kind("plan", plan, PrivacyPlan, form)
    bounded = plan.bounded_sum(loss)

    def run(
        params: Params, mechanism: Any, data: ClientData, keys: ClientKeys, index: Any
    ) -> Array:
        data = jax.tree.map(jnp.asarray, data)
        mask = jnp.asarray(data.mask)
        size = physical_batch_size(physical, loss, params, data, MOST)
        sample_key = jax.random.fold_in(keys.noise, SAMPLES)
        selection = plan.sample(sample_key, mask, index, mechanism)

        def part(batch: Array | int) -> Any:
            indices, valid = selection.batch(batch, size)
            return bounded(
                params, data.inputs[indices], data.labels[indices], valid, mechanism
            )

        total, _ = ravel_pytree(add_up(part, selection.batches(size)))
        return total

    return run


def dp_sgd(loss: LossFn, config: DpSgdConfig, plan: PrivacyPlan) -> Trainer:
    """Returns DP-SGD (Abadi et al. 2016): Poisson batches, per-example clipping, noise.

    There are no metrics: nothing but the noisy updates may leave a client. The private
    part of a step, and its state between steps and rounds, are the plan's.

    Formal guarantees: those of `plan`. A client that takes part in n rounds runs
    `plan.event(n * config.steps)`; an accountant may be charged
    `plan.event(config.steps)` a round unless the plan is `correlated`. `keys` must be
    fresh in every round, and the mechanism's state that of the client's last round.
    Only `keys.noise` is used, for samples as well as for noise: amplification by
    sampling holds only against those who do not know the sample, so that no public
    seed may decide it.
    """
    form = "a DpSgdConfig, such as DpSgdConfig(learning_rate=0.1)"
    choices.check_kind("config", config, DpSgdConfig, form)
    start, step = stepper(config.learning_rate, config.momentum)
    sum_of_sample = sampled_sum(loss, plan, config.physical_batch_size)

    def init(params: Params) -> TrainState:
        return start(params)._replace(mechanism=plan.init(params))

    def train(
        state: TrainState, data: ClientData, keys: ClientKeys
    ) -> tuple[TrainState, Metrics]:
        check_shard(state, data, keys)
        _, unravel = ravel_pytree(state.params)

        def one_step(index: Array, state: TrainState) -> TrainState:
            total = sum_of_sample(state.params, state.mechanism, data, keys, index)
            gradient, mechanism = plan.release(
                jax.random.fold_in(keys.noise, index), total, state.mechanism
            )
            return step(state, unravel(gradient))._replace(mechanism=mechanism)

        return jax.lax.fori_loop(0, config.steps, one_step, state), {}

    return Trainer(init, train, private=True)


def _of_run(
    loss: LossFn, values: Hyperparameters, plan: PrivacyPlan | None, settings: Settings
) -> Trainer:
    assert plan is not None
    config = DpSgdConfig(values.learning_rate, values.momentum, values.noisy_steps)
    return dp_sgd(loss, config, plan)


DP_SGD = ClientEntry(
    "dp_sgd", "DP-SGD: Poisson batches, clipped gradients, noise", _of_run, private=True
)
