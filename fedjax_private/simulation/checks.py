"""Checks of what the round loop is given, before any round."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fedjax_private.algorithms.algorithm import Algorithm
from fedjax_private.algorithms.forms import check_params
from fedjax_private.choices import check_kind, shown
from fedjax_private.datasets.clients import ClientData
from fedjax_private.simulation.run import Run
from fedjax_private.typing import ClientKeys


def checked(algorithm: Algorithm, runs: Sequence[Run]) -> list[Run]:
    """Returns the runs, schedules as arrays, where each can be simulated.

    Raises:
        ValueError: see `simulate_together`.
    """
    form = "an Algorithm, as algorithms.fedavg(...) returns"
    check_kind("algorithm", algorithm, Algorithm, form)
    runs = [_checked(algorithm, run) for run in runs]
    if not runs:
        raise ValueError("runs must hold at least one run.")
    if len({(run.data.inputs.shape, len(run.schedule)) for run in runs}) != 1:
        raise ValueError("runs that go together have shards and rounds of one shape.")
    return runs


def _checked(algorithm: Algorithm, run: Run) -> Run:
    form = "shards of clients, as datasets.client_data(examples, parts) returns"
    check_kind("data", run.data, ClientData, form)
    form = "ClientKeys, as simulation.root_keys(seed) returns"
    check_kind("roots", run.roots, ClientKeys, form)
    check_params("params", run.params)
    _check_aggregation(algorithm, run.aggregation)
    clients = int(run.data.mask.shape[0])
    schedule = _ids("schedule", run.schedule, clients)
    if not schedule:
        raise ValueError("schedule must hold at least one round, got none.")
    least = run.aggregation.trust.uploads if run.aggregation else 1
    for number, cohort in enumerate(schedule, 1):
        if len(cohort) < least:
            raise ValueError(
                f"round {number} of the schedule has {len(cohort)} clients, and a sum "
                f"must hold {least} uploads, so that such rounds would be void: "
                "schedule more, or give the aggregation a trust model of fewer uploads."
            )
    dropped = run.dropped and _ids("dropped", run.dropped, clients)
    if dropped is not None and len(dropped) != len(schedule):
        raise ValueError(
            f"dropped must have as many rounds as the schedule, {len(schedule)}, got "
            f"{len(dropped)}."
        )
    if not algorithm.tolerates_loss and any(map(len, dropped or ())):
        raise ValueError(
            "the algorithm needs every upload of its clients, and `dropped` loses "
            "some: leave it out, or choose another algorithm."
        )
    return dataclasses.replace(run, schedule=schedule, dropped=dropped)


def _check_aggregation(algorithm: Algorithm, aggregation: Any) -> None:
    sends = algorithm.server_phase is not None
    if aggregation is None and sends:
        raise ValueError(
            "the algorithm sums updates and aggregation is None: give it one, as "
            "aggregation.make(scheme, vector_size=..., trust=...) returns."
        )
    if aggregation is None:
        return
    if not sends:
        raise ValueError("the algorithm sends nothing: aggregation must be None.")
    if not (hasattr(aggregation, "trust") and hasattr(aggregation, "open")):
        raise ValueError(
            "aggregation must be one that is set up, as aggregation.make(scheme, "
            f"vector_size=..., trust=...) returns, got {shown(aggregation)}."
        )
    if algorithm.trust not in (None, aggregation.trust):
        raise ValueError(
            f"the algorithm shares noise under {algorithm.trust}, but the aggregation "
            f"has {aggregation.trust}: give both the same trust model."
        )


def _ids(name: str, rounds: Any, clients: int) -> list[Any]:
    """Returns the ids of each round as arrays."""
    if not isinstance(rounds, Sequence) or isinstance(rounds, str):
        raise ValueError(
            f"{name} must hold the clients' ids of each round, as simulation.cohorts "
            f"returns, got {shown(rounds)}."
        )
    result = []
    for number, given in enumerate(rounds, 1):
        ids = np.asarray(jax.device_get(given))
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise ValueError(
                f"{name} must hold a vector of clients' ids for each round, got "
                f"{shown(given)} for round {number}."
            )
        ids = ids.astype(np.int64)
        if len(np.unique(ids)) < len(ids):
            raise ValueError(f"{name} names a client twice in round {number}.")
        strangers = ids[(ids < 0) | (ids >= clients)]
        if strangers.size:
            raise ValueError(
                f"{name} names client {strangers[0]} in round {number}, and data holds "
                f"the clients 0 to {clients - 1}."
            )
        result.append(ids)
    return result
