"""`AlgorithmEntry`: what a run knows of an algorithm; `Task`: what builds one."""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from fedjax_private.aggregation.types import Codec
from fedjax_private.algorithms.algorithm import Algorithm
from fedjax_private.algorithms.fedopt import server_optimizer
from fedjax_private.algorithms.prices import Privacy, Terms
from fedjax_private.choices import Choice, Registry, Settings, check_call, check_kind
from fedjax_private.clients.entries import CLIENTS, ClientEntry
from fedjax_private.clients.training import Trainer
from fedjax_private.clients.updates import Weight, by_examples, equally
from fedjax_private.hyperparameters import Hyperparameters
from fedjax_private.models.model import Model
from fedjax_private.typing import Params


class Training(enum.Enum):
    """The steps of an algorithm's clients; tuned hyper-parameters follow from it."""

    SGD = "sgd"  # plain steps in all arms; noise, if any, is added after them
    DP_SGD = "dp_sgd"  # plain steps in arms without DP, noised steps in arms with DP
    SHARED = "shared"  # one step a round; clients share its noise


@dataclasses.dataclass(frozen=True)
class Task:
    """Everything that an algorithm is built from.

    Equal tasks give the same algorithm, so that runs share compiled code.

    Attributes:
        model: to be trained.
        hyperparameters: of the run.
        settings: of the algorithm.
        client: the client function; None for the algorithm's default.
        plan: as the entry's `price` returned it; None without DP.
        codec: of the aggregation; None without aggregation.
        clients: N, in all rounds together.
        cohort: clients of a round.
        examples: the public number of all training examples.
        backend: see `for_each_client`.
        server_noise: arguments of `noise_key` for noise that the server draws: (noise
            seed or None, name of the run).
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
        """The codec of an algorithm that aggregates."""
        assert self.codec is not None
        return self.codec

    def trainer(self, default: str = "sgd") -> Trainer:
        """Returns the trainer of the chosen client function, or of the default one."""
        client = self.client or CLIENTS.choose(default)
        plan = self.plan if client.entry.private else None
        trainer = client.entry.make(
            self.model.loss, self.hyperparameters, plan, client.settings
        )
        form = "a ClientEntry whose make returns a Trainer"
        check_kind(f"client={client.name}", trainer, Trainer, form)
        return trainer

    def weight(self) -> Weight:
        """Returns the weight of a client in a mean.

        Example counts are facts about the records: with DP all clients count equally.
        """
        if self.plan is not None:
            return equally(self.cohort)
        return by_examples(self.examples * self.cohort / self.clients)

    def server_optimizer(self) -> optax.GradientTransformation:
        """Returns the server's optimiser."""
        values = self.hyperparameters
        assert values.server_optimizer is not None
        assert values.server_learning_rate is not None
        return server_optimizer(values.server_optimizer, values.server_learning_rate)

    def step_optimizer(self) -> optax.GradientTransformation:
        """Returns SGD with the run's learning rate and momentum, for server steps."""
        values = self.hyperparameters
        return optax.sgd(values.learning_rate, values.momentum or None)


@dataclasses.dataclass(frozen=True, eq=False)
class AlgorithmEntry:
    """A published algorithm, as runs see it.

    Attributes:
        name: by which it is chosen.
        summary: one line.
        make: task -> algorithm.
        arms: names of the arms that can run it.
        training: see `Training`.
        size: parameters of the model -> values of an upload.
        price: (terms, settings) -> plan and price; arms with DP need it. The algorithm
            must do what its price assumes.
        tolerates_loss: whether uploads may be lost after their clients have trained.
        samples_clients: whether the algorithm draws each round's clients itself, in
            secret; all clients are scheduled then.
        takes_client: whether `client` may replace its client function.
        server_noise: whether the server draws noise.
        defaults: hyper-parameters that differ from the tuned ones.
        ignores: names of hyper-parameters and of other fields of `runs.Spec` that
            neither `make` nor `price` reads, though the arm has them.
        check: hyper-parameters -> None; raises ValueError where they do not fit.
        settings: the class of its settings.

    Raises:
        ValueError: functions of other arguments; arms that are no names in a tuple.
    """

    name: str
    summary: str
    make: Callable[[Task], Algorithm]
    arms: tuple[str, ...]
    training: Training = Training.SGD
    size: Callable[[int], int] = lambda parameters: parameters + 1
    price: Callable[[Terms, Any], Privacy] | None = None
    tolerates_loss: bool = True
    samples_clients: bool = False
    takes_client: bool = False
    server_noise: bool = False
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    ignores: tuple[str, ...] = ()
    check: Callable[[Hyperparameters], None] = lambda values: None
    settings: type[Settings] = Settings

    def __post_init__(self) -> None:
        of = f"of algorithm {self.name}"
        check_call(f"make {of}", self.make, 1, "a function (Task) -> Algorithm")
        form = "a function (terms, settings) -> Privacy"
        if self.price is not None:
            check_call(f"price {of}", self.price, 2, form)
        form = 'names of arms, such as ("fl",)'
        check_kind(f"arms {of}", self.arms, tuple, form)
        for arm in self.arms:
            check_kind(f"arms {of}", arm, str, form)


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
