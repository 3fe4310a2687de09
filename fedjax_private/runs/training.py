"""One run of one arm: trains, and writes what a run leaves behind."""

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorboardX

from experiments import build, pricing, zoo
from experiments.arms import ARMS, Arm
from experiments.build import Prepared
from experiments.pricing import NEIGHBORS
from experiments.spec import Spec
from fedjax_private import aggregation, algorithms, models, simulation
from fedjax_private.datasets import Dataset
from fedjax_private.privacy import SharedPlan
from fedjax_private.privacy.accounting import Ledger, fingerprint
from fedjax_private.simulation import RunDirectory
from fedjax_private.trust import Adversary
from fedjax_private.typing import ClientKeys

Advance = Callable[[str, int], None]


def run(
    prepared: Prepared,
    dataset: Dataset,
    directory: RunDirectory,
    advance: Advance = lambda name, rounds: None,
) -> dict[str, Any]:
    """Trains, and returns the row of runs.jsonl; rounds are on disk as they end."""
    (row,) = run_together([prepared], dataset, directory, advance)
    return row


def run_together(
    several: Sequence[Prepared],
    dataset: Dataset,
    directory: RunDirectory,
    advance: Advance = lambda name, rounds: None,
) -> list[dict[str, Any]]:
    """Runs that differ in seed only, as one program; see `simulate_together`.

    Each run's seconds are its equal part of the common ones.
    """
    started = time.perf_counter()
    spec, privacy = several[0].spec, several[0].privacy
    arm, hyper, settings = ARMS[spec.arm], spec.hyperparameters, spec.settings
    model = zoo.model_for(dataset, spec)
    clients, cohort = several[0].data.mask.shape[0], len(several[0].schedule[0])
    size = models.parameter_count(jax.eval_shape(model.init, jax.random.key(0)))
    updated = zoo.update_size(spec, dataset)
    params = [model.init(jax.random.key(p.spec.seed)) for p in several]
    schemes = [
        build.build_aggregation(
            prepared,
            updated,
            build.most_sensitive(prepared, model, initial),
        )
        for prepared, initial in zip(several, params, strict=True)
    ]
    algorithm = build.build_algorithm(
        model,
        hyper,
        privacy.plan if privacy else None,
        schemes[0].codec if schemes[0] else None,
        spec.algorithm,
        settings.training.proximal,
        cohort,
        clients,
        len(dataset.train) * cohort / clients,
        settings.training.backend,
    )
    rounds: list[list[dict[str, Any]]] = [[] for _ in several]
    with contextlib.ExitStack() as files:
        for scheme in schemes:
            if isinstance(scheme, aggregation.ProcessAggregation):
                files.enter_context(scheme)
        writers, ledgers, runs = [], [], []
        for i, prepared in enumerate(several):
            name, seed = prepared.spec.name, prepared.spec.seed
            log = str(directory.path / "tb" / name)
            writers.append(files.enter_context(tensorboardX.SummaryWriter(log)))
            ledgers.append(
                {
                    adversary: files.enter_context(_ledger(prepared, adversary, path))
                    for adversary, path in _ledger_paths(prepared, directory).items()
                }
            )
            roots = simulation.root_keys(seed, settings.privacy.noise_seed, name)
            dropping = settings.training.drop_out if arm.federated else 0.0
            runs.append(
                simulation.Run(
                    schemes[i],
                    prepared.data,
                    params[i],
                    prepared.schedule,
                    roots,
                    _charger(ledgers[-1], prepared, roots) if privacy else _nothing,
                    simulation.drop_outs(seed, prepared.schedule, dropping),
                )
            )
            advance(name, 0)
        for finished in simulation.simulate_together(
            algorithm,
            runs,
            evaluate=zoo.build_evaluator(model)(dataset.test),
            evaluate_every=hyper.evaluate_every,
            chunk_size=settings.training.chunk_size,
        ):
            for i, done in enumerate(finished):
                own = several[i].spec
                spent = {
                    adversary: ledger.epsilon(settings.privacy.delta)
                    for adversary, ledger in ledgers[i].items()
                }
                row = _round_row(own, done, spent, arm)
                directory.add_round(row)
                for name, value in row.items():
                    if isinstance(value, float) and math.isfinite(value):
                        writers[i].add_scalar(name, value, done.number)
                rounds[i].append(row)
                advance(own.name, 1)
    for prepared, done in zip(several, finished, strict=True):
        simulation.save(
            directory.path / "checkpoints" / prepared.spec.name,
            algorithm.models(done.server_state, done.client_states),
        )
    seconds = (time.perf_counter() - started) / len(several)
    return [
        _run_row(prepared, dataset, size, own, seconds)
        for prepared, own in zip(several, rounds, strict=True)
    ]


