"""A run as it is asked for. Its fields are also the flags of the commands."""

import dataclasses
import hashlib
import os
import re
from typing import Any

from fedjax_private import choices
from fedjax_private.aggregation import SCHEMES, SchemeEntry, trust_of
from fedjax_private.algorithms.entry import ALGORITHMS, AlgorithmEntry
from fedjax_private.algorithms.fedopt import SERVER_OPTIMIZERS
from fedjax_private.choices import (
    Choice,
    at_least,
    below_one,
    chosen,
    one_of,
)
from fedjax_private.clients.entries import CLIENTS, ClientEntry
from fedjax_private.clients.for_each import BACKENDS
from fedjax_private.datasets import PARTITIONS, SOURCES, Dataset, Partitioner, Source
from fedjax_private.hyperparameters import Hyperparameters
from fedjax_private.models import ACTIVATIONS, MODELS, ModelEntry
from fedjax_private.privacy.mechanisms import MECHANISMS
from fedjax_private.privacy.mechanisms.mechanism import Mechanism
from fedjax_private.runs import settings_files
from fedjax_private.runs.arms import ARMS, Arm
from fedjax_private.runs.settings_files import SettingsFile
from fedjax_private.runs.settled import Settled, settle
from fedjax_private.runs.tuned import Origin
from fedjax_private.runs.unused import (
    Facts,
    fields_without_effect,
    reset,
    values_of,
    with_settings,
)
from fedjax_private.trust import Adversary, Decryptor, Trust

RUN = "What to run"
TRAINING = "Model and training (unset values are the tuned ones)"
PRIVACY = "Privacy, for arms with DP"
ENCRYPTION = "Encryption, for arms with HE"

# The number of clients where neither spec nor data name one.
DEFAULT_CLIENTS = 4

NOISES = ("local", "distributed")

# Bytes of a label that names of files hold; longer ones end in a digest.
LABEL_BYTES, DIGEST_LETTERS = 120, 12


def _known_optimizer(name: str) -> str | None:
    SERVER_OPTIMIZERS.find(name)  # raises ValueError, with the ones that there are
    return None


def setting(
    group: str, default: Any, help: str, check: choices.Check | None = None
) -> Any:
    """A field of `Spec`."""
    return choices.setting(default, help, check, group=group)


def _shortened(label: str) -> str:
    """A label that fits into the name of a file, whose 255 bytes hold more than it."""
    encoded = label.encode()
    if len(encoded) <= LABEL_BYTES:
        return label
    digest = hashlib.sha256(encoded).hexdigest()[:DIGEST_LETTERS]
    return encoded[:LABEL_BYTES].decode(errors="ignore") + f"~{digest}"


