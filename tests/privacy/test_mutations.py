"""Planted faults: a detector finds each in the parameters that `dp_sgd` returns.

Every detector must pass the code as it is, and fail once its fault is planted.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fedjax_private.clients import DpSgdConfig, dp_sgd
from fedjax_private.datasets import ClientData
from fedjax_private.privacy import (
    FlatClipping,
    GaussianNoise,
    PoissonSampling,
    PrivacyPlan,
    ShuffledEpochs,
    clipping,
    noise,
)
from fedjax_private.privacy.accounting import Neighbors
from fedjax_private.typing import ClientKeys

C, SIGMA, BATCH = 0.5, 1.3, 12.0
PLAN = PrivacyPlan(
    PoissonSampling(0.3),
    FlatClipping(C),
    GaussianNoise(SIGMA),
    BATCH,
    Neighbors.ADD_REMOVE,
)
QUIET = dataclasses.replace(PLAN, noise=GaussianNoise(0.0))


def loss(params, inputs, labels):
    """Its gradient is the input."""
    return inputs @ params


def released(plan, inputs, seeds, steps=1):
    """The sum of the steps' releases, times the expected batch, for each seed."""
    trainer = dp_sgd(loss, DpSgdConfig(1.0, steps=steps), plan)
    count, size = inputs.shape
    data = ClientData(
        jnp.asarray(inputs), jnp.zeros(count, jnp.int32), jnp.ones(count, bool)
    )

    @jax.jit
    @jax.vmap
    def one(seed):
        roots = ClientKeys(jax.random.key(1), jax.random.key(2))
        keys = ClientKeys(*(jax.random.fold_in(root, seed) for root in roots))
        state, _ = trainer.train(trainer.init(jnp.zeros(size)), data, keys)
        return -state.params * BATCH

    return np.asarray(one(jnp.asarray(seeds)), np.float64)


def noise_has_its_scale():
    nothing = np.zeros((4, 40_000), np.float32)
    (values,) = released(PLAN, nothing, [0])
    return stats.kstest(values, stats.norm(scale=SIGMA * C).cdf).pvalue > 1e-6


def a_record_moves_the_sum_by_at_most_the_bound():
    plan = dataclasses.replace(QUIET, sampler=PoissonSampling(1.0))
    inputs = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    inputs[4] *= 100
    without = inputs.copy()
    without[4] = np.nan  # counts as absent
    moved = released(plan, inputs, [0]) - released(plan, without, [0])
    return np.linalg.norm(moved) <= C + 1e-5


def the_divisor_is_public():
    """With equal gradients of norm C the release shows how many records were drawn."""
    alike = np.full((40, 1), 2 * C, np.float32)
    counts = released(QUIET, alike, np.arange(400))[:, 0] / C
    whole = np.abs(counts - np.rint(counts)).max() < 1e-3
    return whole and 0.7 < counts.var() / (40 * 0.3 * 0.7) < 1.4


def every_step_and_client_has_noise_of_its_own():
    nothing = np.zeros((4, 3000), np.float32)
    first = released(PLAN, nothing, [0, 1])
    second = released(PLAN, nothing, [0, 1], steps=2) - first
    correlation = np.corrcoef(np.concatenate([first, second]))
    return np.abs(correlation - np.eye(4)).max() < 0.15


def records_are_drawn_independently():
    """Each record has a coordinate of its own, which shows whether it was drawn."""
    count, draws, q = 30, 3000, 0.3
    own = 2 * C * np.eye(count, dtype=np.float32)
    drawn = released(QUIET, own, np.arange(draws)) > C / 2
    frequency = (drawn.mean(axis=0) - q) / np.sqrt(q * (1 - q) / draws)
    products = ((drawn - q).T @ (drawn - q))[np.triu_indices(count, 1)]
    pairs = products / (q * (1 - q) * np.sqrt(draws))
    normal = [stats.kstest(x, stats.norm.cdf).pvalue > 1e-4 for x in (frequency, pairs)]
    return all(normal) and 0.9 < drawn.sum(axis=1).var() / (count * q * (1 - q)) < 1.1


def halve_sigma(patch):
    right = noise.gaussian
    patch.setattr(
        noise, "gaussian", lambda key, shape, stddev: right(key, shape, stddev / 2)
    )


def leave_out_the_clip(patch):
    books = clipping.example_gradients

    def unclipped(loss):
        def gradients(*batch):
            right = books(loss)(*batch)
            return dataclasses.replace(
                right,
                weighted_sum=lambda f: right.weighted_sum(jnp.where(f != 0, 1.0, 0.0)),
            )

        return gradients

    patch.setattr(clipping, "example_gradients", unclipped)


def divide_by_the_realised_batch(patch):
    draw, release, drawn = PrivacyPlan.sample, PrivacyPlan.release, []

    def remember(self, *arguments):
        selection = draw(self, *arguments)
        drawn.append(selection.drawn)
        return selection

    def divide(self, *arguments):
        gradient, state = release(self, *arguments)
        realised = jnp.maximum(drawn[-1], 1)
        return gradient * self.expected_batch_size / realised, state

    patch.setattr(PrivacyPlan, "sample", remember)
    patch.setattr(PrivacyPlan, "release", divide)


def reuse_the_step_s_key(patch):
    release = PrivacyPlan.release

    def again(self, key, total, state):
        return release(self, jax.random.key(0), total, state)

    patch.setattr(PrivacyPlan, "release", again)


def shuffle(patch):
    batches = ShuffledEpochs(9)
    patch.setattr(PoissonSampling, "sample", lambda self, *a: batches.sample(*a))


@pytest.mark.parametrize(
    ("detector", "plant"),
    [
        (noise_has_its_scale, halve_sigma),
        (a_record_moves_the_sum_by_at_most_the_bound, leave_out_the_clip),
        (the_divisor_is_public, divide_by_the_realised_batch),
        (every_step_and_client_has_noise_of_its_own, reuse_the_step_s_key),
        (records_are_drawn_independently, shuffle),
    ],
    ids=lambda function: function.__name__,
)
def test_a_planted_fault_is_found(detector, plant, monkeypatch):
    assert detector()
    plant(monkeypatch)
    assert not detector()