def _nothing(*_: Any) -> None:
    """Before a round that spends no privacy."""


def _ledger_paths(prepared: Prepared, directory: RunDirectory) -> dict[Adversary, Path]:
    """Where a run keeps its books: by adversary, where there are two."""
    if prepared.privacy is None:
        return {}
    folder, name = directory.path / "ledger", prepared.spec.name
    if not isinstance(prepared.privacy.plan, SharedPlan):
        return {Adversary.OUTSIDERS: folder / f"{name}.jsonl"}
    return {
        adversary: folder / f"{name}.{adversary.value}.jsonl" for adversary in Adversary
    }


def _ledger(prepared: Prepared, adversary: Adversary, path: Path) -> Ledger:
    """A ledger of the run's own, which refuses more than what was planned."""
    path.parent.mkdir(exist_ok=True)
    privacy, delta = prepared.privacy, prepared.spec.settings.privacy.delta
    assert privacy is not None
    planned = privacy.epsilon
    if adversary is Adversary.INSIDERS:
        assert privacy.epsilon_insider is not None
        planned = privacy.epsilon_insider
    budget = (planned, delta) if math.isfinite(planned) else None
    return Ledger(path, NEIGHBORS, budget, pricing.in_words(prepared.spec, adversary))


def _bytes(key: jax.Array) -> bytes:
    return np.asarray(jax.random.key_data(key)).tobytes()


def _charger(
    ledgers: Mapping[Adversary, Ledger], prepared: Prepared, roots: ClientKeys
) -> Callable[[int, simulation.Ids, Any, Any], None]:
    """Charges a round before any of its noise is drawn.

    Where steps are independent, a cohort pays for its round. Where they share noise,
    only a whole run has a price: everyone who will ever take part pays for all steps of
    the busiest before the first round. Every later round offers the same entry again,
    which the ledger takes for what it is, a replay: the run's keys, shards, schedule
    and settings, which its digest covers, leave nothing else to be computed.
    """
    assert prepared.privacy is not None
    plan, total = prepared.privacy.plan, prepared.privacy.steps
    fixed = hashlib.sha256(repr((plan, prepared.spec)).encode())
    fixed.update(_bytes(roots.sampling))
    for leaf in jax.tree.leaves((prepared.data, prepared.schedule)):
        fixed.update(np.ascontiguousarray(leaf))

    def charge_round(
        number: int, cohort: simulation.Ids, server: Any, own: Any
    ) -> None:
        digest = fixed.copy()
        for leaf in jax.tree.leaves((server, own)):
            digest.update(np.ascontiguousarray(leaf))
        steps = prepared.spec.hyperparameters.noisy_steps
        for adversary, ledger in ledgers.items():
            ledger.charge(
                clients=cohort.tolist(),
                round_number=number,
                event=pricing.event(plan, steps, adversary),
                fingerprint=fingerprint(
                    _bytes(algorithms.round_key(roots.noise, number))
                ),
                digest=digest.hexdigest(),
            )

    def charge_run(number: int, cohort: simulation.Ids, server: Any, own: Any) -> None:
        for adversary, ledger in ledgers.items():
            ledger.charge(
                clients=np.unique(np.concatenate(prepared.schedule)).tolist(),
                round_number=1,
                event=pricing.event(plan, total, adversary),
                fingerprint=fingerprint(_bytes(roots.noise)),
                digest=fixed.hexdigest(),
            )

    return charge_run if plan.correlated else charge_round


