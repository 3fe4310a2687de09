"""Local SGD, without privacy."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_private import choices
from fedjax_private.choices import Settings
from fedjax_private.clients.entries import ClientEntry
from fedjax_private.clients.training import (
    Trainer,
    TrainState,
    add_up,
    check_shard,
    physical_batch_size,
    stepper,
)
from fedjax_private.datasets.clients import ClientData
from fedjax_private.hyperparameters import Hyperparameters
from fedjax_private.privacy.gradients.sums import check_loss, summed_gradient
from fedjax_private.privacy.plan import PrivacyPlan
from fedjax_private.privacy.sampling import shuffled
from fedjax_private.typing import Array, ClientKeys, LossFn, Metrics, Params


@dataclasses.dataclass(frozen=True)
class SgdConfig:
    """Local SGD.

    Attributes:
        learning_rate: step size.
        momentum: heavy-ball coefficient in [0, 1).
        batch_size: examples a step; the last batch of an epoch may be smaller.
        epochs: passes over the shard in one round.
        steps: if given, steps in one round instead of `epochs`.
        physical_batch_size: examples whose gradient is taken at once; see
            `DpSgdConfig`. None takes the whole batch, except on CPUs.
    """

    learning_rate: float
    momentum: float = 0.0
    batch_size: int = 32
    epochs: int = 1
    steps: int | None = None
    physical_batch_size: int | None = None

    def __post_init__(self) -> None:
        choices.check(
            self,
            learning_rate=choices.positive,
            momentum=choices.below_one,
            batch_size=choices.at_least(1),
            epochs=choices.at_least(1),
            steps=choices.at_least(1),
            physical_batch_size=choices.at_least(1),
        )


def steps_of(config: SgdConfig, mask: Array) -> tuple[Array, Array]:
    """Returns the steps of `sgd` on a shard: (in one epoch, in one round), () int32.

    Both follow the shard's size, unless `config.steps` fixes the second; an empty shard
    (a padded client) takes none in any case.

    Args:
        config: of the training.
        mask: (N,) bool, False for padding.
    """
    per_epoch = -(-mask.sum(dtype=jnp.int32) // config.batch_size)
    steps = per_epoch * config.epochs if config.steps is None else config.steps
    return per_epoch, jnp.where(per_epoch > 0, steps, 0)


def sgd(
    loss: LossFn,
    config: SgdConfig,
    direction: Callable[[Params, Params], Params] = lambda gradient, params: gradient,
) -> Trainer:
    """Returns mini-batch SGD over shuffled epochs; no privacy.

    The number of steps follows the shard's size, so that clients with fewer examples do
    less work. Metrics: `loss` (summed over examples trained on) and `examples`.

    Args:
        loss: of each example.
        config: step size, batches and epochs.
        direction: (mean gradient of a batch, params) -> the gradient of the step, by
            default the first of these. A client function that needs further values,
            such as the server's params, builds its trainer where it has them; see
            `algorithms.fedprox` and `algorithms.scaffold`.

    Raises:
        ValueError: an argument of another kind.
    """
    check_loss(loss)
    form = "an SgdConfig, such as SgdConfig(learning_rate=0.1)"
    choices.check_kind("config", config, SgdConfig, form)
    init, step = stepper(config.learning_rate, config.momentum)
    size = config.batch_size
    gradient_of = summed_gradient(loss)

    def train(
        state: TrainState, data: ClientData, keys: ClientKeys
    ) -> tuple[TrainState, Metrics]:
        check_shard(state, data, keys)
        data = jax.tree.map(jnp.asarray, data)
        mask = jnp.asarray(data.mask)
        # As many equal physical batches as keep each within its size.
        physical = physical_batch_size(
            config.physical_batch_size, loss, state.params, data, size
        )
        parts = -(-size // physical)
        physical = -(-size // parts)
        per_epoch, steps = steps_of(config, mask)

        def epoch(number: Array, carry: Any) -> Any:
            selection = shuffled(jax.random.fold_in(keys.sampling, number), mask)

            def one_step(index: Array, carry: Any) -> Any:
                state, loss_sum, examples = carry
                indices, valid = selection.batch(index, size)
                places = [(0, parts * physical - size)]
                indices = jnp.pad(indices, places).reshape(parts, physical)
                taken = jnp.pad(valid, places).reshape(parts, physical)

                def part(i: Array | int) -> tuple[Array, Params]:
                    inputs, labels = data.inputs[indices[i]], data.labels[indices[i]]
                    return gradient_of(state.params, inputs, labels, taken[i])

                total, gradient = add_up(part, parts) if parts > 1 else part(0)
                count = valid.sum(dtype=jnp.int32)
                mean = jax.tree.map(lambda g: g / jnp.maximum(count, 1), gradient)
                state = step(state, direction(mean, state.params))
                return state, loss_sum + total, examples + count

            here = jnp.minimum(per_epoch, steps - number * per_epoch)
            return jax.lax.fori_loop(0, here, one_step, carry)

        epochs = -(-steps // jnp.maximum(per_epoch, 1))
        carry = (state, jnp.float32(0), jnp.int32(0))
        state, loss_sum, examples = jax.lax.fori_loop(0, epochs, epoch, carry)
        return state, {"loss": loss_sum, "examples": examples}

    return Trainer(init, train)


def _of_run(
    loss: LossFn, values: Hyperparameters, plan: PrivacyPlan | None, settings: Settings
) -> Trainer:
    return sgd(loss, config_of(values))


def config_of(values: Hyperparameters) -> SgdConfig:
    """Returns the configuration by a run's hyper-parameters."""
    assert values.batch_size is not None  # in the table of every arm without DP
    return SgdConfig(
        values.learning_rate,
        values.momentum,
        values.batch_size,
        values.local_epochs or 1,
        values.local_steps,
    )


SGD = ClientEntry("sgd", "mini-batch SGD over shuffled epochs", _of_run)
