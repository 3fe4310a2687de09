"""From settings to the parts of a run: shards, schedule, privacy plan, algorithm."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from experiments.arms import ARMS
from experiments.config import Settings
from experiments.tuned import DEFAULT_EPSILON, Hyperparameters, hyperparameters
from fedjax_private import aggregation, algorithms, clients, models, simulation
from fedjax_private.datasets import ClientData, Dataset, client_data, partition
from fedjax_private.encryption import derive
from fedjax_private.privacy import (
    MechanismSettings,
    Plan,
    PrivacyPlan,
    SharedPlan,
    bits_for,
    mechanism,
    on_grid,
    shared,
)
from fedjax_private.privacy.accounting import (
    Event,
    Neighbors,
    RdpAccountant,
    calibrate_noise_multiplier,
)
from fedjax_private.trust import Adversary, Decryptor, Trust
from fedjax_private.typing import Params

NEIGHBORS = Neighbors.ADD_REMOVE

# Standard deviations of noise that fit into the range of a sum. CKKS refuses what lies
# beyond, so that it must be as good as impossible: 8 are passed once in 10^15 draws. In
# exact sums an entry beyond wraps, and costs its one coordinate a step.
CKKS_DEVIATIONS, EXACT_DEVIATIONS = 8.0, 6.0


@dataclasses.dataclass(frozen=True)
class Spec:
    """Everything that fixes one run.

    Attributes:
        label: tells runs apart that differ in their settings.
    """

    arm: str
    clients: int
    partition: str
    seed: int
    settings: Settings
    label: str = ""

    @property
    def name(self) -> str:
        """A name for files and lines: arm-clients-partition-seed, or label-arm-..."""
        start = f"{self.label}-" if self.label else ""
        return f"{start}{self.arm}-{self.clients}-{self.partition}-{self.seed}"

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Tuned values and flags together."""
        return hyperparameters(self.arm, self.clients, self.settings)

    @property
    def shares_noise(self) -> bool:
        """Whether clients share the noise of each sum."""
        return self.settings.shares_noise(self.arm)

    @property
    def encrypts(self) -> bool:
        """Whether sums are encrypted."""
        return self.settings.encrypts(self.arm)

    @property
    def algorithm(self) -> str:
        """Of federated training; raises ValueError where the arm takes no other."""
        arm, name = ARMS[self.arm], self.settings.training.algorithm
        if name != "fedavg" and (arm.private or not arm.federated):
            raise ValueError(
                f"--algorithm={name} is for arms fl and fl_he, got {self.arm}."
            )
        return name

    @property
    def cohort(self) -> int:
        """Clients of a round."""
        return self.settings.training.cohort or self.clients

    @property
    def trust(self) -> Trust:
        """Who is trusted with what; raises ValueError where that cannot be."""
        privacy, config = self.settings.privacy, self.settings.encryption
        uploads = config.min_uploads or self.cohort
        if uploads > self.cohort:
            raise ValueError(
                f"--min_uploads must lie between 1 and the {self.cohort} clients of a "
                f"round, got {uploads}."
            )
        if not self.encrypts:
            return Trust(uploads, Decryptor.NOBODY_NEEDED, privacy.honest_clients)
        decryptor = aggregation.SCHEMES[config.encryption]
        if config.key_holder == "clients":
            decryptor = Decryptor.EVERY_CLIENT
        held = decryptor is Decryptor.HOLDERS
        return Trust(
            uploads,
            decryptor,
            privacy.honest_clients,
            config.options.quorum(uploads) if held else None,
        )


