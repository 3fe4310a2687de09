"""Trials of hyper-parameters on held-out training data, and the best of them."""

import dataclasses
import datetime
import itertools
import json
import math
import shlex
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.settings.search import Score
from fedjax_private import __version__, datasets, runs
from fedjax_private.algorithms.fedopt import SERVER_OPTIMIZERS
from fedjax_private.choices import Choice
from fedjax_private.faults import with_place
from fedjax_private.runs.settings_files import Entry, SettingsFile, steps_of
from fedjax_private.runs.tuned import DEFAULT_EPSILON

# Hyper-parameters that a settings file does not hold: these change no model.
NOT_HELD = ("evaluate_every",)

HELD_OUT = 0.2
SPLIT_SEED = 2017


@dataclasses.dataclass(frozen=True)
class Scored:
    """A trial that ended.

    Attributes:
        ready: the first of its runs.
        accuracy: on the held-out examples, mean over its runs.
        loss: likewise.
    """

    ready: runs.Prepared
    accuracy: float
    loss: float

    @property
    def score(self) -> Score:
        """Larger is better; of equally many hits, the surer ones."""
        return self.accuracy, -self.loss if math.isfinite(self.loss) else -math.inf


@dataclasses.dataclass
class Trials:
    """The trials for one number of clients.

    Attributes:
        partitions: each trial runs on all of them,
        seeds: with that many seeds,
        splits: on that many splits of the training data.
        inputs: spec -> its data set.
        log: where a line a run is appended.
        say: prints a line.
        best: of the trials so far.
        count: of the trials so far.
    """

    partitions: Sequence[Choice[datasets.Partitioner]]
    seeds: int
    splits: int
    inputs: runs.Inputs
    log: Path
    say: Callable[[str], None]
    best: Scored | None = None
    count: int = 0

    def prepared(self, spec: runs.Spec, split: int = 0) -> runs.Prepared:
        """The run, with the held-out part of the training data as its test set.

        Raises:
            ValueError: the run cannot be made, or too few examples can be held out.
        """
        dataset = self.inputs(spec)
        train, validation = datasets.split_validation(
            dataset.train, HELD_OUT, SPLIT_SEED + split
        )
        return runs.prepare(
            spec, dataclasses.replace(dataset, train=train, test=validation)
        )

    def try_(self, spec: runs.Spec, values: Mapping[str, Any]) -> Score | None:
        """Trains and scores; returns None where training failed, and says why.

        Args:
            spec: with the values in place.
            values: for the log and the line that is printed.
        """
        self.count += 1
        words = " ".join(f"{k}={v}" for k, v in values.items()) or "the usual values"
        done: list[tuple[runs.Prepared, float, float]] = []
        try:
            for run, split in self._runs(spec):
                ready = self.prepared(run, split)
                with tempfile.TemporaryDirectory() as scratch:
                    directory = runs.RunDirectory(Path(scratch))
                    (trained,) = runs.train_together([ready], directory)
                self._log(trained, values, split)
                done.append((ready, trained.row["accuracy"], trained.row["loss"]))
        except ValueError as error:  # such as training that left an encryption's range
            self.say(f"failed  {words}: {with_place(error)}")
            return None
        ready, accuracies, losses = zip(*done, strict=True)
        scored = Scored(
            ready[0], statistics.fmean(accuracies), statistics.fmean(losses)
        )
        self.say(f"{scored.accuracy:.4f}  {words}  (loss {scored.loss:.4f})")
        if self.best is None or scored.score > self.best.score:
            self.best = scored
        return scored.score

    def _runs(self, spec: runs.Spec) -> Iterator[tuple[runs.Spec, int]]:
        for partition, seed, split in itertools.product(
            self.partitions, range(self.seeds), range(self.splits)
        ):
            run = dataclasses.replace(spec, partition=partition, seed=seed)
            yield run.used_only(), split

    def _log(self, trained: runs.Result, values: Mapping[str, Any], split: int) -> None:
        row, ready = trained.row, trained.prepared
        line: dict[str, Any] = {
            **{name: row[name] for name in ("arm", "clients", "partition", "seed")},
            **{name: row[name] for name in ("dataset", "model", "epsilon")},
            "algorithm": row["algorithm"],
            "mechanism": ready.spec.mechanism_name,
            "grid": values,
            **dataclasses.asdict(ready.hyperparameters),
            "split_seed": SPLIT_SEED + split,
            "held_out_examples": len(ready.dataset.test),
            "validation_accuracy": row["accuracy"],
            "validation_loss": row["loss"],
            "seconds": round(row["seconds_total"], 2),
        }
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def entry(self, argv: Sequence[str]) -> Entry | None:
        """The best values so far, as a settings file holds them; None without any.

        Args:
            argv: the command that searched.
        """
        if self.best is None:
            return None
        ready = self.best.ready
        spec, algorithm = ready.spec, ready.algorithm.entry
        epsilon = None
        if spec.traits.private:
            epsilon = spec.epsilon or DEFAULT_EPSILON
            if spec.noise_multiplier is not None and ready.privacy is not None:
                epsilon = ready.privacy.epsilon
                epsilon = epsilon if 0.0 < epsilon < math.inf else None
        return Entry(
            dataset=spec.dataset_name,
            model=spec.model_entry.name,
            steps=steps_of(spec.arm, algorithm, shares_noise=spec.shares_noise),
            algorithm=algorithm.name,
            epsilon=epsilon,
            cohort=None if spec.traits.pooled else spec.cohort_size,
            values=_values(ready),
            search={
                "command": shlex.join(argv),
                "validation_accuracy": self.best.accuracy,
                "validation_loss": self.best.loss,
                "trials": self.count,
                "partitions": [each.name for each in self.partitions],
                "seeds": self.seeds,
                "splits": self.splits,
                "held_out": HELD_OUT,
                "held_out_examples": len(ready.dataset.test),
                "log": str(self.log),
                "date": datetime.date.today().isoformat(),
                "version": __version__,
            },
        )


def _values(ready: runs.Prepared) -> tuple[tuple[str, Any], ...]:
    """The hyper-parameters that a run has, as a file holds them."""
    left_out = set(NOT_HELD)
    values = dataclasses.asdict(ready.hyperparameters)
    if values["server_optimizer"] not in SERVER_OPTIMIZERS.built_in:
        left_out.add("server_optimizer")  # a file imports nothing
    return tuple(
        (name, value)
        for name, value in values.items()
        if value is not None and name not in left_out
    )


# What two searches must share for their accuracies to be compared.
SAME = ("partitions", "seeds", "splits", "held_out", "held_out_examples")


def kept(file: SettingsFile, entry: Entry) -> Entry | None:
    """The entry of a file that an equal search found better; None where there is none.

    Args:
        file: of settings.
        entry: that would take its place.
    """
    for held in file.entries:
        if held.key != entry.key or held.search is None or entry.search is None:
            continue
        same = all(held.search.get(name) == entry.search.get(name) for name in SAME)
        accuracy = held.search.get("validation_accuracy")
        number = isinstance(accuracy, float)
        if same and number and accuracy > entry.search["validation_accuracy"]:
            return held
    return None
