"""What a report can compare: the measured values of a run, and how they are shown."""

import dataclasses
import math
from collections.abc import Callable

from fedjax_private.runs import Arm

COMPILING = "The first run of a kind includes the seconds of compiling."


@dataclasses.dataclass(frozen=True)
class Metric:
    """A measured value of a run's row.

    Attributes:
        name: of the row's value.
        label: in words.
        form: of numbers in tables.
        most: the largest value that there can be; the smallest is 0.
        note: a sentence on how it was measured; empty without one.
        measured: whether runs of an arm have it.
    """

    name: str
    label: str
    form: str = ".3f"
    most: float = math.inf
    note: str = ""
    measured: Callable[[Arm], bool] = lambda arm: True


def _federated(arm: Arm) -> bool:
    return arm.federated


def _encrypted(arm: Arm) -> bool:
    return arm.encrypted


_ALL = (
    Metric("accuracy", "test accuracy", most=1.0),
    Metric("loss", "test loss"),
    Metric(
        "client_accuracy_mean",
        "accuracy, mean over clients",
        most=1.0,
        measured=lambda arm: not arm.pooled,
    ),
    Metric(
        "client_accuracy_worst_tenth",
        "accuracy of the worst tenth of clients",
        most=1.0,
        measured=lambda arm: not arm.pooled,
    ),
    Metric("epsilon", "epsilon, outsiders", measured=lambda arm: arm.private),
    Metric(
        "epsilon_insider",
        "epsilon, insiders",
        measured=lambda arm: arm.private and arm.federated,
    ),
    Metric("noise_multiplier", "noise multiplier", measured=lambda arm: arm.private),
    Metric("seconds_total", "seconds of a run", ".1f", note=COMPILING),
    Metric("seconds_train", "seconds of training", ".1f", note=COMPILING),
    Metric("seconds_encrypt", "seconds of encryption", ".2f", measured=_encrypted),
    Metric("seconds_add", "seconds of addition", ".2f", measured=_federated),
    Metric("seconds_decrypt", "seconds of decryption", ".2f", measured=_encrypted),
    Metric(
        "upload_bytes_per_client_round",
        "bytes a client uploads in a round",
        ",.0f",
        measured=_federated,
    ),
    Metric(
        "max_aggregation_error",
        "largest error of a sum",
        ".1e",
        measured=_encrypted,
    ),
    Metric("lost_uploads", "lost uploads", ".1f", measured=_federated),
    Metric("void_rounds", "void rounds", ".1f", measured=_federated),
)

METRICS = {metric.name: metric for metric in _ALL}
ACCURACY = METRICS["accuracy"]
