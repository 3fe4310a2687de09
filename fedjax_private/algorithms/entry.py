"""What a run must know of an algorithm, and what an algorithm is made from."""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import optax

from fedjax_private.aggregation.types import Codec
from fedjax_private.algorithms.algorithm import Algorithm
from fedjax_private.algorithms.prices import Privacy, Terms, local_price
from fedjax_private.algorithms.server_optimizers import SERVER_OPTIMIZERS
from fedjax_private.choices import Choice, Registry, Settings
from fedjax_private.clients.entries import CLIENTS, ClientEntry
from fedjax_private.clients.training import Trainer
from fedjax_private.clients.updates import Weight, by_examples, equally
from fedjax_private.hyperparameters import Hyperparameters
from fedjax_private.models.model import Model
from fedjax_private.typing import Params


class Training(enum.Enum):
    """What the steps of an algorithm's clients are; decides which values are tuned."""

    SGD = "sgd"  # plain steps; what is private, if anything, comes after them
    DP_SGD = "dp_sgd"  # plain steps without DP, noised ones in arms with DP
    SHARED = "shared"  # one step a round, whose noise all clients share


@dataclasses.dataclass(frozen=True)
class Task:
    """What a run has settled when its algorithm is made.

    Equal tasks give the same algorithm, so that runs share compiled code.

    Attributes:
        model: to be trained.
        hyperparameters: of the run.
        settings: of the algorithm itself.
        client: the client function; None for the usual one.
        plan: what is private, as the entry's `price` returned it; None without DP.
        codec: of the aggregation; None where nothing is aggregated.
        clients: N, in all rounds together.
        cohort: clients of a round.
        examples: the public number of all training examples.
        backend: see `for_each_client`.
        server_noise: (noise seed or None, name of the run), where the server draws
            noise of its own.
    """

    model: Model
    hyperparameters: Hyperparameters
    settings: Any
    client: Choice[ClientEntry] | None
    plan: Any
    codec: Codec | None
    clients: int
    cohort: int
    examples: int
    backend: str = "auto"
    server_noise: tuple[int | None, str] = (None, "")

    @property
    def params_like(self) -> Params:
        """The shapes of the model's parameters."""
        return jax.eval_shape(self.model.init, jax.random.key(0))

    @property
    def sums(self) -> Codec:
        """The codec, of an algorithm that aggregates."""
        assert self.codec is not None
        return self.codec

    def trainer(self, usual: str = "sgd") -> Trainer:
        """The chosen client function's trainer, or that of the usual one."""
        client = self.client or CLIENTS.choose(usual)
        plan = self.plan if client.entry.private else None
        return client.entry.make(
            self.model.loss, self.hyperparameters, plan, client.settings
        )

    def weight(self) -> Weight:
        """How much a client counts in a mean.

        Example counts are facts about the records: with DP all clients count equally.
        """
        if self.plan is not None:
            return equally(self.cohort)
        return by_examples(self.examples * self.cohort / self.clients)

    def server_optimizer(self) -> optax.GradientTransformation:
        """The server's optimiser."""
        values = self.hyperparameters
        assert values.server_optimizer is not None
        assert values.server_learning_rate is not None
        choice = SERVER_OPTIMIZERS.choose(values.server_optimizer)
        return choice.entry.make(values.server_learning_rate)

    def step_optimizer(self) -> optax.GradientTransformation:
        """Momentum SGD with the run's learning rate, for a server that steps itself."""
        values = self.hyperparameters
        return optax.sgd(values.learning_rate, values.momentum or None)


@dataclasses.dataclass(frozen=True, eq=False)
class AlgorithmEntry:
    """A published algorithm, as runs see it.

    Attributes:
        name: by which it is chosen.
        summary: one line.
        make: task -> algorithm.
        arms: names of the arms that it can be run in.
        training: see `Training`.
        size: parameters of the model -> values of an upload.
        price: terms -> what is private and what it costs, in arms with DP.
        tolerates_loss: whether rounds may lose uploads of clients that have trained.
        samples_clients: whether it draws each round's clients by itself, in secret;
            all clients are scheduled then.
        takes_client: whether `client` may replace its client function.
        server_noise: whether the server draws noise.
        defaults: hyper-parameters that differ from the tuned ones.
        check: hyper-parameters -> None; raises ValueError where they do not fit.
        settings: of its own.
    """

    name: str
    summary: str
    make: Callable[[Task], Algorithm]
    arms: tuple[str, ...]
    training: Training = Training.SGD
    size: Callable[[int], int] = lambda parameters: parameters + 1
    price: Callable[[Terms, Any], Privacy] = lambda terms, settings: local_price(terms)
    tolerates_loss: bool = True
    samples_clients: bool = False
    takes_client: bool = False
    server_noise: bool = False
    defaults: Mapping[str, Any] = MappingProxyType({})
    check: Callable[[Hyperparameters], None] = lambda values: None
    settings: type[Settings] = Settings


ALGORITHMS: Registry[AlgorithmEntry] = Registry(
    "algorithm",
    AlgorithmEntry,
    {
        "local": "fedjax_private.algorithms.local:LOCAL",
        "fedavg": "fedjax_private.algorithms.fedavg:FEDAVG",
        "fedsgd": "fedjax_private.algorithms.fedsgd:FEDSGD",
        "fedprox": "fedjax_private.algorithms.fedprox:FEDPROX",
        "scaffold": "fedjax_private.algorithms.scaffold:SCAFFOLD",
        "distributed_dp_sgd": (
            "fedjax_private.algorithms.distributed_dp_sgd:DISTRIBUTED_DP_SGD"
        ),
        "dopamine": "fedjax_private.algorithms.dopamine:DOPAMINE",
        "truex": "fedjax_private.algorithms.truex:TRUEX",
        "nbafl": "fedjax_private.algorithms.nbafl:NBAFL",
        "dp_fedavg": "fedjax_private.algorithms.dp_fedavg:DP_FEDAVG",
    },
)
