"""Trains for the paper's tables and figures, and reports both side by side.

    python -m experiments.tables --profile=digits

`digits` trains on all training data. `paper_shape` declares a scarcity under which the
shape of the paper's Table 3 shows, and checks that it does.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import command
from experiments.progress import train_all
from experiments.reports import paper_tables
from experiments.reports.predictions import Predictions, predict
from experiments.reports.results import Results
from experiments.reports.table_runs import (
    POLYNOMIAL,
    SCARCE_EXAMPLES,
    DataConfig,
    TablesConfig,
    specs,
)
from experiments.settings import flags
from fedjax_private import datasets, runs

USAGE = """Makes the paper's tables and figures, with its own numbers beside ours.

usage: python -m experiments.tables [--profile=digits|paper_shape] [flags]"""

# Test images whose encrypted predictions are compared with those in clear.
ENCRYPTED_IMAGES = 1000


def scarce(dataset: datasets.Dataset, seed: int) -> datasets.Dataset:
    """The data set with few of its training examples, each class its share."""
    drawn = datasets.stratified(
        dataset.train.labels, SCARCE_EXAMPLES, np.random.default_rng(seed)
    )
    return dataclasses.replace(dataset, train=dataset.train.take(drawn))


def tables(argv: Sequence[str]) -> int:
    """The command; returns its exit status."""
    configs = (TablesConfig, DataConfig, command.OutputConfig)
    parsed = flags.parse(USAGE, configs, argv)
    what, data = parsed[TablesConfig], parsed[DataConfig]
    runs.environment.start()
    dataset = parsed.checked(lambda: datasets.load(data.dataset))
    asked = specs(what, data)
    todo, notes = command.available(asked, parsed)
    if what.quick:
        notes.append(command.QUICK)
    samples = dict.fromkeys(range(what.repetitions), dataset)
    if what.profile == "paper_shape":
        samples = {seed: scarce(dataset, seed) for seed in samples}
    inputs = runs.Inputs(lambda spec: samples[spec.seed])
    ready = command.prepared(todo, inputs, parsed)
    directory = command.directory("tables", parsed)
    directory.write_config(
        runs.config(
            "tables",
            list(ready.values()),
            argv=list(argv[1:]),
            run=dataclasses.asdict(what),
            seeds=list(range(what.repetitions)),
        )
    )
    console = command.console()
    told = command.warned(ready.values())
    command.say(console, *notes, *told)
    held = True
    failures: list[str] = []
    rows: dict[runs.Spec, dict[str, Any]] = {}

    def finished(spec: runs.Spec, row: dict[str, Any]) -> None:
        told.extend(more := command.more_warnings(row, told))
        command.say(console, *more)
        rows[spec] = row
        directory.add_run(row)

    try:
        failures = train_all(todo, inputs, directory, console, finished)
    finally:
        # Also after Ctrl-C: what has finished is reported.
        if rows:
            encrypted = []
            if len(todo) == len(asked):
                encrypted = _predictions(rows, dataset, directory.path)
            results = Results(what, data, rows, ready, encrypted)
            held = paper_tables.write(directory.path, results, [*notes, *failures])
        command.say(console, f"written to {directory.path}")
    return 0 if held and not failures and len(todo) == len(asked) else 1


def _predictions(
    rows: Any, dataset: datasets.Dataset, directory: Path
) -> list[Predictions]:
    """Predictions on encrypted images by the models that were trained for it."""
    from experiments.serving import load_served

    asked = [
        predict(load_served(directory, spec.name), dataset, "batch", ENCRYPTED_IMAGES)
        for spec in rows
        if spec.seed == 0 and spec.model_entry.name == POLYNOMIAL
    ]
    lines = [json.dumps(dataclasses.asdict(each)) + "\n" for each in asked]
    (directory / "predictions.jsonl").write_text("".join(lines))
    return asked


if __name__ == "__main__":
    command.main(tables)