@dataclasses.dataclass(frozen=True)
class Privacy:
    """What is private about a run, and what it costs.

    Attributes:
        plan: of every client.
        noise_multiplier: that the plan was made with.
        steps: noisy steps of the client that takes part most often.
        epsilon: what they cost its records, against outsiders.
        epsilon_insider: against insiders; None where nobody else takes part.
    """

    plan: Plan | SharedPlan
    noise_multiplier: float
    steps: int
    epsilon: float
    epsilon_insider: float | None


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A run that has passed every check and has done no work yet.

    Attributes:
        spec: what was asked for.
        data: the clients' shards; one shard with everything where data are pooled.
        schedule: the cohort of each round.
        options: how sums are encrypted, if they are.
        privacy: None without DP.
        sums: how updates are encrypted, in words; None where they are not.
    """

    spec: Spec
    data: ClientData
    schedule: list[simulation.Ids]
    options: aggregation.Options
    privacy: Privacy | None = None
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
    if spec.algorithm == "scaffold" and hyper.momentum:
        raise ValueError("--algorithm=scaffold takes plain local steps: --momentum=0.")
    scheme = spec.settings.data.scheme(spec.partition)
    parts = partition(dataset.train.labels, spec.clients, scheme, spec.seed)
    if arm.pooled:
        parts = [np.arange(len(dataset.train))]
    cohort = spec.settings.training.cohort if arm.federated else None
    schedule = simulation.cohorts(spec.seed, hyper.rounds, len(parts), cohort)
    data = client_data(dataset.train, parts)
    privacy, options = None, spec.settings.encryption.options
    if arm.private:
        steps = local_steps(hyper) * int(np.bincount(np.concatenate(schedule)).max())
        if spec.shares_noise:
            privacy, options = _shared_privacy(spec, dataset, steps)
        else:
            privacy = _local_privacy(spec, steps, len(dataset.train) / len(parts))
    sums = _described(spec, update_size(spec, dataset), options)
    return Prepared(spec, data, schedule, options, privacy, sums)


def update_size(spec: Spec, dataset: Dataset) -> int:
    """Values of an update: the parameters, and the weight where clients have one."""
    model = model_for(dataset, spec)
    size = models.parameter_count(jax.eval_shape(model.init, jax.random.key(0)))
    if spec.shares_noise:
        return size
    return (2 * size if spec.algorithm == "scaffold" else size) + 1


def _described(spec: Spec, size: int, options: aggregation.Options) -> str | None:
    """How a run's sums are encrypted; raises ValueError if they cannot be."""
    config = spec.settings.encryption
    if not ARMS[spec.arm].federated:
        return None
    trust = spec.trust
    if not spec.encrypts:
        return None
    request = aggregation.request_for(
        config.encryption, size, trust.uploads, options, most_uploads=spec.cohort
    )
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
    if config.processes and trust.decryptor is Decryptor.EVERY_CLIENT:
        raise ValueError("--processes is for --key_holder=authority.")
    quorum = options.quorum(request.holders)
    text = aggregation.describe(parameters, trust, quorum, options.topology)
    if config.encrypted_fraction < 1:
        exposed = 1 - config.encrypted_fraction
        text += f" SELECTIVE: the server reads {exposed:.1%} of every upload's entries."
    return text


def _calibrated(spec: Spec, steps: int, event_of: Callable[[float], Event]) -> float:
    """The noise multiplier that was given, or the one that meets the target."""
    privacy = spec.settings.privacy
    if privacy.noise_multiplier is not None:
        return privacy.noise_multiplier
    return calibrate_noise_multiplier(
        event_of, privacy.epsilon or DEFAULT_EPSILON, privacy.delta, NEIGHBORS
    )


def _epsilon(spec: Spec, event: Event) -> float:
    books = RdpAccountant(neighbors=NEIGHBORS).compose(event)
    return books.epsilon(spec.settings.privacy.delta)


def _local_privacy(spec: Spec, steps: int, examples: float) -> Privacy:
    """Every client adds all of its own noise; shards have a mean size of `examples`.

    The number of examples of all clients together is taken as public; a client's own
    is not, so all divide by the same expected batch.
    """
    plan_of = _plan_of(spec, steps, examples)
    noise = _calibrated(spec, steps, lambda noise: plan_of(noise).event(steps))
    plan = plan_of(noise)
    epsilon = _epsilon(spec, plan.event(steps))
    # Those who collude can subtract nothing, and learn no more than the server does.
    insider = epsilon if ARMS[spec.arm].federated else None
    return Privacy(plan, noise, steps, epsilon, insider)


