"""Warnings: what deserves one, once in the row, the console and the report."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from experiments.reports import comparison
from fedjax_private import runs
from fedjax_private.aggregation import SCHEMES
from fedjax_private.runs.warnings import CHECKED_RECORDS
from tests.runs.small import spec


def told(prepare, **settings):
    return runs.before_training(prepare(**settings))


def test_ordinary_runs_have_none(prepare):
    assert told(prepare, arm="fl") == []
    assert told(prepare, arm="fl_dp", noise_multiplier=3.0) == []
    assert told(prepare, arm="private_ai", noise_multiplier=3.0) == []


def test_a_delta_above_one_over_the_number_of_units(prepare):
    (line,) = told(prepare, arm="fl_dp", noise_multiplier=3.0, delta=0.005)
    assert line == (
        "delta=0.005 is above 1/240, one over the number of records: it allows the "
        "publication of a whole record; give a smaller delta."
    )
    assert told(prepare, arm="fl_dp", noise_multiplier=3.0, delta=1 / 240) == []
    clients = {"arm": "fl_dp", "algorithm": "dp_fedavg", "noise_multiplier": 3.0}
    assert told(prepare, **clients, delta=0.3) == []
    (line,) = told(prepare, **clients, delta=0.4)
    assert "1/3, one over the number of clients" in line


def test_an_epsilon_above_ten(prepare):
    # A Gaussian mechanism of noise multiplier 1, once: epsilon 4.9 at delta 1e-5.
    once = {"arm": "centralized_dp", "rounds": 1, "sampling_probability": 1.0}
    assert told(prepare, **once, noise_multiplier=1.0) == []
    (line,) = told(prepare, **once, noise_multiplier=0.4)
    assert line.startswith("epsilon 14.") and "is above 10 and bounds" in line
    (line,) = told(prepare, **once, noise_multiplier=0.0)
    assert line.startswith("epsilon inf is above 10")


def test_each_adversary_s_epsilon_counts(prepare):
    shared = {"arm": "private_ai", "honest_clients": 1, "clients": 9}
    lines = told(prepare, **shared, noise_multiplier=1.0)
    assert len(lines) == 1 and "against insiders is above 10" in lines[0]
    # The server is trusted: that insiders face no noise is said by the unit's words.
    central = {"arm": "fl_dp", "algorithm": "dp_fedavg", "noise_multiplier": 4.0}
    run = prepare(**central)
    assert run.privacy.epsilon_insider == math.inf
    assert runs.before_training(run) == []


def test_a_best_order_at_the_edge(prepare):
    lines = told(prepare, arm="centralized_dp", rounds=1, noise_multiplier=2000.0)
    assert len(lines) == 1 and "the best Rényi order, 4096, lies at the" in lines[0]


def test_a_grid_that_swallows_updates_is_told(train):
    def told_by(settings, **asked):
        masks = SCHEMES.choose("masks", settings)
        row = train(arm="fl_he", rounds=2, encryption=masks, **asked).row
        return [each for each in row["warnings"] if "rounding" in each]

    assert told_by({}) == []
    for settings in ({"value_bound": 1e6}, {"value_bound": 1e5}):
        (line,) = told_by(settings)
        assert line == (
            "most of the released sums of 2 of 2 rounds is error of their rounding, "
            "which swallows the clients' updates: give a smaller value_bound, or more "
            "quantization_bits."
        )


@pytest.mark.needs_openfhe
def test_a_precision_that_swallows_updates_is_told(train):
    for precision, told_of in ((1e-4, False), (10.0, True)):
        ckks = SCHEMES.choose("ckks", {"precision": precision})
        asked = {"encryption": ckks, "learning_rate": 0.01}
        row = train(arm="fl_he", rounds=2, **asked).row
        lines = [each for each in row["warnings"] if "rounding" in each]
        assert len(lines) == told_of
        assert all(line.endswith("give a smaller precision.") for line in lines)


def test_few_integers_are_not_mended_by_a_larger_bound(train):
    masks = SCHEMES.choose("masks", {"quantization_bits": 2})
    result = train(arm="fl_he", rounds=1, encryption=masks)
    assert result.row["saturated"] > 0
    (line,) = [each for each in result.row["warnings"] if "entries" in each]
    assert line.endswith("were cut off there: give more quantization_bits.")
    assert "quantization_bits=2" in line and "value_bound" not in line


def test_facts_that_were_taken_from_the_records(prepare):
    run = prepare(arm="fl_dp", noise_multiplier=3.0)
    fact = "categories=sex=* takes the categories of the column from the records."
    looked_up = dataclasses.replace(run.dataset, looked_up=(fact,))
    assert runs.before_training(dataclasses.replace(run, dataset=looked_up)) == [fact]
    plain = dataclasses.replace(prepare(arm="fl"), dataset=looked_up)
    assert runs.before_training(plain) == []


def test_clients_that_the_data_name_and_another_partition_deals_anew(blobs):
    named = dataclasses.replace(blobs.train, clients=np.arange(len(blobs.train)) % 5)
    dataset = dataclasses.replace(blobs, train=named)
    (line,) = runs.before_training(runs.prepare(spec(arm="fl", clients=2), dataset))
    assert line.startswith("the data name 5 clients, and partition=iid deals their rec")
    assert "to 2 others: give partition=natural to" in line
    for settings in ({"arm": "centralized"}, {"arm": "local", "partition": "natural"}):
        asked = spec(**{**settings, "clients": None})
        assert runs.before_training(runs.prepare(asked, dataset)) == []


@pytest.mark.parametrize(
    ("clip_norm", "expected"),
    [(1e6, "fewer than 1%"), (1e-9, "more than 99%"), (1.0, "")],
)
@pytest.mark.parametrize("arm", ["fl_dp", "private_ai"])
def test_clipping_that_cuts_nothing_or_all(arm, clip_norm, expected, prepare):
    run = prepare(arm=arm, clip_norm=clip_norm)
    first = run.model.init(jax.random.key(0))
    last = jax.tree.map(np.zeros_like, first)
    found = runs.after_training(run, first, last)
    assert len(found) == bool(expected) and expected in "".join(found)
    assert len(run.dataset.test) <= CHECKED_RECORDS


def test_the_share_is_that_of_gradients_longer_than_the_clip_norm(prepare):
    """Softmax regression's gradient is (p - y) x, here with a bias."""
    run = prepare(arm="fl_dp")
    zero = jax.tree.map(np.zeros_like, run.model.init(jax.random.key(0)))
    x = np.asarray(run.dataset.test.inputs, np.float64)
    # p = 1/3: the residual's norm is sqrt((2/3)^2 + 2 (1/3)^2).
    norms = math.sqrt(2 / 3) * np.sqrt((x**2).sum(axis=1) + 1)
    least, most = norms.min(), norms.max()
    for bound, expected in ((0.99 * least, "more than 99%"), (1.01 * most, "fewer")):
        run = prepare(arm="fl_dp", clip_norm=bound)
        (line,) = runs.after_training(run, zero, zero)
        assert expected in line
    middle = prepare(arm="fl_dp", clip_norm=float(np.median(norms)))
    assert runs.after_training(middle, zero, zero) == []


