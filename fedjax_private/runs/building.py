"""Builds what a prepared run trains with: algorithm, evaluator, sums."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from fedjax_private import aggregation, models, simulation
from fedjax_private.algorithms.algorithm import Algorithm
from fedjax_private.algorithms.entry import AlgorithmEntry, Task
from fedjax_private.choices import Choice, check_kind
from fedjax_private.clients.entries import CLIENTS
from fedjax_private.runs.preparation import Prepared
from fedjax_private.simulation.evaluation import EvaluatorFor
from fedjax_private.typing import Params

# A client's score of the parameters is a mean over so many records at most.
SCORED_EXAMPLES = 16


@functools.cache
def evaluator_of(model: models.Model) -> EvaluatorFor:
    """The model's evaluator; one a model, so that compiled code is shared."""
    return simulation.evaluator(model)


@functools.lru_cache(maxsize=64)
def _algorithm(entry: AlgorithmEntry, task: Task) -> Algorithm:
    """An algorithm; runs that differ in seed or data alone share compiled code."""
    return entry.make(task)


def build_algorithm(
    prepared: Prepared, sums: aggregation.Aggregation | None
) -> Algorithm:
    """The algorithm of a run whose updates go through an aggregation."""
    spec, entry = prepared.spec, prepared.algorithm.entry
    task = Task(
        prepared.model,
        prepared.hyperparameters,
        prepared.algorithm.settings,
        None if spec.client is None else CLIENTS.choose(spec.client),
        prepared.privacy.plan if prepared.privacy else None,
        sums.codec if sums else None,
        prepared.clients,
        len(prepared.schedule[0]),
        len(prepared.dataset.train),
        spec.backend,
        (spec.noise_seed, f"{spec.name} server") if entry.server_noise else (None, ""),
    )
    algorithm = _algorithm(entry, task)
    form = "an AlgorithmEntry whose make returns an Algorithm"
    check_kind(f"algorithm={entry.name}", algorithm, Algorithm, form)
    return algorithm


def build_aggregation(
    prepared: Prepared, params: Params
) -> aggregation.Aggregation | None:
    """How a run's updates are summed; None where nothing is.

    Args:
        prepared: the run.
        params: its first model, by which selective encryption chooses entries.
    """
    if prepared.scheme is None or prepared.trust is None:
        return None
    return aggregation.make(
        prepared.scheme,
        vector_size=prepared.size,
        trust=prepared.trust,
        most_uploads=prepared.spec.cohort_size,
        encrypted=_most_sensitive(prepared, prepared.scheme, params),
        residues=prepared.privacy is not None and prepared.privacy.residues,
        seed=prepared.spec.seed,
    )


def _most_sensitive(
    prepared: Prepared, scheme: Choice[aggregation.SchemeEntry], params: Params
) -> npt.NDArray[np.bool_] | None:
    """Which entries of an update are encrypted; None for all.

    Every client scores the parameters on some of its records; the scores are summed
    under encryption, and the sum is public.
    """
    fraction = scheme.entry.encrypted_fraction(scheme.settings)
    if fraction == 1.0:
        return None
    clients = np.arange(prepared.clients)
    scores = []
    for client in clients:
        real = np.flatnonzero(prepared.data.mask[client])[:SCORED_EXAMPLES]
        score = aggregation.sensitivity(
            prepared.model.apply,
            params,
            jnp.asarray(prepared.data.inputs[client][real]),
            jnp.asarray(prepared.data.labels[client][real]),
        )
        # An update holds one or more values a parameter, and its weight at the end, of
        # which no gradient tells.
        share = np.asarray(score) / max(score.max(), 1e-30) / len(clients)
        times = (prepared.size - 1) // prepared.parameters
        scores.append(np.append(np.tile(share, times), 0.0))
    whole = aggregation.make(
        scheme,
        vector_size=len(scores[0]),
        trust=aggregation.trust_of(scheme, uploads=len(clients)),
    )
    encode = jax.vmap(whole.codec.encode)
    keys = jax.random.split(jax.random.key(prepared.spec.seed), len(clients))
    session = whole.open(0)
    session.add(clients, np.asarray(encode(keys, jnp.asarray(scores, jnp.float32))))
    total, _ = session.release()
    decoded = np.asarray(whole.codec.decode(jnp.asarray(total)))
    return aggregation.most_sensitive(decoded, fraction)
