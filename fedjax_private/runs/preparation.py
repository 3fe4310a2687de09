"""From settings to the parts of a run: shards, schedule, privacy, algorithm, sums."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from experiments import zoo
from experiments.arms import ARMS
from experiments.pricing import Privacy, local_privacy, shared_privacy
from experiments.spec import Spec
from experiments.tuned import Hyperparameters
from fedjax_private import aggregation, algorithms, clients, models, simulation
from fedjax_private.datasets import ClientData, Dataset, client_data, partition
from fedjax_private.encryption import derive
from fedjax_private.privacy import Plan, SharedPlan
from fedjax_private.trust import Decryptor, Trust
from fedjax_private.typing import Params

# A client's score of the parameters is a mean over so many records at most.
SCORED_EXAMPLES = 16


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
    from fedjax_private.encryption import OpenFHEUnavailable
    from fedjax_private.encryption.math import polynomials as arithmetic
    from fedjax_private.encryption.openfhe import backend

    try:
        backend.load()
        arithmetic.host()
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
        steps = hyper.noisy_steps * int(np.bincount(np.concatenate(schedule)).max())
        examples = len(dataset.train) / len(parts)
        if spec.shares_noise:
            privacy, options = shared_privacy(
                spec, steps, examples * spec.cohort, zoo.update_size(spec, dataset)
            )
        else:
            privacy = local_privacy(spec, steps, examples)
    sums = _described(spec, zoo.update_size(spec, dataset), options)
    return Prepared(spec, data, schedule, options, privacy, sums)


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
            clients.DpSgdConfig(hyper.learning_rate, hyper.momentum, hyper.noisy_steps),
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
