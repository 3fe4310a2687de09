"""Suite `inference`: one encrypted image for latency, and a full batch of them."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.measure import Case, Work
from experiments.benchmarks.peers.registry import STAGES
from experiments.benchmarks.suites import Suite
from experiments.reports.predictions import ask
from fedjax_private import inference, models
from fedjax_private.aggregation import SCHEMES
from fedjax_private.datasets import load

# Repeats of a batch, which takes many seconds.
FEW = 3
# Images that one client may ask about; sizes the noise on the answers.
QUERIES = 10**5


def _open(packing: str) -> tuple[Work, Mapping[str, Any]]:
    """Both sides in this process; untrained, as times do not depend on the weights."""
    digits = load("mnist_5k")
    model = models.for_dataset("polynomial_cnn", digits)
    stored = digits.train.inputs
    circuit = inference.compile_model(
        model.network,
        model.init(jax.random.key(0)),
        stored.shape[1:],
        sample=digits.normalization(stored[:500]),
    )
    plan = inference.plan(circuit, packing=packing, queries=QUERIES)
    public = plan.public
    # Images repeat until every slot is used.
    indices = np.arange(public.images_per_request) % len(stored)
    images = digits.normalization(stored[indices])
    querier = inference.Querier(public)
    evaluator = inference.Evaluator(circuit, plan)
    keys = querier.evaluation_keys()
    evaluator.load_keys(keys)
    scores, _ = ask(querier, evaluator, images)
    return lambda: ask(querier, evaluator, images)[1], {
        "images": len(images),
        "upload_bytes": public.request_bytes,
        "answer_bytes": public.answer_bytes,
        "key_bytes": len(keys),
        "max_error": float(np.abs(scores - circuit.plain(images)).max()),
        "predicted_seconds": plan.cost.seconds,
    }


def _cases(quick: bool) -> list[Case]:
    """One image in a request, and as many as a request has slots."""

    def case(packing: str, most: int = 1_000) -> Case:
        return Case(
            name=packing,
            fields={"model": "polynomial_cnn", "packing": packing},
            open=functools.partial(_open, packing),
            for_peers={"images": 1} if packing == "single" else None,
            parts=STAGES["inference"],
            most=most,
        )

    return [case("single")] if quick else [case("single"), case("batch", FEW)]


INFERENCE = Suite(
    "inference",
    "predictions on encrypted images",
    _cases,
    unavailable=SCHEMES.find("ckks").unavailable,
)
