"""What of a run deserves a warning: rules, each a sentence, before and after training.

Clipping is judged on test records, whose accuracy is published anyway, and on no
record that privacy protects. With tuned settings, a flat clip norm cuts the gradients
of all records at the first model and of 6 to 41 % at the last one: small clip norms
are the recommended regime (De et al. 2022), as directions are what training needs.
Therefore it takes both models to warn: where nothing is cut, noise is larger than it
need be; where all is cut to the end, the run has not come to where clipping lets go.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from fedjax_private import aggregation, models
from fedjax_private.algorithms.prices import Unit
from fedjax_private.datasets import PARTITIONS
from fedjax_private.privacy.accounting import RdpAccountant
from fedjax_private.privacy.gradients.sums import example_gradients
from fedjax_private.privacy.gradients.types import total_norms
from fedjax_private.runs.preparation import Prepared
from fedjax_private.trust import Adversary
from fedjax_private.typing import Array, Params

# An epsilon above this bounds a likelihood ratio by more than 22,000.
LARGE_EPSILON = 10.0

# Shares of test records below and above which clipping cuts nothing, or all.
FEW, NEARLY_ALL = 0.01, 0.99
CHECKED_RECORDS = 256  # at most so many test records are looked at

# A loss that is so many times that of guessing tells of steps that were too large.
LARGE_LOSS = 100.0

# A share of the squared norm of a released sum. Beyond it, most of the sum is error.
MUCH_ROUNDING = 0.5


def before_training(prepared: Prepared) -> list[str]:
    """The warnings that settings, data and prices give reason to."""
    looked_up = () if prepared.privacy is None else prepared.dataset.looked_up
    return [
        *_of_price(prepared),
        *_of_bound(prepared),
        *_of_partition(prepared),
        *looked_up,
    ]


def _of_partition(prepared: Prepared) -> Iterator[str]:
    named = prepared.dataset.train.clients
    chosen = PARTITIONS.choose(prepared.spec.partition)
    natural = chosen.entry.count is not None
    if named is None or prepared.spec.traits.pooled or natural:
        return
    yield (
        f"the data name {len(np.unique(named))} clients, and partition="
        f"{chosen.name} deals their records to {prepared.clients} others: "
        "give partition=natural to train with those that the data name."
    )


def _of_price(prepared: Prepared) -> Iterator[str]:
    privacy, delta = prepared.privacy, prepared.spec.delta
    if privacy is None:
        return
    unit = privacy.unit.value
    count = len(prepared.dataset.train)
    if privacy.unit is Unit.CLIENT:
        count = prepared.clients
    if delta > 1 / count:
        yield (
            f"delta={delta:g} is above 1/{count}, one over the number of {unit}s: it "
            f"allows the publication of a whole {unit}; give a smaller delta."
        )
    for adversary in privacy.against:
        epsilon = privacy.planned(adversary)
        against = f" against {adversary.value}" if len(privacy.against) > 1 else ""
        # Where insiders hold the key or are the server, infinity is said elsewhere.
        if math.isinf(epsilon) and adversary is Adversary.INSIDERS:
            continue
        if epsilon > LARGE_EPSILON:
            yield (
                f"epsilon {epsilon:.4g}{against} is above {LARGE_EPSILON:g} and bounds "
                f"hardly anything about a {unit}: give a smaller epsilon, or more "
                "noise."
            )
        books = RdpAccountant(neighbors=privacy.neighbors)
        spent = books.compose(privacy.event(privacy.steps, adversary)).spent(delta)
        if spent.at_edge and math.isfinite(spent.epsilon):
            yield (
                f"epsilon {epsilon:.4g}{against} holds, but may be larger than it need "
                f"be: the best Rényi order, {spent.order:g}, lies at the edge of those "
                "that the accountant tries."
            )


def after_training(prepared: Prepared, first: Params, last: Params) -> list[str]:
    """The warnings that trained models give reason to.

    Args:
        prepared: the run.
        first: params before training.
        last: params after it.
    """
    clipping = getattr(prepared.privacy and prepared.privacy.plan, "clipping", None)
    if clipping is None or not prepared.noises_steps:
        return []
    test = prepared.dataset.test
    inputs, labels = test.inputs[:CHECKED_RECORDS], test.labels[:CHECKED_RECORDS]
    norms = _norms(prepared.model)
    anywhere, everywhere = [], []
    for params in (first, last):
        cut = clipping.cuts(*norms(params, inputs, labels))
        if cut is None:
            return []
        arrays = np.atleast_2d(cut)
        anywhere.append(float(arrays.any(axis=0).mean()))
        everywhere.append(float(arrays.all(axis=0).mean()))
    return list(_of_clipping(clipping.clip_norm, anywhere, everywhere))


def of_loss(prepared: Prepared, loss: npt.NDArray[np.float64]) -> list[str]:
    """The warning that the loss of trained models gives reason to.

    Args:
        prepared: the run.
        loss: (models,), each a mean over test records.
    """
    private = prepared.spec.traits.private
    guessing = math.log(max(2, prepared.dataset.num_classes))
    if not (loss > LARGE_LOSS * guessing).any():
        return []
    return [
        f"the loss on test records, {loss.max():.3g}, is more than {LARGE_LOSS:g} "
        f"times that of guessing, {guessing:.3g}: training has diverged or nearly so; "
        f"give a smaller learning_rate{', or less noise' * private}."
    ]


def of_ranges(prepared: Prepared, rounds: Sequence[Mapping[str, Any]]) -> list[str]:
    """The warnings that uploads and sums beyond their ranges give reason to.

    Args:
        prepared: the run.
        rounds: the lines of its rounds.
    """
    sentences = []
    bits = _given(prepared, "quantization_bits")
    saturated, wrapped = (
        sum(line[name] or 0 for line in rounds) for name in ("saturated", "wrapped")
    )
    if saturated:
        uploads = sum(line["cohort"] - line["lost"] for line in rounds)
        share = saturated / uploads / prepared.size
        counted = f"{saturated} entries of uploads, {share:.2g} of all, reached "
        if bits is not None and bits < aggregation.FEW_BITS:
            sentences.append(
                f"{counted}the last of the integers of quantization_bits={bits}, by "
                "rounding or because they were cut off there: give more "
                "quantization_bits."
            )
        else:
            sentences.append(
                f"{counted}value_bound, where they are cut off: the sums may not be "
                "those of the clients' vectors; give a larger value_bound, or a "
                "smaller learning_rate."
            )
    if wrapped:
        sentences.append(
            f"{wrapped} entries of released sums are wrong, because the true sums are "
            "beyond their range: give a larger sum_bound, or leave it out."
        )
    shares = [line["rounding"] for line in rounds if line["rounding"] is not None]
    much = sum(share > MUCH_ROUNDING for share in shares)
    if 2 * much > len(shares):
        sentences.append(
            f"most of the released sums of {much} of {len(shares)} rounds is error of "
            f"their rounding, which swallows the clients' updates: {_finer(prepared)}."
        )
    return sentences


def _of_bound(prepared: Prepared) -> Iterator[str]:
    """The warning of a bound that cuts where no row may tell."""
    privacy, spec = prepared.privacy, prepared.spec
    if privacy is None or privacy.hidden_entry is None or not spec.encrypts:
        return
    bound = _given(prepared, "value_bound")
    if bound is not None and bound < privacy.hidden_entry:
        yield (
            f"value_bound={bound:g} cuts off what clients send before they add noise, "
            f"whose entries may reach {privacy.hidden_entry:g} (in units of clip_norm "
            "times the expected batch), and the count must not leave a client, so that "
            "no row tells: leave it out, or give that much."
        )


def _given(prepared: Prepared, name: str) -> Any:
    """A setting of the scheme that the run was asked for; None where it has none."""
    return getattr(prepared.spec.scheme.settings, name, None)


def _finer(prepared: Prepared) -> str:
    """What makes sums more precise."""
    if prepared.spec.scheme.entry.exact:
        return "give a smaller value_bound, or more quantization_bits"
    return "give a smaller precision"


@functools.cache
def _norms(model: models.Model) -> Callable[[Params, Any, Any], tuple[Array, Array]]:
    """(params, inputs, labels) -> norms of gradients: (L, B) of arrays, (B,) of all."""
    gradients_of = example_gradients(model.loss)

    def norms(params: Params, inputs: Any, labels: Any) -> tuple[Array, Array]:
        gradients = gradients_of(params, inputs, labels)
        return gradients.norms, total_norms(gradients)

    return jax.jit(norms)


def _of_clipping(
    clip_norm: float, anywhere: Sequence[float], everywhere: Sequence[float]
) -> Iterator[str]:
    """Warnings by the shares of test records that are cut, at the first and last model.

    Args:
        clip_norm: C.
        anywhere: shares, in [0, 1], of those with a parameter array that is cut.
        everywhere: shares of those of which every array is cut.
    """
    if max(anywhere) < FEW:
        yield (
            f"clip_norm={clip_norm:g} cuts the gradients of fewer than {FEW:.0%} of "
            "test records, at the first model and at the last: noise is scaled to "
            "clip_norm, so that a smaller one adds less for the same epsilon."
        )
    if min(everywhere) > NEARLY_ALL:
        yield (
            f"clip_norm={clip_norm:g} cuts the gradients of more than {NEARLY_ALL:.0%} "
            "of test records, at the first model and at the last: the run is too "
            "short or learning_rate too small, or clip_norm is far too small."
        )
