"""Rows as runs would leave them, without the runs."""

import itertools
from types import SimpleNamespace

from experiments.reports.results import Results
from experiments.reports.table_runs import DataConfig, specs
from fedjax_private.algorithms import Unit
from fedjax_private.runs import ARMS
from fedjax_private.trust import Adversary
from tests.runs.small import ROW_NAMES

DATA = DataConfig()


def row(arm, clients=4, seed=0, accuracy=0.9, **values):
    """A line of runs.jsonl."""
    base = {
        "run": f"{arm}-{clients}-iid-{seed}",
        "arm": arm,
        "clients": clients,
        "partition": "iid",
        "seed": seed,
        "dataset": "mnist_5k",
        "model": "linear",
        "params": 10,
        "train_examples": 100,
        "algorithm": ARMS[arm].algorithm,
        "accuracy": accuracy,
        "seconds_total": 2.0,
    }
    if ARMS[arm].private:
        base |= {"epsilon": 2.9, "delta": 1e-5, "unit": "record", "steps": 80}
        base |= {"noise_multiplier": 2.0, "clip_norm": 0.1, "mechanism": "gaussian"}
    if ARMS[arm].encrypted:
        base |= {"encryption": "ckks", "max_aggregation_error": 1e-9}
        base |= {"upload_bytes_per_client_round": 330, "seconds_encrypt": 1.0}
    if ARMS[arm].shared:
        base |= {"honest_clients": 2, "epsilon_insider": 3.4}
    return dict.fromkeys(ROW_NAMES) | base | values


def row_of(spec, accuracy):
    """A line of a run of `experiments.tables`."""
    values = {
        "run": spec.name,
        "partition": spec.partition_name,
        "model": spec.model_entry.name,
        "algorithm": spec.chosen_algorithm.name,
        "params": 1000,
        "train_examples": 4000,
    }
    if ARMS[spec.arm].private:
        values |= {"epsilon": spec.epsilon, "sampling_probability": 1.0}
    if ARMS[spec.arm].encrypted:
        values |= {"encryption": spec.scheme.name}
    return row(spec.arm, spec.client_count, spec.seed, accuracy, **values)


def section(text, title):
    """The part of a report under a heading."""
    (part,) = [part for part in text.split("\n## ") if part.startswith(title)]
    return part


def table(text):
    """The lines of the first table of a text, by column."""
    lines = text.splitlines()
    lines = itertools.dropwhile(lambda line: not line.startswith("|"), lines)
    lines = itertools.takewhile(lambda line: line.startswith("|"), lines)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    head, _, *body = cells
    return [dict(zip(head, line, strict=True)) for line in body]


def prepared(spec):
    """What reports read of a prepared run."""
    shared = {Adversary.OUTSIDERS: "the world", Adversary.INSIDERS: "the server"}
    privacy = SimpleNamespace(
        unit=Unit.RECORD,
        epsilon=2.8,
        epsilon_insider=3.4 if spec.shares_noise else None,
        noise_multiplier=2.0,
        steps=80,
        against=shared if spec.shares_noise else {Adversary.OUTSIDERS: "everybody"},
    )
    return SimpleNamespace(
        hyperparameters=spec.hyperparameters,
        algorithm=spec.chosen_algorithm,
        privacy=privacy if spec.traits.private else None,
        sums="CKKS." if spec.encrypts else None,
    )


def results(what, accuracy):
    """Results of made-up runs whose accuracy is `accuracy(spec)`."""
    rows = {spec: row_of(spec, accuracy(spec)) for spec in specs(what, DATA)}
    ready = {spec: prepared(spec) for spec in rows if spec.seed == 0}
    return Results(what, DATA, rows, ready)
