"""Runs many specs, together where that is faster; nothing finished is ever lost."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from experiments import build, report, run, zoo
from experiments.arms import ARMS
from experiments.spec import Spec
from fedjax_private.datasets import Dataset
from fedjax_private.simulation import RunDirectory


class Inputs:
    """The data set of each run, as its model takes it; features are computed once.

    Args:
        source: spec -> its data set, the very same object for runs that share one.
    """

    def __init__(self, source: Callable[[Spec], Dataset]) -> None:
        self._source = source
        self._made: dict[tuple[int, str], tuple[Dataset, Dataset]] = {}

    def __call__(self, spec: Spec) -> Dataset:
        """The data set of a run."""
        dataset, model = self._source(spec), spec.settings.training.model
        key = (id(dataset), model)
        if key not in self._made:  # kept with its source, so that no id is used again
            self._made[key] = dataset, zoo.featured(dataset, model)
        return self._made[key][1]


def together(specs: Sequence[Spec], inputs: Inputs) -> list[list[Spec]]:
    """Groups runs that go through as one program: seeds of a single client.

    A single client keeps a single device busy.
    """
    groups: dict[Any, list[Spec]] = {}
    several = jax.local_device_count() > 1
    for spec in specs:
        shared = ARMS[spec.arm].pooled and several
        key = id(inputs(spec)) if shared else spec.seed
        groups.setdefault((dataclasses.replace(spec, seed=0), key), []).append(spec)
    return list(groups.values())


def run_all(
    specs: Sequence[Spec],
    inputs: Inputs,
    directory: RunDirectory,
    shown: Any,
    finished: Callable[[Spec, dict[str, Any]], None],
) -> list[str]:
    """Runs everything; returns what failed, in words.

    Args:
        specs: what to run, in order.
        inputs: their data sets.
        directory: where rounds and checkpoints go.
        shown: the progress that is on the screen.
        finished: takes each run's row, as the run ends.
    """
    failures = []
    for group in together(specs, inputs):
        try:
            dataset = inputs(group[0])
            prepared = [build.prepare(spec, dataset) for spec in group]
            rows = run.run_together(prepared, dataset, directory, shown.advance)
        except ValueError as error:
            names = ", ".join(spec.name for spec in group)
            failures.append(f"Failed: {names}: {error}")
            shown.say(failures[-1])
            continue
        for spec, row in zip(group, rows, strict=True):
            shown.say(report.line(row))
            finished(spec, row)
    return failures
