"""Compares all arms: python -m experiments.sweep --clients=4,8,16,32."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from experiments import command
from experiments.progress import progress
from experiments.reports import comparison
from experiments.settings import flags
from fedjax_private import datasets, runs
from fedjax_private.choices import Choice, Settings, at_least, chosen, setting

USAGE = """Trains all arms for every client count, partition and seed; compares them.

usage: python -m experiments.sweep --clients=4,8,16,32 [flags]"""

# A look at every arm in seconds, not a result.
QUICK_ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class SweepConfig(Settings):
    """What to run."""

    arms: tuple[str, ...] = setting(
        tuple(arm for arm in runs.ARMS if arm != "private_ai_local"),
        f"what to compare, of {', '.join(runs.ARMS)}",
    )
    clients: tuple[int, ...] = setting((4, 8, 16, 32), "client counts (--quick: 4,8)")
    partitions: tuple[str, ...] = chosen(
        datasets.PARTITIONS, ("iid", "shards"), "how records are dealt to clients"
    )
    seeds: int = setting(3, "how many repetitions (--quick: 1)", at_least(1))
    quick: bool = setting(False, "few rounds, one seed: a look, not a result")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("arms", "clients", "partitions"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name} needs at least one value.")
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names a value twice.")
        for arm in self.arms:
            if arm not in runs.ARMS:
                raise ValueError(
                    f"arms names {arm!r}, which is none of {', '.join(runs.ARMS)}."
                )
        if min(self.clients) < 1:
            raise ValueError(f"clients must be at least 1, got {min(self.clients)}.")


def quick(
    what: SweepConfig, base: runs.Spec, given: frozenset[str]
) -> tuple[SweepConfig, runs.Spec]:
    """What --quick means for the flags that were not given by name."""
    small: dict[str, Any] = {"clients": (4, 8), "seeds": 1}
    small = {name: value for name, value in small.items() if name not in given}
    base = dataclasses.replace(base, rounds=base.rounds or QUICK_ROUNDS)
    return dataclasses.replace(what, **small), base


def specs(what: SweepConfig, base: runs.Spec) -> Iterator[runs.Spec]:
    """All cells; a whole comparison for one seed comes before the next seed."""
    partitions: Sequence[Choice[Any]] = what.partitions  # type: ignore[assignment]
    for seed in range(what.seeds):
        for clients in what.clients:
            for partition in partitions:
                for arm in what.arms:
                    yield dataclasses.replace(
                        base, arm=arm, clients=clients, partition=partition, seed=seed
                    )


def trained_as(spec: runs.Spec, what: SweepConfig) -> runs.Spec:
    """The run that a cell shows: with pooled data, the same one in every cell."""
    if not spec.traits.pooled:
        return spec
    return dataclasses.replace(
        spec, clients=what.clients[0], partition=what.partitions[0]
    )


def sweep(argv: Sequence[str]) -> int:
    """The command; returns its exit status."""
    configs = (SweepConfig, runs.Spec, command.OutputConfig)
    parsed = flags.parse(USAGE, configs, argv, leave_out=("arm", "partition", "seed"))
    what, base = parsed[SweepConfig], parsed[runs.Spec]
    if what.quick:
        what, base = quick(what, base, parsed.given)
    runs.environment.start()
    asked = list(specs(what, base))
    cells, notes = command.available(asked, parsed)
    if what.quick:
        notes.append("--quick: few rounds and a single seed; a look, not a result.")
    inputs = runs.Inputs()
    shown_by: dict[runs.Spec, list[runs.Spec]] = {}  # run -> the cells that show it
    for cell in cells:
        shown_by.setdefault(trained_as(cell, what), []).append(cell)
    ready = [
        parsed.checked(lambda spec=spec: runs.prepare(spec, inputs(spec)))
        for spec in shown_by
        if spec.seed == 0
    ]
    directory = parsed.checked(
        lambda: command.directory("sweep", parsed[command.OutputConfig])
    )
    config = runs.config("sweep", ready, argv=list(argv[1:]))
    directory.write_config(config)

    console = command.console()
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)
    failures: list[str] = []
    try:
        rounds = sum(run.hyperparameters.rounds for run in shown_by)
        with progress(rounds, console) as shown:

            def finished(run: runs.Spec, row: dict[str, Any]) -> None:
                shown.say(comparison.line(row))
                for cell in shown_by[run]:
                    directory.add_run(
                        {
                            **row,
                            "clients": cell.clients,
                            "partition": cell.partition_name,
                        }
                    )

            failures += runs.train_all(
                list(shown_by),
                inputs,
                directory,
                finished=finished,
                failed=shown.say,
                advance=shown.advance,
            )
    finally:
        # Also after Ctrl-C: what has finished is reported.
        if rows := directory.runs():
            comparison.write(directory.path, rows, config, [*notes, *failures])
            console.print(comparison.table(rows))
        console.print(f"written to {directory.path}", highlight=False, soft_wrap=True)
    return 1 if failures or len(cells) < len(asked) else 0


if __name__ == "__main__":
    command.main(sweep)
