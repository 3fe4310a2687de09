"""Predictions on encrypted images beside those in clear, both sides in one process."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.reports.markdown import markdown_table
from experiments.serving import Served
from fedjax_private.datasets import Dataset
from fedjax_private.inference import Evaluator, Querier, plan


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What encryption changes about a model's answers to test images, and costs.

    Attributes:
        name: of the run that trained the model.
        packing: of the requests, `single` or `batch`.
        images: how many.
        accuracy: of the encrypted predictions.
        plain_accuracy: of the model in clear, on the same images.
        agreement: share of the images on which the two predict the same class.
        largest_difference: of a score.
        seconds_per_image: to encrypt, evaluate and decrypt.
        request_bytes: of one request.
        answer_bytes: of its answer.
        key_bytes: of the evaluation keys, sent once.
    """

    name: str
    packing: str
    images: int
    accuracy: float
    plain_accuracy: float
    agreement: float
    largest_difference: float
    seconds_per_image: float
    request_bytes: int
    answer_bytes: int
    key_bytes: int


def ask(querier: Querier, evaluator: Evaluator, images: Any) -> tuple[Any, list[float]]:
    """One request, both sides in this process, as bytes from one to the other.

    Args:
        querier: the client.
        evaluator: the server, which has the client's evaluation keys.
        images: (n, H, W, C) float32, normalised; as many as a request takes, at most.

    Returns:
        The scores (n, outputs), and the seconds to encrypt, to evaluate, to decrypt.
    """
    moments = [time.perf_counter()]
    request = querier.encrypt(images)
    moments.append(time.perf_counter())
    answer = evaluator.evaluate(request)
    moments.append(time.perf_counter())
    scores = querier.decrypt(answer, len(images))
    moments.append(time.perf_counter())
    return scores, np.diff(moments).tolist()


def predict(served: Served, dataset: Dataset, packing: str, count: int) -> Predictions:
    """Asks about the first `count` test images, as bytes from one side to the other.

    Raises:
        PlanError: the model has no encrypted form that fits.
    """
    made = plan(served.circuit, packing=packing, images=count, queries=max(count, 4096))
    public = made.public
    querier, evaluator = Querier(public), Evaluator(served.circuit, made)
    try:
        keys = querier.evaluation_keys()
        evaluator.load_keys(keys)
        stored = dataset.test.inputs[:count]
        images, labels = served.run.normalization(stored), dataset.test.labels[:count]
        scores, seconds = [], 0.0
        for first in range(0, len(stored), public.images_per_request):
            some = images[first : first + public.images_per_request]
            found, parts = ask(querier, evaluator, some)
            scores.append(found)
            seconds += sum(parts)
    finally:
        evaluator.close()
    encrypted, plain = np.concatenate(scores), served.run.predict(stored)
    chosen, right = encrypted.argmax(axis=1), plain.argmax(axis=1)
    return Predictions(
        served.run.name,
        public.packing,
        len(stored),
        float(np.mean(chosen == labels)),
        float(np.mean(right == labels)),
        float(np.mean(chosen == right)),
        float(np.abs(encrypted - plain).max()),
        seconds / len(stored),
        public.request_bytes,
        public.answer_bytes,
        len(keys),
    )


COLUMNS: dict[str, Callable[[Predictions], str]] = {
    "trained by": lambda each: each.name,
    "accuracy, encrypted": lambda each: f"{each.accuracy:.4f}",
    "in clear": lambda each: f"{each.plain_accuracy:.4f}",
    "agree": lambda each: f"{each.agreement:.2%}",
    "largest difference": lambda each: f"{each.largest_difference:.1e}",
    "seconds an image": lambda each: f"{each.seconds_per_image:.4f}",
    "request, MB": lambda each: f"{each.request_bytes / 1e6:,.1f}",
    "answer, MB": lambda each: f"{each.answer_bytes / 1e6:,.1f}",
    "keys, MB": lambda each: f"{each.key_bytes / 1e6:,.1f}",
}


def described(found: Sequence[Predictions]) -> list[str]:
    """What encryption changes about predictions, and costs: parts of a report."""
    if not found:
        return []
    rows = [[show(each) for show in COLUMNS.values()] for each in found]
    return [
        f"ML + HE: {found[0].images} test images at seed 0, all in one request, one "
        "image a slot; the server has no key that decrypts, and seconds are those of "
        "client and server together on this one machine.",
        markdown_table(list(COLUMNS), rows),
    ]
