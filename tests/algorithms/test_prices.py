"""Prices of runs against numbers worked out without the library's accountant."""

import dataclasses
import math

import numpy as np
import pytest

from fedjax_private import runs
from fedjax_private.aggregation import SCHEMES
from fedjax_private.algorithms import ALGORITHMS
from fedjax_private.algorithms.nbafl import uplink_noise
from fedjax_private.datasets import load
from fedjax_private.privacy import DiscreteGaussianNoise
from fedjax_private.privacy.accounting import (
    Gaussian,
    Neighbors,
    NoPrivacy,
    Poisson,
    Repeated,
)
from fedjax_private.trust import Adversary
from tests.algorithms.closed_forms import gaussian_epsilon, sampled_epsilon

PRIVATE_ARMS = [name for name, arm in runs.ARMS.items() if arm.private]
SIZE = 7850  # parameters of the linear model


@pytest.fixture(scope="module")
def dataset():
    return load("mnist_5k")


@pytest.fixture(scope="module")
def prepare(dataset):
    def prepared(arm="private_ai", encryption="ckks", sums=None, **values):
        values = {"clients": 8, "rounds": 3, "model": "linear"} | values
        if runs.ARMS[arm].pooled:
            del values["clients"]
        if runs.ARMS[arm].encrypted:
            values["encryption"] = SCHEMES.choose(encryption, sums)
        return runs.prepare(runs.Spec(arm=arm, **values), dataset)

    return prepared


# Local noise.


def test_the_default_is_what_it_has_always_been(prepare, dataset):
    plan = prepare("fl_dp", clients=4, noise_multiplier=1.5).privacy.plan
    assert plan.event(6).event == Poisson(0.5, Gaussian(1.5))
    assert plan.expected_batch_size == 0.5 * len(dataset.train) / 4


def test_local_noise_costs_the_busiest_client_its_own_steps(prepare):
    """Two sampled steps a round; with a cohort, in the rounds that it takes part in."""
    privacy = prepare("fl_dp", noise_multiplier=1.5).privacy
    assert (privacy.steps, privacy.steps_per_round) == (6, 2)
    assert privacy.epsilon == pytest.approx(sampled_epsilon(0.5, 1.5, 6), rel=2e-3)
    assert privacy.epsilon_insider == privacy.epsilon
    run = prepare("fl_dp", noise_multiplier=1.5, rounds=6, cohort=2)
    busiest = np.bincount(np.concatenate(run.schedule)).max()
    assert 1 < busiest < 6
    assert run.privacy.steps == 2 * busiest
    expected = sampled_epsilon(0.5, 1.5, 2 * busiest)
    assert run.privacy.epsilon == pytest.approx(expected, rel=2e-3)


def test_pooled_data_have_no_insiders(prepare):
    privacy = prepare("centralized_dp", noise_multiplier=4.0).privacy
    assert privacy.epsilon == pytest.approx(gaussian_epsilon(4.0, 3), rel=2e-3)
    assert privacy.epsilon_insider is None
    assert privacy.against == {
        Adversary.OUTSIDERS: "everyone but whoever holds the data"
    }


def test_local_noise_is_the_other_arm_s(prepare):
    told, other = prepare(noise="local"), prepare("private_ai_local")
    assert told.privacy == other.privacy
    assert told.scheme == other.scheme
    assert told.hyperparameters == other.hyperparameters
    assert not told.spec.shares_noise
    assert told.privacy.epsilon == told.privacy.epsilon_insider
    shared = prepare("private_ai_local", noise="distributed")
    assert shared.privacy == prepare().privacy


@pytest.mark.parametrize("arm", PRIVATE_ARMS)
@pytest.mark.parametrize("name", ["banded", "adaptive", "per_layer", "automatic"])
def test_every_named_mechanism_meets_the_target(prepare, arm, name):
    if name == "adaptive" and runs.ARMS[arm].shared:
        with pytest.raises(ValueError, match=r"AdaptiveClipping.*noise=local"):
            prepare(arm, mechanism=name)
        return
    privacy = prepare(arm, mechanism=name, clients=4, epsilon=2.0).privacy
    assert 1.99 < privacy.epsilon <= 2.0


