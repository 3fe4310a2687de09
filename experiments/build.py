"""From settings to the parts of a run: shards, schedule, privacy plan, algorithm."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from experiments.arms import ARMS
from experiments.config import Settings
from experiments.tuned import Hyperparameters, hyperparameters
from fedjax_private import aggregation, algorithms, clients, models, simulation
from fedjax_private.datasets import ClientData, Dataset, client_data, partition
from fedjax_private.encryption import derive
from fedjax_private.privacy import MechanismSettings, Plan, mechanism
from fedjax_private.privacy.accounting import (
    Neighbors,
    RdpAccountant,
    calibrate_noise_multiplier,
)
from fedjax_private.trust import Trust
from fedjax_private.typing import Params

DEFAULT_EPSILON = 2.9
NEIGHBORS = Neighbors.ADD_REMOVE


@dataclasses.dataclass(frozen=True)
class Spec:
    """Everything that fixes one run."""

    arm: str
    clients: int
    partition: str
    seed: int
    settings: Settings

    @property
    def name(self) -> str:
        """A name for files and lines: arm-clients-partition-seed."""
        return f"{self.arm}-{self.clients}-{self.partition}-{self.seed}"

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Tuned values and flags together."""
        training, privacy = self.settings.training, self.settings.privacy
        return hyperparameters(self.arm, self.clients, training, privacy)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A run that has passed every check and has done no work yet.

    Attributes:
        spec: what was asked for.
        data: the clients' shards; one shard with everything where data are pooled.
        schedule: the cohort of each round.
        plan: None without DP.
        noise_multiplier: that the plan was made with; None without DP.
        steps: noisy steps of the client that takes part most often; None without DP.
        epsilon: what they cost its records; None without DP.
        sums: how updates are encrypted, in words; None where they are not.
    """

    spec: Spec
    data: ClientData
    schedule: list[simulation.Ids]
    plan: Plan | None = None
    noise_multiplier: float | None = None
    steps: int | None = None
    epsilon: float | None = None
    sums: str | None = None


def unavailable() -> str | None:
    """Why encrypted arms cannot run here; None where they can."""
    from fedjax_private.encryption import OpenFHEUnavailable, backend

    try:
        backend.load()
    except OpenFHEUnavailable as error:
        return str(error)
    return None


def prepare(spec: Spec, dataset: Dataset) -> Prepared:
    """Partitions the data, draws the schedule and calibrates the noise.

    Raises:
        ValueError: with one sentence, if the settings do not fit together.
    """
    arm, hyper = ARMS[spec.arm], spec.hyperparameters
    sums = _described(spec, dataset) if encrypts(spec) else None
    scheme = spec.settings.data.scheme(spec.partition)
    parts = partition(dataset.train.labels, spec.clients, scheme, spec.seed)
    if arm.pooled:
        parts = [np.arange(len(dataset.train))]
    cohort = spec.settings.training.cohort if arm.federated else None
    schedule = simulation.cohorts(spec.seed, hyper.rounds, len(parts), cohort)
    data = client_data(dataset.train, parts)
    if not arm.private:
        return Prepared(spec, data, schedule, sums=sums)
    steps = local_steps(hyper) * int(np.bincount(np.concatenate(schedule)).max())
    plan_of = _plan_of(spec, steps, len(dataset.train) / len(parts))
    privacy = spec.settings.privacy
    noise_multiplier = privacy.noise_multiplier
    if noise_multiplier is None:
        noise_multiplier = calibrate_noise_multiplier(
            lambda multiplier: plan_of(multiplier).event(steps),
            privacy.epsilon or DEFAULT_EPSILON,
            privacy.delta,
            NEIGHBORS,
        )
    plan = plan_of(noise_multiplier)
    accountant = RdpAccountant(neighbors=NEIGHBORS).compose(plan.event(steps))
    epsilon = accountant.epsilon(privacy.delta)
    return Prepared(spec, data, schedule, plan, noise_multiplier, steps, epsilon, sums)


def encrypts(spec: Spec) -> bool:
    """Whether a run's sums are encrypted."""
    return ARMS[spec.arm].encrypted and spec.settings.encryption.encryption != "none"


