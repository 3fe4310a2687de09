"""The round loop: the one path that all data takes, for every algorithm."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_private.aggregation.types import Aggregation, InformedSession, Session
from fedjax_private.algorithms.algorithm import Algorithm
from fedjax_private.choices import check_call
from fedjax_private.datasets.clients import ClientData
from fedjax_private.encryption.errors import VoidRoundError
from fedjax_private.simulation.checks import checked
from fedjax_private.simulation.chunks import (
    Ids,
    chunk_length,
    filled,
    first_rows,
    put,
    spread,
    take,
)
from fedjax_private.simulation.evaluation import Evaluator
from fedjax_private.simulation.run import Round, Run
from fedjax_private.simulation.schedules import check_number
from fedjax_private.typing import ClientKeys, ClientState, Params

# Shards of at most so many bytes stay on the devices from round to round.
KEPT_BYTES = 1 << 29


def simulate(
    algorithm: Algorithm,
    aggregation: Aggregation | None,
    data: ClientData,
    params: Params,
    schedule: Sequence[Ids],
    roots: ClientKeys,
    **options: Any,
) -> Iterator[Round]:
    """Returns an iterator that runs an algorithm, round by round.

    Args:
        algorithm: see `algorithms`.
        aggregation: see `Run`, as for what follows.
        data: all clients' shards, on the host.
        params: the initial model.
        schedule: the cohort of each round.
        roots: root keys.
        **options: see `simulate_together`.

    Raises:
        ValueError: see `simulate_together`.
    """
    run = Run(aggregation, data, params, schedule, roots)
    return (done for (done,) in simulate_together(algorithm, [run], **options))


def simulate_together(
    algorithm: Algorithm,
    runs: Sequence[Run],
    *,
    evaluate: Evaluator | None = None,
    evaluate_every: int = 1,
    chunk_size: int = 64,
) -> Iterator[list[Round]]:
    """Returns an iterator that runs one algorithm several times, as a single program.

    Runs that differ in seed share each jitted call: the clients of all runs lie along
    one axis, and each trains from its run's server state with its run's keys. That is
    faster where a run has fewer clients than there are devices. The result of every run
    is the same as alone.

    Each chunk of clients is a single jitted call, and encoded updates are added chunk
    by chunk: no array over all clients and all parameters exists, unless the
    algorithm's clients keep such a state.

    Args:
        algorithm: see `algorithms`.
        runs: equally many clients, rounds and places for examples in each.
        evaluate: as from `evaluator`; by default no round is evaluated.
        evaluate_every: rounds between evaluations; the last is always evaluated.
        chunk_size: the most clients whose updates are held at once.

    Returns:
        For each round its result in every run; seconds of training are a run's equal
        part of the common ones.

    Raises:
        ValueError: before any round, if the runs' shapes differ, an argument is of
            another kind, a schedule names clients that the data lack or fewer than a
            sum must hold, an aggregation is missing, is not needed or has another trust
            model than the algorithm's privacy assumes, or the algorithm needs uploads
            that are lost.
    """
    runs = checked(algorithm, runs)
    check_number("evaluate_every", evaluate_every, 1)
    check_number("chunk_size", chunk_size, 1)
    if evaluate is not None:
        form = "a function of params, as simulation.evaluator(model)(examples) returns"
        check_call("evaluate", evaluate, 1, form)
    return _rounds(algorithm, runs, evaluate, evaluate_every, chunk_size)


def _rounds(
    algorithm: Algorithm,
    runs: Sequence[Run],
    evaluate: Evaluator | None,
    evaluate_every: int,
    chunk_size: int,
) -> Iterator[list[Round]]:
    """Yields the rounds of runs that have passed all checks."""
    count, clients = len(runs), runs[0].data.mask.shape[0]
    data = runs[0].data if count == 1 else _joined([run.data for run in runs])
    server_states = [algorithm.init(run.params) for run in runs]
    roots = jax.tree.map(lambda *keys: jnp.stack(keys), *(run.roots for run in runs))
    client_states = _joined(
        [_repeated(algorithm.init_client(run.params), clients) for run in runs]
    )
    everybody = count * clients
    placed: dict[int, ClientData] = {}

    def shards(ids: Ids, missing: int, first: int, everyone: bool) -> ClientData:
        if everyone and first in placed:
            return placed[first]
        chunk: ClientData = spread(filled(data.take(ids), missing))
        # All of it again in every round, where it does not fill the memory.
        if everyone and data.inputs.nbytes <= KEPT_BYTES:
            placed[first] = chunk
        return chunk

    def states_of(number: int) -> ClientState:
        """The states of one run's clients."""
        if count == 1:
            return client_states
        rows = slice(number * clients, (number + 1) * clients)
        return jax.tree.map(lambda leaf: leaf[rows], jax.device_get(client_states))

    for number in range(1, len(runs[0].schedule) + 1):
        cohorts_now = [run.schedule[number - 1] for run in runs]
        for i, run in enumerate(runs):
            run.before_round(number, cohorts_now[i], server_states[i], states_of(i))
        sessions: list[Session | None] = [
            run.aggregation.open(number) if run.aggregation else None for run in runs
        ]
        metrics: list[list[Any]] = [[] for _ in runs]
        sent = jax.tree.map(lambda *states: jnp.stack(states), *server_states)
        cohort = np.concatenate(
            [i * clients + ids for i, ids in enumerate(cohorts_now)]
        )
        everyone = len(cohort) == everybody
        length = chunk_length(len(cohort), chunk_size)
        seconds_train = 0.0
        for first in range(0, len(cohort), length):
            ids = cohort[first : first + length]
            missing = length - len(ids)
            chunk = shards(ids, missing, first, everyone)
            run_of, client_of = np.divmod(ids, clients)
            nobody = np.arange(clients, clients + missing)
            start = time.perf_counter()
            slots, chunk_metrics, states = jax.block_until_ready(
                algorithm.client_phase(
                    sent,
                    # Placed like the results, or the next round would be compiled anew.
                    spread(filled(take(client_states, ids, everybody), missing)),
                    chunk,
                    jnp.asarray(np.concatenate([client_of, nobody])),
                    jnp.asarray(np.pad(run_of, (0, missing))),
                    jnp.int32(number),
                    roots,
                )
            )
            seconds_train += time.perf_counter() - start
            client_states = put(
                client_states, first_rows(states, len(ids)), ids, everybody
            )
            here, slots = jax.device_get((chunk_metrics, slots))
            for i in np.unique(run_of):
                rows = np.flatnonzero(run_of == i)
                metrics[i].append(jax.tree.map(lambda leaf, r=rows: leaf[r], here))
                if (session := sessions[i]) is not None:
                    missing_now = np.isin(client_of[rows], runs[i].lost(number))
                    if len(arrived := rows[~missing_now]):
                        session.add(client_of[arrived], slots[arrived])
                    if isinstance(session, InformedSession):
                        session.lose(client_of[rows[missing_now]])
        finished = []
        for i in range(count):
            report, session = None, sessions[i]
            lost, scheme = len(runs[i].lost(number)), runs[i].aggregation
            arrivals = len(cohorts_now[i]) - lost
            void = scheme is not None and arrivals < scheme.trust.uploads
            start = time.perf_counter()
            total = None
            if session is not None and not void:
                try:
                    total, report = session.release()
                except VoidRoundError:
                    void = True
                start = time.perf_counter()
            if total is not None and algorithm.server_phase is not None:
                server_states[i] = jax.block_until_ready(
                    algorithm.server_phase(server_states[i], jnp.asarray(total))
                )
            seconds_server = time.perf_counter() - start
            evaluation = None
            last = number == len(runs[i].schedule)
            if evaluate and (last or number % evaluate_every == 0):
                evaluation = evaluate(algorithm.models(server_states[i], states_of(i)))
            finished.append(
                Round(
                    number,
                    cohorts_now[i],
                    _summed(metrics[i]),
                    seconds_train / count,
                    seconds_server,
                    report,
                    evaluation,
                    server_states[i],
                    states_of(i),
                    void,
                    lost,
                )
            )
        yield finished


def _repeated(state: ClientState, clients: int) -> ClientState:
    """Returns a first state for every client, on the host, where rows are replaced."""
    return jax.tree.map(
        lambda leaf: np.repeat(np.asarray(leaf)[None], clients, axis=0), state
    )


def _joined(trees: Sequence[Any]) -> Any:
    """Returns pytrees of host arrays, concatenated along the client axis."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *trees)


def _summed(parts: Sequence[Mapping[str, Any]]) -> Mapping[str, float]:
    return {name: float(sum(np.sum(part[name]) for part in parts)) for name in parts[0]}
