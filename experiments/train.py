"""Trains one arm: python -m experiments.train --arm=private_ai --clients=8."""

import sys
from collections.abc import Sequence

from experiments import command
from experiments.progress import progress
from experiments.reports import comparison
from experiments.settings import flags
from experiments.settings.spellings import spelled
from fedjax_private import runs
from fedjax_private.faults import with_place

USAGE = """Trains one arm and prints its result.

usage: python -m experiments.train --arm=private_ai --clients=8 [flags]"""


def train(argv: Sequence[str]) -> int:
    """The command; returns its exit status."""
    parsed = flags.parse(
        USAGE, (runs.Spec, command.OutputConfig), argv, varied=runs.Spec
    )
    runs.environment.start()
    console = command.console()
    command.check_effects([parsed[runs.Spec]], parsed)
    ((spec,), _) = command.available([parsed[runs.Spec]], parsed)
    inputs = runs.Inputs()
    ready = parsed.checked(lambda: runs.prepare(spec, inputs(spec)))
    directory = command.directory("train", parsed)
    config = runs.config("train", [ready], argv=list(argv[1:]))
    directory.write_config(config)
    told = command.warned([ready])
    command.say(console, *command.borrowed([ready]), *told)
    try:
        with progress(len(ready.schedule), console) as advance:
            (trained,) = runs.train_together([ready], directory, advance)
    except ValueError as error:  # such as training that diverged beyond encryption
        words = spelled(with_place(error), parsed.names)
        print(f"error: {spec.name} failed: {words}", file=sys.stderr)
        return 1
    directory.add_run(trained.row)
    comparison.write(directory.path, [trained.row], config, rounds=trained.rows)
    command.say(console, *command.more_warnings(trained.row, told))
    if (accuracy := trained.row["accuracy"]) is not None:
        better = accuracy > trained.row["largest_class"]
        command.say(console, *comparison.baseline([] if better else [trained.row]))
    command.say(console, comparison.line(trained.row), f"written to {directory.path}")
    return 0


if __name__ == "__main__":
    command.main(train)
