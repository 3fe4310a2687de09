"""Which runs the tables are made of."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from fedjax_private import runs
from fedjax_private.algorithms import ALGORITHMS
from fedjax_private.choices import Settings, at_least, one_of, setting

PROFILES = ("digits", "paper_shape")
CNN, LINEAR, POLYNOMIAL = "tutorial_cnn", "scattering_linear", "polynomial_cnn"
SHALLOW = "shallow_cnn"  # a CNN for noisy steps
TABLE_1_MODELS = (CNN, SHALLOW, LINEAR)
EPSILONS = (0.563, 2.9)  # the paper's
MORE_EPSILONS = (1.0, 8.0)  # for the curve
# The number of clients where the paper names none.
CLIENTS = 8
SCHEMES = ("ckks", "exact", "threshold_ckks", "threshold_exact")
PARTITIONS = ("iid", "shards")

# paper_shape: so few examples that a client alone cannot learn, and rounds to match.
SCARCE_EXAMPLES, SCARCE_ROUNDS, SCARCE_SEEDS = 1024, 50, 10

MLP = "mlp_2nn"  # McMahan et al.'s, who call it 2NN

# Related work, each at the setting of its paper as far as 4,000 digits allow: arguments
# of `spec`. Clients, cohort, epochs, batches, sampling and noise are the papers'; data,
# model and the number of rounds are ours.
_MCMAHAN = {"arm": "fl", "clients": 100, "cohort": 10, "model": MLP}
_FEDAVG = {**_MCMAHAN, "local_epochs": 5, "batch_size": 10, "learning_rate": 0.1}
RELATED: tuple[Mapping[str, Any], ...] = (
    {**_FEDAVG, "algorithm": "fedavg", "momentum": 0.0, "rounds": 20},
    {**_MCMAHAN, "algorithm": "fedsgd", "learning_rate": 0.1, "rounds": 20},
    {
        **_FEDAVG,
        "algorithm": ALGORITHMS.choose("fedprox", {"proximal": 1.0}),
        "partition": "shards",
        "momentum": 0.0,
        "rounds": 20,
    },
    {
        **_FEDAVG,
        "algorithm": "scaffold",
        "partition": "shards",
        "cohort": 20,
        "momentum": 0.0,
        "rounds": 20,
    },
    {
        **_FEDAVG,
        "algorithm": "fedavg",
        "server_optimizer": "adam",
        "server_learning_rate": 0.01,
        "momentum": 0.0,
        "rounds": 20,
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
        "encryption": "threshold_ckks",
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


@dataclasses.dataclass(frozen=True)
class DataConfig(Settings):
    """Data."""

    dataset: str = setting(
        "mnist_5k",
        "mnist_5k, idx:DIR, a TFDS image-classification data set, or module:attribute "
        "of your own",
    )
    data_dir: str | None = setting(None, "TFDS data directory (default: TFDS' own)")


def specs(what: TablesConfig, data: DataConfig) -> list[runs.Spec]:
    """All runs of a profile, seed 0 of everything first."""
    make = _digits if what.profile == "digits" else _scarce
    once = list(dict.fromkeys(make(what, data)))
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
    arm: str,
    data: DataConfig,
    clients: int = CLIENTS,
    partition: str = "iid",
    label: str = "",
    model: str = LINEAR,
    **changes: Any,
) -> runs.Spec:
    """One run of a table, at seed 0; pooled data know neither clients nor partition."""
    traits = runs.ARMS[arm]
    if traits.pooled:
        clients, partition = 1, "iid"
    made = runs.Spec(
        arm=arm,
        clients=clients,
        partition=partition,
        dataset=data.dataset,
        data_dir=data.data_dir,
        model=model,
        **changes,
    )
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
    rounds = 3 if what.quick else None
    low, high = EPSILONS
    for model in TABLE_1_MODELS:
        yield spec("centralized", data, model=model, rounds=rounds)
        yield spec("centralized_dp", data, model=model, epsilon=low, rounds=rounds)
    yield spec("centralized_dp", data, epsilon=high, rounds=rounds)
    # Predicts on encrypted images.
    yield spec("centralized", data, model=POLYNOMIAL, rounds=rounds)
    for partition in PARTITIONS:
        for clients in what.clients:
            for arm in ("local", "fl"):
                yield spec(arm, data, clients, partition, model=CNN, rounds=rounds)
            for arm, epsilon in (
                ("fl_dp", high),
                ("private_ai", high),
                ("private_ai", low),
            ):
                yield spec(
                    arm, data, clients, partition, epsilon=epsilon, rounds=rounds
                )
    for model in (LINEAR, CNN):
        for arm in ("fl", "fl_he"):
            yield spec(arm, data, model=model, rounds=rounds)
    for arm in ("fl_dp", "private_ai"):
        yield spec(arm, data, epsilon=high, rounds=rounds)
    for model in (CNN, SHALLOW):
        yield spec("private_ai", data, model=model, epsilon=high, rounds=rounds)
    # One holder of all data, whose updates pass through encryption all the same.
    yield spec("fl_he", data, 1, rounds=rounds)
    yield spec("private_ai", data, 1, epsilon=high, rounds=rounds)
    for epsilon in MORE_EPSILONS:
        for arm in ("centralized_dp", "private_ai"):
            yield spec(arm, data, epsilon=epsilon, rounds=rounds)
    yield spec("private_ai_local", data, label="cost", epsilon=high, rounds=rounds)
    for scheme in SCHEMES:
        yield spec(
            "private_ai",
            data,
            label="cost",
            epsilon=high,
            encryption=scheme,
            rounds=rounds,
        )
    yield from related(what, data)


def related(what: TablesConfig, data: DataConfig) -> list[runs.Spec]:
    """The runs of the table of related work, in the order of `RELATED`."""
    short = {"rounds": 3} if what.quick else {}
    return [spec(data=data, label="related", **{**each, **short}) for each in RELATED]


def _scarce(what: TablesConfig, data: DataConfig) -> Iterator[runs.Spec]:
    rounds = 3 if what.quick else SCARCE_ROUNDS
    yield spec("centralized", data, model=CNN, rounds=rounds)
    for partition in PARTITIONS:
        for clients in what.clients:
            for arm in ("local", "fl"):
                yield spec(arm, data, clients, partition, model=CNN, rounds=rounds)
