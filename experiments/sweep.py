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
    """All runs; a whole comparison for one seed comes before the next seed."""
    from experiments.build import Spec

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
    import jax

    from experiments import build, report, run
    from fedjax_private.datasets import load
    from fedjax_private.simulation import progress

    notes = []
    arms = list(what.arms)
    encrypted = [arm for arm in arms if ARMS[arm].encrypted]
    if encrypted and (reason := build.unavailable()):
        arms = [arm for arm in arms if arm not in encrypted]
        notes.append(f"Not run: {', '.join(encrypted)}. {reason}")
        if not arms:
            flags.fail(reason)
    if what.quick:
        notes.append("--quick: few rounds and a single seed; a look, not a result.")
    dataset = flags.checked(
        lambda: load(settings.data.dataset, data_dir=settings.data.data_dir)
    )
    dataset = build.featured(dataset, settings.training.model)
    todo = list(specs(what, arms, settings))
    sums = {}
    for spec in todo:
        if spec.seed == 0:
            prepared = flags.checked(lambda spec=spec: build.prepare(spec, dataset))
            if prepared.sums:
                sums[spec.clients] = prepared.sums
    directory = flags.checked(lambda: command.directory("sweep", parsed[OutputConfig]))
    config = command.config_of("sweep", what, settings, arms, what.clients, argv[1:])
    config["sums"] = sums
    directory.write_config(config)

    console = command.console()
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)
    homes = {home(spec, what) for spec in todo}
    failures: list[str] = []
    try:
        with progress(sum(h.hyperparameters.rounds for h in homes), console) as shown:
            rows_of: dict[Any, dict[str, Any]] = {}
            tried: set[Any] = set()

            def train(specs_now: Sequence[Any]) -> None:
                tried.update(specs_now)
                try:
                    prepared = [build.prepare(spec, dataset) for spec in specs_now]
                    rows = run.run_together(prepared, dataset, directory, shown.advance)
                except ValueError as error:
                    names = ", ".join(spec.name for spec in specs_now)
                    failures.append(f"Failed: {names}: {error}")
                    shown.say(failures[-1])
                    return
                rows_of.update(zip(specs_now, rows, strict=True))
                for row in rows:
                    shown.say(report.line(row))

            def trained(spec: Any) -> dict[str, Any] | None:
                if spec not in tried:
                    # A single client keeps a single device busy: all seeds at once.
                    few = ARMS[spec.arm].pooled and jax.local_device_count() > 1
                    alike = [h for h in homes if h.arm == spec.arm]
                    train(sorted(alike, key=lambda h: h.seed) if few else [spec])
                return rows_of.get(spec)

            for previous, spec in zip([None, *todo], todo, strict=False):
                if previous is not None and spec.seed > previous.seed:
                    shown.say(report.table(directory.runs()))
                if row := trained(home(spec, what)):
                    place = {"clients": spec.clients, "partition": spec.partition}
                    directory.add_run({**row, **place})
    finally:
        # Also after Ctrl-C: what has finished is reported.
        if rows := directory.runs():
            report.write(directory.path, rows, config, [*notes, *failures])
            console.print(report.table(rows))
        console.print(f"written to {directory.path}", highlight=False, soft_wrap=True)
    return 1 if failures or len(arms) < len(what.arms) else 0


if __name__ == "__main__":
    command.main(sweep)
