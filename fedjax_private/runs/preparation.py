"""Checks and prices a spec: shards, schedule, privacy, algorithm, sums."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from fedjax_private import aggregation, models, simulation
from fedjax_private.algorithms.entry import AlgorithmEntry, Training
from fedjax_private.algorithms.prices import Privacy, Terms
from fedjax_private.choices import Choice, check_kind
from fedjax_private.clients.entries import CLIENTS
from fedjax_private.datasets import (
    ClientData,
    Dataset,
    Normalization,
    client_data,
    named_clients,
    partition,
)
from fedjax_private.hyperparameters import Hyperparameters
from fedjax_private.privacy.mechanisms import MECHANISMS
from fedjax_private.runs.spec import Spec
from fedjax_private.runs.tuned import DEFAULT_EPSILON, Origin
from fedjax_private.trust import Adversary, Decryptor, Trust

# Of runs in which nothing is sent to anybody.
NOBODY_ELSE = Trust(1, Decryptor.NOBODY_NEEDED)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A run that has passed every check and has done no work yet.

    Attributes:
        spec: what was asked for, with the number of clients.
        dataset: as the model takes it.
        model: to be trained.
        model_name: of its entry, or of its type where it was given as an object.
        hyperparameters: that it trains with.
        algorithm: how clients and server train.
        parameters: how many the model has.
        size: values of an upload.
        data: the clients' shards; one shard with everything where data are pooled.
        schedule: the cohort of each round.
        scheme: how sums are taken; None where nothing is summed.
        trust: who is trusted with what, where something is summed.
        privacy: None without DP.
        sums: how updates are encrypted, in words; None where they are not.
        test_owners: int64 (test examples,): the client that holds the training examples
            of the same named client, or -1 where none does. None where the data name no
            clients, or the partition mixes them.
        client_names: of the clients, as the data name them; None where a shard is not
            all that one named client has.
    """

    spec: Spec
    dataset: Dataset
    model: models.Model
    model_name: str
    hyperparameters: Hyperparameters
    algorithm: Choice[AlgorithmEntry]
    parameters: int
    size: int
    data: ClientData
    schedule: list[simulation.Ids]
    scheme: Choice[aggregation.SchemeEntry] | None = None
    trust: Trust | None = None
    privacy: Privacy | None = None
    sums: str | None = None
    test_owners: npt.NDArray[np.int64] | None = None
    client_names: tuple[str, ...] | None = None

    @property
    def clients(self) -> int:
        """Clients of all rounds; 1 where data are pooled."""
        return int(self.data.mask.shape[0])

    @property
    def settings_from(self) -> Origin:
        """Where the hyper-parameters come from."""
        origin = self.spec.settings_from
        as_named = self.model_name == self.spec.model_entry.name
        return dataclasses.replace(origin, borrowed=origin.borrowed or not as_named)

    @property
    def noises_steps(self) -> bool:
        """Whether the mechanism noises clients' steps."""
        noised = self.algorithm.entry.training is not Training.SGD
        return self.spec.traits.private and noised


