"""The round loop: the one path that all data takes, for every algorithm."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_private.aggregation.types import Aggregation, Session, SessionReport
from fedjax_private.algorithms.algorithm import Algorithm
from fedjax_private.datasets.clients import ClientData
from fedjax_private.privacy.noise import noise_key
from fedjax_private.simulation.chunks import (
    Ids,
    chunk_length,
    filled,
    first_rows,
    put,
    spread,
    take,
)
from fedjax_private.simulation.evaluation import Evaluation, Evaluator
from fedjax_private.typing import ClientKeys, ClientState, Params, ServerState

# Shards of at most so many bytes stay on the devices from round to round.
KEPT_BYTES = 1 << 29


@dataclasses.dataclass(frozen=True)
class Round:
    """The result of one round.

    Attributes:
        number: counted from 1.
        cohort: ids of the clients that took part.
        metrics: the clients' metrics, summed; empty in DP arms.
        seconds_train: wall seconds of the client phase, until its results are ready.
        seconds_server: wall seconds of the server phase.
        report: measurements of the aggregation; None without aggregation and in void
            rounds.
        evaluation: None in rounds that are not evaluated.
        server_state: after the round.
        client_states: after the round, with a leading axis over all clients; the next
            round may overwrite them.
        void: whether fewer uploads arrived than a released sum must hold. Nothing is
            released then, and the server's state is that of the round before.
        lost: uploads of the cohort that never arrived.
    """

    number: int
    cohort: Ids
    metrics: Mapping[str, float]
    seconds_train: float
    seconds_server: float
    report: SessionReport | None
    evaluation: Evaluation | None
    server_state: ServerState
    client_states: ClientState
    void: bool = False
    lost: int = 0


def root_keys(seed: int, noise_seed: int | None = None, run: str = "") -> ClientKeys:
    """Returns the root keys of a run.

    Args:
        seed: of the batches of training without privacy.
        noise_seed: of privacy noise and private samples, which those who know `seed`
            must not know; None takes the operating system's entropy.
        run: see `privacy.noise_key`.
    """
    sampling = jax.random.fold_in(jax.random.key(seed), BATCHES)
    return ClientKeys(sampling, noise_key(noise_seed, run))


# Folded into a seed's key, so that batches and initialisation do not share randomness.
BATCHES = 1


def cohorts(seed: int, rounds: int, clients: int, size: int | None = None) -> list[Ids]:
    """Returns the ids of the clients that take part in each round: a public schedule.

    Each round draws `size` clients without replacement; None takes all. The server
    draws and knows the schedule, so there is no privacy amplification against it, and
    the accounting charges every scheduled participation at its full cost.

    Raises:
        ValueError: size outside 1..clients.
    """
    if size is None or size == clients:
        return [np.arange(clients)] * rounds
    if not 1 <= size <= clients:
        raise ValueError(
            f"cohort must lie between 1 and the {clients} clients, got {size}."
        )
    generator = np.random.default_rng([seed, clients, size])
    return [
        np.sort(generator.choice(clients, size, replace=False)) for _ in range(rounds)
    ]


def drop_outs(seed: int, schedule: Sequence[Ids], probability: float) -> list[Ids]:
    """Returns the ids of each round's clients whose upload never arrives.

    Each client drops out independently, for reasons unrelated to its records.

    Raises:
        ValueError: a probability outside [0, 1).
    """
    if not 0.0 <= probability < 1.0:
        raise ValueError(f"drop_out must lie in [0, 1), got {probability}.")
    generator = np.random.default_rng([seed, DROP_OUTS])
    return [ids[generator.random(len(ids)) < probability] for ids in schedule]


DROP_OUTS = 2  # keeps these draws apart from those of cohorts


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of an algorithm.

    Attributes:
        aggregation: sums the updates; None where clients send nothing.
        data: all clients' shards, on the host.
        params: the initial model.
        schedule: the cohort of each round, as from `cohorts`.
        roots: root keys, from which `algorithms.client_key` derives those of clients.
        before_round: called with the round's number, cohort and first states, before
            the round is computed; here a ledger charges its privacy.
        dropped: of each round's cohort, the clients whose upload never arrives, as from
            `drop_outs`, although they have trained. None where all uploads arrive. The
            sum holds the others' updates with their weights, so that a mean is one over
            those; with fewer of them than `aggregation.trust.uploads` a round is void.
    """

    aggregation: Aggregation | None
    data: ClientData
    params: Params
    schedule: Sequence[Ids]
    roots: ClientKeys
    before_round: Callable[[int, Ids, ServerState, ClientState], None] = (
        lambda number, cohort, server_state, client_states: None
    )
    dropped: Sequence[Ids] | None = None

    def lost(self, number: int) -> Ids:
        """Returns the clients whose upload of that round never arrives."""
        return self.dropped[number - 1] if self.dropped else np.arange(0)


def simulate(
    algorithm: Algorithm,
    aggregation: Aggregation | None,
    data: ClientData,
    params: Params,
    schedule: Sequence[Ids],
    roots: ClientKeys,
    **options: Any,
) -> Iterator[Round]:
    """Runs an algorithm and yields every round as it ends.

    Args:
        algorithm: see `algorithms`.
        aggregation: see `Run`, as for what follows.
        data: all clients' shards, on the host.
        params: the initial model.
        schedule: the cohort of each round.
        roots: root keys.
        **options: see `simulate_together`.
    """
    run = Run(aggregation, data, params, schedule, roots)
    for (done,) in simulate_together(algorithm, [run], **options):
        yield done


def simulate_together(
    algorithm: Algorithm,
    runs: Sequence[Run],
    *,
    evaluate: Evaluator,
    evaluate_every: int = 1,
    chunk_size: int = 64,
) -> Iterator[list[Round]]:
    """Runs one algorithm several times, as a single program; yields round by round.

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
        evaluate: as from `evaluator`.
        evaluate_every: rounds between evaluations; the last is always evaluated.
        chunk_size: the most clients whose updates are held at once.

    Yields:
        For each round its result in every run; seconds of training are a run's equal
        part of the common ones.

    Raises:
        ValueError: the runs' shapes differ, an aggregation has another trust model than
            the algorithm's privacy assumes, or the algorithm needs uploads that are
            lost.
    """
    count, clients = len(runs), runs[0].data.mask.shape[0]
    if len({(run.data.inputs.shape, len(run.schedule)) for run in runs}) != 1:
        raise ValueError("runs that go together have shards and rounds of one shape.")
    for run in runs:
        kept = run.aggregation.trust if run.aggregation else None
        if algorithm.trust not in (None, kept):
            raise ValueError(
                f"the algorithm shares noise under {algorithm.trust}, but the "
                f"aggregation has {kept}: give both the same trust model."
            )
        if not algorithm.tolerates_loss and any(map(len, run.dropped or ())):
            raise ValueError(
                "the algorithm needs every upload of its clients, and `dropped` loses "
                "some: leave it out, or choose another algorithm."
            )
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
        finished = []
        for i in range(count):
            report, session = None, sessions[i]
            lost, scheme = len(runs[i].lost(number)), runs[i].aggregation
            arrivals = len(cohorts_now[i]) - lost
            void = scheme is not None and arrivals < scheme.trust.uploads
            start = time.perf_counter()
            if session is not None and algorithm.server_phase is not None and not void:
                total, report = session.release()
                start = time.perf_counter()
                server_states[i] = jax.block_until_ready(
                    algorithm.server_phase(server_states[i], jnp.asarray(total))
                )
            seconds_server = time.perf_counter() - start
            evaluation = None
            if number == len(runs[i].schedule) or number % evaluate_every == 0:
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
