"""FedProx: local training that stays near the global model.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, "Federated Optimization in Heterogeneous
Networks", MLSys 2020, Algorithm 2: client k approximately minimises

    h_k(w) = F_k(w) + mu / 2 ||w - w_t||^2

from the global model w_t. Here clients use SGD, whose steps add the gradient of the
second term to the batch's mean gradient g at w:

    w <- w - lr (g + mu (w - w_t)).

mu = 0 is FedAvg. Clients may take different numbers of steps, by the sizes of their
shards. Algorithm 2 draws clients with probabilities by size and averages them equally;
here, as in FedAvg, any cohort goes with any weights.
"""

import dataclasses

import jax
import optax

from fedjax_private.aggregation.types import Codec
from fedjax_private.algorithms.algorithm import Algorithm
from fedjax_private.algorithms.entry import AlgorithmEntry, Task
from fedjax_private.algorithms.fedavg import fedavg
from fedjax_private.choices import Settings, not_negative, setting
from fedjax_private.clients.local_sgd import SgdConfig, config_of, sgd
from fedjax_private.clients.updates import ClientOutput, Weight, check_weight, federated
from fedjax_private.datasets.clients import ClientData
from fedjax_private.privacy.gradients.sums import check_loss
from fedjax_private.typing import ClientKeys, ClientState, LossFn, Params


def fedprox(
    loss: LossFn,
    config: SgdConfig,
    mu: float,
    weight: Weight,
    optimizer: optax.GradientTransformation | str,
    codec: Codec,
    params_like: Params,
    backend: str = "auto",
) -> Algorithm:
    """Returns FedAvg whose clients train with the proximal term.

    The term is not part of the loss: it leaves the examples' gradients unchanged, and
    the metric `loss` is that of the records alone.

    Args:
        loss: of each example.
        config: of the local training.
        mu: weight of the term, >= 0; well below 1 / learning rate, or local steps
            overshoot.
        weight: of a client in the mean.
        optimizer: of the server; the paper's is `server_optimizer("sgd", 1.0)`.
        codec: of the aggregation.
        params_like: params or their shapes.
        backend: see `for_each_client`.

    Raises:
        ValueError: mu is negative or not finite.
    """
    if not 0.0 <= mu < float("inf"):
        raise ValueError(
            f"mu must be at least 0 and finite, got {mu}: 0 is FedAvg, and the paper "
            "tries 0.001 to 1."
        )

    check_loss(loss)
    check_weight(weight)

    def client_update(
        broadcast: Params, state: ClientState, data: ClientData, keys: ClientKeys
    ) -> tuple[ClientOutput, ClientState]:
        def direction(gradient: Params, params: Params) -> Params:
            return jax.tree.map(
                lambda g, w, start: g + mu * (w - start), gradient, params, broadcast
            )

        client = federated(sgd(loss, config, direction), weight)
        return client(broadcast, state, data, keys)

    return fedavg(client_update, optimizer, codec, params_like, backend)


@dataclasses.dataclass(frozen=True)
class FedProxSettings(Settings):
    """Settings of FedProx."""

    proximal: float = setting(0.1, "mu, the weight of the proximal term", not_negative)


def _of_task(task: Task) -> Algorithm:
    return fedprox(
        task.model.loss,
        config_of(task.hyperparameters),
        task.settings.proximal,
        task.weight(),
        task.server_optimizer(),
        task.sums,
        task.params_like,
        task.backend,
    )


FEDPROX = AlgorithmEntry(
    "fedprox",
    "FedAvg whose clients stay near the global model (Li et al. 2020)",
    _of_task,
    arms=("fl", "fl_he"),
    settings=FedProxSettings,
)
