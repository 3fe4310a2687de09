"""`Trainer`: one client's local training; and the steps that trainers share.

A `Trainer` turns params and a shard into new params. The client functions in `updates`
send these to a server, or keep them.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedjax_private import choices
from fedjax_private.datasets.clients import ClientData
from fedjax_private.programs import flat_program, largest_value
from fedjax_private.typing import Array, ClientKeys, LossFn, Metrics, Params


class TrainState(NamedTuple):
    """Params, and the states of the local optimiser and of the privacy mechanism."""

    params: Params
    optimizer: Any
    mechanism: Any = ()


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Local training.

    Attributes:
        init: params -> TrainState with a fresh optimiser.
        train: (state, shard, keys) -> (state, metrics).
        private: whether its steps are differentially private, so that nothing else
            about the records may leave the client.

    Raises:
        ValueError: functions of other arguments.
    """

    init: Callable[[Params], TrainState]
    train: Callable[[TrainState, ClientData, ClientKeys], tuple[TrainState, Metrics]]
    private: bool = False

    def __post_init__(self) -> None:
        form = "a function (state, shard, keys) -> (state, metrics)"
        choices.check_call("init", self.init, 1, "a function (params) -> TrainState")
        choices.check_call("train", self.train, 3, form)

    def run(
        self, state: TrainState, data: ClientData, keys: ClientKeys
    ) -> tuple[TrainState, Metrics]:
        """Returns what `train` does.

        Raises:
            ValueError: that is no pair of a TrainState and metrics.
        """
        result: Any = self.train(state, data, keys)
        pair = isinstance(result, tuple) and len(result) == 2
        if isinstance(result, TrainState) or not pair:
            raise ValueError(
                "train of a Trainer must return two values, (state, metrics), got "
                f"{choices.shown(result)}: metrics is a dict, such as {{}}."
            )
        trained, metrics = result
        form = "the TrainState of the pair that it returns, as trainer.init makes"
        choices.check_kind("state of a Trainer's train", trained, TrainState, form)
        form = "a dict, such as {}: the second value that it returns"
        choices.check_kind("metrics of a Trainer's train", metrics, Mapping, form)
        return trained, metrics


def check_trainer(trainer: Any) -> None:
    """Raises ValueError unless it is a `Trainer`."""
    form = "a Trainer, as clients.sgd and clients.dp_sgd return"
    choices.check_kind("trainer", trainer, Trainer, form)


def check_shard(state: Any, data: Any, keys: Any) -> None:
    """Raises ValueError unless these are the arguments of a trainer's `train`."""
    form = "a TrainState, as trainer.init(params) returns"
    choices.check_kind("state", state, TrainState, form)
    form = "the shard of one client, as datasets.client_data(...).take(0) returns"
    choices.check_kind("data", data, ClientData, form)
    if np.ndim(data.mask) != 1:
        raise ValueError(
            f"data must be {form}, got a mask of shape {np.shape(data.mask)}: "
            "for_each_client maps a client function over all."
        )
    check_keys(keys)


def check_keys(keys: Any) -> None:
    """Raises ValueError unless they are the two keys of a client."""
    form = "ClientKeys(sampling, noise), two keys such as jax.random.key(0)"
    choices.check_kind("keys", keys, ClientKeys, form)


def add_up(term: Callable[[Array | int], Any], count: Array | int) -> Any:
    """Returns term(0) + ... + term(count - 1), pytrees of arrays; 0 for count 0."""
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(term, 0)
    )
    return jax.lax.fori_loop(
        0, count, lambda i, total: jax.tree.map(jnp.add, total, term(i)), zeros
    )


# The bytes of a physical batch's largest array on CPUs, and its fewest and most
# examples: what fits into a core's cache is worth more than long loops. Measured on
# this library's CNNs with caches of 512 KiB a core.
CACHED_BYTES = 400 * 1024
FEWEST, MOST = 4, 64


def physical_batch_size(
    asked: int | None, loss: LossFn, params: Params, data: ClientData, elsewhere: int
) -> int:
    """Returns a size that is fast on the platform, unless one was asked for.

    Args:
        asked: the size if given.
        loss: of each example.
        params: of the model.
        data: a shard, whose examples have the inputs' shape.
        elsewhere: the size on platforms other than CPUs.
    """
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


def optimized(
    optimizer: optax.GradientTransformation,
    gradient: Params,
    state: Any,
    params: Params,
) -> tuple[Params, Any]:
    """Returns the params and the optimiser's state after one step."""
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state


def stepper(
    learning_rate: float, momentum: float
) -> tuple[Callable[[Params], TrainState], Callable[[TrainState, Params], TrainState]]:
    """Returns SGD: params -> first state, and (state, gradient) -> next state."""
    optimizer = optax.sgd(learning_rate, momentum or None)

    def init(params: Params) -> TrainState:
        return TrainState(params, optimizer.init(params))

    def step(state: TrainState, gradient: Params) -> TrainState:
        params, optimizer_state = optimized(
            optimizer, gradient, state.optimizer, state.params
        )
        return state._replace(params=params, optimizer=optimizer_state)

    return init, step
