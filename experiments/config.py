"""Every setting of every command, validated. `flags` maps absl flags onto these."""

import dataclasses
from typing import Any

from experiments.arms import ARMS
from fedjax_private.aggregation import SCHEMES, TOPOLOGIES, Options
from fedjax_private.algorithms import SERVER_OPTIMIZERS
from fedjax_private.choices import Choice, settings_of
from fedjax_private.clients import BACKENDS
from fedjax_private.datasets import PARTITIONS as PARTITIONERS
from fedjax_private.datasets import Partitioner
from fedjax_private.models import ACTIVATIONS, MODELS
from fedjax_private.privacy import MECHANISMS, mechanism
from fedjax_private.trust import Adversary


def flag(default: Any, help: str) -> Any:
    """A dataclass field that is also a command-line flag of the same name."""
    return dataclasses.field(default=default, metadata={"help": help})


PARTITIONS = ("iid", "shards", "dirichlet")
PACKINGS = ("complex", "real")
NOISES = ("local", "distributed")
KEY_HOLDERS = ("authority", "clients")
ALGORITHMS = ("fedavg", "fedsgd", "fedprox", "scaffold")


def _one_of(name: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise ValueError(f"unknown {value!r}: --{name} takes {', '.join(choices)}.")


def _at_least_one(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}.")


def _positive(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0.0 < value < float("inf"):
            raise ValueError(f"--{name} must be positive and finite, got {value}.")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Data."""

    dataset: str = flag(
        "mnist_5k", "mnist_5k, idx:DIR, or a TFDS image-classification data set"
    )
    data_dir: str | None = flag(None, "TFDS data directory (default: TFDS' own)")
    classes_per_client: int = flag(2, "shards a client gets under partition shards")
    alpha: float = flag(0.5, "concentration of partition dirichlet")
    size_skew: float = flag(0.0, "unevenness of shard sizes; 0 is even")

    def __post_init__(self) -> None:
        for name in PARTITIONS:
            self.scheme(name)

    def scheme(self, partition: str) -> Choice[Partitioner]:
        """The partitioner of that name with these settings."""
        names = settings_of(PARTITIONERS.find(partition))
        values = {name: getattr(self, name) for name in names}
        return PARTITIONERS.choose(partition, values)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Model and training. Unset values are the tuned ones: see experiments/tuned.py."""

    model: str = flag("tutorial_cnn", f"one of {', '.join(MODELS.names)}")
    activation: str | None = flag(
        None,
        f"one of {', '.join(ACTIVATIONS)} (default: tanh, or a polynomial where the "
        "model needs one)",
    )
    algorithm: str = flag(
        "fedavg", f"of arms fl and fl_he: {', '.join(ALGORITHMS)}; others take fedavg"
    )
    proximal: float = flag(0.1, "mu, the weight of the proximal term; fedprox")
    augmentations: int | None = flag(
        None, "shifted copies that a training loss averages, to 9"
    )
    rounds: int | None = flag(None, "rounds of training, in every arm")
    local_epochs: int | None = flag(None, "epochs a round, in arms without DP")
    local_steps: int | None = flag(None, "steps a round, instead of epochs")
    batch_size: int | None = flag(None, "examples a step, in arms without DP")
    learning_rate: float | None = flag(None, "of the clients")
    momentum: float | None = flag(None, "of the clients, in [0, 1)")
    server_optimizer: str | None = flag(None, f"{', '.join(SERVER_OPTIMIZERS)}")
    server_learning_rate: float | None = flag(None, "of the server's optimiser")
    averaging: float | None = flag(
        None, "decay of the averaged model, in [0, 1); arms that share noise"
    )
    cohort: int | None = flag(None, "clients sampled a round (default: all)")
    drop_out: float = flag(0.0, "share of uploads that never arrive, in [0, 1)")
    evaluate_every: int | None = flag(None, "rounds between evaluations")
    chunk_size: int = flag(64, "clients whose updates are held in memory at once")
    backend: str = flag("auto", f"how clients are mapped: auto, {', '.join(BACKENDS)}")

    def __post_init__(self) -> None:
        _one_of("model", self.model, MODELS.names)
        if self.activation is not None:
            _one_of("activation", self.activation, ACTIVATIONS)
        _one_of("algorithm", self.algorithm, ALGORITHMS)
        _one_of("backend", self.backend, ("auto", *BACKENDS))
        if self.server_optimizer is not None:
            _one_of("server_optimizer", self.server_optimizer, SERVER_OPTIMIZERS)
        _at_least_one(
            self,
            "rounds",
            "local_epochs",
            "local_steps",
            "batch_size",
            "cohort",
            "evaluate_every",
            "chunk_size",
            "augmentations",
        )
        if (self.augmentations or 1) > 1 and not MODELS.find(self.model).augmentable:
            raise ValueError(
                "--augmentations shifts images, and scattering_linear takes features: "
                "choose another --model."
            )
        _positive(self, "learning_rate", "server_learning_rate")
        if self.momentum is not None and not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"--momentum must lie in [0, 1), got {self.momentum}.")
        if not 0.0 <= self.proximal < float("inf"):
            raise ValueError(
                f"--proximal must be finite and not negative, got {self.proximal}."
            )
        if self.averaging is not None and not 0.0 <= self.averaging < 1.0:
            raise ValueError(f"--averaging must lie in [0, 1), got {self.averaging}.")
        if not 0.0 <= self.drop_out < 1.0:
            raise ValueError(f"--drop_out must lie in [0, 1), got {self.drop_out}.")
        if self.local_epochs is not None and self.local_steps is not None:
            raise ValueError("give --local_epochs or --local_steps, not both.")


@dataclasses.dataclass(frozen=True)
class PrivacyConfig:
    """Privacy. For arms with DP; the unit is one record, added or removed."""

    epsilon: float | None = flag(
        None, "target that the noise is calibrated to (default 2.9)"
    )
    delta: float = flag(1e-5, "in (0, 1)")
    noise_multiplier: float | None = flag(
        None, "noise standard deviation over clip norm; epsilon is then reported"
    )
    clip_norm: float | None = flag(None, "bound on one example's gradient")
    sampling_probability: float | None = flag(
        None, "with which an example takes part in a step"
    )
    mechanism: str = flag(
        "gaussian", f"{', '.join(MECHANISMS)}, or module:attribute of your own"
    )
    noise: str | None = flag(
        None,
        "local: every client adds all of it; distributed: the clients of one encrypted "
        "sum share it (default: the arm's)",
    )
    honest_clients: int | None = flag(
        None, "of a sum's, assumed not to collude (default: all but one)"
    )
    epsilon_against: str = flag(
        "outsiders",
        "whom --epsilon is met against: outsiders, who see the released sums, or "
        "insiders, the server with all clients that are not honest",
    )
    noise_seed: int | None = flag(
        None, "repeatable noise and samples, for simulations (default: OS entropy)"
    )

    def __post_init__(self) -> None:
        if self.epsilon is not None and self.noise_multiplier is not None:
            raise ValueError("give --epsilon or --noise_multiplier, not both.")
        _positive(self, "epsilon", "clip_norm")
        noise = self.noise_multiplier
        if noise is not None and not 0.0 <= noise < float("inf"):
            raise ValueError(
                f"--noise_multiplier must be finite and not negative, got {noise}."
            )
        if self.noise is not None:
            _one_of("noise", self.noise, NOISES)
        _one_of("epsilon_against", self.epsilon_against, [a.value for a in Adversary])
        _at_least_one(self, "honest_clients")
        if not 0.0 < self.delta < 1.0:
            raise ValueError(f"--delta must lie in (0, 1), got {self.delta}.")
        q = self.sampling_probability
        if q is not None and not 0.0 < q <= 1.0:
            raise ValueError(f"--sampling_probability must lie in (0, 1], got {q}.")
        mechanism(self.mechanism)


@dataclasses.dataclass(frozen=True)
class EncryptionConfig:
    """Encryption. For arms with HE."""

    encryption: str = flag("ckks", f"scheme of the sums: {', '.join(SCHEMES)}")
    value_bound: float | None = flag(
        None, "largest absolute entry of an upload and of a sum (default: derived)"
    )
    precision: float = flag(1e-4, "largest acceptable error (one sigma); ckks")
    quantization_bits: int | None = flag(
        None, "sums are taken mod 2^bits; exact schemes (default: derived)"
    )
    packing: str = flag("complex", f"values to slots, of {', '.join(PACKINGS)}; ckks")
    protect: bool = flag(True, "make released sums safe to show; ckks")
    statistical_bits: int = flag(30, "how well noise hides what decryption tells")
    query_budget: int = flag(1600, "ciphertexts that one key decrypts")
    key_holder: str = flag(
        "authority",
        f"of a single key, of {', '.join(KEY_HOLDERS)}; the latter is a baseline",
    )
    min_uploads: int | None = flag(
        None, "uploads that a sum must hold to be decrypted (default: all)"
    )
    recovery_threshold: int | None = flag(
        None, "key holders that stand in for others (default: just over half)"
    )
    topology: str = flag("star", f"how uploads travel: {', '.join(TOPOLOGIES)}")
    fan_out: int = flag(8, "clients of one edge server; topology tree")
    encrypted_fraction: float = flag(
        1.0, "share of entries that is encrypted; below 1 the server reads the others"
    )
    processes: bool = flag(
        False, "server and clients as processes that exchange bytes over sockets"
    )

    def __post_init__(self) -> None:
        _one_of("encryption", self.encryption, SCHEMES)
        _one_of("packing", self.packing, PACKINGS)
        _one_of("topology", self.topology, TOPOLOGIES)
        _positive(self, "value_bound", "precision")
        _at_least_one(
            self,
            "statistical_bits",
            "query_budget",
            "min_uploads",
            "recovery_threshold",
            "fan_out",
        )
        bits = self.quantization_bits
        if bits is not None and not 2 <= bits <= 24:
            raise ValueError(
                f"--quantization_bits must lie between 2 and 24, got {bits}."
            )
        _one_of("key_holder", self.key_holder, KEY_HOLDERS)
        if self.key_holder == "clients" and self.encryption not in ("ckks", "exact"):
            raise ValueError(
                f"--encryption={self.encryption} has no single key: "
                "--key_holder=clients is for ckks and exact."
            )
        if not 0.0 < self.encrypted_fraction <= 1.0:
            raise ValueError(
                "--encrypted_fraction must lie in (0, 1], got "
                f"{self.encrypted_fraction}."
            )
        if not self.protect and self.encryption != "ckks":
            raise ValueError(
                f"--encryption={self.encryption} has no unprotected mode: --noprotect "
                "is for ckks."
            )

    @property
    def options(self) -> Options:
        """The same, as the library takes it."""
        return Options(
            value_bound=self.value_bound or Options.value_bound,
            precision=self.precision,
            quantization_bits=self.quantization_bits or Options.quantization_bits,
            protect=self.protect,
            complex_packing=self.packing == "complex",
            statistical_bits=self.statistical_bits,
            query_budget=self.query_budget,
            recovery_threshold=self.recovery_threshold,
            topology=self.topology,
            fan_out=self.fan_out,
        )


# The groups of flags that all training commands have in common.
SETTINGS = (DataConfig, TrainingConfig, PrivacyConfig, EncryptionConfig)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The values of those groups."""

    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    encryption: EncryptionConfig = EncryptionConfig()

    def encrypts(self, arm: str) -> bool:
        """Whether an arm's sums are encrypted."""
        return ARMS[arm].encrypted and self.encryption.encryption != "none"

    def shares_noise(self, arm: str) -> bool:
        """Whether an arm's clients share the noise of each sum.

        Raises:
            ValueError: they would, but the server reads the uploads.
        """
        chosen = ARMS[arm]
        shared = self.privacy.noise == "distributed"
        if chosen.private and not chosen.encrypted and chosen.federated and shared:
            raise ValueError(
                f"--noise=distributed needs sums that the server cannot read, and arm "
                f"{arm} encrypts nothing: give --arm=private_ai or --noise=local."
            )
        if not (chosen.private and chosen.encrypted):
            return False
        if not (shared or (chosen.shared and self.privacy.noise is None)):
            return False
        if not self.encrypts(arm):
            raise ValueError(
                f"--encryption=none lets the server read every share of {arm}'s noise: "
                "give --noise=local or another --encryption."
            )
        return True


@dataclasses.dataclass(frozen=True)
class OutputConfig:
    """Output."""

    out: str | None = flag(None, "directory (default runs/<command>-<timestamp>)")
    overwrite: bool = flag(False, "replace the run that the directory holds")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """What to run."""

    arm: str = flag("private_ai", f"one of {', '.join(ARMS)}")
    clients: int = flag(4, "number of clients")
    partition: str = flag("iid", "iid, shards or dirichlet")
    seed: int = flag(0, "of partition, initialisation and batches")

    def __post_init__(self) -> None:
        _one_of("arm", self.arm, ARMS)
        _one_of("partition", self.partition, PARTITIONS)
        _at_least_one(self, "clients")
        if self.seed < 0:
            raise ValueError(f"--seed must not be negative, got {self.seed}.")


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """What to run."""

    arms: tuple[str, ...] = flag(
        tuple(arm for arm in ARMS if arm != "private_ai_local"),
        f"what to compare, of {', '.join(ARMS)}",
    )
    clients: tuple[int, ...] = flag((4, 8, 16, 32), "client counts (--quick: 4,8)")
    partitions: tuple[str, ...] = flag(
        ("iid", "shards"), "of iid, shards and dirichlet"
    )
    seeds: int = flag(3, "how many repetitions (--quick: 1)")
    quick: bool = flag(False, "few rounds, one seed: a look, not a result")

    def __post_init__(self) -> None:
        for name in ("arms", "clients", "partitions"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"--{name} needs at least one value.")
            if len(set(values)) < len(values):
                raise ValueError(f"--{name} names a value twice.")
        for arm in self.arms:
            _one_of("arms", arm, ARMS)
        for partition in self.partitions:
            _one_of("partitions", partition, PARTITIONS)
        for count in self.clients:
            if count < 1:
                raise ValueError(f"--clients must be at least 1, got {count}.")
        _at_least_one(self, "seeds")
