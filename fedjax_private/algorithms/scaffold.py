"""SCAFFOLD: control variates that correct the drift of heterogeneous clients.

Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, "SCAFFOLD: Stochastic Controlled
Averaging for Federated Learning", ICML 2020, Algorithm 1 with option II. The server has
the model x and a control variate c, each of the N clients a control variate c_i; all
start from 0. Every client of a round's cohort S starts from y = x and takes K local
steps on gradients g of its batches,

    y   <- y - lr (g - c_i + c),
    c_i+ = c_i - c + (x - y) / (K lr),

keeps c_i+ and sends y - x and c_i+ - c_i. The server takes plain means over the cohort:

    x <- x + lr_g mean(y - x),
    c <- c + |S| / N mean(c_i+ - c_i).

Here K is the number of steps that the client really takes, by the size of its shard.
Then c_i+ is the mean of the gradients g along the client's way.

A lost upload would bias the model for good, once its client has kept c_i+: c would
differ from the clients' mean. There is no privacy, as a control variate is a function
of the records. Uploads are twice as large as FedAvg's.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_private.aggregation.types import Codec
from fedjax_private.algorithms.algorithm import (
    Algorithm,
    client_phase,
    unpacker,
    zeros_of,
)
from fedjax_private.algorithms.entry import AlgorithmEntry, Task
from fedjax_private.algorithms.fedopt import check_server_learning_rate
from fedjax_private.clients.local_sgd import SgdConfig, config_of, sgd, steps_of
from fedjax_private.clients.updates import ClientOutput, ClientUpdate
from fedjax_private.datasets.clients import ClientData
from fedjax_private.hyperparameters import Hyperparameters
from fedjax_private.typing import Array, ClientKeys, ClientState, LossFn, Params


class ScaffoldState(NamedTuple):
    """The server's model x and control variate c; both go to the clients."""

    params: Params
    control: Params


def controlled_client(loss: LossFn, config: SgdConfig, cohort: int) -> ClientUpdate:
    """Returns the client function, whose state is its control variate c_i.

    c_i is a pytree like the params. The update is `{"control": (c_i+ - c_i) / cohort,
    "delta": (y - x) / cohort, "weight": 1 / cohort}`. A client without records takes no
    step: its state stays, and its update is 0 throughout. Metrics: those of
    `clients.sgd`.

    Args:
        loss: of each example.
        config: of the local training.
        cohort: |S|, clients a round, by which updates are divided.

    Raises:
        ValueError: local momentum.
    """
    if config.momentum:
        raise ValueError(
            "SCAFFOLD takes c_i from the length of plain local steps: set momentum=0 "
            f"(got {config.momentum})."
        )

    def client_update(
        broadcast: ScaffoldState,
        state: ClientState,
        data: ClientData,
        keys: ClientKeys,
    ) -> tuple[ClientOutput, ClientState]:
        x, c = broadcast

        def direction(gradient: Params, params: Params) -> Params:
            return jax.tree.map(
                lambda g, own, common: g - own + common, gradient, state, c
            )

        trainer = sgd(loss, config, direction)
        trained, metrics = trainer.run(trainer.init(x), data, keys)
        _, steps = steps_of(config, jnp.asarray(data.mask))
        share = jnp.where(steps > 0, jnp.float32(1.0 / cohort), 0.0)
        travelled = jnp.maximum(steps, 1) * config.learning_rate
        delta = jax.tree.map(lambda new, old: new - old, trained.params, x)
        # c_i+ - c_i, or 0 where no step was taken.
        change = jax.tree.map(
            lambda common, moved: jnp.where(
                steps > 0, -common - moved / travelled, 0.0
            ),
            c,
            delta,
        )
        update = {
            "control": jax.tree.map(lambda leaf: share * leaf, change),
            "delta": jax.tree.map(lambda leaf: share * leaf, delta),
            "weight": share,
        }
        kept = jax.tree.map(jnp.add, state, change)
        return ClientOutput(update, metrics), kept

    return client_update


def scaffold(
    loss: LossFn,
    config: SgdConfig,
    codec: Codec,
    params_like: Params,
    *,
    cohort: int,
    clients: int,
    server_learning_rate: float = 1.0,
    backend: str = "auto",
) -> Algorithm:
    """Returns the algorithm; all clients that have records count equally.

    Args:
        loss: of each example.
        config: of the local training, without momentum.
        codec: of the aggregation, whose vectors have twice the params' size, plus 1.
        params_like: params or their shapes, by which vectors are unpacked.
        cohort: |S|, clients a round.
        clients: N, clients of all rounds together.
        server_learning_rate: lr_g; the paper's own choice in its experiments is 1.
        backend: see `for_each_client`.

    Raises:
        ValueError: a cohort outside 1..clients, local momentum, or a server learning
            rate that is not positive and finite.
    """
    if not 1 <= cohort <= clients:
        raise ValueError(
            f"cohort must lie between 1 and the {clients} clients, got {cohort}."
        )
    check_server_learning_rate(server_learning_rate)
    unpack = unpacker(
        {"control": params_like, "delta": params_like, "weight": jnp.float32(0)}
    )

    def init(params: Params) -> ScaffoldState:
        return ScaffoldState(params, zeros_of(params))

    @jax.jit
    def server_phase(state: ScaffoldState, total: Array) -> ScaffoldState:
        summed = unpack(codec.decode(total).astype(jnp.float32))
        # A sum of weights is a multiple of 1 / cohort, 0 where nobody trained.
        weight = jnp.maximum(summed["weight"], 0.5 / cohort)
        # |S| times the mean is the sum over the cohort, of which 1 / cohort was sent.
        return ScaffoldState(
            jax.tree.map(
                lambda x, delta: x + server_learning_rate * delta / weight,
                state.params,
                summed["delta"],
            ),
            jax.tree.map(
                lambda c, change: c + cohort / clients * change,
                state.control,
                summed["control"],
            ),
        )

    return Algorithm(
        init=init,
        init_client=zeros_of,
        client_phase=client_phase(
            controlled_client(loss, config, cohort), codec, backend, lambda state: state
        ),
        server_phase=server_phase,
        tolerates_loss=False,
    )


def _of_task(task: Task) -> Algorithm:
    assert task.hyperparameters.server_learning_rate is not None
    return scaffold(
        task.model.loss,
        config_of(task.hyperparameters),
        task.sums,
        task.params_like,
        cohort=task.cohort,
        clients=task.clients,
        server_learning_rate=task.hyperparameters.server_learning_rate,
        backend=task.backend,
    )


def _check(values: Hyperparameters) -> None:
    if values.momentum:
        raise ValueError("algorithm=scaffold takes plain local steps: momentum=0.")


SCAFFOLD = AlgorithmEntry(
    "scaffold",
    "control variates against client drift (Karimireddy et al. 2020)",
    _of_task,
    arms=("fl", "fl_he"),
    size=lambda parameters: 2 * parameters + 1,
    tolerates_loss=False,
    defaults={"momentum": 0.0},
    ignores=("server_optimizer",),
    check=_check,
)
