import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from fedjax_private import algorithms, simulation
from fedjax_private.aggregation import make
from fedjax_private.aggregation.plain import PlainAggregation
from fedjax_private.algorithms.dopamine import (
    DopamineSettings,
    Setting,
    dopamine,
    dopamine_setting,
)
from fedjax_private.datasets import ClientData
from fedjax_private.privacy import GaussianNoise, gaussian
from fedjax_private.privacy.accounting import Neighbors, NoPrivacy, RdpAccountant
from fedjax_private.trust import Adversary, Decryptor, Trust

# Three hospitals, of which two do not collude.
TRUST = Trust(3, Decryptor.KEY_AUTHORITY, honest=2)
SETTINGS = DopamineSettings(
    TRUST,
    records=3,
    sampling_probability=1.0,
    clip_norm=1.0,
    noise_multiplier=1.5,
    neighbors=Neighbors.ADD_REMOVE,
    learning_rate=0.5,
    local_steps=1,
)
QUIET = dataclasses.replace(SETTINGS, noise_multiplier=0.0)
START = {"w": jnp.zeros(2)}
# All records lie on one line through the start: 5, 0.3 and 10 along this direction.
LINE = np.array([0.6, 0.8], np.float32)
ROOTS = simulation.root_keys(0, 0)


def loss(params, inputs, labels):
    """Half the squared distance from w to the record."""
    return 0.5 * ((params["w"] - inputs.reshape(-1, 2)) ** 2).sum(axis=1)


def shards(*hospitals, length=3):
    """Each hospital's records, points (n, 2); padding would be noticed."""
    inputs = np.full((len(hospitals), length, 1, 1, 2), 99, np.float32)
    mask = np.zeros((len(hospitals), length), bool)
    for hospital, records in enumerate(hospitals):
        inputs[hospital, : len(records), 0, 0] = records
        mask[hospital, : len(records)] = True
    return ClientData(inputs, mask.astype(np.int32), mask)


RECORDS = np.array([5.0, 0.3, 10.0], np.float32)[:, None] * LINE
ONE_EACH = shards(*np.split(RECORDS, 3))


def secure(size):
    """Stands in for an encrypted sum."""
    return PlainAggregation(size, TRUST)


def setting(which, settings=QUIET, sums=secure):
    return dopamine_setting(which, settings, loss, sums, START)


def trained(run, data, rounds):
    """The weights after each round, (rounds, 2)."""
    nothing = simulation.Evaluation(np.zeros(1), np.zeros(1))
    seen = []

    def evaluate(params):
        seen.append(np.asarray(params["w"])[0])
        return nothing

    schedule = simulation.cohorts(0, rounds, run.clients)
    done = simulation.simulate(
        run.algorithm,
        run.aggregation,
        run.shards(data),
        START,
        schedule,
        ROOTS,
        evaluate=evaluate,
    )
    assert len(list(done)) == rounds
    return np.array(seen)


@pytest.fixture(scope="module")
def noisy():
    return setting(Setting.FSCDP, SETTINGS)


# Along the line, clipped gradients at 0 are -1, -0.3 and -1, a mean of -23/30: w moves
# to 23/60. There they are -1, 23/60 - 0.3 = 1/12 and -1, a mean of -23/36, of which
# momentum makes -(0.9 x 23/30 + 23/36). Unclipped, the means are -5.1 and 2.55 - 5.1.
# FedAvg starts its momentum afresh.
FIRST = 23 / 60
SECOND = FIRST + 0.5 * (0.9 * 23 / 30 + 23 / 36)
BY_HAND = {
    Setting.C: (2.55, 2.55 + 0.5 * (0.9 * 5.1 + 2.55)),
    Setting.F: (2.55, 2.55 + 0.5 * 2.55),
    Setting.CDP: (FIRST, SECOND),
    Setting.FPDP: (FIRST, FIRST + 0.5 * 23 / 36),
    Setting.FSCDP: (FIRST, SECOND),
}


@pytest.mark.parametrize("which", Setting)
def test_two_rounds_without_noise_are_those_worked_out_by_hand(which):
    # Clipping keeps a margin of 1e-5.
    got = trained(setting(which), ONE_EACH, 2)
    np.testing.assert_allclose(got, np.outer(BY_HAND[which], LINE), rtol=2e-5)


