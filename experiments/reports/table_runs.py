"""Lists the runs that `experiments.tables` trains, for each profile."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from fedjax_private import aggregation, runs
from fedjax_private.algorithms import ALGORITHMS
from fedjax_private.choices import Choice, Settings, at_least, chosen, one_of, setting
from fedjax_private.datasets import SOURCES, Source

PROFILES = ("digits", "paper_shape")
CNN, LINEAR, POLYNOMIAL = "tutorial_cnn", "scattering_linear", "polynomial_cnn"
SHALLOW = "shallow_cnn"  # a CNN for noisy steps
TABLE_1_MODELS = (CNN, SHALLOW, LINEAR)
EPSILONS = (0.563, 2.9)  # the paper's
MORE_EPSILONS = (1.0, 8.0)  # for the curve
# The number of clients where the paper names none.
CLIENTS = 8
SCHEMES = ("ckks", "exact", "threshold_ckks", "threshold_exact", "masks")
PARTITIONS = ("iid", "shards")

# paper_shape: so few examples that a client alone cannot learn, and rounds to match.
SCARCE_EXAMPLES, SCARCE_ROUNDS, SCARCE_SEEDS = 1024, 50, 10

MLP = "mlp_2nn"  # McMahan et al.'s, who call it 2NN

# Related work, each at the setting of its paper as far as 4,000 digits allow: arguments
# of `spec`. Clients, cohort, epochs, batches, sampling and noise are the papers'; data,
# model and the number of rounds are ours.
_MCMAHAN = {
    "arm": "fl",
    "clients": 100,
    "cohort": 10,
    "model": MLP,
    "learning_rate": 0.1,
    "rounds": 20,
}
_FEDAVG = {**_MCMAHAN, "local_epochs": 5, "batch_size": 10, "momentum": 0.0}
RELATED: tuple[Mapping[str, Any], ...] = (
    {**_FEDAVG, "algorithm": "fedavg"},
    {**_MCMAHAN, "algorithm": "fedsgd"},
    {
        **_FEDAVG,
        "algorithm": ALGORITHMS.choose("fedprox", {"proximal": 1.0}),
        "partition": "shards",
    },
    {**_FEDAVG, "algorithm": "scaffold", "partition": "shards", "cohort": 20},
    {
        **_FEDAVG,
        "algorithm": "fedavg",
        "server_optimizer": "adam",
        "server_learning_rate": 0.01,
    },
    {
        "arm": "private_ai",
        "algorithm": "dopamine",
        "clients": 10,
        "noise_multiplier": 1.15,
        "sampling_probability": 0.03425,
        "delta": 1e-4,
        "rounds": 100,
    },
    {
        "arm": "private_ai",
        "algorithm": "truex",
        "clients": 10,
        "honest_clients": 5,
        # Five may collude, and against a server that departs from the protocol 2T - 10.
        "encryption": aggregation.SCHEMES.choose(
            "threshold_ckks", {"recovery_threshold": 8}
        ),
        "epsilon": EPSILONS[1],
    },
    {
        "arm": "fl_dp",
        "algorithm": ALGORITHMS.choose("nbafl", {"nbafl_claim": 60.0}),
        "clients": 50,
        "model": MLP,
        "delta": 0.01,
        "rounds": 25,
    },
    {
        "arm": "fl_dp",
        "algorithm": "dp_fedavg",
        "clients": 100,
        "model": MLP,
        "sampling_probability": 0.1,
        "noise_multiplier": 1.0,
        "rounds": 50,
    },
)


@dataclasses.dataclass(frozen=True)
class TablesConfig(Settings):
    """What to make."""

    profile: str = setting("digits", f"one of {', '.join(PROFILES)}", one_of(*PROFILES))
    clients: tuple[int, ...] = setting((4, 8, 16, 32), "client counts")
    seeds: int | None = setting(
        None, f"repetitions (default: 2; paper_shape: {SCARCE_SEEDS})", at_least(1)
    )
    quick: bool = setting(False, "few rounds, one seed: a look, not a result")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.clients or min(self.clients) < 1:
            raise ValueError(f"clients must be at least 1, got {self.clients}.")

    @property
    def repetitions(self) -> int:
        """Seeds of each cell."""
        usual = SCARCE_SEEDS if self.profile == "paper_shape" else 2
        return self.seeds or (1 if self.quick else usual)

    def short(self, spec: runs.Spec) -> runs.Spec:
        """The run with the rounds of the profile, where it sets them."""
        usual = SCARCE_ROUNDS if self.profile == "paper_shape" else spec.rounds
        return dataclasses.replace(spec, rounds=3 if self.quick else usual)


@dataclasses.dataclass(frozen=True)
class DataConfig(Settings):
    """Which data are learned."""

    dataset: "str | Source | Choice[Source]" = chosen(
        SOURCES, "mnist_5k", "what is learned"
    )


def specs(what: TablesConfig, data: DataConfig) -> list[runs.Spec]:
    """All runs of a profile, seed 0 of everything first."""
    make = _digits if what.profile == "digits" else _scarce
    once = list(dict.fromkeys(map(what.short, make(what, data))))
    return [
        dataclasses.replace(spec, seed=seed)
        for seed in range(what.repetitions)
        for spec in once
        if seed == 0 or _repeated(spec)
    ]


def _repeated(spec: runs.Spec) -> bool:
    """Whether every seed is run; of what takes long, the first must be enough."""
    model = spec.model_entry.name
    long = spec.arm == "private_ai" and (model != LINEAR or spec.epsilon == EPSILONS[0])
    once = spec.label.startswith(("cost", "related"))
    return not (long or once or model == POLYNOMIAL)


def spec(
    data: DataConfig,
    arm: str,
    clients: int = CLIENTS,
    partition: str = "iid",
    label: str = "",
    model: str = LINEAR,
    **changes: Any,
) -> runs.Spec:
    """One run of a table, at seed 0, without what has no effect on it."""
    traits = runs.ARMS[arm]
    made = runs.Spec(
        arm=arm,
        clients=clients,
        partition=partition,
        dataset=data.dataset,
        model=model,
        **changes,
    ).used_only()
    kind = [model]
    if made.algorithm is not None:
        kind.append(made.chosen_algorithm.name)
    if made.server_optimizer is not None:
        kind.append(made.server_optimizer)
    if traits.private and made.epsilon is not None:
        kind.append(f"{made.epsilon:g}")
    if traits.encrypted:
        kind.append(made.scheme.name)
    return dataclasses.replace(made, label="-".join([label, *kind] if label else kind))


def _digits(what: TablesConfig, data: DataConfig) -> Iterator[runs.Spec]:
    run = functools.partial(spec, data)
    low, high = EPSILONS
    for model in TABLE_1_MODELS:
        yield run("centralized", model=model)
        yield run("centralized_dp", model=model, epsilon=low)
    yield run("centralized_dp", epsilon=high)
    # Predicts on encrypted images.
    yield run("centralized", model=POLYNOMIAL)
    for partition, clients in itertools.product(PARTITIONS, what.clients):
        place = (clients, partition)
        yield run("local", *place, model=CNN)
        yield run("fl", *place, model=CNN)
        yield run("fl_dp", *place, epsilon=high)
        yield run("private_ai", *place, epsilon=high)
        yield run("private_ai", *place, epsilon=low)
    for model in (LINEAR, CNN):
        yield run("fl", model=model)
        yield run("fl_he", model=model)
    yield run("fl_dp", epsilon=high)
    for model in (LINEAR, CNN, SHALLOW):
        yield run("private_ai", model=model, epsilon=high)
    # One holder of all data, whose updates pass through encryption all the same.
    yield run("fl_he", 1)
    yield run("private_ai", 1, epsilon=high)
    for epsilon in MORE_EPSILONS:
        yield run("centralized_dp", epsilon=epsilon)
        yield run("private_ai", epsilon=epsilon)
    yield run("private_ai_local", label="cost", epsilon=high)
    for scheme in SCHEMES:
        yield run("private_ai", label="cost", epsilon=high, encryption=scheme)
    yield from related(what, data)


def related(what: TablesConfig, data: DataConfig) -> list[runs.Spec]:
    """The runs of the table of related work, in the order of `RELATED`."""
    return [what.short(spec(data, label="related", **each)) for each in RELATED]


def _scarce(what: TablesConfig, data: DataConfig) -> Iterator[runs.Spec]:
    yield spec(data, "centralized", model=CNN)
    for partition, clients in itertools.product(PARTITIONS, what.clients):
        place = (clients, partition)
        yield spec(data, "local", *place, model=CNN)
        yield spec(data, "fl", *place, model=CNN)
