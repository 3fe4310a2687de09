"""Local training of one client: plain SGD and DP-SGD.

A `Trainer` turns params and a shard into new params. How they reach a server, if at
all, is decided by the client functions in `updates`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from fedjax_private.datasets.clients import ClientData
from fedjax_private.privacy.gradients.sums import summed_gradient
from fedjax_private.privacy.plan import Plan
from fedjax_private.privacy.sampling import shuffled
from fedjax_private.programs import flat_program, largest_value
from fedjax_private.typing import Array, ClientKeys, LossFn, Metrics, Params


class TrainState(NamedTuple):
    """Params and the state of the local optimiser, and of the privacy mechanism."""

    params: Params
    optimizer: Any
    mechanism: Any = ()


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Local training.

    Attributes:
        init: params -> TrainState with a fresh optimiser.
        train: (state, shard, keys) -> (state, metrics).
    """

    init: Callable[[Params], TrainState]
    train: Callable[[TrainState, ClientData, ClientKeys], tuple[TrainState, Metrics]]


StepFn: TypeAlias = Callable[[TrainState, Params], TrainState]

# (mean gradient of a batch, params) -> what the local optimiser is given in its place.
Direction: TypeAlias = Callable[[Params, Params], Params]


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
            `DpSgdConfig`. None takes the whole batch but on CPUs.
    """

    learning_rate: float
    momentum: float = 0.0
    batch_size: int = 32
    epochs: int = 1
    steps: int | None = None
    physical_batch_size: int | None = None

    def __post_init__(self) -> None:
        _check_optimizer(self.learning_rate, self.momentum)
        for name in ("batch_size", "epochs", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                flag = name if name == "batch_size" else f"local_{name}"
                raise ValueError(f"--{flag} must be at least 1, got {value}.")
        check_physical_batch_size(self.physical_batch_size)


@dataclasses.dataclass(frozen=True)
class DpSgdConfig:
    """Local DP-SGD; what is private about it is in its `PrivacyPlan`.

    Attributes:
        learning_rate: step size.
        momentum: heavy-ball coefficient in [0, 1).
        steps: noisy steps in one round.
        physical_batch_size: examples whose gradients are held at once. Affects memory
            and speed only. None takes what was measured to be fast: on CPUs so few
            that what they need stays in the cache, elsewhere many.
    """

    learning_rate: float
    momentum: float = 0.0
    steps: int = 1
    physical_batch_size: int | None = None

    def __post_init__(self) -> None:
        _check_optimizer(self.learning_rate, self.momentum)
        if self.steps < 1:
            raise ValueError(f"--local_steps must be at least 1, got {self.steps}.")
        check_physical_batch_size(self.physical_batch_size)


def check_physical_batch_size(size: int | None) -> None:
    """Raises ValueError if a physical batch would hold nothing; None is the default."""
    if size is not None and size < 1:
        raise ValueError(f"a physical batch holds at least one, got {size}.")


def _check_optimizer(learning_rate: float, momentum: float) -> None:
    if not 0.0 < learning_rate < float("inf"):
        raise ValueError(
            f"--learning_rate must be positive and finite, got {learning_rate}."
        )
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"--momentum must lie in [0, 1), got {momentum}.")


def add_up(term: Callable[[Array | int], Any], count: Array | int) -> Any:
    """term(0) + ... + term(count - 1), pytrees of arrays; zeros where count is 0."""
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(term, 0)
    )
    return jax.lax.fori_loop(
        0, count, lambda i, total: jax.tree.map(jnp.add, total, term(i)), zeros
    )


# Bytes of the largest array of a physical batch on CPUs, where values that stay in a
# core's cache are worth more than long loops, and the fewest and most examples of it.
# Measured on the CNNs of the zoo with caches of 512 KiB a core.
CACHED_BYTES = 400 * 1024
FEWEST, MOST = 4, 64


def physical_batch_size(
    asked: int | None, loss: LossFn, params: Params, data: ClientData, elsewhere: int
) -> int:
    """What was asked for, or else what is fast on the platform."""
    if asked is not None or jax.default_backend() != "cpu":
        return asked or elsewhere
    program = flat_program(
        lambda p, x, y: loss(p, x[None], y[None]),
        params,
        data.inputs[0],
        data.labels[0],
    )
    count = len(program.jaxpr.invars)
    fitting = CACHED_BYTES // largest_value(program, [count - 2, count - 1])
    return max(FEWEST, min(MOST, fitting))


def _stepper(
    learning_rate: float, momentum: float
) -> tuple[Callable[[Params], TrainState], StepFn]:
    optimizer = optax.sgd(learning_rate, momentum or None)

    def init(params: Params) -> TrainState:
        return TrainState(params, optimizer.init(params))

    def step(state: TrainState, gradient: Params) -> TrainState:
        updates, optimizer_state = optimizer.update(
            gradient, state.optimizer, state.params
        )
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, optimizer=optimizer_state)

    return init, step


def steps_of(config: SgdConfig, mask: Array) -> tuple[Array, Array]:
    """How many steps `sgd` takes on a shard: (in one epoch, in one round), () int32.

    Both follow the shard's own size, unless `config.steps` fixes the second; an empty
    shard (a padded client) takes none, whatever was asked for.

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
    direction: Direction = lambda gradient, params: gradient,
) -> Trainer:
    """Mini-batch SGD over shuffled epochs; no privacy.

    The number of steps follows the shard's own size, so that clients with fewer
    examples do less work. Metrics: `loss` (summed over examples trained on) and
    `examples`.

    Args:
        loss: of each example.
        config: step size, batches and epochs.
        direction: (mean gradient of a batch, params) -> what the step goes against, by
            default the gradient itself. A client function that needs more than these
            two, such as the server's params, makes its trainer where it has them and
            closes over them; see `algorithms.fedprox` and `algorithms.scaffold`.
    """
    init, step = _stepper(config.learning_rate, config.momentum)
    size = config.batch_size
    gradient_of = summed_gradient(loss)

    def train(
        state: TrainState, data: ClientData, keys: ClientKeys
    ) -> tuple[TrainState, Metrics]:
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