def _shared_privacy(
    spec: Spec, dataset: Dataset, steps: int
) -> tuple[Privacy, aggregation.Options]:
    """Clients share the noise of each sum, whose range follows from it."""
    hyper, privacy = spec.hyperparameters, spec.settings.privacy
    config, trust = spec.settings.encryption, spec.trust
    if local_steps(hyper) != 1:
        raise ValueError(
            "shared noise covers one step a released sum: give --local_steps=1 or "
            f"--noise=local, got {hyper.local_steps} steps."
        )
    if not config.protect:
        raise ValueError(
            "--noprotect lets a released sum tell of the key that hides every share "
            "of the noise: leave it out, or give --noise=local."
        )
    against = Adversary(privacy.epsilon_against)
    if against is Adversary.INSIDERS and trust.insiders_read_uploads:
        raise ValueError(
            "--epsilon_against=insiders cannot be met where insiders read uploads "
            f"({trust.decryptor.value} decrypt, {trust.honest_clients} of "
            f"{trust.uploads} clients are honest): choose another --encryption, or "
            "raise --honest_clients or --recovery_threshold."
        )
    size = update_size(spec, dataset)
    examples = len(dataset.train) * spec.cohort / spec.clients
    plan_of = _plan_of(spec, steps, examples)
    exact = "exact" in config.encryption

    def options_for(noise_multiplier: float, batch: float) -> aggregation.Options:
        # The mean of clipped gradients over the expected batch has no entry beyond 1,
        # in units of the clip norm, unless many more are drawn than expected.
        signal = hyper.signal_bound if exact else 1.25
        deviations = EXACT_DEVIATIONS if exact else CKKS_DEVIATIONS
        # All shares of a cohort, which may be more than the adversary is priced by.
        shares = spec.cohort / trust.shares(against)
        noise = deviations * noise_multiplier * math.sqrt(shares) / batch
        bound = config.value_bound or signal + noise
        return dataclasses.replace(
            config.options,
            value_bound=bound,
            quantization_bits=bits or bits_for(bound, batch, size),
            residues=exact,
        )

    def shared_plan(noise_multiplier: float, gridded: bool) -> SharedPlan:
        def share(multiplier: float) -> PrivacyPlan:
            plan = plan_of(multiplier)
            if not isinstance(plan, PrivacyPlan):
                raise ValueError(
                    f"--mechanism={privacy.mechanism} makes no PrivacyPlan, whose "
                    "noise clients could share: use --noise=local."
                )
            if not gridded:
                return plan
            options = options_for(noise_multiplier, plan.expected_batch_size)
            bits = options.quantization_bits
            return on_grid(plan, size, options.value_bound, bits)

        return shared(share, noise_multiplier, trust, against)

    def calibrated(gridded: bool) -> tuple[float, SharedPlan]:
        noise = _calibrated(
            spec, steps, lambda noise: shared_plan(noise, gridded).event(steps, against)
        )
        return noise, shared_plan(noise, gridded)

    bits = config.quantization_bits
    noise, plan = calibrated(gridded=False)
    if exact:
        # Fixed before the second search, in which epsilon must not jump with them.
        bits = options_for(noise, plan.plan.expected_batch_size).quantization_bits
        noise, plan = calibrated(gridded=True)
    training = spec.settings.training
    if plan.correlated and (spec.cohort < spec.clients or training.drop_out):
        raise ValueError(
            f"--mechanism={privacy.mechanism} correlates noise over rounds, in all of "
            "which every client must take part: leave out --cohort and --drop_out."
        )
    costs = [_epsilon(spec, plan.event(steps, adversary)) for adversary in Adversary]
    options = options_for(noise, plan.plan.expected_batch_size)
    return Privacy(plan, noise, steps, *costs), options


def _plan_of(spec: Spec, steps: int, examples: float) -> Callable[[float], Plan]:
    """Noise multiplier -> the mechanism's plan, for so many examples on average."""
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


def event(plan: Plan | SharedPlan, steps: int, adversary: Adversary) -> Event:
    """What steps under a plan cost; with local noise, the same against everybody."""
    if isinstance(plan, SharedPlan):
        return plan.event(steps, adversary)
    return plan.event(steps)


def in_words(prepared: Prepared, adversary: Adversary) -> str:
    """Whom an epsilon of this run is against."""
    spec = prepared.spec
    if not ARMS[spec.arm].federated:
        return "everyone but whoever holds the data"
    if not spec.shares_noise:
        return "the world, the server and all other clients together"
    trust = spec.trust
    if adversary is Adversary.OUTSIDERS:
        return (
            "the world and the server, who see the released sums only, with at least "
            f"{trust.uploads} noise shares in each"
        )
    return (
        "the server together with all clients but "
        f"{trust.honest_clients} of every {trust.uploads} in a sum, who subtract "
        "their own noise shares from the released sums"
        + (" and read single uploads" if trust.insiders_read_uploads else "")
    )


