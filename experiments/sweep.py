"""Compares all arms: python -m experiments.sweep --clients=4,8,16,32."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from experiments import command
from experiments.progress import train_all
from experiments.reports import comparison
from experiments.settings import flags
from fedjax_private import datasets, runs
from fedjax_private.choices import Settings, at_least, chosen, setting

USAGE = """Trains all arms for every client count, partition and seed; compares them.

usage: python -m experiments.sweep --clients=4,8,16,32 [flags]"""

COUNTS = (4, 8, 16, 32)  # of clients

# A look at every arm in seconds, not a result.
QUICK_ROUNDS, QUICK_COUNTS = 3, (4, 8)


@dataclasses.dataclass(frozen=True)
class SweepConfig(Settings):
    """What to run."""

    arms: tuple[str, ...] = setting(
        tuple(arm for arm in runs.ARMS if arm != "private_ai_local"),
        f"what to compare, of {', '.join(runs.ARMS)}",
    )
    clients: tuple[int, ...] | None = setting(
        None,
        f"client counts (default {','.join(map(str, COUNTS))}; --quick: "
        f"{','.join(map(str, QUICK_COUNTS))}; partition natural: the data's number)",
    )
    partitions: tuple[str, ...] = chosen(
        datasets.PARTITIONS, ("iid", "shards"), "how records are dealt to clients"
    )
    seeds: int = setting(3, "how many repetitions (--quick: 1)", at_least(1))
    quick: bool = setting(False, "few rounds, one seed: a look, not a result")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("arms", "clients", "partitions"):
            values = getattr(self, name)
            if values is None:
                continue
            if not values:
                raise ValueError(f"{name} needs at least one value.")
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names a value twice.")
        for arm in self.arms:
            if arm not in runs.ARMS:
                raise ValueError(
                    f"arms names {arm!r}, which is none of {', '.join(runs.ARMS)}."
                )
        if self.clients is not None and min(self.clients) < 1:
            raise ValueError(f"clients must be at least 1, got {min(self.clients)}.")

    def places(self, usual: Sequence[int] = COUNTS) -> list[tuple[int | None, Any]]:
        """Client counts and partitions of all cells; None takes the data's number.

        Args:
            usual: client counts where none were given.
        """
        named = [p for p in self.partitions if p.entry.count is not None]  # type: ignore[attr-defined]
        own: list[tuple[int | None, Any]] = [(None, partition) for partition in named]
        return ([] if self.clients else own) + [
            (clients, partition)
            for clients in self.clients or usual
            for partition in self.partitions
            if self.clients or partition not in named
        ]


def quick(
    what: SweepConfig, base: runs.Spec, given: frozenset[str]
) -> tuple[SweepConfig, runs.Spec]:
    """What --quick means for the flags that were not given by name."""
    base = dataclasses.replace(base, rounds=base.rounds or QUICK_ROUNDS)
    seeds = what.seeds if "seeds" in given else 1
    return dataclasses.replace(what, seeds=seeds), base


def specs(what: SweepConfig, base: runs.Spec) -> Iterator[runs.Spec]:
    """All cells; a whole comparison for one seed comes before the next seed."""
    places = what.places(QUICK_COUNTS if what.quick else COUNTS)
    for seed, (clients, partition), arm in itertools.product(
        range(what.seeds), places, what.arms
    ):
        yield dataclasses.replace(
            base, arm=arm, clients=clients, partition=partition, seed=seed
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
    command.check_effects(asked, parsed)
    cells, notes = command.available(asked, parsed)
    notes += command.unserved(cells)
    if what.quick:
        notes.append(command.QUICK)
    inputs = runs.Inputs()
    cells = parsed.checked(
        lambda: [runs.with_clients(cell, inputs(cell)) for cell in cells]
    )
    shown_by: dict[runs.Spec, list[runs.Spec]] = {}  # run -> the cells that show it
    for cell in cells:
        # With pooled data, all cells of a seed show the same run.
        shown_by.setdefault(cell.used_only(), []).append(cell)
    ready = command.prepared(shown_by, inputs, parsed)
    notes += command.borrowed(ready.values())
    directory = command.directory("sweep", parsed)
    config = runs.config(
        "sweep",
        list(ready.values()),
        argv=list(argv[1:]),
        seeds=list(range(what.seeds)),
    )
    directory.write_config(config)

    console = command.console()
    command.say(console, *notes)

    def finished(run: runs.Spec, row: dict[str, Any]) -> None:
        for cell in shown_by[run]:
            place = {"clients": cell.clients, "partition": cell.partition_name}
            directory.add_run(row | place)

    failures: list[str] = []
    try:
        failures = train_all(list(shown_by), inputs, directory, console, finished)
    finally:
        # Also after Ctrl-C: what has finished is reported.
        if rows := directory.runs():
            comparison.write(directory.path, rows, config, [*notes, *failures])
            console.print(comparison.table(rows))
        command.say(console, f"written to {directory.path}")
    return 1 if failures or len(cells) < len(asked) else 0


if __name__ == "__main__":
    command.main(sweep)
