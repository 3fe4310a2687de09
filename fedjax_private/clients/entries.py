"""The registry of client functions: ways to train one client on its shard."""

import dataclasses
from collections.abc import Callable
from typing import Any

from fedjax_private.choices import Registry, Settings, check_call, check_kind
from fedjax_private.clients.training import Trainer
from fedjax_private.hyperparameters import Hyperparameters
from fedjax_private.privacy.plan import PrivacyPlan
from fedjax_private.typing import LossFn


@dataclasses.dataclass(frozen=True)
class ClientEntry:
    """A way to train one client.

    Attributes:
        name: by which it is chosen.
        summary: one line.
        make: (loss, hyper-parameters, plan, the entry's settings) -> trainer; the plan
            is None unless `private`.
        private: whether its steps are noised under the plan: as many in a round as the
            hyper-parameters' `noisy_steps`, which are the ones that are priced.
            Algorithms whose steps are noised take only these; all others take the rest.
        ignores: names of hyper-parameters that it does not read.
        settings: the class of its settings.
    """

    name: str
    summary: str
    make: Callable[[LossFn, Hyperparameters, PrivacyPlan | None, Any], Trainer]
    private: bool = False
    ignores: tuple[str, ...] = ()
    settings: type[Settings] = Settings

    def __post_init__(self) -> None:
        form = "a function (loss, hyper-parameters, plan, settings) -> Trainer"
        check_call(f"make of client {self.name}", self.make, 4, form)


_FORM = "a function (loss, hyper-parameters) -> Trainer"


def _adapted(name: str, attribute: Any) -> ClientEntry:
    """Returns the entry of a user's function (loss, hyper-parameters) -> trainer."""
    check_call(f"client={name}", attribute, 2, f"a ClientEntry, or {_FORM}")

    def make(
        loss: LossFn, values: Hyperparameters, plan: PrivacyPlan | None, settings: Any
    ) -> Trainer:
        trainer = attribute(loss, values)
        check_kind(f"client={name}", trainer, Trainer, _FORM)
        return trainer

    summary = (attribute.__doc__ or name).strip().splitlines()[0]
    return ClientEntry(name, summary, make)


CLIENTS: Registry[ClientEntry] = Registry(
    "client",
    ClientEntry,
    {
        "sgd": "fedjax_private.clients.local_sgd:SGD",
        "dp_sgd": "fedjax_private.clients.local_dp_sgd:DP_SGD",
    },
    _adapted,
)
