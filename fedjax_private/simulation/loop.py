"""The round loop: the one path that all data takes, for every algorithm."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import NamedSharding, PartitionSpec

from fedjax_private.aggregation.types import Aggregation, Session, SessionReport
from fedjax_private.algorithms.algorithm import Algorithm
from fedjax_private.clients.for_each import CLIENT_AXIS, client_mesh
from fedjax_private.datasets.padding import ClientData
from fedjax_private.privacy.noise import noise_key
from fedjax_private.simulation.evaluation import Evaluation, Evaluator
from fedjax_private.typing import ClientKeys, ClientState, Params, ServerState

Ids = npt.NDArray[np.int64]

# Shards of at most so many bytes stay on the devices from round to round.
KEPT_BYTES = 1 << 29


@dataclasses.dataclass(frozen=True)
class Round:
    """What one round did.

    Attributes:
        number: counted from 1.
        cohort: ids of the clients that took part.
        metrics: the clients' metrics, summed; empty in DP arms.
        seconds_train: wall seconds of the client phase, its results ready.
        seconds_server: wall seconds of the server phase.
        report: what the aggregation measured; None where there is none.
        evaluation: None in rounds that are not evaluated.
        server_state: after the round.
        client_states: after the round, with a leading axis over all clients; the next
            round may overwrite them.
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


def root_keys(seed: int, noise_seed: int | None = None, run: str = "") -> ClientKeys:
    """The root keys of a run.

    Args:
        seed: of the batches, and of all else that makes runs comparable.
        noise_seed: of the privacy noise, and of who is sampled, which must be kept
            from those who know `seed`; None takes the operating system's entropy.
        run: see `privacy.noise_key`.
    """
    sampling = jax.random.fold_in(jax.random.key(seed), BATCHES)
    return ClientKeys(sampling, noise_key(noise_seed, run))


# Folded into a seed's key, so that batches and initialisation do not share randomness.
BATCHES = 1


def cohorts(seed: int, rounds: int, clients: int, size: int | None = None) -> list[Ids]:
    """Which clients take part in which round: a public schedule.

    Each round draws `size` clients without replacement; None takes all. The server
    chooses and knows the schedule, so it earns no privacy amplification against it,
    and the accounting takes every scheduled participation at its full cost.

    Raises:
        ValueError: size outside 1..clients.
    """
    if size is None or size == clients:
        return [np.arange(clients)] * rounds
    if not 1 <= size <= clients:
        raise ValueError(
            f"--cohort must lie between 1 and the {clients} clients, got {size}."
        )
    generator = np.random.default_rng([seed, clients, size])
    return [
        np.sort(generator.choice(clients, size, replace=False)) for _ in range(rounds)
    ]


def _take(tree: Any, ids: Ids, clients: int) -> Any:
    """Rows of a pytree by client id; the tree itself where that is all of them."""
    if len(ids) == clients:
        return tree
    return jax.tree.map(lambda leaf: leaf[ids], tree)


def _put(tree: Any, rows: Any, ids: Ids, clients: int) -> Any:
    """Writes rows back, in place where they are some of a host array's."""
    if len(ids) == clients:
        return rows
    for leaf, row in zip(jax.tree.leaves(tree), jax.tree.leaves(rows), strict=True):
        leaf[ids] = np.asarray(row)
    return tree


