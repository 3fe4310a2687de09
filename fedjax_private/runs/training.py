"""Training of runs, whose rounds are on disk as they end."""

import contextlib
import dataclasses
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorboardX

from fedjax_private import aggregation, datasets, models, simulation
from fedjax_private.choices import Choice, check_kind
from fedjax_private.datasets import Dataset, Source
from fedjax_private.runs import checkpoints
from fedjax_private.runs.building import (
    build_aggregation,
    build_algorithm,
    evaluator_of,
)
from fedjax_private.runs.clients import shards
from fedjax_private.runs.columns import columns
from fedjax_private.runs.directory import RunDirectory
from fedjax_private.runs.environment import machine, versions
from fedjax_private.runs.ledgers import charger, open_ledgers
from fedjax_private.runs.preparation import Prepared, prepare
from fedjax_private.runs.rows import Row, round_row, run_row
from fedjax_private.runs.spec import Spec
from fedjax_private.runs.warnings import (
    after_training,
    before_training,
    of_loss,
    of_ranges,
)
from fedjax_private.trust import Adversary
from fedjax_private.typing import Params

# (name of a run, the line of the round that has ended; None before the first) -> None.
Advance = Callable[[str, Row | None], None]


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """A run that has been trained and recorded.

    Attributes:
        prepared: what was trained.
        directory: where everything is.
        row: the run's line of runs.jsonl.
        rows: a line a round, as in rounds.jsonl.
        models: params with a leading axis: one model, or one a client without FL.
    """

    prepared: Prepared
    directory: Path
    row: dict[str, Any]
    rows: list[dict[str, Any]]
    models: Params

    @property
    def params(self) -> Params:
        """The model's parameters; raises ValueError where there are several models."""
        return one_model(self.models)

    @property
    def model(self) -> models.Model:
        """The model as pure functions."""
        return self.prepared.model

    @property
    def accuracy(self) -> float | None:
        """On the test set, after the last round."""
        accuracy: float | None = self.row["accuracy"]
        return accuracy

    @property
    def epsilon(self) -> float | None:
        """What the run cost one unit, against outsiders; None without DP."""
        return self.prepared.privacy.epsilon if self.prepared.privacy else None

    @property
    def epsilon_insider(self) -> float | None:
        """The same against insiders; see `trust.Trust`."""
        privacy = self.prepared.privacy
        return privacy.epsilon_insider if privacy else None


class Diverged(ValueError):
    """Training that ended in values that are not finite.

    Args:
        sentence: which run, and the way out.
        finished: the results of the other runs.
    """

    def __init__(self, sentence: str, finished: Sequence[Result]) -> None:
        super().__init__(sentence)
        self.finished = tuple(finished)