@dataclasses.dataclass(frozen=True)
class Spec(choices.Settings):
    """Everything that fixes one run; None is the tuned or derived value.

    Choices are given by name, as `module:attribute`, as an entry, or with settings of
    their own: `partition=datasets.PARTITIONS.choose("dirichlet", {"alpha": 0.3})`.

    `prepare` refuses values that have no effect on the run: `unused` says which these
    are and why, `used_only` resets them.

    Raises:
        ValueError: a value outside its range, or two that exclude each other.
    """

    arm: str = setting(RUN, "private_ai", f"one of {', '.join(ARMS)}", one_of(*ARMS))
    clients: int | None = setting(
        RUN,
        None,
        f"number of clients (default {DEFAULT_CLIENTS}; with partition=natural, those "
        "that the data name)",
        at_least(1),
    )
    partition: "str | Partitioner | Choice[Partitioner]" = chosen(
        PARTITIONS, "iid", "how records are dealt to clients", group=RUN
    )
    seed: int = setting(
        RUN, 0, "of partition, initialisation and batches", choices.not_negative
    )
    dataset: "str | Source | Choice[Source] | Dataset" = chosen(
        SOURCES, "mnist_5k", "what is learned", group=RUN
    )
    client_statistics: bool | None = setting(
        RUN,
        None,
        "write down sizes, class counts and accuracies of clients, which no epsilon "
        "covers: for public data (default: in arms without DP; accuracies on test "
        "records that name their clients in all arms)",
    )

    model: "str | ModelEntry | Choice[ModelEntry] | None" = chosen(
        MODELS,
        None,
        "what is trained (default: linear for tables, else tutorial_cnn)",
        group=TRAINING,
    )
    activation: str | None = setting(
        TRAINING,
        None,
        f"one of {', '.join(ACTIVATIONS)} (default: the tuned one)",
        one_of(*ACTIVATIONS),
    )
    algorithm: "str | AlgorithmEntry | Choice[AlgorithmEntry] | None" = chosen(
        ALGORITHMS,
        None,
        "how clients and server train (default: the arm's)",
        group=TRAINING,
    )
    client: "str | ClientEntry | Choice[ClientEntry] | None" = chosen(
        CLIENTS,
        None,
        "how one client trains (default: the algorithm's)",
        group=TRAINING,
    )
    augmentations: int | None = setting(
        TRAINING,
        None,
        "shifted copies of each image that the training loss averages over, to 9",
        at_least(1),
    )
    rounds: int | None = setting(
        TRAINING, None, "rounds of training, in every arm", at_least(1)
    )
    local_epochs: int | None = setting(
        TRAINING, None, "epochs a round, where steps are not noised", at_least(1)
    )
    local_steps: int | None = setting(
        TRAINING, None, "steps a round, instead of epochs", at_least(1)
    )
    batch_size: int | None = setting(
        TRAINING, None, "examples a step, where steps are not noised", at_least(1)
    )
    learning_rate: float | None = setting(
        TRAINING, None, "of the clients", choices.positive
    )
    momentum: float | None = setting(
        TRAINING, None, "of the clients, in [0, 1)", below_one
    )
    server_optimizer: str | None = setting(
        TRAINING,
        None,
        f"{', '.join(SERVER_OPTIMIZERS)}, or module:attribute of your own",
        _known_optimizer,
    )
    server_learning_rate: float | None = setting(
        TRAINING, None, "of the server's optimiser", choices.positive
    )
    averaging: float | None = setting(
        TRAINING,
        None,
        "decay of the averaged model, in [0, 1), where clients share noise",
        below_one,
    )
    cohort: int | None = setting(
        TRAINING, None, "clients sampled a round (default: all)", at_least(1)
    )
    drop_out: float = setting(
        TRAINING, 0.0, "share of uploads that never arrive, in [0, 1)", below_one
    )
    evaluate_every: int | None = setting(
        TRAINING,
        None,
        "rounds between evaluations (default: 1 below 20 rounds, else 10)",
        at_least(1),
    )
    chunk_size: int = setting(
        TRAINING, 64, "clients whose updates are held in memory at once", at_least(1)
    )
    backend: str = setting(
        TRAINING,
        "auto",
        f"how clients are mapped: auto, {', '.join(BACKENDS)}",
        one_of("auto", *BACKENDS),
    )

    epsilon: float | None = setting(
        PRIVACY,
        None,
        "target that the noise is calibrated to (default 2.9)",
        choices.positive,
    )
    delta: float = setting(
        PRIVACY,
        1e-5,
        "in (0, 1)",
        lambda value: None if 0.0 < value < 1.0 else "must lie in (0, 1)",
    )
    noise_multiplier: float | None = setting(
        PRIVACY,
        None,
        "noise standard deviation over clip norm; epsilon is then reported",
        choices.not_negative,
    )
    clip_norm: float | None = setting(
        PRIVACY,
        None,
        "bound on one example's gradient, or on what a client sends",
        choices.positive,
    )
    sampling_probability: float | None = setting(
        PRIVACY,
        None,
        "with which an example takes part in a step, or a client in a round",
        choices.probability,
    )
    mechanism: "str | Mechanism | Choice[Mechanism]" = chosen(
        MECHANISMS, "gaussian", "of noisy steps", group=PRIVACY
    )
    noise: str | None = setting(
        PRIVACY,
        None,
        "local: every client adds all of it; distributed: the clients of one encrypted "
        "sum share it (default: the arm's)",
        one_of(*NOISES),
    )
    honest_clients: int | None = setting(
        PRIVACY,
        None,
        "clients of each sum that are assumed not to collude (default: all but one)",
        at_least(1),
    )
    epsilon_against: str = setting(
        PRIVACY,
        "outsiders",
        "the adversary that epsilon is met against: outsiders, who see the released "
        "sums, or insiders, the server with all clients that are not honest",
        one_of(*(adversary.value for adversary in Adversary)),
    )
    noise_seed: int | None = setting(
        PRIVACY,
        None,
        "lets noise and samples repeat, for simulations; CKKS' own randomness does "
        "not (default: a key of 64 bits from the operating system)",
    )

    encryption: "str | SchemeEntry | Choice[SchemeEntry]" = chosen(
        SCHEMES, "ckks", "scheme of the sums", group=ENCRYPTION
    )
    min_uploads: int | None = setting(
        ENCRYPTION,
        None,
        "uploads that a released sum must hold (default: all; one of plain sums)",
        at_least(1),
    )

    settings: "str | SettingsFile | None" = choices.setting(
        None,
        "file that experiments.tune wrote; its values are the tuned ones",
        group=TRAINING,
    )

    label: str = ""  # tells runs apart that differ in their settings

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.settings, str | os.PathLike):
            fields = dataclasses.fields(self)
            checks = {f.name: c for f in fields if (c := f.metadata.get("check"))}
            file = settings_files.read(self.settings, checks)
            object.__setattr__(self, "settings", file)
        for one, other in (
            ("epsilon", "noise_multiplier"),
            ("local_epochs", "local_steps"),
        ):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ValueError(f"give {one} or {other}, not both.")

    @property
    def name(self) -> str:
        """A name for files and lines: arm-clients-partition-seed, or label-arm-...

        A long label is cut, and a digest of all of it stands for the rest.
        """
        start = f"{_shortened(self.label)}-" if self.label else ""
        name = (
            f"{start}{self.arm}-{self.client_count}-{self.partition_name}-{self.seed}"
        )
        return re.sub(r"[/\\:]", "_", name)

    @property
    def traits(self) -> Arm:
        """What kind of arm it is."""
        return ARMS[self.arm]

    @property
    def dataset_name(self) -> str:
        """The data set's name, for tables of tuned values and for `load`."""
        return SOURCES.choose(self.dataset).name

    @property
    def partition_name(self) -> str:
        """The partition's name."""
        return PARTITIONS.choose(self.partition).name

    @property
    def mechanism_name(self) -> str:
        """The mechanism's name."""
        return MECHANISMS.choose(self.mechanism).name

    @property
    def chosen_model(self) -> Choice[ModelEntry]:
        """What is trained: the model that was named, or the data set's usual one."""
        usual = "linear" if self._table else "tutorial_cnn"
        return MODELS.choose(self.model or usual)

    @property
    def _table(self) -> bool:
        return SOURCES.choose(self.dataset).entry.table

    @property
    def model_entry(self) -> ModelEntry:
        """The model's entry."""
        return self.chosen_model.entry

    @property
    def scheme(self) -> Choice[SchemeEntry]:
        """How sums are encrypted, in arms that encrypt."""
        return SCHEMES.choose(self.encryption)

    @property
    def encrypts(self) -> bool:
        """Whether sums are encrypted."""
        scheme = self.scheme
        decryptor = scheme.entry.decryptor(scheme.settings)
        return self.traits.encrypted and decryptor is not Decryptor.NOBODY_NEEDED

    @property
    def shares_noise(self) -> bool:
        """Whether clients share the noise of each sum.

        Raises:
            ValueError: they would, but the server reads the uploads.
        """
        arm, shared = self.traits, self.noise == "distributed"
        if arm.private and not arm.encrypted and arm.federated and shared:
            raise ValueError(
                "noise=distributed needs sums that the server cannot read, and arm "
                f"{self.arm} encrypts nothing: give arm=private_ai or leave out noise."
            )
        if not (arm.private and arm.encrypted):
            return False
        if not (shared or (arm.shared and self.noise is None)):
            return False
        if not self.encrypts:
            raise ValueError(
                f"encryption={self.scheme.name} lets the server read every share of "
                f"{self.arm}'s noise: give noise=local or another encryption."
            )
        return True

    @property
    def chosen_algorithm(self) -> Choice[AlgorithmEntry]:
        """The algorithm; raises ValueError where the arm cannot run it."""
        # With `noise` given, an arm of one kind of noise is the other one.
        arm = self.arm
        if self.traits.private and self.traits.encrypted:
            arm = "private_ai" if self.shares_noise else "private_ai_local"
        choice = ALGORITHMS.choose(self.algorithm or ARMS[arm].algorithm)
        for name in choice.entry.arms:
            if name not in ARMS:
                raise ValueError(
                    f"algorithm={choice.name} names arm {name!r} in arms, which is "
                    f"none of {', '.join(ARMS)}."
                )
        if arm not in choice.entry.arms:
            raise ValueError(
                f"algorithm={choice.name} is for arm {' or '.join(choice.entry.arms)}, "
                f"got {arm}."
            )
        return choice

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Tuned values, those of the algorithm, and given ones together."""
        return self._settled.values

    @property
    def settings_from(self) -> Origin:
        """Where the hyper-parameters come from."""
        return self._settled.origin

    @property
    def _settled(self) -> Settled:
        names = [field.name for field in dataclasses.fields(Hyperparameters)]
        given = {name: getattr(self, name, None) for name in names}
        assert not isinstance(self.settings, str)  # was read on construction
        return settle(
            self.arm,
            self.chosen_algorithm.entry,
            shares_noise=self.shares_noise,
            cohort=self.cohort_size,
            dataset=self.dataset_name,
            partition=self.partition_name,
            model=self.model_entry.name,
            epsilon=self.epsilon,
            table=self._table,
            file=self.settings,
            given={name: value for name, value in given.items() if value is not None},
        )

    @property
    def client_count(self) -> int:
        """Number of clients, 1 where pooled; before `prepare`, the default."""
        return self.clients or (1 if self.traits.pooled else DEFAULT_CLIENTS)

    @property
    def cohort_size(self) -> int:
        """Clients of a round."""
        return self.cohort or self.client_count

    @property
    def trust(self) -> Trust:
        """Who is trusted with what; raises ValueError where that cannot be.

        A sum that the server reads anyway may hold any number of uploads: by default it
        is released with those that arrive.
        """
        uploads = self.min_uploads or self.cohort_size
        if uploads > self.cohort_size:
            raise ValueError(
                f"min_uploads must lie between 1 and the {self.cohort_size} clients of "
                f"a round, got {uploads}."
            )
        honest = self.honest_clients
        if honest is not None and honest > uploads:
            raise ValueError(
                f"honest_clients must lie between 1 and the {uploads} uploads of a "
                f"sum, got {honest}."
            )
        if not self.encrypts:
            return trust_of("none", uploads=self.min_uploads or 1)
        return trust_of(self.scheme, uploads=uploads, honest=honest)

    def unused(self) -> dict[str, str]:
        """Field, or setting of a choice -> one sentence why it has no effect.

        Raises:
            ValueError: the fields exclude each other.
        """
        settled = self._settled
        facts = Facts(
            self.arm,
            self.chosen_algorithm,
            None if self.client is None else CLIENTS.choose(self.client),
            self.model_entry,
            settled.usual,
            self.shares_noise,
            self.encrypts,
            self.drop_out > 0,
        )
        groups: dict[str, list[str]] = {}
        for field in dataclasses.fields(self):
            groups.setdefault(field.metadata.get("group", ""), []).append(field.name)
        sentences = fields_without_effect(facts, groups[PRIVACY], groups[ENCRYPTION])
        if settled.unfit is not None:
            sentences["settings"] = settled.unfit
        return with_settings(self, sentences)

    def used_only(self) -> "Spec":
        """The spec with the default for all that has no effect; the same run."""
        return reset(self, self.unused())

    def values(self) -> dict[str, Any]:
        """Field, or setting of a choice -> value; choices by their entries."""
        return values_of(self)

    def described(self) -> dict[str, Any]:
        """All fields, choices with their settings, as config.json holds them."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["model"] = self.chosen_model
        return {
            name: value.described() if hasattr(value, "described") else value
            for name, value in values.items()
        }