def local_steps(hyper: Hyperparameters) -> int:
    """Noisy steps a round, in an arm with DP."""
    assert hyper.local_steps is not None
    return hyper.local_steps


@functools.cache
def build_model(
    name: str,
    activation: str,
    augmentations: int,
    shape: tuple[int, ...],
    classes: int,
    normalization: Any,
) -> models.Model:
    """A model of the zoo; the same arguments give the same, so that code is shared."""
    model = models.build(
        name,
        input_shape=shape,
        num_classes=classes,
        normalization=normalization,
        activation=activation,
    )
    return models.augmented(model, augmentations)


def featured(dataset: Dataset, model: str) -> Dataset:
    """The data set as a model takes it: images, or features that it starts from."""
    if model == models.SCATTERING_LINEAR:
        return models.scattered(dataset)
    return dataset


def model_for(dataset: Dataset, spec: Spec) -> models.Model:
    """The model that a run trains."""
    hyper = spec.hyperparameters
    return build_model(
        spec.settings.training.model,
        hyper.activation,
        hyper.augmentations,
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
    plan: Plan | SharedPlan | None,
    codec: Any,
    name: str,
    proximal: float,
    cohort: int,
    clients_in_all: int,
    normaliser: float,
    backend: str,
) -> algorithms.Algorithm:
    """An algorithm; runs that differ in seed or data alone share its compiled code."""
    params_like = jax.eval_shape(model.init, jax.random.key(0))
    if isinstance(plan, SharedPlan):
        return algorithms.distributed_dp_sgd(
            model.loss,
            plan,
            optax.sgd(hyper.learning_rate, hyper.momentum or None),
            codec,
            params_like,
            averaging=hyper.averaging or 0.0,
            backend=backend,
        )
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
        config = clients.SgdConfig(
            hyper.learning_rate,
            hyper.momentum,
            hyper.batch_size,
            hyper.local_epochs or 1,
            hyper.local_steps,
        )
        trainer = clients.sgd(model.loss, config)
    if codec is None:
        return algorithms.alone(trainer, backend)
    assert hyper.server_optimizer is not None and hyper.server_learning_rate is not None
    rate = hyper.server_learning_rate
    server = algorithms.server_optimizer(hyper.server_optimizer, rate)
    # Example counts are facts about the records: DP arms weight by a public number.
    weight = (
        clients.by_examples(normaliser) if plan is None else clients.equally(cohort)
    )
    if name == "fedsgd":
        step = optax.sgd(hyper.learning_rate, hyper.momentum or None)
        return algorithms.fedsgd(model.loss, weight, step, codec, params_like, backend)
    if name == "fedprox":
        return algorithms.fedprox(
            model.loss, config, proximal, weight, server, codec, params_like, backend
        )
    if name == "scaffold":
        return algorithms.scaffold(
            model.loss,
            config,
            codec,
            params_like,
            cohort=cohort,
            clients=clients_in_all,
            server_learning_rate=rate,
            backend=backend,
        )
    return algorithms.fedavg(
        clients.federated(trainer, weight),
        server,
        codec,
        params_like,
        backend,
        clients.kept(trainer),
    )


def build_aggregation(
    prepared: Prepared,
    vector_size: int,
    encrypted: npt.NDArray[np.bool_] | None = None,
) -> aggregation.Aggregation | None:
    """The arm's way to sum updates; None where nothing is summed.

    Args:
        prepared: the run.
        vector_size: values of an update.
        encrypted: which of the values are encrypted; by default all.
    """
    spec, options = prepared.spec, prepared.options
    if not ARMS[spec.arm].federated:
        return None
    config, trust = spec.settings.encryption, spec.trust
    name = config.encryption if spec.encrypts else "none"
    if spec.encrypts and config.processes:
        request = aggregation.request_for(
            name, vector_size, trust.uploads, options, most_uploads=spec.cohort
        )
        return aggregation.ProcessAggregation(
            request, trust, quorum=options.quorum(request.holders)
        )
    return aggregation.make(
        name,
        vector_size=vector_size,
        trust=trust,
        options=options,
        most_uploads=spec.cohort,
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
    if not spec.encrypts or config.encrypted_fraction == 1.0:
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
