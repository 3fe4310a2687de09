"""Every table and figure of the paper, and the one it lacks, in one report.

    python -m experiments.tables --profile=digits

`digits` trains on all training data. `paper_shape` declares a scarcity under which the
shape of the paper's Table 3 shows, and checks that it does.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments import command, flags, runtime
from experiments.arms import ARMS
from experiments.config import (
    DataConfig,
    EncryptionConfig,
    OutputConfig,
    PrivacyConfig,
    Settings,
    TrainingConfig,
    flag,
)

USAGE = """Makes the paper's tables and figures, with its own numbers beside ours.

usage: python -m experiments.tables [--profile=digits|paper_shape] [flags]"""

PROFILES = ("digits", "paper_shape")
CNN, LINEAR, POLYNOMIAL = "tutorial_cnn", "scattering_linear", "polynomial_cnn"
SHALLOW = "shallow_cnn"  # a CNN for noisy steps
TABLE_1_MODELS = (CNN, SHALLOW, LINEAR)
EPSILONS = (0.563, 2.9)  # the paper's
MORE_EPSILONS = (1.0, 8.0)  # for the curve
# Test images whose encrypted predictions are compared with those in clear.
ENCRYPTED_IMAGES = 1000
# The number of clients where the paper names none.
CLIENTS = 8
SCHEMES = ("ckks", "exact", "threshold_ckks", "threshold_exact")
PARTITIONS = ("iid", "shards")

# paper_shape: so few examples that a client alone cannot learn, and rounds to match.
SCARCE_EXAMPLES, SCARCE_ROUNDS, SCARCE_SEEDS = 1024, 50, 10


@dataclasses.dataclass(frozen=True)
class TablesConfig:
    """What to make."""

    profile: str = flag("digits", f"one of {', '.join(PROFILES)}")
    clients: tuple[int, ...] = flag((4, 8, 16, 32), "client counts")
    seeds: int | None = flag(
        None, f"repetitions (default: 2; paper_shape: {SCARCE_SEEDS})"
    )
    quick: bool = flag(False, "few rounds, one seed: a look, not a result")

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ValueError(
                f"unknown {self.profile!r}: --profile takes {', '.join(PROFILES)}."
            )
        if self.seeds is not None and self.seeds < 1:
            raise ValueError(f"--seeds must be at least 1, got {self.seeds}.")
        if not self.clients or min(self.clients) < 1:
            raise ValueError(f"--clients must be at least 1, got {self.clients}.")

    @property
    def repetitions(self) -> int:
        """Seeds of each cell."""
        usual = SCARCE_SEEDS if self.profile == "paper_shape" else 2
        return self.seeds or (1 if self.quick else usual)


def settings_for(
    data: DataConfig,
    *,
    model: str = LINEAR,
    epsilon: float | None = None,
    encryption: str = "ckks",
    rounds: int | None = None,
) -> Settings:
    """What a cell of a table runs with; all else is the tuned table's."""
    return Settings(
        data,
        TrainingConfig(model=model, rounds=rounds),
        PrivacyConfig(epsilon=epsilon),
        EncryptionConfig(encryption=encryption),
    )


def specs(what: TablesConfig, data: DataConfig) -> list[Any]:
    """All runs of a profile, seed 0 of everything first."""
    make = _digits if what.profile == "digits" else _scarce
    once = list(dict.fromkeys(make(what, data)))
    return [
        dataclasses.replace(spec, seed=seed)
        for seed in range(what.repetitions)
        for spec in once
        if seed == 0 or _repeated(spec)
    ]


def _repeated(run: Any) -> bool:
    """Whether every seed is run; of what takes long, the first must be enough."""
    model, epsilon = run.settings.training.model, run.settings.privacy.epsilon
    long = run.arm == "private_ai" and (model != LINEAR or epsilon == EPSILONS[0])
    return not (long or model == POLYNOMIAL or run.label.startswith("cost"))


def spec(
    arm: str,
    data: DataConfig,
    clients: int = CLIENTS,
    partition: str = "iid",
    label: str = "",
    **changes: Any,
) -> Any:
    """One run of a table, at seed 0; pooled data know neither clients nor partition."""
    from experiments.spec import Spec

    if ARMS[arm].pooled:
        clients, partition = 1, "iid"
    settings = settings_for(data, **changes)
    kind = [settings.training.model]
    if ARMS[arm].private:
        kind.append(f"{settings.privacy.epsilon:g}")
    if ARMS[arm].encrypted:
        kind.append(settings.encryption.encryption)
    name = "-".join([label, *kind] if label else kind)
    return Spec(arm, clients, partition, 0, settings, name)


