"""Rows: a line a run and a line a round, of plain numbers and names.

Fields that do not apply are None, never 0.
"""

import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_private import __version__, simulation
from fedjax_private.runs.clients import client_accuracy
from fedjax_private.runs.columns import columns
from fedjax_private.runs.preparation import Prepared
from fedjax_private.trust import Adversary

Row = Mapping[str, Any]


def round_row(
    prepared: Prepared,
    done: simulation.Round,
    spent: Mapping[Adversary, float],
) -> dict[str, Any]:
    """The line of a round.

    Args:
        prepared: the run.
        done: what the round did.
        spent: adversary -> epsilon so far.
    """
    spec, arm = prepared.spec, prepared.spec.traits
    report, evaluation = done.report, done.evaluation
    encryption = report if spec.encrypts else None
    epsilon = spent.get(Adversary.OUTSIDERS)
    insider = spent.get(Adversary.INSIDERS, epsilon) if arm.federated else None
    loss, examples = (done.metrics.get(name) for name in ("loss", "examples"))
    return {
        **_place(prepared),
        "round": done.number,
        "cohort": len(done.cohort),
        "void": done.void,
        "lost": done.lost if arm.federated else None,
        "accuracy": float(evaluation.accuracy.mean()) if evaluation else None,
        "loss": float(evaluation.loss.mean()) if evaluation else None,
        "train_loss": loss / examples if loss is not None and examples else None,
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
        "recovered_holders": encryption.recovered_holders if encryption else None,
        "seconds_keys": encryption.seconds_keys if encryption else None,
        "saturated": (
            encryption.saturated
            if encryption and _uploads_are_covered(prepared)
            else None
        ),
        "rounding": (
            encryption.rounding
            if encryption and _uploads_are_covered(prepared)
            else None
        ),
        # A function of the released sum before it wrapped, which carries all noise.
        "wrapped": encryption.wrapped if encryption else None,
        "max_aggregation_error": encryption.max_error if encryption else None,
    }


def run_row(
    prepared: Prepared,
    rounds: Sequence[Row],
    evaluation: simulation.Evaluation,
    seconds_total: float,
    directory: Path,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """The line of a run.

    Args:
        prepared: the run.
        rounds: the lines of its rounds.
        evaluation: of its last round.
        seconds_total: wall seconds of the run.
        directory: where all that the run leaves behind is.
        warnings: a sentence each.
    """
    spec, last, privacy = prepared.spec, rounds[-1], prepared.privacy
    values, arm = prepared.hyperparameters, prepared.spec.traits

    def total(name: str, combine: Callable[[list[Any]], Any] = sum) -> Any:
        # Void rounds measured nothing.
        measured = [row[name] for row in rounds if not row["void"]]
        return None if None in measured or not measured else combine(measured)

    return {
        **_place(prepared),
        "dataset": prepared.dataset.name,
        "model": prepared.model_name,
        "params": prepared.parameters,
        "train_examples": len(prepared.dataset.train),
        "largest_class": _largest_class(prepared),
        "algorithm": prepared.algorithm.name,
        "settings_from": str(prepared.settings_from),
        "rounds": len(rounds),
        "accuracy": last["accuracy"],
        "loss": last["loss"],
        "epsilon": privacy.epsilon if privacy else None,
        "delta": spec.delta if privacy else None,
        "epsilon_insider": privacy.epsilon_insider if privacy else None,
        "epsilon_claimed": privacy.claimed if privacy else None,
        "unit": privacy.unit.value if privacy else None,
        "mechanism": spec.mechanism_name if prepared.noises_steps else None,
        "noise_multiplier": privacy.noise_multiplier if privacy else None,
        "clip_norm": values.clip_norm,
        "sampling_probability": values.sampling_probability,
        "steps": privacy.steps if privacy else None,
        "honest_clients": (
            prepared.trust.honest_clients
            if prepared.trust and spec.shares_noise
            else None
        ),
        "encryption": spec.scheme.name if arm.encrypted else None,
        "seconds_total": seconds_total,
        "seconds_train": total("seconds_train"),
        "seconds_encrypt": total("seconds_encrypt"),
        "seconds_add": total("seconds_add"),
        "seconds_decrypt": total("seconds_decrypt"),
        "upload_bytes_per_client_round": total("upload_bytes_per_client", max),
        "max_aggregation_error": total("max_aggregation_error", max),
        "saturated": total("saturated"),
        "wrapped": total("wrapped"),
        "void_rounds": sum(row["void"] for row in rounds) if arm.federated else None,
        "recovered_holders": total("recovered_holders"),
        "lost_uploads": sum(row["lost"] for row in rounds) if arm.federated else None,
        **client_accuracy(prepared, evaluation.correct),
        "directory": os.fspath(directory.resolve()),
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat("T", "seconds"),
        "version": __version__,
        "warnings": list(warnings),
        **columns(prepared),
    }


def _uploads_are_covered(prepared: Prepared) -> bool:
    """Whether epsilon, where there is one, covers facts about single uploads.

    Insiders know all uploads but one. Where they cost no more than outsiders, that
    upload has all of its noise. Those with a share of a sum's noise are cut before it.
    """
    privacy = prepared.privacy
    if privacy is None:
        return True
    return not privacy.residues and privacy.epsilon_insider == privacy.epsilon


def _largest_class(prepared: Prepared) -> float:
    """The accuracy of who always names the largest class of the test set."""
    labels = prepared.dataset.test.labels
    return float(np.bincount(labels).max() / len(labels))


def _place(prepared: Prepared) -> dict[str, Any]:
    """What tells a run's lines from those of others."""
    spec = prepared.spec
    return {
        "run": spec.name,
        "arm": spec.arm,
        "clients": spec.client_count,
        "partition": spec.partition_name,
        "seed": spec.seed,
    }