# Shared noise.


@pytest.mark.parametrize(("honest", "facing"), [(None, 7), (4, 4)])
def test_shared_noise_against_each_adversary(prepare, honest, facing):
    """All eight shares make up sigma; insiders face those of the honest clients."""
    run = prepare(noise_multiplier=4.0, honest_clients=honest)
    privacy = run.privacy
    assert (privacy.steps, privacy.steps_per_round) == (3, 1)
    assert privacy.epsilon == pytest.approx(gaussian_epsilon(4.0, 3), rel=2e-3)
    insiders = gaussian_epsilon(4.0 * math.sqrt(facing / 8), 3)
    assert privacy.epsilon_insider == pytest.approx(insiders, rel=2e-3)
    assert privacy.plan.plan.noise.noise_multiplier == 4.0 / math.sqrt(8)
    assert f"all clients but {facing} of every 8" in privacy.against[Adversary.INSIDERS]
    # In units of the clip norm over 4000 records, all of which are drawn.
    settings = run.scheme.settings
    assert settings.sum_bound == pytest.approx(1.25 + 8 * 4.0 / 4000)
    assert settings.value_bound == settings.sum_bound
    assert privacy.residues
    assert privacy.plan.value_bound is None


def test_more_uploads_than_a_sum_must_hold_widen_its_range(prepare):
    """A sum of eight carries twice the variance of the four that are counted."""
    run = prepare(noise_multiplier=4.0, min_uploads=4)
    assert run.privacy.epsilon == pytest.approx(gaussian_epsilon(4.0, 3), rel=2e-3)
    bound = run.scheme.settings.value_bound
    assert bound == pytest.approx(1.25 + 8 * 4.0 * math.sqrt(2) / 4000)


def test_exact_sums_round_which_costs_a_tenth_at_most(prepare):
    run = prepare(encryption="exact", noise_multiplier=4.0)
    least, most = (gaussian_epsilon(sigma, 3) for sigma in (4.0, 4.0 / 1.1))
    assert least < run.privacy.epsilon < most
    assert run.privacy.residues
    assert run.scheme.settings.value_bound == pytest.approx(1.0 + 6 * 4.0 / 4000)
    assert run.scheme.settings.quantization_bits < 24


def test_exact_sums_take_whole_number_noise_only(prepare):
    run = prepare(encryption="exact", mechanism="per_layer")
    assert isinstance(run.privacy.plan.plan.noise, DiscreteGaussianNoise)
    with pytest.raises(ValueError, match=r"BandedNoise.*encryption=ckks"):
        prepare(encryption="exact", mechanism="banded")


@pytest.mark.parametrize("lacking", [{"cohort": 4}, {"drop_out": 0.1}])
def test_correlated_noise_needs_everybody_in_every_round(prepare, lacking):
    with pytest.raises(ValueError, match="leave out cohort and drop_out"):
        prepare(mechanism="banded", min_uploads=2, **lacking)


@pytest.mark.parametrize(
    ("privacy", "encryption", "sums", "named"),
    [
        ({}, "none", {}, "encryption=none"),
        ({}, "ckks", {"protect": False}, "protect=False"),
        ({"min_uploads": 9}, "ckks", {}, "min_uploads"),
        ({"local_steps": 2}, "ckks", {}, "take one step a round"),
        ({}, "ckks", {"encrypted_fraction": 0.5}, "encrypted_fraction"),
        ({"honest_clients": 9}, "ckks", {}, "between 1 and the 8 uploads"),
        (
            {"honest_clients": 3, "min_uploads": 2},
            "ckks",
            {},
            "between 1 and the 2 uploads",
        ),
        (
            {"epsilon_against": "insiders"},
            "ckks",
            {"key_holder": "clients"},
            "cannot be met",
        ),
        (
            {"epsilon_against": "insiders", "honest_clients": 3},
            "threshold_exact",  # 5 of 8 decrypt, and 5 collude
            {},
            "recovery_threshold",
        ),
    ],
)
def test_what_leaves_no_shared_noise_is_refused(
    prepare, privacy, encryption, sums, named
):
    with pytest.raises(ValueError, match=named):
        prepare(encryption=encryption, sums=sums, **privacy)


