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
import numbers
from collections.abc import Callable
from typing import Any

import optax

from fedjax_private.choices import Registry, Settings, check_call, check_kind


@dataclasses.dataclass(frozen=True)
class ServerOptimizer:
    """An optimiser that the server applies to the pseudo-gradient.

    Attributes:
        name: by which it is chosen.
        summary: one line.
        make: learning rate -> optax optimiser.
        settings: the class of its settings: it has none.
        usual_rate: the learning rate at which its name alone stands for it; None where
            a rate must be chosen.
    """

    name: str
    summary: str
    make: Callable[[float], optax.GradientTransformation]
    settings: type[Settings] = Settings
    usual_rate: float | None = None

    def __post_init__(self) -> None:
        form = "a function (learning rate) -> optax optimiser"
        check_call(f"make of server_optimizer {self.name}", self.make, 1, form)


def _adapted(name: str, attribute: Any) -> ServerOptimizer:
    """Returns the entry of a user's function learning rate -> optax optimiser."""
    form = "a ServerOptimizer, or a function (learning rate) -> optax optimiser"
    check_call(f"server_optimizer={name}", attribute, 1, form)
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

SGD = ServerOptimizer(
    "sgd", "plain steps: FedAvg itself at rate 1", optax.sgd, usual_rate=1.0
)
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


def server_optimizer(
    optimizer: str | ServerOptimizer | Callable[[float], Any], learning_rate: float
) -> optax.GradientTransformation:
    """Returns the optax optimiser of a name, for `fedavg` and `fedprox`.

    Args:
        optimizer: a name of `SERVER_OPTIMIZERS` or module:attribute, an entry, or a
            function (learning rate) -> optax optimiser.
        learning_rate: of the server's steps.

    Raises:
        ValueError: unknown name, a learning rate that is not positive and finite, or a
            function that returns no optax optimiser.
    """
    check_server_learning_rate(learning_rate)
    entry = SERVER_OPTIMIZERS.choose(optimizer).entry
    made = entry.make(learning_rate)
    check_kind(
        f"server_optimizer={entry.name}", made, GRADIENT_TRANSFORMATION, _RETURNS
    )
    return made


# optax's class; a tuple of two functions.
GRADIENT_TRANSFORMATION: Any = optax.GradientTransformation
_RETURNS = "a function that returns an optax optimiser"


def optimizer_of(
    optimizer: optax.GradientTransformation | str | ServerOptimizer,
) -> optax.GradientTransformation:
    """Returns the optimiser of an algorithm: one of optax, or the one of a name.

    Raises:
        ValueError: it is neither, or the name needs a learning rate.
    """
    if isinstance(optimizer, (str, ServerOptimizer)):
        entry = SERVER_OPTIMIZERS.choose(optimizer).entry
        if entry.usual_rate is None:
            raise ValueError(
                f"optimizer {entry.name} needs a learning rate: give "
                f"algorithms.server_optimizer({entry.name!r}, rate)."
            )
        return entry.make(entry.usual_rate)
    form = "an optax optimiser, as algorithms.server_optimizer(name, rate) returns"
    check_kind("optimizer", optimizer, GRADIENT_TRANSFORMATION, form)
    return optimizer


def check_server_learning_rate(learning_rate: float) -> None:
    """Raises ValueError unless a server's learning rate is positive and finite."""
    check_kind("server_learning_rate", learning_rate, numbers.Real, "a number")
    if not 0.0 < learning_rate < float("inf"):
        raise ValueError(
            f"server_learning_rate must be positive and finite, got {learning_rate}."
        )
