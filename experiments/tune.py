"""Searches hyper-parameters on a split of the training data, never on the test set.

    python -m experiments.tune --arm=fl_dp --clients=4,32 \\
        --grid="learning_rate=0.25,0.5,1 clip_norm=0.5,1"

A fifth of the training images, drawn by class with a fixed seed, is held out and takes
the test set's place; every combination of the grid is trained on the rest by the same
code as any other run. One line a run is appended to the log. The values that
`experiments/tuned.py` ships were read off the log that is committed beside it.

The search sees the training data. It is outside epsilon, as every report says.
"""

import dataclasses
import itertools
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments import command, flags, runtime
from experiments.config import SETTINGS, Settings, SweepConfig, TrainConfig, flag

USAGE = """Trains every combination of a grid and scores it on a validation split.

usage: python -m experiments.tune --arm=fl_dp --grid="learning_rate=0.25,0.5" [flags]"""

HELD_OUT = 0.2
SPLIT_SEED = 2017


@dataclasses.dataclass(frozen=True)
class TuneConfig:
    """What to search."""

    arm: str = flag("fl", "the arm to tune")
    grid: str = flag("", 'values by flag name: "learning_rate=0.1,0.2 momentum=0,0.9"')
    clients: tuple[int, ...] = flag((4,), "client counts")
    partitions: tuple[str, ...] = flag(("iid",), "of iid, shards and dirichlet")
    seeds: int = flag(1, "how many repetitions")
    log: str = flag("experiments/tuning_log.jsonl", "where lines are appended")

    def __post_init__(self) -> None:
        TrainConfig(arm=self.arm)
        SweepConfig(clients=self.clients, partitions=self.partitions, seeds=self.seeds)


def combinations(grid: str) -> list[dict[str, str]]:
    """All combinations of a grid.

    Raises:
        ValueError: the text is not of the form "name=a,b other=c".
    """
    axes = []
    for part in grid.split():
        name, equals, values = part.partition("=")
        if not equals or not values:
            raise ValueError(f"--grid takes name=a,b pairs, got {part!r}.")
        axes.append([(name, value) for value in values.split(",")])
    return [dict(choice) for choice in itertools.product(*axes)]


def settings_with(base: Settings, values: dict[str, str]) -> Settings:
    """The settings with values given as text.

    Raises:
        ValueError: a name is no flag of training or privacy, or a value is bad.
    """
    for name, text in values.items():
        for group in ("training", "privacy"):
            config = getattr(base, group)
            kinds = flags.kinds(type(config))
            if name in kinds:
                changed = {name: flags.convert(kinds[name], text)}
                base = dataclasses.replace(
                    base, **{group: dataclasses.replace(config, **changed)}
                )
                break
        else:
            raise ValueError(f"--grid names {name!r}, which is no flag to search over.")
    return base


def tune(argv: Sequence[str]) -> int:
    """The command; returns its exit status."""
    parsed = flags.parse(USAGE, (TuneConfig, *SETTINGS), argv)
    what = parsed[TuneConfig]
    base = Settings(*(parsed[group] for group in SETTINGS))
    grid = flags.checked(lambda: combinations(what.grid))
    choices = flags.checked(lambda: [settings_with(base, values) for values in grid])
    runtime.start()
    from experiments import build, run, zoo
    from experiments.spec import Spec
    from fedjax_private.datasets import load, split_validation
    from fedjax_private.simulation import RunDirectory

    dataset = flags.checked(
        lambda: load(base.data.dataset, data_dir=base.data.data_dir)
    )
    dataset = zoo.featured(dataset, base.training.model)
    train, validation = split_validation(dataset.train, HELD_OUT, SPLIT_SEED)
    dataset = dataclasses.replace(dataset, train=train, test=validation)
    console = command.console()

    def specs(settings: Settings) -> Iterator[Spec]:
        for clients, partition in itertools.product(what.clients, what.partitions):
            for seed in range(what.seeds):
                yield Spec(what.arm, clients, partition, seed, settings)

    for values, settings in zip(grid, choices, strict=True):
        scores = []
        for spec in specs(settings):
            prepared = flags.checked(lambda spec=spec: build.prepare(spec, dataset))
            with tempfile.TemporaryDirectory() as scratch:
                row = run.run(prepared, dataset, RunDirectory(Path(scratch)))
            scores.append(row["accuracy"])
            line: dict[str, Any] = {
                "arm": spec.arm,
                "clients": spec.clients,
                "partition": spec.partition,
                "seed": spec.seed,
                "dataset": dataset.name,
                "model": settings.training.model,
                "epsilon": row["epsilon"],
                "mechanism": settings.privacy.mechanism,
                **dataclasses.asdict(spec.hyperparameters),
                "held_out_examples": len(validation),
                "validation_accuracy": row["accuracy"],
                "validation_loss": row["loss"],
                "seconds": round(row["seconds_total"], 2),
            }
            with Path(what.log).open("a") as file:
                file.write(json.dumps(line) + "\n")
        mean = statistics.fmean(scores)
        console.print(f"{mean:.4f}  {values}", highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    command.main(tune)