@pytest.mark.parametrize(
    ("sums", "ways"),
    [
        ({"quantization_bits": 4}, "give more quantization_bits, or more noise"),
        ({"sum_bound": 1e6}, "a smaller sum_bound, or more noise"),
        ({"value_bound": 1e6}, "a smaller value_bound, or more noise"),
    ],
)
def test_a_grid_too_coarse_for_shares_is_refused_in_the_run_s_terms(
    prepare, sums, ways
):
    words = f"quantization_bits=.* makes a grid too coarse .*{ways}"
    with pytest.raises(ValueError, match=words):
        prepare(encryption="masks", sums=sums, noise_multiplier=0.5)


@pytest.mark.parametrize("encryption", ["ckks", "exact", "threshold_exact"])
@pytest.mark.parametrize("honest", [None, 5])
def test_the_target_can_be_met_against_insiders(prepare, encryption, honest):
    run = prepare(
        encryption=encryption,
        epsilon_against="insiders",
        honest_clients=honest,
        epsilon=2.0,
        rounds=2,
    ).privacy
    assert run.epsilon < 1.98 < run.epsilon_insider <= 2.0
    share = run.plan.plan.noise.noise_multiplier  # sigma is divided among the honest
    assert share == pytest.approx(run.noise_multiplier / math.sqrt(honest or 7))


def test_insiders_who_read_uploads_face_no_noise(prepare):
    privacy = prepare(sums={"key_holder": "clients"}, epsilon=2.0).privacy
    assert privacy.epsilon <= 2.0 < privacy.epsilon_insider == math.inf
    assert privacy.event(1, Adversary.INSIDERS).event == NoPrivacy()


# Truex.


@pytest.mark.parametrize(("honest", "facing"), [(None, 7), (3, 3)])
def test_truex_claims_fewer_shares_than_there_are(prepare, honest, facing):
    """Each party adds sigma^2 / (t - 1): outsiders face n of these, insiders t."""
    values = {"algorithm": "truex", "honest_clients": honest}
    run = prepare(noise_multiplier=4.0, **values)
    privacy, one = run.privacy, 4.0 / math.sqrt(facing - 1)
    assert privacy.noise_multiplier == 4.0
    assert privacy.plan.plan.noise.noise_multiplier == one
    for got, sigma in [
        (privacy.claimed, 4.0),
        (privacy.epsilon, one * math.sqrt(8)),
        (privacy.epsilon_insider, one * math.sqrt(facing)),
    ]:
        assert got == pytest.approx(gaussian_epsilon(sigma, 3), rel=2e-3)
    # The range has room for the noise of all eight.
    bound = run.scheme.settings.value_bound
    assert bound == pytest.approx(1.25 + 8 * one * math.sqrt(8) / 4000)
    target = prepare(epsilon=2.0, **values).privacy
    assert 1.99 < target.epsilon <= 2.0
    assert target.epsilon < target.epsilon_insider < target.claimed


@pytest.mark.parametrize(
    ("values", "sums", "named"),
    [
        ({"honest_clients": 1}, {}, "honest must lie between 2 and the 8 parties"),
        ({}, {"key_holder": "clients"}, "colluding parties decrypt single uploads"),
    ],
)
def test_truex_refuses_trust_models_without_its_guarantee(prepare, values, sums, named):
    with pytest.raises(ValueError, match=named):
        prepare(algorithm="truex", sums=sums, **values)


