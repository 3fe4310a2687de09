"""Client functions by name: how one client trains on its own shard."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

from fedjax_private.choices import Registry, Settings
from fedjax_private.clients.training import Trainer
from fedjax_private.hyperparameters import Hyperparameters
from fedjax_private.privacy.plan import Plan
from fedjax_private.typing import LossFn

# (loss, hyper-parameters, plan or None, own settings) -> trainer.
MakeTrainer: TypeAlias = Callable[[LossFn, Hyperparameters, Plan | None, Any], Trainer]


@dataclasses.dataclass(frozen=True)
class ClientEntry:
    """A way to train locally.

    Attributes:
        name: by which it is chosen.
        summary: one line.
        make: returns the trainer; the plan is None where `private` is False.
        private: whether its steps are noised under a plan. Arms with DP take these
            only, unless their algorithm noises what clients send by itself.
        settings: of its own.
    """

    name: str
    summary: str
    make: MakeTrainer
    private: bool = False
    settings: type[Settings] = Settings


def _adapted(name: str, attribute: Any) -> ClientEntry:
    """An entry of a user's function (loss, hyper-parameters) -> trainer."""
    if not callable(attribute):
        raise ValueError(f"client={name}: {attribute!r} is neither entry nor function.")

    def make(
        loss: LossFn, values: Hyperparameters, plan: Plan | None, settings: Any
    ) -> Trainer:
        trainer = attribute(loss, values)
        if not isinstance(trainer, Trainer):
            raise ValueError(f"client={name} made {trainer!r}, which is no Trainer.")
        return trainer

    return ClientEntry(name, "a function of the user's", make)


CLIENTS: Registry[ClientEntry] = Registry(
    "client",
    ClientEntry,
    {
        "sgd": "fedjax_private.clients.local_sgd:SGD",
        "dp_sgd": "fedjax_private.clients.local_dp_sgd:DP_SGD",
    },
    _adapted,
)
