"""Trains one arm: python -m experiments.train --arm=private_ai --clients=8."""

import sys
from collections.abc import Sequence

from experiments import command, flags, runtime
from experiments.config import SETTINGS, OutputConfig, Settings, TrainConfig

USAGE = """Trains one arm and prints its result.

usage: python -m experiments.train --arm=private_ai --clients=8 [flags]"""


def train(argv: Sequence[str]) -> int:
    """The command; returns its exit status."""
    parsed = flags.parse(USAGE, (TrainConfig, *SETTINGS, OutputConfig), argv)
    what, output = parsed[TrainConfig], parsed[OutputConfig]
    settings = Settings(*(parsed[group] for group in SETTINGS))
    runtime.start()
    from experiments import build, run, zoo
    from experiments.spec import Spec
    from fedjax_private.datasets import load
    from fedjax_private.simulation import progress

    console = command.console()
    spec = Spec(what.arm, what.clients, what.partition, what.seed, settings)
    if spec.encrypts and (reason := build.unavailable()):
        flags.fail(reason)
    dataset = flags.checked(
        lambda: load(settings.data.dataset, data_dir=settings.data.data_dir)
    )
    dataset = zoo.featured(dataset, settings.training.model)
    prepared = flags.checked(lambda: build.prepare(spec, dataset))
    directory = flags.checked(lambda: command.directory("train", output))
    config = command.config_of(
        "train", what, settings, [what.arm], [what.clients], argv[1:]
    )
    config["sums"] = {spec.place: prepared.sums} if prepared.sums else {}
    directory.write_config(config)
    try:
        with progress(len(prepared.schedule), console) as shown:
            row = run.run(prepared, dataset, directory, shown.advance)
    except ValueError as error:  # such as training that diverged beyond encryption
        print(f"error: {spec.name} failed: {error}", file=sys.stderr)
        return 1
    directory.add_run(row)
    from experiments import report

    report.write(directory.path, [row], config)
    console.print(report.line(row), highlight=False, soft_wrap=True)
    console.print(f"written to {directory.path}", highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    command.main(train)