def _described(spec: Spec, dataset: Dataset) -> str:
    """How a run's sums are encrypted; raises ValueError if they cannot be."""
    config = spec.settings.encryption
    model = model_for(dataset, spec)
    size = models.parameter_count(jax.eval_shape(model.init, jax.random.key(0)))
    cohort = spec.settings.training.cohort or spec.clients
    options = config.options
    request = aggregation.request_for(config.encryption, size + 1, cohort, options)
    parameters = derive(request)
    if config.encrypted_fraction < 1 and ARMS[spec.arm].private:
        raise ValueError(
            "--encrypted_fraction below 1 chooses entries by what gradients tell of "
            f"the records, which epsilon does not cover: arm {spec.arm} takes 1."
        )
    if config.processes and config.topology != "star":
        raise ValueError("--processes is for --topology=star.")
    if config.processes and config.encrypted_fraction < 1:
        raise ValueError("--processes encrypts everything: --encrypted_fraction=1.")
    trust = Trust(cohort, aggregation.SCHEMES[config.encryption])
    quorum = options.quorum(request.holders)
    text = aggregation.describe(parameters, trust, quorum, options.topology)
    if config.encrypted_fraction < 1:
        exposed = 1 - config.encrypted_fraction
        text += f" SELECTIVE: the server reads {exposed:.1%} of every upload's entries."
    return text


def _plan_of(spec: Spec, steps: int, examples: float) -> Callable[[float], Plan]:
    """Noise multiplier -> the mechanism's plan, for shards of a mean size.

    The number of examples of all clients together is taken as public; a client's own
    is not, so all divide by the same expected batch.
    """
    hyper, name = spec.hyperparameters, spec.settings.privacy.mechanism
    probability, clip_norm = hyper.sampling_probability, hyper.clip_norm
    assert probability is not None and clip_norm is not None  # in every DP arm's table
    make, batch = mechanism(name), probability * examples

    def plan_of(noise_multiplier: float) -> Plan:
        plan = make(
            MechanismSettings(
                probability, clip_norm, noise_multiplier, batch, NEIGHBORS, steps
            )
        )
        if not isinstance(plan, Plan):
            raise ValueError(
                f"--mechanism={name} made {plan!r}, which is no privacy plan."
            )
        if plan.neighbors is not NEIGHBORS:
            raise ValueError(
                f"--mechanism={name} is for {plan.neighbors}; runs are accounted under "
                f"{NEIGHBORS}."
            )
        return plan

    return plan_of


def local_steps(hyper: Hyperparameters) -> int:
    """Noisy steps a round, in an arm with DP."""
    assert hyper.local_steps is not None
    return hyper.local_steps


@functools.cache
def build_model(
    name: str, activation: str, shape: tuple[int, ...], classes: int, normalization: Any
) -> models.Model:
    """A model of the zoo; the same arguments give the same, so that code is shared."""
    return models.build(
        name,
        input_shape=shape,
        num_classes=classes,
        normalization=normalization,
        activation=activation,
    )


def model_for(dataset: Dataset, spec: Spec) -> models.Model:
    """The model that a run trains."""
    training = spec.settings.training
    return build_model(
        training.model,
        training.activation,
        dataset.train.inputs.shape[1:],
        dataset.num_classes,
        dataset.normalization,
    )


@functools.cache
def build_evaluator(model: models.Model) -> Any:
    """The model's evaluator; one per model, so that code is shared."""
    return simulation.evaluator(model)


