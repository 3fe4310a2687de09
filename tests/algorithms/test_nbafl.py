import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fedjax_private import simulation
from fedjax_private.aggregation import make
from fedjax_private.algorithms.nbafl import (
    NbaflSettings,
    downlink_noise,
    event,
    nbafl,
    uplink_noise,
)
from fedjax_private.clients import Trainer
from fedjax_private.clients.training import TrainState
from fedjax_private.datasets import ClientData
from fedjax_private.privacy.accounting import Gaussian, Repeated
from fedjax_private.trust import Decryptor, Trust
from fedjax_private.typing import ClientKeys

# At this delta c = sqrt(2 ln(1.25 / delta)) is 4.
SETTINGS = NbaflSettings(
    clip_norm=1.5,
    epsilon=2.0,
    delta=1.25 * math.exp(-8),
    rounds=6,
    exposures=3,
    clients=4,
    smallest_shard=60,
)
QUIET = dataclasses.replace(SETTINGS, epsilon=math.inf)
# Client k trains the two weights from wherever they are by this.
MOVES = np.array([[3, 4], [0, 1], [-2, 0], [0, 0]], np.int32)
START = {"w": jnp.array([0.0, 0.5])}


def moving(state, data, keys):
    moved = state.params["w"] + data.labels.astype(jnp.float32)
    return state._replace(params={"w": moved}), {"loss": jnp.float32(1)}


TRAINER = Trainer(lambda params: TrainState(params, ()), moving)
STAYING = Trainer(TRAINER.init, lambda state, data, keys: (state, {}))


def run(trainer, settings, params, labels, schedule):
    """The global weights before the first round and after each, as vectors."""
    clients, count = labels.shape
    data = ClientData(
        np.zeros((clients, count, 1, 1, 1), np.uint8), labels, np.ones(labels.shape)
    )
    trust = Trust(len(schedule[0]), Decryptor.NOBODY_NEEDED)
    scheme = make("none", vector_size=params["w"].size, trust=trust)
    done = simulation.simulate(
        nbafl(trainer, settings, scheme.codec, params),
        scheme,
        data,
        params,
        schedule,
        simulation.root_keys(0),
        evaluate=lambda stack: simulation.Evaluation(np.zeros(1), np.zeros(1)),
    )
    return [np.asarray(one.server_state.params["w"]) for one in done]


def clipped(vector, norm=SETTINGS.clip_norm):
    return vector * min(1.0, norm / max(np.linalg.norm(vector), 1e-30))


def test_noise_worked_out_by_hand():
    # 4 x 3 x (2 x 1.5 / 60) / 2
    assert uplink_noise(SETTINGS) == pytest.approx(0.3)
    # L sqrt(N) = 6 rounds need no downlink noise; 10 need
    # 2 x 4 x 1.5 sqrt(100 - 36) / (60 x 4 x 2).
    assert downlink_noise(SETTINGS) == 0.0
    longer = dataclasses.replace(SETTINGS, rounds=10)
    assert uplink_noise(longer) == pytest.approx(0.3)
    assert downlink_noise(longer) == pytest.approx(0.2)


def test_noise_under_random_scheduling():
    """epsilon / T = ln(4/3), amplified from ln 2: 1 - 1/2 + 1/2 e^-ln(2) = 3/4."""
    halved = dataclasses.replace(
        SETTINGS, rounds=10, epsilon=10 * math.log(4 / 3), exposures=1, cohort=2
    )
    up, down = uplink_noise(halved), downlink_noise(halved)
    assert up == pytest.approx(4 * 0.05 / (10 * math.log(4 / 3)))
    # The mean of two uploads and the server's noise are what ln 2 asks for.
    assert math.hypot(up / math.sqrt(2), down) == pytest.approx(
        4 * 0.05 / 2 / math.log(2)
    )
    # No sample needs noise that spends more than ln(N / (N - K)) a broadcast anyway.
    few = dataclasses.replace(halved, rounds=2)
    assert downlink_noise(few) == 0.0
    # epsilon / g is where it begins.
    epsilon = 0.3
    g = -math.log(0.5 + 0.5 * math.exp(-epsilon / (3 * math.sqrt(2))))
    begins = math.floor(epsilon / g)
    noise = [
        downlink_noise(
            dataclasses.replace(SETTINGS, epsilon=epsilon, rounds=t, cohort=2)
        )
        for t in (begins, begins + 1)
    ]
    assert noise[0] == 0.0 < noise[1]
    everybody = dataclasses.replace(SETTINGS, rounds=10, cohort=4)
    assert downlink_noise(everybody) == pytest.approx(0.2)


