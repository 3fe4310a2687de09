import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fedjax_private.privacy import (
    CyclicPoissonSampling,
    FixedSizeSampling,
    PoissonSampling,
    ShuffledEpochs,
    poisson,
    shuffled,
)

N, DRAWS, Q = 60, 4000, 0.3
MASK = jnp.arange(N + 4) < N


def chosen(selection):
    """(N,) bool: which records a selection holds."""
    size = selection.order.size
    rank = jnp.zeros(size, jnp.int32).at[selection.order].set(jnp.arange(size))
    return rank < selection.drawn


def members(draw, mask=MASK):
    """(DRAWS, N) bool: which records each draw selects."""
    keys = jax.random.split(jax.random.key(1), DRAWS)
    return np.asarray(jax.vmap(lambda key: chosen(draw(key, mask)))(keys))


def steps_of(sampler, steps, mask=MASK):
    """(steps, N) bool: which records each step of a round selects."""
    one = jax.jit(lambda step: chosen(sampler.sample(jax.random.key(2), mask, step)))
    return np.stack([one(step) for step in range(steps)])


@pytest.fixture(scope="module")
def drawn():
    return members(lambda key, mask: poisson(key, mask, Q))


def looks_poisson(drawn):
    """Per-record frequency, pairwise independence and batch-size variance."""
    drawn = drawn[:, :N]
    counts = drawn.sum(axis=0)
    frequency = stats.chisquare(
        np.stack([counts, DRAWS - counts]).T.ravel(),
        np.tile([DRAWS * Q, DRAWS * (1 - Q)], N),
        ddof=N - 1,
    ).pvalue
    centred = drawn - Q
    products = (centred.T @ centred)[np.triu_indices(N, 1)] / np.sqrt(DRAWS)
    independence = stats.kstest(products, stats.norm(scale=Q * (1 - Q)).cdf).pvalue
    spread = drawn.sum(axis=1).var() / (N * Q * (1 - Q))
    return frequency > 1e-4 and independence > 1e-4 and 0.9 < spread < 1.1


def test_poisson_sampling_is_what_the_accountant_assumes(drawn):
    assert looks_poisson(drawn)
    assert not drawn[:, N:].any()  # padding is never drawn


def test_steps_are_drawn_afresh():
    everything = PoissonSampling(Q)

    def two(key, mask):
        first, second = (chosen(everything.sample(key, mask, s)) for s in (3, 4))
        return first[:N], second[:N]

    keys = jax.random.split(jax.random.key(1), DRAWS)
    first, second = map(np.asarray, jax.vmap(lambda key: two(key, MASK))(keys))
    assert looks_poisson(first)
    both = (first & second).mean()  # by chance alone
    assert both == pytest.approx(Q**2, abs=0.003)


def test_fixed_size_sampling_is_uniform_and_fails_the_poisson_test():
    sampler = FixedSizeSampling(int(N * Q), N)
    drawn = members(lambda key, mask: sampler.sample(key, mask, 0))
    assert not looks_poisson(drawn)
    assert not drawn[:, N:].any()
    assert np.all(drawn.sum(axis=1) == int(N * Q))
    together = drawn[:, :N].T.astype(float) @ drawn[:, :N] / DRAWS
    pairs = together[np.triu_indices(N, 1)]
    batch = int(N * Q)
    expected = batch * (batch - 1) / (N * (N - 1))
    spread = np.sqrt(expected * (1 - expected) / DRAWS)
    assert stats.kstest((pairs - expected) / spread, stats.norm.cdf).pvalue > 1e-4


def test_fixed_size_sampling_keeps_its_rate_whatever_the_shard_holds():
    """Empty places are drawn like others: the rate is the event's, not the shard's."""
    sampler = FixedSizeSampling(18, 200)
    drawn = members(lambda key, mask: sampler.sample(key, mask, 0))
    assert drawn[:, :N].mean() == pytest.approx(18 / 200, rel=0.02)
    small = FixedSizeSampling(5, 20)  # records past the population never take part
    drawn = members(lambda key, mask: small.sample(key, mask, 0))
    assert drawn[:, :20].mean() == pytest.approx(5 / 20, rel=0.02)
    assert not drawn[:, 20:].any()


@pytest.mark.parametrize("batch", [1, 7, 60, 100])
def test_an_epoch_of_shuffled_batches_holds_every_record_once(batch):
    per_epoch = -(-N // batch)
    drawn = steps_of(ShuffledEpochs(batch), 2 * per_epoch)
    first, second = drawn[:per_epoch], drawn[per_epoch:]
    for epoch in (first, second):
        assert np.array_equal(epoch.sum(axis=0), np.asarray(MASK))
        assert epoch.sum(axis=1).max() <= batch
    assert per_epoch == 1 or not np.array_equal(first, second)
    assert not steps_of(ShuffledEpochs(batch), 3, jnp.zeros(N, bool)).any()


def test_shuffled_batches_fail_the_poisson_test():
    sampler = ShuffledEpochs(int(N * Q))
    drawn = members(lambda key, mask: sampler.sample(key, mask, 1))
    assert not looks_poisson(drawn)


def test_cyclic_sampling_draws_from_the_group_whose_turn_it_is():
    sampler = CyclicPoissonSampling(0.6, 4)
    assert sampler.scheduled and sampler.participation == (4, 0.6)
    drawn = steps_of(sampler, 40)
    group = np.arange(MASK.size) % 4
    for step, row in enumerate(drawn):
        assert not row[group != step % 4].any()
    assert not drawn[:, N:].any()
    turns = drawn.reshape(10, 4, -1).any(axis=1)[:, :N]
    assert turns.mean() == pytest.approx(0.6, abs=0.06)
    on_turn = members(lambda key, mask: sampler.sample(key, mask, 6))[:, :N][:, 2::4]
    assert on_turn.mean() == pytest.approx(0.6, abs=0.01)
    variance = on_turn.sum(axis=1).var()
    assert variance == pytest.approx(15 * 0.6 * 0.4, rel=0.1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PoissonSampling(1.5),
        lambda: FixedSizeSampling(11, 10),
        lambda: FixedSizeSampling(-1, 10),
        lambda: FixedSizeSampling(0, 0),
        lambda: ShuffledEpochs(0),
        lambda: CyclicPoissonSampling(float("nan"), 2),
        lambda: CyclicPoissonSampling(0.5, 0),
    ],
)
def test_impossible_samplers_are_refused(make):
    with pytest.raises(ValueError, match=r"got|more than"):
        make()


def test_probability_one_takes_every_record_and_zero_none():
    everyone = poisson(jax.random.key(0), MASK, 1.0)
    assert sorted(everyone.order[: int(everyone.drawn)].tolist()) == list(range(N))
    assert int(poisson(jax.random.key(0), MASK, 0.0).drawn) == 0


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_probabilities_outside_the_unit_interval_are_refused(probability):
    with pytest.raises(ValueError, match="probability must"):
        PoissonSampling(probability)


@pytest.mark.parametrize("size", [1, 7, 64])
@pytest.mark.parametrize("draw", [shuffled, lambda k, m: poisson(k, m, 0.5)])
def test_physical_batches_hold_every_drawn_record_once(size, draw):
    selection = draw(jax.random.key(3), MASK)
    seen = []
    for index in range(int(selection.batches(size))):
        indices, valid = selection.batch(index, size)
        assert indices.shape == valid.shape == (size,)
        seen += indices[valid].tolist()
    assert sorted(seen) == sorted(selection.order[: int(selection.drawn)].tolist())
    assert set(seen) <= set(range(N))