@functools.cache
def build_algorithm(
    model: models.Model,
    hyper: Hyperparameters,
    plan: Plan | None,
    codec: Any,
    cohort: int,
    normaliser: float,
    backend: str,
) -> algorithms.Algorithm:
    """An algorithm; runs that differ in seed or data alone share its compiled code."""
    if plan is not None:
        trainer = clients.dp_sgd(
            model.loss,
            clients.DpSgdConfig(
                hyper.learning_rate, hyper.momentum, local_steps(hyper)
            ),
            plan,
        )
    else:
        assert hyper.batch_size is not None
        trainer = clients.sgd(
            model.loss,
            clients.SgdConfig(
                hyper.learning_rate,
                hyper.momentum,
                hyper.batch_size,
                hyper.local_epochs or 1,
                hyper.local_steps,
            ),
        )
    if codec is None:
        return algorithms.alone(trainer, backend)
    assert hyper.server_optimizer is not None and hyper.server_learning_rate is not None
    # Example counts are facts about the records: DP arms weight by a public number.
    weight = (
        clients.by_examples(normaliser) if plan is None else clients.equally(cohort)
    )
    return algorithms.fedavg(
        clients.federated(trainer, weight),
        algorithms.server_optimizer(hyper.server_optimizer, hyper.server_learning_rate),
        codec,
        jax.eval_shape(model.init, jax.random.key(0)),
        backend,
        clients.kept(trainer),
    )


def build_aggregation(
    spec: Spec,
    vector_size: int,
    cohort: int,
    encrypted: npt.NDArray[np.bool_] | None = None,
) -> aggregation.Aggregation | None:
    """The arm's way to sum updates; None where nothing is summed.

    Args:
        spec: of the run.
        vector_size: values of an update.
        cohort: clients of a round.
        encrypted: which of the values are encrypted; by default all.
    """
    if not ARMS[spec.arm].federated:
        return None
    config = spec.settings.encryption
    name = config.encryption if encrypts(spec) else "none"
    trust = Trust(uploads=cohort, decryptor=aggregation.SCHEMES[name])
    if encrypts(spec) and config.processes:
        request = aggregation.request_for(name, vector_size, cohort, config.options)
        return aggregation.ProcessAggregation(
            request, trust, quorum=config.options.quorum(request.holders)
        )
    return aggregation.make(
        name,
        vector_size=vector_size,
        trust=trust,
        options=config.options,
        encrypted=encrypted,
    )


def most_sensitive(
    prepared: Prepared, model: models.Model, params: Params
) -> npt.NDArray[np.bool_] | None:
    """Which entries of an update are encrypted; None for all.

    Every client scores the parameters on some of its records; the scores are summed
    under encryption, and the sum is public.
    """
    spec, config = prepared.spec, prepared.spec.settings.encryption
    if not encrypts(spec) or config.encrypted_fraction == 1.0:
        return None
    clients = np.arange(prepared.data.mask.shape[0])
    scores = []
    for client in clients:
        real = np.flatnonzero(prepared.data.mask[client])[:SCORED_EXAMPLES]
        score = aggregation.sensitivity(
            model.apply,
            params,
            jnp.asarray(prepared.data.inputs[client][real]),
            jnp.asarray(prepared.data.labels[client][real]),
        )
        # The last entry of an update is its weight; no gradient tells of it.
        scores.append(np.append(score / max(score.max(), 1e-30) / len(clients), 0.0))
    whole = aggregation.make(
        config.encryption,
        vector_size=len(scores[0]),
        trust=Trust(len(clients), aggregation.SCHEMES[config.encryption]),
        options=config.options,
    )
    encode = jax.vmap(whole.codec.encode)
    keys = jax.random.split(jax.random.key(spec.seed), len(clients))
    session = whole.open(0)
    session.add(clients, np.asarray(encode(keys, jnp.asarray(scores, jnp.float32))))
    total, _ = session.release()
    decoded = np.asarray(whole.codec.decode(jnp.asarray(total)))
    return aggregation.most_sensitive(decoded, config.encrypted_fraction)


# A client's score of the parameters is a mean over so many records at most.
SCORED_EXAMPLES = 16
