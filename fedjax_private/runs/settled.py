"""Settles hyper-parameters: given values, those of a file, tuned ones."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

from fedjax_private.algorithms.entry import AlgorithmEntry
from fedjax_private.hyperparameters import Hyperparameters
from fedjax_private.runs.arms import ARMS
from fedjax_private.runs.settings_files import (
    LOCAL,
    Entry,
    SettingsFile,
    in_words,
    steps_of,
)
from fedjax_private.runs.tuned import (
    BY_HAND,
    GIVEN,
    SEARCHED,
    Origin,
    evaluate_every,
    tuned,
)


@dataclasses.dataclass(frozen=True)
class Settled:
    """The hyper-parameters of a run.

    Attributes:
        values: that the run trains with.
        usual: what they are where none is given; None is one that the run lacks.
        origin: where they come from.
        unfit: why the settings file does not serve the run, in a sentence; None where
            it does, or where there is none.
    """

    values: Hyperparameters
    usual: Hyperparameters
    origin: Origin
    unfit: str | None


def settle(
    arm: str,
    algorithm: AlgorithmEntry,
    *,
    shares_noise: bool,
    cohort: int,
    dataset: str,
    partition: str,
    model: str,
    epsilon: float | None,
    table: bool,
    file: SettingsFile | None,
    given: Mapping[str, Any],
) -> Settled:
    """Hyper-parameters: given ones, else the file's, the algorithm's, the tables'.

    An entry of the file that was searched with another algorithm does not replace the
    algorithm's own values.

    Args:
        arm: of `ARMS`.
        algorithm: that the run trains with.
        shares_noise: whether clients share the noise of each sum.
        cohort: clients of a round.
        dataset: name of the data set.
        partition: name of the partition.
        model: name of the model.
        epsilon: the target; None for the default one.
        table: whether records are lines of a table.
        file: of settings, or None.
        given: field of `Hyperparameters` -> value.
    """
    values, origin = tuned(
        arm,
        algorithm.training,
        shares_noise=shares_noise,
        cohort=cohort,
        dataset=dataset,
        model=model,
        epsilon=epsilon,
        table=table,
    )
    usual = dataclasses.replace(values, **algorithm.defaults)
    own = {name for name, value in algorithm.defaults.items() if value is not None}
    replaced, entry, unfit = [], None, None
    if file is not None:
        steps = steps_of(arm, algorithm, shares_noise=shares_noise)
        entry = file.for_run(
            dataset=dataset,
            model=model,
            steps=steps,
            algorithm=algorithm.name,
            epsilon=epsilon,
            cohort=cohort,
        )
        if entry is None:
            unfit = (
                f"settings={file.path} has no effect: the run needs settings for "
                f"{in_words(steps)} of {dataset} and {model}, and the file holds "
                f"{file.held()}; search with the flags of this data by python -m "
                f"experiments.tune --arm={arm} --dataset={dataset} --model={model} "
                f"--settings_out={file.path}, or leave out settings."
            )
    if file is not None and entry is not None:
        theirs = _values_of(entry, algorithm, cohort)
        if "local_epochs" in given:  # instead of the steps of the file
            theirs.pop("local_steps", None)
        if lacking := theirs.keys() - (theirs := usual.applicable(theirs)).keys():
            replaced.append(f"without {', '.join(_in_order(lacking))}")
        if "learning_rate" in theirs and "learning_rate" not in given:
            replaced += _rescaled(entry, cohort)
        usual = usual.replaced(theirs)
        own -= theirs.keys()
        searched_on = entry.dataset if entry.search is not None else None
        by_steps = {"local_epochs"} if "local_steps" in given else set()
        elsewhere = {*theirs, *own, *given, *by_steps, "evaluate_every"}
        if rest := _names(usual, elsewhere):
            replaced.append(f"{', '.join(rest)}: {origin}")
            searched_on = searched_on or origin.searched_on
        origin = _origin(file, entry, algorithm.name, searched_on)
        unlike = _unlike(entry, None if ARMS[arm].pooled else partition, epsilon)
        origin = dataclasses.replace(origin, unlike=unlike)
    applied = usual.applicable(given)
    if own := own - applied.keys():
        replaced.append(f"{algorithm.name}'s own: {', '.join(_in_order(own))}")
    if applied:
        replaced.append(f"{GIVEN}{', '.join(_in_order(applied))}")
    origin = dataclasses.replace(origin, replaced=tuple(replaced))
    values = usual.replaced(given)
    if "evaluate_every" not in {*given, *algorithm.defaults}:
        often = evaluate_every(values.rounds)
        values = dataclasses.replace(values, evaluate_every=often)
    return Settled(values, usual, origin, unfit)


def _values_of(entry: Entry, algorithm: AlgorithmEntry, cohort: int) -> dict[str, Any]:
    """The values of an entry, as a run with that algorithm and cohort takes them."""
    values = dict(entry.values)
    if entry.algorithm != algorithm.name:
        values = {k: v for k, v in values.items() if k not in algorithm.defaults}
    if entry.steps == LOCAL and entry.cohort and "learning_rate" in values:
        # As in `tuned`: the noise of a mean grows with the number of clients.
        values["learning_rate"] *= math.sqrt(entry.cohort / cohort)
    return values


def _rescaled(entry: Entry, cohort: int) -> list[str]:
    """What `_values_of` did to the learning rate, in words."""
    if entry.steps != LOCAL or entry.cohort in (None, cohort):
        return []
    rate = dict(entry.values)["learning_rate"]
    return [f"learning_rate {rate:g} times sqrt({entry.cohort}/{cohort})"]


def _names(values: Hyperparameters, other: Iterable[str]) -> list[str]:
    """The hyper-parameters that a run has, without some."""
    return _in_order(
        name
        for name, value in dataclasses.asdict(values).items()
        if value is not None and name not in other
    )


def _in_order(names: Iterable[str]) -> list[str]:
    """Names in the order of the fields of `Hyperparameters`."""
    fields = [field.name for field in dataclasses.fields(Hyperparameters)]
    return sorted(names, key=fields.index)


def _origin(
    file: SettingsFile, entry: Entry, algorithm: str, searched_on: str | None
) -> Origin:
    """Where values come from that a file's entry holds."""
    place = file.path
    if entry.epsilon is not None:
        place += f" at epsilon {entry.epsilon:g}"
    if entry.cohort is not None:
        place += f", {entry.cohort} clients"
    if entry.algorithm != algorithm:
        place += f", for {entry.algorithm}"
    return Origin(place, BY_HAND if entry.search is None else SEARCHED, searched_on)


def _unlike(
    entry: Entry, partition: str | None, epsilon: float | None
) -> tuple[str, ...]:
    """How the search of an entry differs from a run; see `Origin`."""
    sentences = []
    partitions = (entry.search or {}).get("partitions")
    if isinstance(partitions, list) and partition not in (None, *partitions):
        searched = ", ".join(map(str, partitions))
        sentences.append(
            f"searched on partition {searched}, and the run takes {partition}"
        )
    if entry.epsilon and epsilon and not math.isclose(entry.epsilon, epsilon):
        sentences.append(
            f"searched at epsilon {entry.epsilon:g}, and the run takes {epsilon:g}"
        )
    return tuple(sentences)
