"""Trains many runs, some together; a run that fails stops no other."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from fedjax_private import models
from fedjax_private.choices import check_kind
from fedjax_private.datasets import Dataset, load
from fedjax_private.faults import with_place
from fedjax_private.runs.directory import RunDirectory
from fedjax_private.runs.preparation import prepare
from fedjax_private.runs.spec import Spec
from fedjax_private.runs.training import Advance, train_together


class Inputs:
    """The data set of each run, as its model takes it; each is made once.

    Args:
        source: spec -> its data set, the very same object for runs that share one; by
            default the one that the spec names.
    """

    def __init__(self, source: Callable[[Spec], Dataset] | None = None) -> None:
        loaded = functools.cache(load)
        self._source = source or (lambda spec: loaded(spec.dataset))
        # Kept with its source, so that no id is used again.
        self._featured: dict[tuple[int, str], tuple[Dataset, Dataset]] = {}

    def __call__(self, spec: Spec) -> Dataset:
        """The data set of a run."""
        dataset = self._source(spec)
        key = (id(dataset), spec.model_entry.name)
        if key not in self._featured:
            featured = models.features(spec.model_entry, dataset)
            self._featured[key] = dataset, featured
        return self._featured[key][1]


def together(specs: Sequence[Spec], inputs: Inputs) -> list[list[Spec]]:
    """Groups runs that go through as one program: seeds of a single client.

    A single client keeps a single device busy.
    """
    groups: dict[Any, list[Spec]] = {}
    several = jax.local_device_count() > 1
    for spec in specs:
        shared = spec.traits.pooled and several
        key = id(inputs(spec)) if shared else spec.seed
        groups.setdefault((dataclasses.replace(spec, seed=0), key), []).append(spec)
    return list(groups.values())


def check_names(specs: Iterable[Spec]) -> None:
    """Checks that no two runs have one name, under which files of both would be mixed.

    Raises:
        ValueError: two have.
    """
    names: set[str] = set()
    for spec in specs:
        if spec.name in names:
            raise ValueError(
                f"two runs have the name {spec.name!r}, and would write into the same "
                "files: give each a label of its own, or train them into directories "
                "of their own."
            )
        names.add(spec.name)


def train_all(
    specs: Sequence[Spec],
    inputs: Inputs,
    directory: RunDirectory,
    *,
    finished: Callable[[Spec, dict[str, Any]], None],
    failed: Callable[[str], None] = lambda sentence: None,
    advance: Advance = lambda name, row: None,
) -> list[str]:
    """Trains all runs; a run that fails stops no other.

    Args:
        specs: what to run, in order.
        inputs: their data sets.
        directory: where rounds, ledgers and models go.
        finished: takes each run's row, as the run ends.
        failed: takes a sentence on each failure, at once.
        advance: is told of every round.

    Returns:
        What failed: a sentence each.

    Raises:
        ValueError: two runs have one name; nothing is trained.
    """
    check_names(specs)
    form = "a RunDirectory, as RunDirectory.create(path) returns"
    check_kind("directory", directory, RunDirectory, form)
    failures = []
    for group in together(specs, inputs):
        try:
            ready = [prepare(spec, inputs(spec)) for spec in group]
            rows = [each.row for each in train_together(ready, directory, advance)]
        except ValueError as error:
            rows = [each.row for each in getattr(error, "finished", ())]
            done = {row["run"] for row in rows}
            names = ", ".join(spec.name for spec in group if spec.name not in done)
            failures.append(f"Failed: {names}: {with_place(error)}")
            failed(failures[-1])
        for row in rows:
            finished(next(spec for spec in group if spec.name == row["run"]), row)
    return failures