def _round_row(
    spec: Spec, done: simulation.Round, spent: Mapping[Adversary, float], arm: Arm
) -> dict[str, Any]:
    report, evaluation = done.report, done.evaluation
    encryption = report if spec.encrypts else None
    epsilon = spent.get(Adversary.OUTSIDERS)
    insider = spent.get(Adversary.INSIDERS, epsilon) if arm.federated else None
    examples = done.metrics.get("examples")
    return {
        "arm": spec.arm,
        "clients": spec.clients,
        "partition": spec.partition,
        "seed": spec.seed,
        "round": done.number,
        "cohort": len(done.cohort),
        "void": done.void,
        "accuracy": float(evaluation.accuracy.mean()) if evaluation else None,
        "loss": float(evaluation.loss.mean()) if evaluation else None,
        "train_loss": done.metrics["loss"] / examples if examples else None,
        "epsilon": epsilon,
        "epsilon_insider": insider,
        "seconds_train": done.seconds_train,
        "seconds_server": done.seconds_server,
        "seconds_encrypt": encryption.seconds_encrypt if encryption else None,
        "seconds_add": report.seconds_add if report else None,
        "seconds_decrypt": encryption.seconds_decrypt if encryption else None,
        "upload_bytes_per_client": report.upload_bytes_per_client if report else None,
        "download_bytes_per_client": (
            report.download_bytes_per_client if report else None
        ),
        "link_bytes": dict(encryption.link_bytes) if encryption else None,
        "seconds_keys": encryption.seconds_keys if encryption else None,
        # A count of what left the range is a fact about the records.
        "saturated": encryption.saturated if encryption and not arm.private else None,
        "max_aggregation_error": encryption.max_error if encryption else None,
    }


def _run_row(
    prepared: Prepared,
    dataset: Dataset,
    parameters: int,
    rounds: list[dict[str, Any]],
    seconds_total: float,
) -> dict[str, Any]:
    spec, last, privacy = prepared.spec, rounds[-1], prepared.privacy
    arm, hyper, settings = ARMS[spec.arm], spec.hyperparameters, spec.settings

    def total(name: str, combine: Callable[[list[Any]], Any] = sum) -> Any:
        # Void rounds measured nothing.
        values = [row[name] for row in rounds if not row["void"]]
        return None if None in values or not values else combine(values)

    return {
        "arm": spec.arm,
        "clients": spec.clients,
        "partition": spec.partition,
        "seed": spec.seed,
        "dataset": dataset.name,
        "model": settings.training.model,
        "params": parameters,
        "train_examples": len(dataset.train),
        "rounds": len(rounds),
        "accuracy": last["accuracy"],
        "loss": last["loss"],
        "epsilon": privacy.epsilon if privacy else None,
        "delta": settings.privacy.delta if arm.private else None,
        "epsilon_insider": privacy.epsilon_insider if privacy else None,
        "noise_multiplier": privacy.noise_multiplier if privacy else None,
        "clip_norm": hyper.clip_norm,
        "sampling_probability": hyper.sampling_probability,
        "steps": privacy.steps if privacy else None,
        "honest_clients": spec.trust.honest_clients if spec.shares_noise else None,
        "encryption": settings.encryption.encryption if spec.encrypts else None,
        "seconds_total": seconds_total,
        "seconds_train": total("seconds_train"),
        "seconds_encrypt": total("seconds_encrypt"),
        "seconds_add": total("seconds_add"),
        "seconds_decrypt": total("seconds_decrypt"),
        "upload_bytes_per_client_round": total("upload_bytes_per_client", max),
        "max_aggregation_error": total("max_aggregation_error", max),
    }
