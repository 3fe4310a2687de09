"""The registry of server optimisers; see `fedopt` for formulas and source."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import optax

from fedjax_private.choices import Registry, Settings

# learning rate -> optimiser.
MakeOptimizer: TypeAlias = Callable[[float], optax.GradientTransformation]


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
    make: MakeOptimizer
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