def _digits(what: TablesConfig, data: DataConfig) -> Iterator[Any]:
    rounds = 3 if what.quick else None
    low, high = EPSILONS
    for model in TABLE_1_MODELS:
        yield spec("centralized", data, model=model, rounds=rounds)
        yield spec("centralized_dp", data, model=model, epsilon=low, rounds=rounds)
    yield spec("centralized_dp", data, epsilon=high, rounds=rounds)
    # Predicts on encrypted images.
    yield spec("centralized", data, model=POLYNOMIAL, rounds=rounds)
    for partition in PARTITIONS:
        for clients in what.clients:
            for arm in ("local", "fl"):
                yield spec(arm, data, clients, partition, model=CNN, rounds=rounds)
            for arm, epsilon in (
                ("fl_dp", high),
                ("private_ai", high),
                ("private_ai", low),
            ):
                yield spec(
                    arm, data, clients, partition, epsilon=epsilon, rounds=rounds
                )
    for model in (LINEAR, CNN):
        for arm in ("fl", "fl_he"):
            yield spec(arm, data, model=model, rounds=rounds)
    for arm in ("fl_dp", "private_ai"):
        yield spec(arm, data, epsilon=high, rounds=rounds)
    for model in (CNN, SHALLOW):
        yield spec("private_ai", data, model=model, epsilon=high, rounds=rounds)
    # One holder of all data, whose updates pass through encryption all the same.
    yield spec("fl_he", data, 1, rounds=rounds)
    yield spec("private_ai", data, 1, epsilon=high, rounds=rounds)
    for epsilon in MORE_EPSILONS:
        for arm in ("centralized_dp", "private_ai"):
            yield spec(arm, data, epsilon=epsilon, rounds=rounds)
    yield spec("private_ai_local", data, label="cost", epsilon=high, rounds=rounds)
    for scheme in SCHEMES:
        yield spec(
            "private_ai",
            data,
            label="cost",
            epsilon=high,
            encryption=scheme,
            rounds=rounds,
        )


def _scarce(what: TablesConfig, data: DataConfig) -> Iterator[Any]:
    rounds = 3 if what.quick else SCARCE_ROUNDS
    yield spec("centralized", data, model=CNN, rounds=rounds)
    for partition in PARTITIONS:
        for clients in what.clients:
            for arm in ("local", "fl"):
                yield spec(arm, data, clients, partition, model=CNN, rounds=rounds)


def scarce(dataset: Any, seed: int) -> Any:
    """The data set with few of its training examples, each class its share."""
    import numpy as np

    from fedjax_private.datasets import stratified

    drawn = stratified(
        dataset.train.labels, SCARCE_EXAMPLES, np.random.default_rng(seed)
    )
    return dataclasses.replace(dataset, train=dataset.train.take(drawn))


def tables(argv: Sequence[str]) -> int:
    """The command; returns its exit status."""
    parsed = flags.parse(USAGE, (TablesConfig, DataConfig, OutputConfig), argv)
    what, data = parsed[TablesConfig], parsed[DataConfig]
    runtime.start()
    from experiments import build, runner, tables_report
    from experiments.tables_results import Results
    from fedjax_private.datasets import load
    from fedjax_private.simulation import progress

    notes = []
    dataset = flags.checked(lambda: load(data.dataset, data_dir=data.data_dir))
    todo = specs(what, data)
    if reason := build.unavailable():
        lost = [s for s in todo if ARMS[s.arm].encrypted]
        todo = [s for s in todo if not ARMS[s.arm].encrypted]
        notes.append(f"Not run: {len(lost)} runs with encryption. {reason}")
    if what.quick:
        notes.append("--quick: few rounds and a single seed; a look, not a result.")
    samples = dict.fromkeys(range(what.repetitions), dataset)
    if what.profile == "paper_shape":
        samples = {seed: scarce(dataset, seed) for seed in samples}
    inputs = runner.Inputs(lambda spec: samples[spec.seed])
    prepared = {}
    for spec_now in todo:
        if spec_now.seed == 0:
            prepared[spec_now] = flags.checked(
                lambda s=spec_now: build.prepare(s, inputs(s))
            )
    directory = flags.checked(lambda: command.directory("tables", parsed[OutputConfig]))
    directory.write_config(
        {
            "command": "tables",
            "argv": list(argv[1:]),
            "run": dataclasses.asdict(what),
            "data": dataclasses.asdict(data),
            "runs": {s.name: dataclasses.asdict(s.hyperparameters) for s in prepared},
            "sums": {s.name: p.sums for s, p in prepared.items() if p.sums},
            "versions": runtime.versions(),
            "machine": runtime.machine(),
        }
    )
    console = command.console()
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)
    held = True
    rows: dict[Any, Any] = {}

    def finished(run: Any, row: dict[str, Any]) -> None:
        rows[run] = row
        directory.add_run(row)

    try:
        with progress(sum(s.hyperparameters.rounds for s in todo), console) as shown:
            failures = runner.run_all(todo, inputs, directory, shown, finished)
    finally:
        # Also after Ctrl-C: what has finished is reported.
        if rows:
            encrypted = [] if reason else _predictions(rows, dataset, directory.path)
            found = Results(what, data, rows, prepared, encrypted)
            held = tables_report.write(directory.path, found, notes)
        console.print(f"written to {directory.path}", highlight=False, soft_wrap=True)
    return 0 if held and not failures and not reason else 1


def _predictions(rows: Any, dataset: Any, directory: Path) -> list[Any]:
    """Predictions on encrypted images by the models that were trained for it."""
    from experiments import predictions, serving, zoo

    found = []
    for run in rows:
        if run.seed == 0 and run.settings.training.model == POLYNOMIAL:
            checkpoint = directory / "checkpoints" / run.name
            served = serving.served(checkpoint, zoo.model_for(dataset, run), dataset)
            found.append(
                predictions.predict(served, dataset, "batch", ENCRYPTED_IMAGES)
            )
    lines = [json.dumps(dataclasses.asdict(each)) + "\n" for each in found]
    (directory / "predictions.jsonl").write_text("".join(lines))
    return found


if __name__ == "__main__":
    command.main(tables)