# Folded into a client's noise key for its samples; steps, which fold in their own
# number for their noise, never reach it.
SAMPLES = 2**31 - 1


# (params, mechanism's state, shard, keys, step of the round) -> sum (P + extra,).
SampledSum: TypeAlias = Callable[
    [Params, Any, ClientData, ClientKeys, Array | int], Array
]


def sampled_sum(loss: LossFn, plan: Plan, physical: int | None = None) -> SampledSum:
    """Draws a step's sample and adds up its bounded contributions; no noise yet.

    What it returns is private: only a plan's noise may follow. The sample comes from
    `keys.noise`; see `dp_sgd`.
    """
    check_physical_batch_size(physical)
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
            return bounded.sum(
                params, data.inputs[indices], data.labels[indices], valid, mechanism
            )

        total, _ = ravel_pytree(add_up(part, selection.batches(size)))
        return total

    return run


def dp_sgd(loss: LossFn, config: DpSgdConfig, plan: Plan) -> Trainer:
    """DP-SGD (Abadi et al. 2016): Poisson batches, per-example clipping, noise.

    No metrics: nothing but the noisy updates may leave a client. All that is private
    about a step, and its state between steps and rounds, is the plan's.

    Formal guarantees: those of `plan`. A client that takes part in n rounds runs
    `plan.event(n * config.steps)`; an accountant may be charged
    `plan.event(config.steps)` a round unless the plan is `correlated`. `keys` must be
    fresh in every round, and the mechanism's state that of the client's last one. Only
    `keys.noise` is used, for the samples as well as for the noise: amplification by
    sampling holds against those who do not know who was drawn, so a public seed may
    not decide it.
    """
    start, step = _stepper(config.learning_rate, config.momentum)
    sum_of_sample = sampled_sum(loss, plan, config.physical_batch_size)

    def init(params: Params) -> TrainState:
        return start(params)._replace(mechanism=plan.init(params))

    def train(
        state: TrainState, data: ClientData, keys: ClientKeys
    ) -> tuple[TrainState, Metrics]:
        _, unravel = ravel_pytree(state.params)

        def one_step(index: Array, state: TrainState) -> TrainState:
            total = sum_of_sample(state.params, state.mechanism, data, keys, index)
            gradient, mechanism = plan.release(
                jax.random.fold_in(keys.noise, index), total, state.mechanism
            )
            return step(state, unravel(gradient))._replace(mechanism=mechanism)

        return jax.lax.fori_loop(0, config.steps, one_step, state), {}

    return Trainer(init, train)
