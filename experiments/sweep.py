"""Compares arms, and any settings: python -m experiments.sweep --clients=4,8,16,32.

    python -m experiments.sweep --arms=fl_dp,private_ai --clients=8 \\
        --vary="epsilon=0.5,1,2,8;learning_rate=0.1,0.2" --metric=accuracy

`--vary` takes flags of a run and settings of its entries, each with its values; all
combinations are trained. An arm that a flag does not concern is trained once for all
of its values. The figure shows the metric over the first one.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from experiments import command
from experiments.progress import train_all
from experiments.reports import comparison
from experiments.reports.metrics import METRICS
from experiments.settings import flags, grids
from fedjax_private import datasets, runs
from fedjax_private.choices import Settings, at_least, chosen, one_of, setting

USAGE = """Trains all arms for every client count, partition and seed; compares them.

usage: python -m experiments.sweep --clients=4,8,16,32 [flags]"""

COUNTS = (4, 8, 16, 32)  # of clients

# A look at every arm in seconds, not a result.
QUICK_ROUNDS, QUICK_COUNTS = 3, (4, 8)

# What has a flag of its own in place of `--vary`.
INSTEAD = {
    "arm": "arms=fl,fl_dp",
    "clients": "clients=4,8",
    "partition": "partitions=iid,shards",
    "seed": "seeds=3",
}

# The fields of a spec that may vary, themselves or by settings of their entries.
FIELDS = tuple(flag.name for flag in flags.flags_of(runs.Spec))


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
    vary: str = setting(
        "", 'other flags with values: "epsilon=0.5,1,2,8;learning_rate=0.1,0.2"'
    )
    metric: str = setting(
        "accuracy", f"what the figure shows: {', '.join(METRICS)}", one_of(*METRICS)
    )
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
        for name in self.varied:
            if name in INSTEAD:
                raise ValueError(
                    f"vary names {name!r}, which has a flag of its own: give "
                    f"{INSTEAD[name]} instead."
                )
        if not any(METRICS[self.metric].measured(runs.ARMS[arm]) for arm in self.arms):
            raise ValueError(
                f"metric={self.metric} is measured in none of the arms "
                f"{', '.join(self.arms)}: choose another."
            )

    @property
    def varied(self) -> tuple[str, ...]:
        """The names that `vary` gives values to."""
        return tuple(grids.axes(self.vary, "vary"))

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
    """All cells; a whole comparison for one seed comes before the next seed.

    Raises:
        ValueError: a name that varies is nothing that any cell has, or a bad value.
    """
    places = what.places(QUICK_COUNTS if what.quick else COUNTS)
    combinations = grids.combinations(what.vary, "vary")
    known: set[str] = set()
    for seed, (clients, partition), values, arm in itertools.product(
        range(what.seeds), places, combinations, what.arms
    ):
        placed = dataclasses.replace(
            base, arm=arm, clients=clients, partition=partition, seed=seed
        )
        cell = grids.spec_with(placed, values, "vary", fields=FIELDS, lenient=True)
        known.update(name for name in values if grids.has(cell, name, FIELDS))
        yield cell
    for name in what.varied:
        if name not in known:
            raise ValueError(f"vary names {name!r}, which is no flag of these runs.")


def labelled(spec: runs.Spec, varied: Sequence[str]) -> runs.Spec:
    """The run with a label that tells it from those with other values.

    Args:
        spec: without what has no effect on it.
        varied: names that vary.
    """
    values, unused = spec.values(), spec.unused()
    parts = [
        f"{name}={_text(values[name])}"
        for name in varied
        if name in values and name not in unused
    ]
    return dataclasses.replace(spec, label=",".join(parts))


def _text(value: Any) -> str:
    """A value in a label: entries by their names, settings files by their paths."""
    return str(getattr(value, "name", getattr(value, "path", value)))


def sweep(argv: Sequence[str]) -> int:
    """The command; returns its exit status."""
    configs = (SweepConfig, runs.Spec, command.OutputConfig)
    parsed = flags.parse(
        USAGE, configs, argv, leave_out=("arm", "partition", "seed"), varied=runs.Spec
    )
    what, base = parsed[SweepConfig], parsed[runs.Spec]
    for name in what.varied:
        if name in parsed.given:
            parsed.fail(
                f"vary names {name!r}, which is given as well: leave out {name}."
            )
    if what.quick:
        what, base = quick(what, base, parsed.given)
    runs.environment.start()
    asked = parsed.checked(lambda: list(specs(what, base)))
    command.check_effects(asked, parsed, what.varied)
    cells, notes = command.available(asked, parsed)
    notes += command.unserved(cells)
    if what.quick:
        notes.append(command.QUICK)
    inputs = runs.Inputs()
    cells = parsed.checked(
        lambda: [runs.with_clients(cell, inputs(cell)) for cell in cells]
    )
    # Run -> the places where it is shown: with pooled data, everywhere.
    places: dict[runs.Spec, dict[tuple[int | None, str], None]] = {}
    for cell in cells:
        run = labelled(cell.used_only(), what.varied)
        places.setdefault(run, {})[cell.clients, cell.partition_name] = None
    ready = command.prepared(places, inputs, parsed)
    notes += command.borrowed(ready.values())
    directory = command.directory("sweep", parsed)
    config = runs.config(
        "sweep",
        list(ready.values()),
        argv=list(argv[1:]),
        seeds=list(range(what.seeds)),
        vary=what.varied,
        metric=what.metric,
    )
    directory.write_config(config)

    console = command.console()
    told = command.warned(ready.values())
    command.say(console, *notes, *told)

    def finished(run: runs.Spec, row: dict[str, Any]) -> None:
        told.extend(more := command.more_warnings(row, told))
        command.say(console, *more)
        for clients, partition in places[run]:
            place = {"clients": clients, "partition": partition}
            directory.add_run(row | place if run.traits.pooled else row)

    failures: list[str] = []
    try:
        failures = train_all(list(places), inputs, directory, console, finished)
    finally:
        # Also after Ctrl-C: what has finished is reported.
        notes += failures
        directory.write_config(config | {"notes": notes})
        if rows := directory.runs():
            metric = METRICS[what.metric]
            comparison.write(
                directory.path, rows, config, notes, vary=what.varied, metric=metric
            )
            console.print(comparison.table(rows, metric, what.varied))
        command.say(console, f"written to {directory.path}")
    return 1 if failures or len(cells) < len(asked) else 0


if __name__ == "__main__":
    command.main(sweep)
