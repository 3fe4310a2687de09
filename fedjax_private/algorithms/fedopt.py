"""FedOpt: the server's optimisers.

Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan, "Adaptive Federated
Optimization", ICLR 2021, Algorithms 1 and 2: the negative weighted mean g of the
clients' differences is a pseudo-gradient for any first-order optimiser. With server
learning rate eta, all operations entry by entry:

    sgd       FedAvg     x <- x - eta g                    (eta = 1: FedAvg itself)
    momentum  FedAvgM    m <- 0.9 m + g,                   x <- x - eta m
    adagrad   FedAdagrad v <- v + g^2
    adam      FedAdam    v <- b2 v + (1 - b2) g^2
    yogi      FedYogi    v <- v - (1 - b2) g^2 sign(v - g^2)

FedAdam and FedYogi then take m <- b1 m + (1 - b1) g and x <- x - eta m / (sqrt(v) +
tau), with b1 = 0.9, b2 = 0.99 and tau = 1e-3; FedAvgM is Hsu et al. 2019. The updates
are those of optax, which start differently from the paper's. In round t, adam and yogi
divide m by 1 - b1^t and v by 1 - b2^t; v starts from 0 for adam, and both v and m from
1e-6 for yogi (the paper: v from tau^2, and no correction). adagrad has no m, starts v
from 0.1 and takes tau into the root, x <- x - eta g / sqrt(v + tau).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import optax

from fedjax_private.choices import Registry, Settings


@dataclasses.dataclass(frozen=True)
class ServerOptimizer:
    """An optimiser that the server applies to the pseudo-gradient.

    Attributes:
        name: by which it is chosen.
        summary: one line.
        make: learning rate -> optax optimiser.
        settings: the class of its settings: it has none.
    """

    name: str
    summary: str
    make: Callable[[float], optax.GradientTransformation]
    settings: type[Settings] = Settings


def _adapted(name: str, attribute: Any) -> ServerOptimizer:
    """Returns the entry of a user's function learning rate -> optax optimiser."""
    if not callable(attribute):
        raise ValueError(
            f"server_optimizer={name} must be a ServerOptimizer or a function of the "
            f"learning rate, got {type(attribute).__name__}."
        )
    summary = (attribute.__doc__ or name).strip().splitlines()[0]
    return ServerOptimizer(name, summary, attribute)


SERVER_OPTIMIZERS: Registry[ServerOptimizer] = Registry(
    "server_optimizer",
    ServerOptimizer,
    {
        "sgd": "fedjax_private.algorithms.fedopt:SGD",
        "momentum": "fedjax_private.algorithms.fedopt:MOMENTUM",
        "adam": "fedjax_private.algorithms.fedopt:ADAM",
        "yogi": "fedjax_private.algorithms.fedopt:YOGI",
        "adagrad": "fedjax_private.algorithms.fedopt:ADAGRAD",
    },
    _adapted,
)

SGD = ServerOptimizer("sgd", "plain steps: FedAvg itself at rate 1", optax.sgd)
MOMENTUM = ServerOptimizer(
    "momentum", "FedAvgM, momentum 0.9", lambda rate: optax.sgd(rate, momentum=0.9)
)
# Reddi et al. 2021 use beta2 = 0.99 and tau = 1e-3 throughout their experiments.
ADAM = ServerOptimizer(
    "adam", "FedAdam", lambda rate: optax.adam(rate, b1=0.9, b2=0.99, eps=1e-3)
)
YOGI = ServerOptimizer(
    "yogi", "FedYogi", lambda rate: optax.yogi(rate, b1=0.9, b2=0.99, eps=1e-3)
)
ADAGRAD = ServerOptimizer(
    "adagrad", "FedAdagrad", lambda rate: optax.adagrad(rate, eps=1e-3)
)


def server_optimizer(name: str, learning_rate: float) -> optax.GradientTransformation:
    """Returns the optax optimiser of a name, for `fedavg` and `fedprox`.

    Raises:
        ValueError: unknown name, or a learning rate that is not positive and finite.
    """
    check_server_learning_rate(learning_rate)
    return SERVER_OPTIMIZERS.find(name).make(learning_rate)


def check_server_learning_rate(learning_rate: float) -> None:
    """Raises ValueError unless a server's learning rate is positive and finite."""
    if not 0.0 < learning_rate < float("inf"):
        raise ValueError(
            f"server_learning_rate must be positive and finite, got {learning_rate}."
        )
