"""Searches hyper-parameters on a split of the training data, never on the test set.

    python -m experiments.tune --arm=fl_dp --dataset=breast_cancer --model=linear
    python -m experiments.train --arm=fl_dp --dataset=breast_cancer --model=linear \\
        --settings=settings.json

A fifth of the training examples, drawn by class with a fixed seed, is held out and
takes the test set's place; every trial is trained on the rest by the same code as any
other run. Without `--grid`, trials change one hyper-parameter after another (see
`experiments.settings.search`); with it, every combination is tried:

    --grid="learning_rate=0.25,0.5,1 clip_norm=0.5,1"

One line a run is appended to the log. The best values for each number of clients are
written to the file `--settings_out`, beside what it holds already, for `--settings`
of the other commands. The values that `runs.tuned` ships were read off
experiments/settings/tuning_log.jsonl.

The search sees the training data. It is outside epsilon, as every report says.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import command
from experiments.settings import flags, grids
from experiments.settings.search import Score, Values, search
from experiments.settings.trials import NOT_HELD, Trials, kept
from experiments.sweep import SweepConfig
from fedjax_private import datasets, runs
from fedjax_private.choices import (
    Settings,
    at_least,
    chosen,
    one_of,
    setting,
)
from fedjax_private.hyperparameters import Hyperparameters
from fedjax_private.runs.settings_files import SettingsFile

USAGE = """Searches hyper-parameters and scores them on a validation split.

