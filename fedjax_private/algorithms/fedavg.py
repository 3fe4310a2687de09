"""FedAvg: local training, and a mean of the clients' differences.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas, "Communication-Efficient Learning of
Deep Networks from Decentralized Data", AISTATS 2017, Algorithm 1: from the global model
x, every client k of a round's cohort trains y_k on its n_k examples, and

    x <- x + sum_k n_k (y_k - x) / sum_k n_k.

The mean difference may go through any server optimiser; SGD with learning rate 1 is
this formula. See `fedopt`.

With a client function that clips and noises every step this is DP-FedAvg at the level
of records, with an encrypted aggregation FL with secure aggregation, and with both
PRIVATE-AI with local noise.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_private.aggregation.types import Codec
from fedjax_private.algorithms.algorithm import Algorithm, client_phase, unpacker
from fedjax_private.algorithms.entry import AlgorithmEntry, Task, Training
from fedjax_private.algorithms.fedopt import optimizer_of
from fedjax_private.algorithms.forms import check_fit
from fedjax_private.algorithms.prices import local_price
from fedjax_private.clients.training import optimized
from fedjax_private.clients.updates import ClientUpdate, federated, kept
from fedjax_private.typing import Array, ClientState, Params


class FedAvgState(NamedTuple):
    """The global model and the state of the server's optimiser."""

    params: Params
    optimizer: Any


def fedavg(
    client_update: ClientUpdate,
    optimizer: optax.GradientTransformation | str,
    codec: Codec,
    params_like: Params,
    backend: str = "auto",
    init_client: Callable[[Params], ClientState] = lambda params: (),
) -> Algorithm:
    """Returns the algorithm of local training, a weighted mean and a server step.

    Args:
        client_update: sends `{"delta": w (trained - params), "weight": w}`, as
            `clients.federated` does.
        optimizer: applied to the pseudo-gradient `-sum(delta) / sum(weight)`; or "sgd",
            of learning rate 1.
        codec: of the aggregation.
        params_like: params or their shapes, by which vectors are unpacked.
        backend: see `for_each_client`.
        init_client: params -> state of a client before its first round; for private
            clients `clients.kept`.

    Raises:
        ValueError: an argument of another kind.
    """
    optimizer = optimizer_of(optimizer)
    update_like = {"delta": params_like, "weight": jnp.float32(0)}
    unpack = unpacker(update_like)

    def init(params: Params) -> FedAvgState:
        check_fit(params, params_like)
        return FedAvgState(params, optimizer.init(params))

    @jax.jit
    def server_phase(state: FedAvgState, total: Array) -> FedAvgState:
        summed = unpack(codec.decode(total).astype(jnp.float32))
        # 0 where no client whose upload arrived has a record: nothing moves.
        weight = jnp.where(summed["weight"] == 0, 1.0, summed["weight"])
        pseudo_gradient = jax.tree.map(lambda delta: -delta / weight, summed["delta"])
        return FedAvgState(
            *optimized(optimizer, pseudo_gradient, state.optimizer, state.params)
        )

    return Algorithm(
        init=init,
        init_client=init_client,
        client_phase=client_phase(
            client_update, codec, backend, update_like=update_like
        ),
        server_phase=server_phase,
    )


def _of_task(task: Task) -> Algorithm:
    trainer = task.trainer("sgd" if task.plan is None else "dp_sgd")
    return fedavg(
        federated(trainer, task.weight()),
        task.server_optimizer(),
        task.sums,
        task.params_like,
        task.backend,
        kept(trainer),
    )


FEDAVG = AlgorithmEntry(
    "fedavg",
    "local training and a weighted mean (McMahan et al. 2017)",
    _of_task,
    arms=("fl", "fl_dp", "fl_he", "private_ai_local"),
    training=Training.DP_SGD,
    price=lambda terms, settings: local_price(terms),
    takes_client=True,
    ignores=("epsilon_against",),
)