def test_the_released_sum_is_central_dp_sgd_with_the_same_noise(noisy):
    steps = trained(noisy, ONE_EACH, 2)
    bounded = SETTINGS.plan().bounded_sum(loss)

    def share(key):
        return gaussian(jax.random.fold_in(key, 0), (2,), 1.5 / math.sqrt(3))

    @jax.jit
    def noisy_sum(params, number):
        keys = [algorithms.client_key(ROOTS.noise, number, k) for k in range(3)]
        noise = jax.vmap(share)(jnp.stack(keys)).sum(axis=0)
        every = np.zeros(3, np.int32), np.ones(3, bool)
        return bounded.sum(params, RECORDS, *every, ())["w"] + noise

    params, momentum, expected = START, np.zeros(2), []
    for number in (1, 2):
        momentum = 0.9 * momentum + np.asarray(noisy_sum(params, number)) / 3
        params = {"w": params["w"] - 0.5 * momentum}
        expected.append(params["w"])
    np.testing.assert_allclose(steps, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(steps - np.outer((FIRST, SECOND), LINE)).max() > 0.05


@pytest.mark.parametrize(
    "parts",
    [
        [RECORDS, RECORDS[:0], RECORDS[:0]],
        [RECORDS[:0], RECORDS[:1], RECORDS[1:]],
    ],
)
def test_how_records_are_spread_does_not_matter(noisy, parts):
    got = trained(noisy, shards(*parts), 2)
    np.testing.assert_allclose(got, trained(noisy, ONE_EACH, 2), rtol=1e-5, atol=1e-6)


def test_the_shares_of_a_sum_carry_the_noise_of_central_dp():
    settings = dataclasses.replace(SETTINGS, clip_norm=0.5, sampling_probability=0.5)
    plan = settings.shared_plan()
    share = jax.jit(lambda key: plan.share(key, jnp.zeros(1_000_000), ())[0])
    slots = [np.asarray(share(jax.random.key(k))) for k in range(3)]
    # sigma^2 C^2 = 1.5^2 x 0.5^2, over the unit C q N = 0.5 x 0.5 x 3.
    expected = 0.5625 / 0.75**2
    assert np.var(sum(slots)) == pytest.approx(expected, rel=0.02)
    assert np.var(slots[0]) == pytest.approx(expected / 3, rel=0.02)


def rdp_epsilon(noise_multiplier, steps, delta=1e-5):
    """Of unsampled Gaussian steps, by Canonne, Kamath, Steinke 2020, proposition 12."""

    def at(log_slope):
        order = 1 + math.exp(log_slope)
        rdp = steps * order / (2 * noise_multiplier**2)
        left = math.log(1 / delta) - math.log(order)
        return rdp + math.log1p(-1 / order) + left / (order - 1)

    return optimize.minimize_scalar(at, bounds=(-6, 8), method="bounded").fun


@pytest.mark.parametrize(
    ("which", "adversary", "noise_multiplier", "steps"),
    [
        (Setting.CDP, Adversary.OUTSIDERS, 12.0, 40),
        (Setting.FSCDP, Adversary.OUTSIDERS, 12.0, 40),
        (Setting.FSCDP, Adversary.INSIDERS, 12 * math.sqrt(2 / 3), 40),
        (Setting.FPDP, Adversary.OUTSIDERS, 12.0, 200),
        (Setting.FPDP, Adversary.INSIDERS, 12.0, 200),
    ],
)
def test_epsilon_of_each_setting(which, adversary, noise_multiplier, steps):
    settings = dataclasses.replace(SETTINGS, noise_multiplier=12.0, local_steps=5)
    event = setting(which, settings).event(40, adversary)
    books = RdpAccountant(neighbors=Neighbors.ADD_REMOVE).compose(event)
    expected = rdp_epsilon(noise_multiplier, steps)
    assert books.epsilon(1e-5) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("which", "outsiders", "insiders"),
    [
        (Setting.C, "nobody", "nobody"),
        (Setting.F, "nobody", "nobody"),
        (Setting.CDP, "everybody but", "everybody but"),
        (Setting.FPDP, "everybody:", "everybody:"),
        (Setting.FSCDP, "the world and the server", "all hospitals but 2 of 3"),
    ],
)
def test_each_setting_names_its_adversaries(which, outsiders, insiders):
    run = setting(which)
    assert outsiders in run.against() and insiders in run.against(Adversary.INSIDERS)
    assert run.clients == (1 if which in (Setting.C, Setting.CDP) else 3)
    assert (run.aggregation is None) == run.summed.startswith("nothing")
    assert (run.plan is None) == (run.event(2).event == NoPrivacy())


def test_insiders_with_the_secret_key_face_no_noise():
    trust = Trust(3, Decryptor.EVERY_CLIENT)
    settings = dataclasses.replace(SETTINGS, trust=trust)
    run = setting(Setting.FSCDP, settings, lambda size: PlainAggregation(size, trust))
    assert run.event(2, Adversary.INSIDERS).event == NoPrivacy()
    assert run.against(Adversary.INSIDERS).endswith("who read uploads")


def test_each_hospital_divides_by_its_part_of_the_public_batch():
    settings = dataclasses.replace(SETTINGS, records=60, sampling_probability=0.5)
    assert setting(Setting.FPDP, settings).plan.expected_batch_size == 10
    assert setting(Setting.CDP, settings).plan.expected_batch_size == 30
    shared = setting(Setting.FSCDP, settings).plan
    assert shared.plan.expected_batch_size == 30
    assert shared.plan.noise == GaussianNoise(1.5 / math.sqrt(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"records": 0}, "records"),
        ({"sampling_probability": 1.5}, "sampling probability"),
        ({"clip_norm": 0.0}, "clip norm"),
        ({"noise_multiplier": -1.0}, "noise multiplier"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"momentum": 1.0}, "momentum"),
        ({"local_steps": 0}, "local_steps"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SETTINGS, **change)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"momentum": -0.1}, "momentum"),
        ({"physical_batch_size": 0}, "physical batch"),
    ],
)
def test_a_server_step_out_of_range(options, message):
    options = {"learning_rate": 0.5, **options}
    with pytest.raises(ValueError, match=message):
        dopamine(
            loss,
            SETTINGS.shared_plan(),
            codec=secure(2).codec,
            params_like=START,
            **options,
        )


def test_sums_that_do_not_fit_are_refused():
    plain = Trust(3, Decryptor.NOBODY_NEEDED)
    with pytest.raises(ValueError, match="another trust model"):
        setting(Setting.F, sums=lambda size: PlainAggregation(size, plain))
    reading = dataclasses.replace(SETTINGS, trust=plain)
    with pytest.raises(ValueError, match="name who decrypts"):
        setting(
            Setting.FSCDP,
            reading,
            lambda size: make("none", vector_size=size, trust=plain),
        )

    class Exact(PlainAggregation):
        codec = dataclasses.replace(
            secure(2).codec, encode=lambda key, vector: vector.astype(jnp.int32)
        )

    with pytest.raises(ValueError, match="exact aggregation"):
        setting(Setting.FSCDP, sums=lambda size: Exact(size, TRUST))