def test_layers_that_are_clipped_apart_are_judged_apart(prepare):
    """Gradients of the kernel and of the bias are (p - y) x and p - y."""
    run = prepare(arm="fl_dp")
    zero = jax.tree.map(np.zeros_like, run.model.init(jax.random.key(0)))
    x = np.asarray(run.dataset.test.inputs, np.float64)
    of_bias, of_kernels = math.sqrt(2 / 3), np.linalg.norm(x, axis=1) * math.sqrt(2 / 3)
    least, most = min(of_bias, of_kernels.min()), max(of_bias, of_kernels.max())
    assert of_bias < most
    for layer, expected in (
        (0.99 * least, "more than 99%"),
        (1.01 * of_bias, ""),
        (1.01 * most, "fewer than 1%"),
    ):
        bound = layer * math.sqrt(2)  # two parameter arrays
        run = prepare(arm="fl_dp", mechanism="per_layer", clip_norm=bound)
        found = runs.after_training(run, zero, zero)
        assert len(found) == bool(expected) and expected in "".join(found)


def test_other_clippings_and_units_are_not_judged(prepare):
    for settings in (
        {"arm": "fl_dp", "mechanism": "automatic"},
        {"arm": "fl_dp", "mechanism": "adaptive"},
        {"arm": "fl_dp", "algorithm": "dp_fedavg"},
        {"arm": "fl"},
    ):
        run = prepare(
            **settings, **({} if settings["arm"] == "fl" else {"clip_norm": 1e6})
        )
        first = run.model.init(jax.random.key(0))
        assert runs.after_training(run, first, first) == []


