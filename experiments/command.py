"""What all commands share: output directory, console, notes, exit statuses."""

from __future__ import annotations  # importing this loads neither runs nor JAX

import dataclasses
import datetime
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.console

from experiments.reports.cautions import kind, told_once
from experiments.settings.flags import Parsed
from fedjax_private import datasets, runs
from fedjax_private.choices import Choice, Settings, setting, settings_of

INTERRUPTED = 130

QUICK = "--quick: few rounds and a single seed; a look, not a result."


@dataclasses.dataclass(frozen=True)
class OutputConfig(Settings):
    """Where results are written."""

    out: str | None = setting(None, "directory (default runs/<command>-<timestamp>)")
    overwrite: bool = setting(False, "replace the run that the directory holds")


def console() -> rich.console.Console:
    """Standard output; wide enough for the tables where it is no terminal."""
    terminal = rich.console.Console()
    return terminal if terminal.is_terminal else rich.console.Console(width=160)


def say(console: rich.console.Console, *lines: str) -> None:
    """Prints lines as they are."""
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def directory(command: str, parsed: Parsed) -> runs.RunDirectory:
    """Makes the command's output directory ready; one that holds a run is bad input."""
    output = parsed[OutputConfig]
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
    path = Path(output.out) if output.out else Path("runs") / f"{command}-{now}"
    return parsed.checked(
        lambda: runs.RunDirectory.create(path, overwrite=output.overwrite)
    )


def check_effects(
    specs: Sequence[runs.Spec], parsed: Parsed, varied: Iterable[str] = ()
) -> None:
    """Ends the command where something that was given has no effect on any run.

    Args:
        specs: what the command runs.
        parsed: its flags.
        varied: what is given otherwise than by a flag of that name.
    """
    unused = [parsed.checked(spec.unused) for spec in specs]
    known = [spec.values().keys() for spec in specs]
    for flag in sorted({*parsed.given, *varied}):
        name = "partition" if flag == "partitions" else flag
        sentences = [
            of_run.get(name)
            for of_run, names in zip(unused, known, strict=True)
            if name in names
        ]
        if sentences and sentences[0] is not None and all(sentences):
            parsed.fail(flag + sentences[0].removeprefix(name))


def available(
    specs: Sequence[runs.Spec], parsed: Parsed
) -> tuple[list[runs.Spec], list[str]]:
    """The specs that can run on this machine, and a note on those that cannot.

    Where none can, the command ends.
    """
    able: list[runs.Spec] = []
    lost: dict[str, list[str]] = {}  # reason -> arms
    for spec in specs:
        reason = spec.scheme.entry.unavailable() if spec.encrypts else None
        if reason is None:
            able.append(spec)
        elif spec.arm not in lost.setdefault(reason, []):
            lost[reason].append(spec.arm)
    notes = [f"Not run: {', '.join(arms)}. {reason}" for reason, arms in lost.items()]
    if not able and lost:
        parsed.fail(next(iter(lost)))
    return able, notes


def unserved(specs: Iterable[runs.Spec]) -> list[str]:
    """A note on the arms that the settings file has nothing for."""
    arms = {spec.arm: None for spec in specs if "settings" in spec.unused()}
    return [
        f"Note: --settings has no entry for arm {', '.join(arms)}, which takes the "
        "built-in values."
    ][: len(arms)]


def borrowed(ready: Iterable[runs.Prepared]) -> list[str]:
    """Notes on runs whose settings were found for others.

    One for each data set and model that borrow; one for each run whose settings file
    was searched elsewhere.
    """
    borrowing: dict[tuple[str, str], list[runs.Prepared]] = {}
    unlike: dict[str, None] = {}
    for each in ready:
        origin = each.settings_from
        if origin.borrowed:
            pair = each.spec.dataset_name, each.model_name
            borrowing.setdefault(pair, []).append(each)
        for sentence in origin.unlike:
            unlike[f"Note: settings {origin.place} were {sentence}."] = None
    notes = []
    for (dataset, model), several in borrowing.items():
        origins = [each.settings_from for each in several]
        places = dict.fromkeys(f"{of.place} ({of.source})" for of in origins)
        notes.append(
            f"Note: no tuned settings for data set {dataset} and model {model}: "
            f"borrowed from {', '.join(places)}; find your own by {_tuning(several)}."
        )
    return [*notes, *unlike]


def _tuning(several: Sequence[runs.Prepared]) -> str:
    """The command that searches settings for runs of one data set and model."""
    spec, model = several[0].spec, several[0].model_name
    arms = list(dict.fromkeys(each.spec.arm for each in several))
    words = [f"python -m experiments.tune --arm={arms[0]}"]
    words += _flags_of("dataset", datasets.SOURCES.choose(spec.dataset))
    words.append(f"--model={shlex.quote(model)}")
    dealt = [each.spec for each in several if not each.spec.traits.pooled]
    partitions = {each.partition_name: each.partition for each in dealt}
    if set(partitions) - {"iid"}:
        words.append(f"--partitions={shlex.quote(','.join(partitions))}")
        for partition in partitions.values():
            words += _flags_of("partition", datasets.PARTITIONS.choose(partition))[1:]
    natural = any(
        datasets.PARTITIONS.choose(partition).entry.count is not None
        for partition in partitions.values()
    )
    counts = list(dict.fromkeys(each.client_count for each in dealt))
    if counts and not natural and counts != [runs.DEFAULT_CLIENTS]:
        words.append(f"--clients={','.join(map(str, counts))}")
    if spec.rounds is not None:
        words.append(f"--rounds={spec.rounds}")
    others = f" (and for --arm={', '.join(arms[1:])})" if arms[1:] else ""
    return " ".join(words) + others


def _flags_of(name: str, choice: Choice[Any]) -> list[str]:
    """The flag that names an entry, and those of the settings that it was given."""
    usual, flags = choice.entry.settings(), {name: choice.name}
    for setting_name in settings_of(choice.entry):
        value = getattr(choice.settings, setting_name)
        if value != getattr(usual, setting_name):
            several = isinstance(value, tuple)
            flags[setting_name] = ",".join(value) if several else str(value)
    return [f"--{flag}={shlex.quote(text)}" for flag, text in flags.items()]


def warned(ready: Iterable[runs.Prepared]) -> list[str]:
    """The warnings of runs before they are trained, each kind once."""
    return [f"Warning: {each}" for each in told_once(map(runs.before_training, ready))]


def more_warnings(row: Mapping[str, Any], told: Collection[str]) -> list[str]:
    """The warnings of a trained run of which none of their kind has been told."""
    known = set(map(kind, told))
    found = [f"Warning: {each}" for each in row["warnings"]]
    return [each for each in found if kind(each) not in known]


def prepared(
    specs: Iterable[runs.Spec], inputs: runs.Inputs, parsed: Parsed
) -> dict[runs.Spec, runs.Prepared]:
    """The runs at seed 0, prepared; one that cannot be run is bad input.

    So are two runs of one name.
    """
    specs = list(specs)
    parsed.checked(lambda: runs.check_names(specs))
    first = [spec for spec in specs if spec.seed == 0]
    return parsed.checked(
        lambda: {spec: runs.prepare(spec, inputs(spec)) for spec in first}
    )


def main(command: Callable[[Sequence[str]], int]) -> None:
    """Runs a command; Ctrl-C between its own clean-up ends it with status 130."""
    try:
        status = command(sys.argv)
    except KeyboardInterrupt:
        print("interrupted.", file=sys.stderr)
        status = INTERRUPTED
    raise SystemExit(status)
