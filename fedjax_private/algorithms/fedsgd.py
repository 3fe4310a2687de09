"""FedSGD: one step a round on the gradient of all the cohort's records.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas, "Communication-Efficient Learning of
Deep Networks from Decentralized Data", AISTATS 2017, section 2: the baseline of FedAvg.
Client k sends the mean gradient g_k of its n_k examples at the global model x, and

    x <- x - eta sum_k n_k g_k / sum_k n_k.

It is FedAvg with a single local step on the whole shard (E = 1, B = infinity).
"""

import jax
import jax.numpy as jnp
import optax

from fedjax_private.aggregation.types import Codec
from fedjax_private.algorithms.algorithm import Algorithm
from fedjax_private.algorithms.entry import AlgorithmEntry, Task
from fedjax_private.algorithms.fedavg import fedavg
from fedjax_private.clients.training import MOST, add_up, physical_batch_size
from fedjax_private.clients.updates import ClientOutput, Weight, check_weight
from fedjax_private.datasets.clients import ClientData
from fedjax_private.privacy.gradients.sums import check_loss, summed_gradient
from fedjax_private.typing import Array, ClientKeys, ClientState, LossFn, Params


def fedsgd(
    loss: LossFn,
    weight: Weight,
    optimizer: optax.GradientTransformation | str,
    codec: Codec,
    params_like: Params,
    backend: str = "auto",
    physical_size: int | None = None,
) -> Algorithm:
    """Returns the algorithm of one gradient a client and one server step a round.

    Clients keep no state. Metrics: `loss` (summed over the shard, before the server's
    step) and `examples`.

    Args:
        loss: of each example.
        weight: the paper's is `clients.by_examples`.
        optimizer: of the server, with the only learning rate; the paper's is
            `server_optimizer("sgd", eta)`.
        codec: of the aggregation.
        params_like: params or their shapes.
        backend: see `for_each_client`.
        physical_size: examples whose gradient is taken at once; see `SgdConfig`.

    Raises:
        ValueError: a physical size below 1.
    """
    if physical_size is not None and physical_size < 1:
        raise ValueError(f"physical_size must be at least 1, got {physical_size}.")
    check_loss(loss)
    check_weight(weight)
    gradient_of = summed_gradient(loss)

    def client_update(
        broadcast: Params, state: ClientState, data: ClientData, keys: ClientKeys
    ) -> tuple[ClientOutput, ClientState]:
        data = jax.tree.map(jnp.asarray, data)
        mask = jnp.asarray(data.mask)
        size = physical_batch_size(physical_size, loss, broadcast, data, MOST)
        # Padding comes last: the batches end with the last real example.
        end = jnp.max(jnp.where(mask, jnp.arange(1, mask.size + 1), 0))

        def batch(number: Array | int) -> tuple[Array, Params]:
            places = number * size + jnp.arange(size)
            inside = places < mask.size
            indices = jnp.where(inside, places, 0)
            valid = inside & mask[indices]
            inputs, labels = data.inputs[indices], data.labels[indices]
            return gradient_of(broadcast, inputs, labels, valid)

        total, gradient = add_up(batch, -(-end // size))
        count, share = mask.sum(dtype=jnp.int32), weight(data)
        delta = jax.tree.map(lambda g: -share * g / jnp.maximum(count, 1), gradient)
        metrics = {"loss": total, "examples": count}
        return ClientOutput({"delta": delta, "weight": share}, metrics), state

    return fedavg(client_update, optimizer, codec, params_like, backend)


def _of_task(task: Task) -> Algorithm:
    return fedsgd(
        task.model.loss,
        task.weight(),
        task.step_optimizer(),
        task.sums,
        task.params_like,
        task.backend,
    )


FEDSGD = AlgorithmEntry(
    "fedsgd",
    "one step a round on all clients' gradients (McMahan et al. 2017)",
    _of_task,
    arms=("fl", "fl_he"),
    ignores=(
        "local_epochs",
        "local_steps",
        "batch_size",
        "server_optimizer",
        "server_learning_rate",
    ),
)