# NbAFL.


def nbafl(**settings):
    return {"algorithm": ALGORITHMS.choose("nbafl", settings)}


def test_nbafl_s_claim_gives_the_paper_s_noise(prepare):
    """c L 2C / (m epsilon), with shards of 500 records on average."""
    run = prepare("fl_dp", clip_norm=2.0, **nbafl(nbafl_claim=0.03, exposures=2))
    c = math.sqrt(2 * math.log(1.25e5))
    stddev = c * 2 * (2 * 2.0 / 500) / 0.03
    privacy = run.privacy
    assert uplink_noise(privacy.plan) == pytest.approx(stddev)
    assert privacy.noise_multiplier == pytest.approx(stddev / 2.0)
    assert privacy.claimed == 0.03
    # What clipping ensures: weights move by 2C, in each of three uploads.
    expected = gaussian_epsilon(stddev / 4.0, 3)
    assert privacy.epsilon == pytest.approx(expected, rel=2e-3)
    assert privacy.epsilon_insider == privacy.epsilon
    assert privacy.neighbors is Neighbors.REPLACE_ONE


@pytest.mark.parametrize("exposures", [None, 1])
def test_nbafl_s_noise_meets_a_target(prepare, exposures):
    privacy = prepare("fl_dp", epsilon=2.0, **nbafl(exposures=exposures)).privacy
    expected = gaussian_epsilon(privacy.noise_multiplier / 2, 3)
    assert privacy.epsilon == pytest.approx(expected, rel=2e-3)
    assert 1.99 < privacy.epsilon <= 2.0
    stddev = uplink_noise(privacy.plan)
    assert stddev == pytest.approx(5.0 * privacy.noise_multiplier)
    event = privacy.event(privacy.steps, Adversary.OUTSIDERS)
    assert event == Repeated(Gaussian(stddev / 5.0), 3)


def test_nbafl_charges_the_uploads_of_the_busiest_client(prepare):
    run = prepare("fl_dp", cohort=2, rounds=6, noise_multiplier=6.0, **nbafl())
    busiest = np.bincount(np.concatenate(run.schedule)).max()
    assert 1 < busiest < 6
    assert run.privacy.steps == busiest
    expected = gaussian_epsilon(3.0, busiest)
    assert run.privacy.epsilon == pytest.approx(expected, rel=2e-3)
    assert (run.privacy.plan.rounds, run.privacy.plan.cohort) == (6, 2)


@pytest.mark.parametrize(("encryption", "deviations"), [("ckks", 8), ("exact", 6)])
def test_nbafl_s_sums_have_room_for_its_noise(prepare, encryption, deviations):
    run = prepare("private_ai_local", encryption, noise_multiplier=6.0, **nbafl())
    mean = 5.0 * 6.0 / math.sqrt(8)
    settings = run.scheme.settings
    upload = (5.0 + deviations * 5.0 * 6.0) / 8
    assert settings.value_bound == pytest.approx(upload)
    total = 5.0 + deviations * mean
    # Exact sums hold eight of the largest uploads.
    expected = None if encryption == "exact" else pytest.approx(total)
    assert settings.sum_bound == expected
    asked = {"value_bound": 7.0}
    given = prepare("private_ai_local", encryption, asked, **nbafl())
    assert given.scheme.settings.value_bound == 7.0


@pytest.mark.parametrize(
    ("values", "settings", "named"),
    [
        ({"noise_multiplier": 1.0}, {"nbafl_claim": 50.0}, "nbafl_claim takes its"),
        ({}, {"exposures": 4}, "exposures must lie between 1 and 3"),
    ],
)
def test_nbafl_refuses_settings_that_exclude_each_other(
    prepare, values, settings, named
):
    with pytest.raises(ValueError, match=named):
        prepare("fl_dp", **values, **nbafl(**settings))


# Client-level DP-FedAvg.

