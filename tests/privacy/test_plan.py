import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private.privacy import (
    AdaptiveClipping,
    BandedNoise,
    Clipping,
    CyclicPoissonSampling,
    FixedSizeSampling,
    FlatClipping,
    GaussianNoise,
    PoissonSampling,
    PrivacyPlan,
    ShuffledEpochs,
)
from fedjax_private.privacy.accounting import (
    BandedMatrix,
    Gaussian,
    Neighbors,
    Poisson,
    RdpAccountant,
    Repeated,
    Unsupported,
    WithoutReplacement,
)

C = 0.7
ADD, REPLACE = Neighbors.ADD_REMOVE, Neighbors.REPLACE_ONE
PLAN = PrivacyPlan(
    PoissonSampling(0.25), FlatClipping(C), GaussianNoise(2.0), 40.0, ADD
)


def test_a_plan_noises_by_the_clip_norm_and_divides_by_the_expected_batch():
    total = jnp.full(200_000, 8.0)
    mean, state = PLAN.release(jax.random.key(0), total, ())
    assert state == ()
    assert np.mean(mean) == pytest.approx(8.0 / 40, abs=5e-4)
    assert np.std(mean) == pytest.approx(2.0 * C / 40, rel=0.01)


def test_adaptive_plans_noise_what_is_scaled_to_one():
    plan = dataclasses.replace(PLAN, clipping=AdaptiveClipping(C, share=0.2))
    state = plan.init({"w": jnp.zeros(200_000)})
    mean, state = plan.release(jax.random.key(0), jnp.zeros(200_001), state)
    assert np.std(mean) == pytest.approx(2.0 / 0.8**0.5 * C / 40, rel=0.01)
    assert int(state.steps) == 1
    assert float(state.clipping) != np.float32(C)


def test_a_plan_costs_what_it_does():
    assert PLAN.event(80) == Repeated(Poisson(0.25, Gaussian(2.0)), 80)
    assert not PLAN.correlated
    spent = RdpAccountant(neighbors=ADD).compose(PLAN.event(80))
    louder = RdpAccountant(neighbors=ADD).compose(
        Repeated(Poisson(0.25, Gaussian(1.0)), 80)
    )
    assert 0 < spent.epsilon(1e-5) < louder.epsilon(1e-5)


@pytest.mark.parametrize(
    ("sampler", "neighbors", "event"),
    [
        (
            FixedSizeSampling(4, 10),
            REPLACE,
            Repeated(WithoutReplacement(10, 4, Gaussian(2.0)), 6),
        ),
        (ShuffledEpochs(4), REPLACE, Repeated(Gaussian(2.0), 6)),
        (ShuffledEpochs(4), Neighbors.ZERO_OUT, Repeated(Gaussian(2.0), 6)),
        (
            CyclicPoissonSampling(0.5, 3),
            ADD,
            Repeated(Poisson(0.5, Gaussian(2.0)), 6),
        ),
    ],
)
def test_samplers_name_the_event_that_they_are(sampler, neighbors, event):
    plan = dataclasses.replace(PLAN, sampler=sampler, neighbors=neighbors)
    assert plan.event(6) == event


@pytest.mark.parametrize(
    ("sampler", "separation", "probability"),
    [
        (CyclicPoissonSampling(0.5, 3), 3, 0.5),
        (CyclicPoissonSampling(1.0, 2), 2, 1.0),
        (PoissonSampling(0.5), 1, 1.0),  # no theorem: as if everyone always took part
        (PoissonSampling(1.0), 1, 1.0),
    ],
)
def test_banded_noise_is_priced_for_the_whole_run(sampler, separation, probability):
    noise = BandedNoise(2.0, (1.0, 0.5))
    plan = dataclasses.replace(PLAN, sampler=sampler, noise=noise)
    assert plan.correlated
    assert plan.event(9) == BandedMatrix(2.0, (1.0, 0.5), 9, separation, probability)


def epsilon(event, neighbors=ADD):
    return RdpAccountant(neighbors=neighbors).compose(event).spent(1e-5).epsilon


def test_rounds_of_correlated_noise_may_not_be_charged_one_by_one():
    """Why `correlated` exists: parts of a run together cost less than the run."""
    plan = dataclasses.replace(
        PLAN, sampler=PoissonSampling(1.0), noise=BandedNoise(20.0, (1.0, 0.9, 0.8))
    )
    assert epsilon(Repeated(plan.event(1), 12)) < 0.7 * epsilon(plan.event(12))


def test_cyclic_sampling_with_one_band_costs_less_than_its_steps_as_poisson_samples():
    sampler = CyclicPoissonSampling(0.5, 4)
    over_counted = dataclasses.replace(PLAN, sampler=sampler)
    true = dataclasses.replace(over_counted, noise=BandedNoise(2.0))
    poisson = Repeated(Poisson(0.5, Gaussian(2.0)), 10)
    assert epsilon(true.event(40)) == pytest.approx(epsilon(poisson))
    assert epsilon(true.event(40)) < epsilon(over_counted.event(40))


def test_only_what_must_be_kept_is_kept():
    params = {"w": jnp.zeros((3, 2)), "b": jnp.zeros(2)}
    assert PLAN.init(params) == ()
    banded = dataclasses.replace(PLAN, noise=BandedNoise(1.0, (1.0, 0.5, 0.2)))
    assert [leaf.shape for leaf in jax.tree.leaves(banded.init(params))] == [(), (2, 8)]
    both = dataclasses.replace(banded, clipping=AdaptiveClipping(C))
    assert both.init(params).noise.shape == (2, 9)
    cyclic = dataclasses.replace(PLAN, sampler=CyclicPoissonSampling(0.5, 3))
    assert jax.tree.leaves(cyclic.init(params)) == [0]


class L1Clipping(Clipping):
    norm = 1

    def summed(self, loss):
        return lambda *_: jnp.zeros(1)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"expected_batch_size": 0.0}, "expected_batch_size"),
        ({"expected_batch_size": float("nan")}, "expected_batch_size"),
        ({"sampler": FixedSizeSampling(4, 10)}, "FixedSizeSampling has no guarantee"),
        ({"sampler": ShuffledEpochs(4)}, "ShuffledEpochs has no guarantee"),
        ({"clipping": L1Clipping(1.0)}, "bounds the L1 norm"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(changed, sentence):
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(PLAN, **changed)


def test_what_has_no_price_is_refused_when_the_plan_is_made():
    growing = BandedNoise(1.0, (1.0, 2.0))
    with pytest.raises(Unsupported, match="must not grow"):
        dataclasses.replace(PLAN, noise=growing)
    with pytest.raises(Unsupported, match="number of bands"):
        sampler = CyclicPoissonSampling(0.5, 2)
        noise = BandedNoise(1.0, (1.0, 0.5, 0.2))
        dataclasses.replace(PLAN, sampler=sampler, noise=noise)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"sampler": 0.25}, r"sampler must be a Sampler.*PoissonSampling.*got 0.25"),
        ({"clipping": 1.0}, "clipping must be a Clipping.*FlatClipping.*got 1.0"),
        ({"noise": 2.0}, "noise must be a Noise.*GaussianNoise.*got 2.0"),
        ({"neighbors": "add_remove"}, "neighbors must be .*Neighbors.ADD_REMOVE"),
        ({"expected_batch_size": "40"}, "expected_batch_size must be a number"),
    ],
)
def test_parts_of_another_kind_are_named(part, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(PLAN, **part)