def test_without_noise_it_averages_clipped_weights():
    assert uplink_noise(QUIET) == downlink_noise(QUIET) == 0.0
    got = run(TRAINER, QUIET, START, MOVES, simulation.cohorts(0, 3, 4))
    expected = np.asarray(START["w"])
    for weights in got:
        expected = np.mean([clipped(expected + move) for move in MOVES], axis=0)
        np.testing.assert_allclose(weights, expected, rtol=1e-4)
    # By hand: (0, 1.5) and (-2, 0.5) and (3, 4.5) are cut to 1.5, (0, 0.5) is not.
    first = [(0.0, 1.5), (0.0, 0.5), (-1.4552, 0.3638), (0.8321, 1.2481)]
    np.testing.assert_allclose(got[0], np.mean(first, axis=0), atol=1e-4)


def test_scheduled_clients_count_equally():
    halved = dataclasses.replace(QUIET, cohort=2)
    (got,) = run(TRAINER, halved, START, MOVES, [np.array([1, 3])])
    np.testing.assert_allclose(got, [0.0, 1.0], rtol=1e-4)


def test_weights_that_are_not_finite_still_obey_the_clip():
    bad = {7: np.nan, 8: np.inf, 9: 1e15}

    def diverging(state, data, keys):
        wild = sum(jnp.where(data.labels == k, bad[k], 0.0) for k in bad)
        return state._replace(params={"w": wild}), {}

    trainer = Trainer(TRAINER.init, diverging)
    labels = np.array([[7, 7], [8, 8], [9, 9], [0, 0]], np.int32)
    (got,) = run(trainer, QUIET, START, labels, simulation.cohorts(0, 1, 4))
    # Those whose norm is no number count as zero; the third is cut to C.
    np.testing.assert_allclose(got, np.full(2, 1.5 / math.sqrt(2) / 4), rtol=1e-4)


def test_noise_of_both_links_is_drawn_at_its_scale():
    """From zero weights that nobody trains, so that all there is is noise."""
    size = 40_000
    settings = dataclasses.replace(SETTINGS, rounds=10)
    scheme = make("none", vector_size=size, trust=Trust(1, Decryptor.NOBODY_NEEDED))
    params = {"w": jnp.zeros(size)}
    algorithm = nbafl(STAYING, settings, scheme.codec, params)
    state = algorithm.init(params)
    data = ClientData(*(np.zeros((4, 1), d) for d in (np.uint8, np.int32, np.bool_)))
    uploads = []
    roots = ClientKeys(*(jax.random.key(seed)[None] for seed in (1, 2)))
    for number in (1, 2):
        slots, metrics, _ = algorithm.client_phase(
            jax.tree.map(lambda leaf: leaf[None], state),
            (),
            data,
            jnp.arange(4),
            jnp.zeros(4, int),
            jnp.int32(number),
            roots,
        )
        assert metrics == {}
        uploads.append(np.asarray(slots, np.float64) * 4)
    steps = [state]
    for _ in range(2):
        steps.append(algorithm.server_phase(steps[-1], jnp.zeros(size)))
    down = np.stack([np.asarray(one.params["w"], np.float64) for one in steps[1:]])
    others = algorithm.server_phase(algorithm.init(params), jnp.zeros(size))
    every = np.concatenate([*uploads, down, [np.asarray(others.params["w"])]])
    wanted = [0.3] * 8 + [0.2] * 3
    np.testing.assert_allclose(every.std(axis=1), wanted, rtol=0.02)
    for row, stddev in zip(every, wanted, strict=True):
        assert stats.kstest(row, stats.norm(scale=stddev).cdf).pvalue > 1e-6
    # Every client, round and run has noise of its own.
    assert np.abs(np.corrcoef(every) - np.eye(11)).max() < 0.03


def test_both_noises_reach_the_global_weights():
    size, settings = 40_000, dataclasses.replace(SETTINGS, rounds=10)
    labels = np.zeros((4, 1), np.int32)
    (got,) = run(
        STAYING, settings, {"w": jnp.zeros(size)}, labels, simulation.cohorts(0, 1, 4)
    )
    assert got.std() == pytest.approx(math.hypot(0.3 / 2, 0.2), rel=0.02)


def test_every_upload_moves_by_the_diameter_of_the_ball():
    multiplier = uplink_noise(SETTINGS) / 1.5
    assert event(SETTINGS) == Repeated(Gaussian(multiplier), 6)
    assert event(SETTINGS, 4) == Repeated(Gaussian(multiplier), 4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clip_norm", 0.0),
        ("epsilon", 0.0),
        ("epsilon", math.nan),
        ("delta", 1.0),
        ("rounds", 0),
        ("exposures", 7),
        ("clients", 0),
        ("smallest_shard", 0),
        ("cohort", 5),
        ("cohort", 0),
    ],
)
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(ValueError, match="got"):
        dataclasses.replace(SETTINGS, **{name: value})