def prepare(
    spec: Spec, dataset: Dataset, model: models.Model | None = None
) -> Prepared:
    """Partitions the data, draws the schedule and calibrates the noise.

    Args:
        spec: what is asked for.
        dataset: as its model takes it; see `models.features`.
        model: in place of the spec's.

    Raises:
        ValueError: with one sentence, if the settings do not fit together.
    """
    check_kind("spec", spec, Spec, 'a Spec, such as runs.Spec(arm="fl")')
    _check_effects(spec, model)
    check_kind(
        "dataset",
        dataset,
        Dataset,
        "a Dataset, as datasets.load or from_arrays returns",
    )
    if not spec.traits.pooled:
        spec = with_clients(spec, dataset)
    arm, values, algorithm = spec.traits, spec.hyperparameters, spec.chosen_algorithm
    _check(spec, algorithm.entry, values)
    model_name = "of its own" if model else spec.model_entry.name
    if model is None:
        model = build_model(spec, dataset)
    if arm.pooled:
        parts: list[simulation.Ids] = [np.arange(len(dataset.train))]
    else:
        train = dataset.train
        parts = partition(
            train.labels,
            spec.client_count,
            spec.partition,
            spec.seed,
            groups=train.clients,
        )
    schedule = simulation.cohorts(
        spec.seed, values.rounds, len(parts), spec.cohort if arm.federated else None
    )
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    parameters = models.parameter_count(shapes)
    prepared = Prepared(
        spec,
        dataset,
        model,
        model_name,
        values,
        algorithm,
        parameters,
        algorithm.entry.size(parameters),
        client_data(dataset.train, parts),
        schedule,
        test_owners=_test_owners(dataset, parts),
        client_names=_client_names(dataset, parts),
    )
    if arm.federated:
        scheme = spec.scheme if spec.encrypts else aggregation.SCHEMES.choose("none")
        prepared = dataclasses.replace(prepared, scheme=scheme, trust=spec.trust)
    if arm.private:
        assert algorithm.entry.price is not None  # see `_check_priced`
        privacy = algorithm.entry.price(_terms(prepared), algorithm.settings)
        form = "an AlgorithmEntry whose price returns a Privacy, as local_price does"
        check_kind(f"algorithm={algorithm.name}", privacy, Privacy, form)
        prepared = dataclasses.replace(prepared, privacy=privacy, scheme=privacy.scheme)
    if prepared.scheme is not None and prepared.trust is not None:
        sums = aggregation.describe(
            prepared.scheme,
            vector_size=prepared.size,
            trust=prepared.trust,
            most_uploads=spec.cohort_size,
            private=arm.private,
            residues=prepared.privacy is not None and prepared.privacy.residues,
        )
        prepared = dataclasses.replace(prepared, sums=sums)
    return prepared


def with_clients(spec: Spec, dataset: Dataset) -> Spec:
    """The spec with its number of clients, which the data may name.

    Raises:
        ValueError: the partition needs data that name clients, and these do not.
    """
    if spec.clients is not None:
        return spec
    named = named_clients(spec.partition, dataset.train.clients)
    return dataclasses.replace(spec, clients=named or spec.client_count)


def _test_owners(
    dataset: Dataset, parts: Sequence[npt.NDArray[np.integer]]
) -> npt.NDArray[np.int64] | None:
    """See `Prepared.test_owners`."""
    train, test = dataset.train.clients, dataset.test.clients
    if train is None or test is None:
        return None
    owner = np.full(max(train.max(), test.max()) + 1, -1, np.int64)
    for client, part in enumerate(parts):
        named = np.unique(train[part])
        if (owner[named] >= 0).any():
            return None
        owner[named] = client
    return owner[test]


def _client_names(
    dataset: Dataset, parts: Sequence[npt.NDArray[np.integer]]
) -> tuple[str, ...] | None:
    """See `Prepared.client_names`."""
    names, train = dataset.client_names, dataset.train.clients
    if names is None or train is None:
        return None
    named = [np.unique(train[part]) for part in parts]
    if any(len(each) != 1 for each in named) or len(np.unique(named)) < len(named):
        return None
    return tuple(names[int(each[0])] for each in named)


def _check_effects(spec: Spec, model: models.Model | None) -> None:
    """Raises ValueError where something was asked for that would have no effect."""
    asked, used = spec.values(), spec.used_only().values()
    for name, sentence in spec.unused().items():
        if asked[name] != used.get(name):
            raise ValueError(sentence)
    for name in ("activation", "augmentations"):
        if model is not None and asked[name] is not None:
            raise ValueError(
                f"{name} has no effect: a ready model is trained as it is; leave it "
                "out, or name a model."
            )


