"""`Run`: what the round loop is given; `Round`: what it returns of each round."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fedjax_private.aggregation.types import Aggregation, SessionReport
from fedjax_private.datasets.clients import ClientData
from fedjax_private.simulation.chunks import Ids
from fedjax_private.simulation.evaluation import Evaluation
from fedjax_private.typing import ClientKeys, ClientState, Params, ServerState


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
        void: whether fewer uploads arrived than a released sum must hold, or too few
            parties were left to decrypt it. Nothing is released then, and the server's
            state is that of the round before.
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