def train_together(
    several: Sequence[Prepared],
    directory: RunDirectory,
    advance: Advance = lambda name, row: None,
) -> list[Result]:
    """Trains runs that differ in seed only, as one program; see `simulate_together`.

    Each run's seconds are its equal part of the common ones. Rounds are on disk as they
    end.

    Args:
        several: the runs; usually one.
        directory: where rounds, ledgers, scalars and models go.
        advance: is told of every round.

    Raises:
        ValueError: training that cannot go on, such as values out of range; a run of
            void rounds only, whose model is not trained; or `Diverged`. Their rounds
            and ledgers stay.
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
        # Rows have the numbers, and the run's own warnings say what they mean.
        files.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", aggregation.RangeWarning)
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
            advance(prepared.spec.name, None)
        for finished in simulation.simulate_together(
            algorithm,
            runs,
            evaluate=evaluator_of(first.model)(first.dataset.test),
            evaluate_every=first.hyperparameters.evaluate_every,
            chunk_size=first.spec.chunk_size,
        ):
            for i, done in enumerate(finished):
                rounds[i].append(records[i].add(done))
                advance(several[i].spec.name, rounds[i][-1])
    for prepared, lines in zip(several, rounds, strict=True):
        _check_trained(prepared, lines)
    results: list[Result] = []
    diverged: list[str] = []
    seconds = (time.perf_counter() - started) / len(several)
    for prepared, first_model, done, lines in zip(
        several, params, finished, rounds, strict=True
    ):
        stacked = algorithm.models(done.server_state, done.client_states)
        stacked = jax.tree.map(np.asarray, stacked)
        assert done.evaluation is not None  # the last round always has one
        if not _finite((stacked, done.evaluation.loss)):
            diverged.append(prepared.spec.name)
            continue
        checkpoints.save(directory.path, prepared, stacked)
        last = jax.tree.map(lambda leaf: leaf[0], stacked)
        sentences = [
            *before_training(prepared),
            *after_training(prepared, first_model, last),
            *of_loss(prepared, done.evaluation.loss),
            *of_ranges(prepared, lines),
        ]
        row = run_row(
            prepared, lines, done.evaluation, seconds, directory.path, sentences
        )
        results.append(Result(prepared, directory.path, row, lines, stacked))
    if diverged:
        raise Diverged(
            f"training of {', '.join(diverged)} diverged, as its model or its loss on "
            "test records is not finite: give a smaller learning_rate, or mend the "
            "model or client function if they are your own.",
            results,
        )
    return results


def _finite(values: Any) -> bool:
    """Whether a pytree holds neither infinity nor NaN."""
    leaves = jax.tree.leaves(values)
    return all(bool(np.isfinite(np.asarray(leaf, float)).all()) for leaf in leaves)


def _check_trained(prepared: Prepared, rounds: Sequence[Mapping[str, Any]]) -> None:
    """Raises ValueError, which names what made them so, if all rounds were void."""
    trust = prepared.trust
    if trust is None or not all(line["void"] for line in rounds):
        return
    assert prepared.scheme is not None  # it has sums
    arrived = [line["cohort"] - line["lost"] for line in rounds]
    causes, ways_out = [], []
    if min(arrived) < trust.uploads:
        causes.append(
            f"fewer uploads arrived than the {trust.uploads} that a sum must hold"
        )
        lower = "drop_out" if trust.uploads == 1 else "drop_out or min_uploads"
        ways_out.append(f"lower {lower}, or take more clients")
    if max(arrived) >= trust.uploads:
        causes.append("too few clients were left to decrypt a sum of enough uploads")
        # Without it, clients that open masks are missing because of drop_out.
        vanishing = getattr(prepared.scheme.settings, "holder_drop_out", 0.0)
        ways_out.append(f"lower {'holder_drop_out' if vanishing else 'drop_out'}")
    raise ValueError(
        f"every round of {prepared.spec.name} was void, and nothing was trained: "
        f"{', or '.join(causes)}; {', and '.join(ways_out)}."
    )


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


def train(
    spec: Spec,
    *,
    out: str | Path,
    dataset: "Dataset | str | Source | Choice[Source] | None" = None,
    model: Any = None,
    overwrite: bool = False,
    advance: Advance = lambda name, row: None,
) -> Result:
    """Checks, prices, trains and records one run.

    Args:
        spec: what is asked for.
        out: directory for all that the run leaves behind.
        dataset: name, source or data set, in place of the spec's.
        model: name, entry, Flax module, function (input shape, classes) -> module, or a
            ready `models.Model`, in place of the spec's.
        overwrite: replaces the run that `out` holds.
        advance: is told of every round.

    Raises:
        ValueError: settings that do not fit together, before any work; data that cannot
            be had; or training that cannot go on, such as values out of range.
    """
    check_kind("spec", spec, Spec, 'a Spec, such as runs.Spec(arm="fl")')
    check_kind("out", out, (str, os.PathLike), "the path of a directory")
    spec = dataclasses.replace(
        spec, dataset=spec.dataset if dataset is None else dataset
    )
    examples = datasets.load(spec.dataset)
    ready_model = model if isinstance(model, models.Model) else None
    if model is not None and ready_model is None:
        spec = dataclasses.replace(spec, model=models.chosen(model))
    if ready_model is None:
        examples = models.features(spec.model_entry, examples)
    ready = prepare(spec, examples, ready_model)
    directory = RunDirectory.create(out, overwrite=overwrite)
    directory.write_config(config("train", [ready]))
    (result,) = train_together([ready], directory, advance)
    directory.add_run(result.row)
    return result


def config(command: str, ready: list[Prepared], **more: Any) -> dict[str, Any]:
    """The content of config.json: every setting, versions and the machine."""
    return {
        "command": command,
        **more,
        "runs": {
            each.spec.name: {
                "spec": each.spec.described(),
                "hyperparameters": _hyperparameters(each),
                "settings_from": str(each.settings_from),
                "searched_on": each.settings_from.searched_on,
                "sums": each.sums,
                "shards": shards(each),
                "against": each.privacy
                and {a.value: words for a, words in each.privacy.against.items()},
            }
            for each in ready
        },
        "versions": versions(),
        "machine": machine(),
    }


def _hyperparameters(prepared: Prepared) -> dict[str, Any]:
    """By name; None where one has no effect on the run."""
    values, known = dataclasses.asdict(prepared.hyperparameters), columns(prepared)
    return {name: known.get(name, value) for name, value in values.items()}


def one_model(stacked: Params) -> Params:
    """The only model of params with a leading axis.

    Raises:
        ValueError: there are several, one of each client.
    """
    count = int(jax.tree.leaves(stacked)[0].shape[0])
    if count != 1:
        raise ValueError(
            f"the run has {count} models, one of each client: take one of `models`, or "
            "train another arm."
        )
    return jax.tree.map(lambda leaf: leaf[0], stacked)
