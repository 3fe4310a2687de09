"""Searches hyper-parameters on a split of the training data, never on the test set.

    python -m experiments.tune --arm=fl_dp --clients=4,32 \\
        --grid="learning_rate=0.25,0.5,1 clip_norm=0.5,1"

A fifth of the training images, drawn by class with a fixed seed, is held out and takes
the test set's place; every combination of the grid is trained on the rest by the same
code as any other run. One line a run is appended to the log. The values that
`runs.tuned` ships were read off experiments/settings/tuning_log.jsonl.

The search sees the training data. It is outside epsilon, as every report says.
"""

import dataclasses
import itertools
import json
import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import command
from experiments.settings import flags
from experiments.sweep import SweepConfig
from fedjax_private import datasets, runs
from fedjax_private.choices import (
    Settings,
    at_least,
    chosen,
    kinds,
    one_of,
    setting,
    settings_of,
)

USAGE = """Trains every combination of a grid and scores it on a validation split.

usage: python -m experiments.tune --arm=fl_dp --grid="learning_rate=0.25,0.5" [flags]"""

HELD_OUT = 0.2
SPLIT_SEED = 2017

LOG = "experiments/settings/tuning_log.jsonl"


@dataclasses.dataclass(frozen=True)
class TuneConfig(Settings):
    """What to search."""

    arm: str = setting("fl", "the arm to tune", one_of(*runs.ARMS))
    grid: str = setting("", 'values by name: "learning_rate=0.1,0.2 momentum=0,0.9"')
    clients: tuple[int, ...] | None = setting(
        None,
        f"client counts (default {runs.DEFAULT_CLIENTS}; partition natural: the data's "
        "number)",
    )
    partitions: tuple[str, ...] = chosen(
        datasets.PARTITIONS, ("iid",), "how records are dealt to clients"
    )
    seeds: int = setting(1, "how many repetitions", at_least(1))
    log: str = setting(LOG, "where lines are appended")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.places()

    def places(self) -> list[tuple[int | None, Any]]:
        """Client counts and partitions; see `SweepConfig.places`."""
        sweep = SweepConfig(clients=self.clients, partitions=self.partitions)
        return sweep.places((runs.DEFAULT_CLIENTS,))


def combinations(grid: str) -> list[dict[str, str]]:
    """All combinations of a grid.

    Raises:
        ValueError: the text is not of the form "name=a,b other=c".
    """
    axes = []
    for part in grid.split():
        name, equals, values = part.partition("=")
        if not equals or not values:
            raise ValueError(f"grid takes name=a,b pairs, got {part!r}.")
        axes.append([(name, value) for value in values.split(",")])
    return [dict(choice) for choice in itertools.product(*axes)]


def spec_with(base: runs.Spec, values: Mapping[str, str]) -> runs.Spec:
    """The spec with values given as text: of its fields, or of its entries' settings.

    Raises:
        ValueError: a name is nothing to search over, or a value is bad.
    """
    known = {
        flag.name: flag
        for flag in flags.flags_of(runs.Spec)
        if flag.group not in ("What to run", "Encryption, for arms with HE")
    }
    changes = {
        name: flags.convert(known[name].kind, text)
        for name, text in values.items()
        if name in known
    }
    spec = dataclasses.replace(base, **changes)
    for name in values.keys() - known.keys():
        spec = _with_setting(spec, known.values(), name, values[name])
    return spec


def _with_setting(
    spec: runs.Spec, searched: Iterable[flags.Flag], name: str, text: str
) -> runs.Spec:
    for flag in searched:
        choice = getattr(spec, flag.name) if flag.registry is not None else None
        if choice is not None and name in settings_of(choice.entry):
            value = flags.convert(kinds(choice.entry.settings)[name], text)
            settings = dataclasses.replace(choice.settings, **{name: value})
            changed = dataclasses.replace(choice, settings=settings)
            return dataclasses.replace(spec, **{flag.name: changed})
    raise ValueError(f"grid names {name!r}, which is nothing to search over.")


def tune(argv: Sequence[str]) -> int:
    """The command; returns its exit status."""
    parsed = flags.parse(
        USAGE, (TuneConfig, runs.Spec), argv, leave_out=("partition", "seed")
    )
    what = parsed[TuneConfig]
    base = dataclasses.replace(parsed[runs.Spec], arm=what.arm)
    grid = parsed.checked(lambda: combinations(what.grid))
    choices = parsed.checked(lambda: [spec_with(base, values) for values in grid])
    runs.environment.start()
    inputs = runs.Inputs()

    def held_out(spec: runs.Spec) -> datasets.Dataset:
        dataset = inputs(spec)
        train, validation = datasets.split_validation(
            dataset.train, HELD_OUT, SPLIT_SEED
        )
        return dataclasses.replace(dataset, train=train, test=validation)

    places = list(itertools.product(what.places(), range(what.seeds)))
    console = command.console()
    for values, chosen_spec in zip(grid, choices, strict=True):
        scores = []
        for (clients, partition), seed in places:
            spec = dataclasses.replace(
                chosen_spec, clients=clients, partition=partition, seed=seed
            )
            ready = parsed.checked(lambda spec=spec: runs.prepare(spec, held_out(spec)))
            with tempfile.TemporaryDirectory() as scratch:
                directory = runs.RunDirectory(Path(scratch))
                (trained,) = runs.train_together([ready], directory)
            row = trained.row
            scores.append(row["accuracy"])
            line: dict[str, Any] = {
                **{name: row[name] for name in ("arm", "clients", "partition", "seed")},
                **{name: row[name] for name in ("dataset", "model", "epsilon")},
                "algorithm": row["algorithm"],
                "mechanism": spec.mechanism_name,
                "grid": values,
                **dataclasses.asdict(ready.hyperparameters),
                "held_out_examples": len(ready.dataset.test),
                "validation_accuracy": row["accuracy"],
                "validation_loss": row["loss"],
                "seconds": round(row["seconds_total"], 2),
            }
            with Path(what.log).open("a") as file:
                file.write(json.dumps(line) + "\n")
        mean = statistics.fmean(scores)
        command.say(console, f"{mean:.4f}  {values}")
    return 0


if __name__ == "__main__":
    command.main(tune)