def chunk_length(cohort: int, most: int) -> int:
    """Clients a chunk: all chunks alike, none above `most`, divisible by the devices.

    One length for a whole run means one compilation. What the last chunk lacks is
    filled up with clients that have no records.
    """
    devices = client_mesh().size
    length = -(-cohort // -(-cohort // most))
    return length + -length % devices


def _filled(tree: Any, missing: int) -> Any:
    """Host arrays with zeros in place of the clients that a chunk lacks."""
    if missing == 0:
        return tree
    return jax.tree.map(
        lambda leaf: np.concatenate(
            [leaf, np.zeros((missing, *leaf.shape[1:]), leaf.dtype)]
        ),
        jax.device_get(tree),
    )


def _first(tree: Any, count: int) -> Any:
    """The first rows, taken on the host, where a device's part needs no other's."""
    if jax.tree.leaves(tree) and jax.tree.leaves(tree)[0].shape[0] == count:
        return tree
    return jax.tree.map(lambda leaf: leaf[:count], jax.device_get(tree))


def spread(per_client: Any) -> Any:
    """Moves arrays with a leading client axis to the devices, each its own clients'.

    The number of clients must be divisible by that of the devices.
    """
    return jax.device_put(
        per_client, NamedSharding(client_mesh(), PartitionSpec(CLIENT_AXIS))
    )


def simulate(
    algorithm: Algorithm,
    aggregation: Aggregation | None,
    data: ClientData,
    params: Params,
    schedule: Sequence[Ids],
    roots: ClientKeys,
    *,
    evaluate: Evaluator,
    evaluate_every: int = 1,
    chunk_size: int = 64,
    before_round: Callable[[int, Ids, ServerState, ClientState], None] = (
        lambda number, cohort, server_state, client_states: None
    ),
) -> Iterator[Round]:
    """Runs an algorithm and yields every round as it ends.

    Clients go through in chunks, each a single jitted call, and their encoded updates
    are added chunk by chunk: no array over all clients and all parameters exists,
    unless the algorithm's clients keep such a state.

    Args:
        algorithm: see `algorithms`.
        aggregation: sums the updates; None where the algorithm gives nothing away.
        data: all clients' shards, on the host.
        params: the initial model.
        schedule: the cohort of each round, as from `cohorts`.
        roots: root keys; see `algorithms.client_key` for what becomes of them.
        evaluate: as from `evaluator`.
        evaluate_every: rounds between evaluations; the last is always evaluated.
        chunk_size: the most clients whose updates are held at once.
        before_round: called with the round's number, its cohort and the states it
            starts from, before anything of it is computed; where privacy is spent, this
            is where it is charged.
    """
    clients = data.mask.shape[0]
    server_state = algorithm.init(params)
    # On the host, where rows can be taken and written back without copying the rest.
    client_states = jax.tree.map(
        lambda leaf: np.repeat(np.asarray(leaf)[None], clients, axis=0),
        algorithm.init_client(params),
    )
    placed: dict[int, ClientData] = {}

    def shards(ids: Ids, missing: int, first: int, everyone: bool) -> ClientData:
        if everyone and first in placed:
            return placed[first]
        chunk = spread(_filled(data.take(ids), missing))
        # All of it again in every round, where it does not fill the memory.
        if everyone and data.inputs.nbytes <= KEPT_BYTES:
            placed[first] = chunk
        return chunk

    for number, cohort in enumerate(schedule, start=1):
        before_round(number, cohort, server_state, client_states)
        session: Session | None = aggregation.open(number) if aggregation else None
        metrics: list[Any] = []
        seconds_train = 0.0
        everyone = len(cohort) == clients
        length = chunk_length(len(cohort), chunk_size)
        for first in range(0, len(cohort), length):
            ids = cohort[first : first + length]
            missing = length - len(ids)
            chunk = shards(ids, missing, first, everyone)
            nobody = np.arange(clients, clients + missing)
            start = time.perf_counter()
            slots, chunk_metrics, states = jax.block_until_ready(
                algorithm.client_phase(
                    server_state,
                    _filled(_take(client_states, ids, clients), missing),
                    chunk,
                    jnp.asarray(np.concatenate([ids, nobody])),
                    jnp.int32(number),
                    roots,
                )
            )
            seconds_train += time.perf_counter() - start
            client_states = _put(client_states, _first(states, len(ids)), ids, clients)
            metrics.append(_first(jax.device_get(chunk_metrics), len(ids)))
            if session is not None:
                session.add(ids, np.asarray(slots)[: len(ids)])
        report = None
        start = time.perf_counter()
        if session is not None and algorithm.server_phase is not None:
            total, report = session.release()
            start = time.perf_counter()
            server_state = jax.block_until_ready(
                algorithm.server_phase(server_state, jnp.asarray(total))
            )
        seconds_server = time.perf_counter() - start
        last = number == len(schedule)
        evaluation = None
        if last or number % evaluate_every == 0:
            evaluation = evaluate(algorithm.models(server_state, client_states))
        summed = jax.tree.map(
            lambda *parts: float(sum(np.sum(part) for part in parts)), *metrics
        )
        yield Round(
            number,
            cohort,
            summed,
            seconds_train,
            seconds_server,
            report,
            evaluation,
            server_state,
            client_states,
        )