CLIENT_LEVEL = {"algorithm": "dp_fedavg", "sampling_probability": 0.3}


def test_client_level_noise_costs_a_client_its_sampled_rounds(prepare):
    run = prepare("fl_dp", noise_multiplier=1.2, **CLIENT_LEVEL)
    privacy = run.privacy
    assert privacy.epsilon == pytest.approx(sampled_epsilon(0.3, 1.2, 3), rel=2e-3)
    assert privacy.epsilon_insider == math.inf
    assert privacy.neighbors is Neighbors.ADD_REMOVE
    assert (privacy.steps, privacy.steps_per_round) == (3, 1)
    assert all(len(cohort) == 8 for cohort in run.schedule)
    plan = privacy.plan
    assert (plan.clients, plan.sampling_probability, plan.rounding) == (8, 0.3, 0.0)
    target = prepare("fl_dp", epsilon=2.0, **CLIENT_LEVEL).privacy
    assert 1.99 < target.epsilon <= 2.0


@pytest.mark.parametrize("bits", [None, 12])
def test_exact_sums_add_their_rounding_to_a_client_s_sensitivity(prepare, bits):
    sums = {"quantization_bits": bits}
    values = {"noise_multiplier": 1.2, "clip_norm": 0.5, **CLIENT_LEVEL}
    run = prepare("private_ai_local", "exact", sums, **values)
    settings = run.scheme.settings
    # A difference of norm 0.5, and 1 % more; and eight of them.
    assert settings.value_bound == pytest.approx(0.505)
    assert settings.sum_bound == pytest.approx(4.04)
    assert settings.quantization_bits == (bits or 15)
    step = 0.505 / (2 ** (settings.quantization_bits - 1) - 1)
    rounding = math.sqrt(SIZE) * step
    assert run.privacy.plan.rounding == pytest.approx(rounding)
    assert (rounding > 0.005) is (bits == 12)
    expected = sampled_epsilon(0.3, 1.2 / (1 + rounding / 0.5), 3)
    assert run.privacy.epsilon == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("encryption", ["ckks", "exact"])
def test_sums_that_central_noise_follows_must_not_leave_their_range(
    prepare, encryption
):
    for ranges, sentence in (
        ({"value_bound": 0.9}, "value_bound must be at least 1.*a client's difference"),
        ({"sum_bound": 7.9}, "sum_bound must be at least 8.*sum of 8 differences"),
    ):
        with pytest.raises(ValueError, match=sentence):
            prepare("private_ai_local", encryption, ranges, **CLIENT_LEVEL)


@pytest.mark.parametrize("encryption", ["ckks", "exact"])
def test_a_bound_on_what_clients_send_makes_shared_sums_narrower(prepare, encryption):
    """Eight clients that send 0.01 at most add up to 0.08, and the noise."""
    run = prepare("private_ai", encryption, {"value_bound": 0.01}, noise_multiplier=4.0)
    settings, deviations = run.scheme.settings, 6 if encryption == "exact" else 8
    assert settings.value_bound == run.privacy.plan.value_bound == 0.01
    assert settings.sum_bound == pytest.approx(0.08 + deviations * 4.0 / 4000)
    given = prepare("private_ai", encryption, {"sum_bound": 3.0}).scheme.settings
    assert (given.value_bound, given.sum_bound) == (3.0, 3.0)
    wide = prepare("private_ai", encryption, {"value_bound": 3.0}).scheme.settings
    assert (wide.value_bound, wide.sum_bound) == (3.0, 3.0)


def test_no_noise_protects_clients_from_a_trusted_server(prepare):
    with pytest.raises(ValueError, match="server is trusted"):
        prepare("fl_dp", epsilon_against="insiders", **CLIENT_LEVEL)


def test_prices_compare_by_their_numbers(prepare):
    first, again = (prepare(noise_multiplier=4.0).privacy for _ in range(2))
    assert first == again
    assert dataclasses.replace(first, steps=2) != again
