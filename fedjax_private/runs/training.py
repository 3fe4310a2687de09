"""Trains runs, and writes what they leave behind round by round."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import tensorboardX

from fedjax_private import aggregation, simulation
from fedjax_private.runs import checkpoints
from fedjax_private.runs.directory import RunDirectory
from fedjax_private.runs.ledgers import charger, open_ledgers
from fedjax_private.runs.preparation import (
    Prepared,
    build_aggregation,
    build_algorithm,
    evaluator_of,
)
from fedjax_private.runs.rows import round_row, run_row
from fedjax_private.trust import Adversary
from fedjax_private.typing import Params

# (name of a run, rounds just done) -> None.
Advance = Callable[[str, int], None]


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training a run gave.

    Attributes:
        row: its line of runs.jsonl.
        rounds: its lines of rounds.jsonl.
        models: params with a leading axis over the run's models.
    """

    row: dict[str, Any]
    rounds: list[dict[str, Any]]
    models: Params


def train_together(
    several: Sequence[Prepared],
    directory: RunDirectory,
    advance: Advance = lambda name, rounds: None,
) -> list[Trained]:
    """Trains runs that differ in seed only, as one program; see `simulate_together`.

    Each run's seconds are its equal part of the common ones. Rounds are on disk as they
    end.

    Args:
        several: the runs; usually one.
        directory: where rounds, ledgers, scalars and models go.
        advance: is told of every round.
    """
    started = time.perf_counter()
    first = several[0]
    params = [p.model.init(jax.random.key(p.spec.seed)) for p in several]
    sums = [
        build_aggregation(p, initial)
        for p, initial in zip(several, params, strict=True)
    ]
    algorithm = build_algorithm(first, sums[0])
    rounds: list[list[dict[str, Any]]] = [[] for _ in several]
    with contextlib.ExitStack() as files:
        for each in sums:
            if isinstance(each, contextlib.AbstractContextManager):
                files.enter_context(each)
        records = [_Record.open(p, directory, files) for p in several]
        runs = [
            _simulated(prepared, each, initial, record)
            for prepared, each, initial, record in zip(
                several, sums, params, records, strict=True
            )
        ]
        for prepared in several:
            advance(prepared.spec.name, 0)
        for finished in simulation.simulate_together(
            algorithm,
            runs,
            evaluate=evaluator_of(first.model)(first.dataset.test),
            evaluate_every=first.hyperparameters.evaluate_every,
            chunk_size=first.spec.chunk_size,
        ):
            for i, done in enumerate(finished):
                rounds[i].append(records[i].add(done))
                advance(several[i].spec.name, 1)
    trained = []
    seconds = (time.perf_counter() - started) / len(several)
    for prepared, done, lines in zip(several, finished, rounds, strict=True):
        stacked = algorithm.models(done.server_state, done.client_states)
        checkpoints.save(directory.path, prepared, stacked)
        models = jax.tree.map(np.asarray, stacked)
        trained.append(Trained(run_row(prepared, lines, seconds), lines, models))
    return trained


def _simulated(
    prepared: Prepared,
    sums: aggregation.Aggregation | None,
    params: Params,
    record: "_Record",
) -> simulation.Run:
    """The run as the round loop takes it."""
    spec = prepared.spec
    roots = simulation.root_keys(spec.seed, spec.noise_seed, spec.name)
    dropping = spec.drop_out if spec.traits.federated else 0.0
    return simulation.Run(
        sums,
        prepared.data,
        params,
        prepared.schedule,
        roots,
        charger(record.ledgers, prepared, roots),
        simulation.drop_outs(spec.seed, prepared.schedule, dropping),
    )


@dataclasses.dataclass(frozen=True)
class _Record:
    """Where the rounds of one run are written."""

    prepared: Prepared
    directory: RunDirectory
    scalars: tensorboardX.SummaryWriter
    ledgers: dict[Adversary, Any]

    @classmethod
    def open(
        cls, prepared: Prepared, directory: RunDirectory, files: contextlib.ExitStack
    ) -> "_Record":
        log = directory.path / "tb" / prepared.spec.name
        scalars = files.enter_context(tensorboardX.SummaryWriter(str(log)))
        ledgers = open_ledgers(prepared, directory.path / "ledger")
        for ledger in ledgers.values():
            files.enter_context(ledger)
        return cls(prepared, directory, scalars, ledgers)

    def add(self, done: simulation.Round) -> dict[str, Any]:
        """Writes a round; returns its line."""
        spent = {
            adversary: ledger.epsilon(self.prepared.spec.delta)
            for adversary, ledger in self.ledgers.items()
        }
        row = round_row(self.prepared, done, spent)
        self.directory.add_round(row)
        for name, value in row.items():
            if isinstance(value, float) and math.isfinite(value):
                self.scalars.add_scalar(name, value, done.number)
        return row