def test_a_loss_far_above_that_of_guessing_is_told(prepare):
    run = prepare(arm="fl")  # three classes, whose guesser loses log 3
    assert runs.warnings.of_loss(run, np.array([0.5, 109.8])) == []
    (told,) = runs.warnings.of_loss(run, np.array([0.5, 109.9]))
    assert told.startswith("the loss on test records, 110, is more than 100 times")
    assert told.endswith("give a smaller learning_rate.")


def test_rows_and_reports_have_them_once(train):
    result = train(arm="fl_dp", clip_norm=1e6, delta=0.1, noise_multiplier=3.0)
    warnings = result.row["warnings"]
    found = [line.split()[0] for line in warnings]
    assert found == ["delta=0.1", "clip_norm=1e+06", "the"]
    assert "times that of guessing, 1.1: " in warnings[2]
    assert warnings[2].endswith("give a smaller learning_rate, or less noise.")
    other = dict(result.row, seed=1)
    (head, lines) = comparison.warnings([result.row, other])
    assert head == "## Warnings" and lines.splitlines() == [f"- {w}" for w in warnings]
    assert comparison.warnings([train(arm="fl").row]) == []


@pytest.mark.needs_openfhe
@pytest.mark.parametrize("name", ["ckks", "exact"])
def test_uploads_and_sums_beyond_their_ranges_are_told_with_their_number(name, train):
    asked = {"arm": "fl_he", "rounds": 2}
    narrow = SCHEMES.choose(name, {"value_bound": 0.01})
    result = train(**asked, encryption=narrow)
    row, count = result.row, sum(line["saturated"] for line in result.rows)
    assert row["saturated"] == count > 0
    assert row["wrapped"] == 0
    (line,) = [each for each in row["warnings"] if "value_bound" in each]
    assert line.startswith(f"{count} entries of uploads, ")
    share = float(line.split(", ")[1].split()[0])
    assert share == pytest.approx(count / 6 / result.prepared.size, rel=0.1)
    assert line in "\n".join(comparison.warnings([row]))
    # Uploads fit, and their sum does not.
    narrow = {"value_bound": 1.0, "sum_bound": 1.0, "quantization_bits": 8}
    result = train(**asked, encryption=SCHEMES.choose("exact", narrow))
    row = result.row
    assert row["saturated"] == 0
    assert row["wrapped"] == sum(line["wrapped"] for line in result.rows)
    told = [each for each in row["warnings"] if "sum_bound" in each]
    assert len(told) == bool(row["wrapped"])


@pytest.mark.needs_openfhe
def test_the_natural_call_has_a_range_that_fits(train):
    settings = {"rounds": 3}
    plain = train(arm="fl", **settings)
    for name in ("exact", "ckks"):
        result = train(arm="fl_he", encryption=name, **settings)
        assert (result.row["saturated"], result.row["wrapped"]) == (0, 0)
        assert result.row["warnings"] == plain.row["warnings"]
        assert abs(result.accuracy - plain.accuracy) <= 0.02


@pytest.mark.needs_openfhe
def test_counts_that_epsilon_does_not_cover_stay_with_the_clients(train):
    def row_of(**settings):
        return train(encryption="exact", rounds=1, noise_multiplier=3.0, **settings).row

    shared = row_of(arm="private_ai")
    assert (shared["saturated"], shared["wrapped"]) == (None, 0)
    central = row_of(arm="private_ai_local", algorithm="dp_fedavg")
    assert (central["saturated"], central["wrapped"]) == (None, 0)
    # All noise is in each upload, so that the count follows from what epsilon covers.
    local = row_of(arm="private_ai_local")
    assert (local["saturated"], local["wrapped"]) == (0, 0)


@pytest.mark.parametrize("bound, told_of", [(0.33, True), (0.34, False), (None, False)])
def test_a_bound_that_cuts_uncounted_is_told_before_training(bound, told_of, prepare):
    # Of three clients, each sends a third of the mean clipped gradient at most.
    masks = SCHEMES.choose("masks", {} if bound is None else {"value_bound": bound})
    asked = {"noise_multiplier": 3.0, "encryption": masks}
    lines = told(prepare, arm="private_ai", **asked)
    assert len(lines) == told_of
    for line in lines:
        assert "value_bound=0.33 cuts off" in line and "0.333333" in line
    # Without shared noise the count is no secret, and rows have it.
    assert told(prepare, arm="private_ai_local", **asked) == []