def _check(spec: Spec, algorithm: AlgorithmEntry, values: Hyperparameters) -> None:
    """Raises ValueError where the algorithm does not go with what else was asked."""
    if spec.traits.private:
        _check_priced(spec, algorithm, values)
    algorithm.check(values)
    if spec.traits.federated and spec.drop_out and not algorithm.tolerates_loss:
        raise ValueError(
            f"algorithm={algorithm.name} counts on every upload of its clients, and "
            "would train wrongly without some: leave out drop_out."
        )
    if spec.cohort is not None and algorithm.samples_clients:
        raise ValueError(
            f"algorithm={algorithm.name} draws each round's clients itself, with "
            "sampling_probability: leave out cohort."
        )
    noised = spec.traits.private and algorithm.training is not Training.SGD
    if spec.client is not None:
        client = CLIENTS.choose(spec.client)
        if noised and not client.entry.private:
            raise ValueError(
                f"client={client.name} adds no noise, which arm {spec.arm} needs: "
                "choose a private client function, or another arm."
            )
        if client.entry.private and not noised:
            raise ValueError(
                f"client={client.name} noises its steps, and algorithm="
                f"{algorithm.name} in arm {spec.arm} makes no plan for them: choose a "
                "client function without noise."
            )


def _check_priced(
    spec: Spec, algorithm: AlgorithmEntry, values: Hyperparameters
) -> None:
    """Raises ValueError where an algorithm has no price, or its noise no scale."""
    if algorithm.price is None:
        raise ValueError(
            f"algorithm={algorithm.name} names arm {spec.arm}, which has DP, and has "
            "no price: give its entry price= and training=, for noised steps "
            "lambda terms, settings: local_price(terms) and Training.DP_SGD, or leave "
            "the arm out of arms."
        )
    if values.clip_norm is None:
        raise ValueError(
            f"algorithm={algorithm.name} has no clip_norm, which arm {spec.arm} needs: "
            "give its entry defaults={'clip_norm': 1.0}, or training=Training.DP_SGD "
            "where clients noise their steps."
        )


def _terms(prepared: Prepared) -> Terms:
    """What the price of a run depends on."""
    spec, values = prepared.spec, prepared.hyperparameters
    assert values.clip_norm is not None  # see `_check_priced`
    # A round is one release where no local step is noised.
    local_steps = values.noisy_steps if prepared.noises_steps else 1
    most_rounds = int(np.bincount(np.concatenate(prepared.schedule)).max())
    return Terms(
        epsilon=spec.epsilon or DEFAULT_EPSILON,
        noise_multiplier=spec.noise_multiplier,
        delta=spec.delta,
        against=Adversary(spec.epsilon_against),
        mechanism=MECHANISMS.choose(spec.mechanism),
        clip_norm=values.clip_norm,
        sampling_probability=values.sampling_probability or 1.0,
        rounds=values.rounds,
        steps=local_steps * most_rounds,
        local_steps=local_steps,
        clients=prepared.clients,
        cohort=len(prepared.schedule[0]),
        full_participation=not (spec.cohort_size < spec.client_count or spec.drop_out),
        examples=len(prepared.dataset.train),
        size=prepared.size,
        trust=prepared.trust or NOBODY_ELSE,
        scheme=prepared.scheme,
        federated=spec.traits.federated,
        signal_bound=values.signal_bound,
    )


@functools.cache
def _built(
    model: Choice[models.ModelEntry],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    classes: int,
    normalization: Normalization,
    activation: str | None,
    augmentations: int,
) -> models.Model:
    """A model; equal arguments give the same, so that compiled code is shared."""
    built = models.build(
        model,
        input_shape=shape,
        num_classes=classes,
        normalization=normalization,
        activation=activation,
        dtype=dtype,
    )
    return models.augmented(built, augmentations)


def build_model(spec: Spec, dataset: Dataset) -> models.Model:
    """The model that a run trains; runs that train the same one share compiled code.

    Args:
        spec: of the run.
        dataset: as the model takes it; see `models.features`.
    """
    inputs, values = dataset.train.inputs, spec.hyperparameters
    model = _built(
        spec.chosen_model,
        inputs.shape[1:],
        models.input_dtype(inputs.dtype),
        dataset.num_classes,
        dataset.normalization,
        values.activation,
        values.augmentations,
    )
    if values.augmentations > 1 and inputs.ndim != 4:
        raise ValueError(
            "augmentations shifts images (H, W, C), got inputs of shape "
            f"{inputs.shape[1:]}: give augmentations=1."
        )
    return model