usage: python -m experiments.tune --arm=fl_dp --dataset=breast_cancer [flags]"""

TRIALS = 16

# What a grid may know: fields of a spec, and settings of what these choose.
SEARCHED = tuple(
    flag.name
    for flag in flags.flags_of(runs.Spec)
    if flag.group not in ("What to run", "Encryption, for arms with HE")
)


@dataclasses.dataclass(frozen=True)
class TuneConfig(Settings):
    """What to search."""

    arm: str = setting("fl", "the arm to tune", one_of(*runs.ARMS))
    grid: str = setting(
        "", 'all combinations of values by name: "learning_rate=0.1,0.2 momentum=0,0.9"'
    )
    trials: int | None = setting(
        None, f"how many are tried without grid (default: {TRIALS})", at_least(1)
    )
    clients: tuple[int, ...] | None = setting(
        None,
        f"client counts, each with a search (default {runs.DEFAULT_CLIENTS}; partition "
        "natural: the data's number)",
    )
    partitions: tuple[str, ...] = chosen(
        datasets.PARTITIONS, ("iid",), "how records are dealt to clients"
    )
    seeds: int = setting(1, "how many repetitions", at_least(1))
    splits: int = setting(1, "how many splits, each with a repetition", at_least(1))
    settings_out: str = setting(
        "settings.json", "file to which the best values are written, or added"
    )
    log: str | None = setting(
        None, "where a line a run is appended (default: settings_out with .jsonl)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.places()
        if self.grid and self.trials is not None:
            raise ValueError("trials=N has no effect on a grid: leave out trials.")
        if self.log_path == Path(self.settings_out):
            raise ValueError(
                f"settings_out={self.settings_out} is the log as well: name another "
                "file, such as settings.json."
            )

    def places(self) -> dict[int | None, list[Any]]:
        """Client count -> partitions; see `SweepConfig.places`."""
        sweep = SweepConfig(clients=self.clients, partitions=self.partitions)
        places: dict[int | None, list[Any]] = {}
        for clients, partition in sweep.places((runs.DEFAULT_CLIENTS,)):
            places.setdefault(clients, []).append(partition)
        return places

    @property
    def log_path(self) -> Path:
        """Where lines are appended."""
        return Path(self.log or Path(self.settings_out).with_suffix(".jsonl"))


# What a settings file holds, and so hands on to the runs that read it.
HELD = tuple(
    field.name
    for field in dataclasses.fields(Hyperparameters)
    if field.name not in NOT_HELD
)

# What the search must not choose: more privacy loss always scores better.
GIVEN = ("epsilon", "noise_multiplier", "delta")


def searched(base: runs.Spec, values: grids.Values) -> runs.Spec:
    """The spec with values of a grid; raises ValueError where they cannot be."""
    for name in GIVEN:
        if name in values:
            raise ValueError(
                f"grid names {name!r}, and would choose the least private value: give "
                f"{name} as a flag, and search once for each value."
            )
    spec = grids.spec_with(base, values, "grid", fields=SEARCHED)
    for name in values:
        if name not in HELD:
            raise ValueError(
                f"grid names {name!r}, which a settings file does not hold: give "
                f"{name} as a flag, and search once for each value."
            )
    return spec


def tune(argv: Sequence[str]) -> int:
    """The command; returns its exit status."""
    left_out = ("partition", "seed", "settings")
    parsed = flags.parse(
        USAGE, (TuneConfig, runs.Spec), argv, leave_out=left_out, varied=runs.Spec
    )
    what = parsed[TuneConfig]
    base = dataclasses.replace(parsed[runs.Spec], arm=what.arm)
    grid = parsed.checked(lambda: grids.combinations(what.grid, "grid"))
    choices = parsed.checked(lambda: [searched(base, values) for values in grid])
    parsed.checked(lambda: held(what.settings_out))
    runs.environment.start()
    command.available([base], parsed)
    inputs, console = runs.Inputs(), command.console()
    places = list(what.places().items())
    if base.traits.pooled:  # clients and partitions are all the same
        places = [(clients, partitions[:1]) for clients, partitions in places[:1]]
    searches: list[tuple[Trials, list[runs.Prepared]]] = []
    for clients, partitions in places:
        trials = Trials(
            partitions,
            what.seeds,
            what.splits,
            inputs,
            what.log_path,
            lambda line: command.say(console, line),
        )
        place: dict[str, Any] = {"clients": clients, "partition": partitions[0]}
        several = [dataclasses.replace(each, **place) for each in choices]
        command.check_effects(several, parsed, {name for each in grid for name in each})
        several = [each.used_only() for each in several]
        ready = parsed.checked(
            lambda trials=trials, several=several: list(map(trials.prepared, several))
        )
        searches.append((trials, ready))
    parsed.checked(lambda: _writable(what.log_path, Path(what.settings_out)))
    fixed = [f.name for f in dataclasses.fields(Hyperparameters)]
    fixed = [name for name in fixed if name in parsed.given]
    for trials, ready in searches:
        try:
            if what.grid:
                for each, values in zip(ready, grid, strict=True):
                    trials.try_(each.spec, values)
            else:
                _search(ready[0], trials, fixed, what.trials or TRIALS)
        finally:
            # Also after Ctrl-C: the best so far is written.
            command.say(console, *_written(what, trials, argv))
    return 0 if all(trials.best for trials, _ in searches) else 1


def _search(
    usual: runs.Prepared, trials: Trials, fixed: Sequence[str], most: int
) -> None:
    def score(values: Values) -> Score | None:
        return trials.try_(dataclasses.replace(usual.spec, **values), values)

    search(usual.hyperparameters, score, fixed=fixed, trials=most)


def _writable(log: Path, settings: Path) -> None:
    """Raises ValueError where a search could not leave its results."""
    try:
        for path in (log, settings):
            path.parent.mkdir(parents=True, exist_ok=True)
        probe = settings.with_name(f".{settings.name}.probe")
        probe.touch()
        probe.unlink()
        log.open("a").close()
    except OSError as error:
        raise ValueError(
            f"cannot write log={log} or settings_out={settings} ({error.strerror}): "
            "name other files."
        ) from error


def held(path: str) -> SettingsFile:
    """The settings file that a path holds; an empty one where there is no file.

    Raises:
        ValueError: the path holds anything else.
    """
    if not Path(path).exists():
        return SettingsFile(path)
    try:
        file = runs.Spec(settings=path).settings
    except ValueError as error:
        message = str(error).replace(f"settings={path}", f"settings_out={path}", 1)
        raise ValueError(message) from error
    assert isinstance(file, SettingsFile)
    return file


def _written(what: TuneConfig, trials: Trials, argv: Sequence[str]) -> list[str]:
    """Writes the best values; returns what to print."""
    searched = ["python", "-m", "experiments.tune", *argv[1:]]
    entry = trials.entry(searched)
    if entry is None:
        return ["no trial ended: nothing is written."]
    path, file = what.settings_out, held(what.settings_out)
    better = kept(file, entry)
    if better is None:
        file.with_entry(entry).write()
    values = " ".join(f"{name}={value}" for name, value in (better or entry).values)
    place = f"{path} ({entry.steps} of {entry.dataset} and {entry.model})"
    if better is not None:
        return [f"{place} keeps an earlier search's values, which are better: {values}"]
    return [f"best: {values}", f"written to {place}; use it with --settings={path}"]


if __name__ == "__main__":
    command.main(tune)
