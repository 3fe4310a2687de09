"""Compares all arms: python -m experiments.sweep --clients=4,8,16,32."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from experiments import command, flags, runtime
from experiments.arms import ARMS
from experiments.config import SETTINGS, OutputConfig, Settings, SweepConfig
from experiments.tuned import QUICK_ROUNDS

USAGE = """Trains all arms for every client count, partition and seed; compares them.

usage: python -m experiments.sweep --clients=4,8,16,32 [flags]"""


def quick(
    what: SweepConfig, settings: Settings, given: frozenset[str]
) -> tuple[SweepConfig, Settings]:
    """What --quick means for the flags that were not given by name."""
    small: dict[str, Any] = {"clients": (4, 8), "seeds": 1}
    small = {name: value for name, value in small.items() if name not in given}
    rounds = settings.training.rounds or QUICK_ROUNDS
    training = dataclasses.replace(settings.training, rounds=rounds)
    return (
        dataclasses.replace(what, **small),
        dataclasses.replace(settings, training=training),
    )


def specs(what: SweepConfig, arms: Sequence[str], settings: Settings) -> Iterator[Any]:
    """All cells; a whole comparison for one seed comes before the next seed."""
    from experiments.spec import Spec

    for seed in range(what.seeds):
        for clients in what.clients:
            for partition in what.partitions:
                for arm in arms:
                    yield Spec(arm, clients, partition, seed, settings)


def home(spec: Any, what: SweepConfig) -> Any:
    """The run that a cell shows: with pooled data, the same one in every cell."""
    if not ARMS[spec.arm].pooled:
        return spec
    return dataclasses.replace(
        spec, clients=what.clients[0], partition=what.partitions[0]
    )


def sweep(argv: Sequence[str]) -> int:
    """The command; returns its exit status."""
    parsed = flags.parse(USAGE, (SweepConfig, *SETTINGS, OutputConfig), argv)
    what = parsed[SweepConfig]
    settings = Settings(*(parsed[group] for group in SETTINGS))
    if what.quick:
        what, settings = quick(what, settings, parsed.given)
    runtime.start()
    from experiments import build, report, runner
    from fedjax_private.datasets import load
    from fedjax_private.simulation import progress

    notes = []
    encrypted = [arm for arm in what.arms if settings.encrypts(arm)]
    if encrypted and (reason := build.unavailable()):
        notes.append(f"Not run: {', '.join(encrypted)}. {reason}")
        if encrypted == list(what.arms):
            flags.fail(reason)
    else:
        encrypted = []  # none is left out
    arms = [arm for arm in what.arms if arm not in encrypted]
    if what.quick:
        notes.append("--quick: few rounds and a single seed; a look, not a result.")
    dataset = flags.checked(
        lambda: load(settings.data.dataset, data_dir=settings.data.data_dir)
    )
    inputs = runner.Inputs(lambda spec: dataset)
    cells: dict[Any, list[Any]] = {}  # run -> the cells that show it
    sums = {}
    for spec in specs(what, arms, settings):
        cells.setdefault(home(spec, what), []).append(spec)
        if spec.seed == 0:
            prepared = flags.checked(
                lambda spec=spec: build.prepare(spec, inputs(spec))
            )
            if prepared.sums:
                sums[spec.place] = prepared.sums
    directory = flags.checked(lambda: command.directory("sweep", parsed[OutputConfig]))
    config = command.config_of("sweep", what, settings, arms, what.clients, argv[1:])
    config["sums"] = sums
    directory.write_config(config)

    console = command.console()
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)
    failures: list[str] = []

    def finished(run: Any, row: dict[str, Any]) -> None:
        for cell in cells[run]:
            directory.add_run(
                {**row, "clients": cell.clients, "partition": cell.partition}
            )

    try:
        rounds = sum(run.hyperparameters.rounds for run in cells)
        with progress(rounds, console) as shown:
            failures += runner.run_all(list(cells), inputs, directory, shown, finished)
    finally:
        # Also after Ctrl-C: what has finished is reported.
        if rows := directory.runs():
            report.write(directory.path, rows, config, [*notes, *failures])
            console.print(report.table(rows))
        console.print(f"written to {directory.path}", highlight=False, soft_wrap=True)
    return 1 if failures or len(arms) < len(what.arms) else 0


if __name__ == "__main__":
    command.main(sweep)
