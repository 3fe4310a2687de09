"""Discrete Gaussian noise: the table against high precision, samples against both."""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import stats

from fedjax_private.privacy import (
    discrete,
    discrete_gaussian,
    discrete_gaussian_distance,
)

COUNT = 200_000


def law(scale, reach):
    """P(x) for x = -reach ... reach."""
    x = np.arange(-reach, reach + 1)
    weight = np.exp(-((x / scale) ** 2) / 2)
    return x, weight / weight.sum()


def agrees(sample, scale):
    """A chi-square test against the exact law, rare values put together."""
    x, probability = law(scale, int(12 * scale) + 3)
    # Cells of about equal probability: one a value near 0.5, hundreds of values wide
    # at thousands.
    cell = np.minimum((np.cumsum(probability) * 200).astype(int), 199)
    observed = np.bincount(cell[np.asarray(sample) - x[0]], minlength=200)
    expected = COUNT * np.bincount(cell, probability, minlength=200)
    cells = expected > 20
    observed = np.append(observed[cells], observed[~cells].sum())
    expected = np.append(expected[cells], expected[~cells].sum() + 1e-9)
    expected *= COUNT / expected.sum()  # whatever rounding has left
    return stats.chisquare(observed, expected).pvalue > 1e-6


def draw(scale, seed=0, count=COUNT):
    return discrete_gaussian(jax.random.key(seed), (count,), scale)


@pytest.mark.parametrize("scale", [0.5, 0.8, 3.7, 41.0, 1000.0, 6000.5])
def test_distribution_with_negative_controls(scale):
    sample = draw(scale)
    assert sample.dtype == jnp.int32
    assert agrees(sample, scale)
    assert not agrees(draw(scale * 1.02, 1), scale)
    assert not agrees(draw(scale / 1.02, 2), scale)
    assert not agrees(draw(scale * 1.5, 3), scale)
    assert not agrees(draw(scale * 2 / 3, 4), scale)


def test_rounded_continuous_noise_would_fail():
    rounded = np.rint(0.8 * np.random.default_rng(0).normal(size=COUNT)).astype(int)
    assert not agrees(rounded, 0.8)


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 7.25, 60.0])
def test_the_table_is_within_the_stated_distance(scale):
    table = discrete.thresholds(scale)
    with mpmath.workdps(80):
        masses = [
            mpmath.exp(-(mpmath.mpf(k) ** 2) / (2 * mpmath.mpf(scale) ** 2))
            for k in range(3 * len(table) + 10)
        ]
        total = 2 * mpmath.fsum(masses) - 1
        exact = [masses[0] / total, *(2 * mass / total for mass in masses[1:])]
        ends = [
            sum(int(w) << s for w, s in zip(row, (64, 32, 0), strict=True))
            for row in table
        ]
        assert all(end % 2 == 0 for end in ends)
        ends = [0, *ends, 1 << 96]
        found = [mpmath.mpf(b - a) / (1 << 96) for a, b in itertools.pairwise(ends)]
        found += [mpmath.mpf(0)] * (len(exact) - len(found))
        pairs = zip(exact, found, strict=True)
        distance = mpmath.fsum(abs(a - b) for a, b in pairs) / 2
        assert 0 < distance <= discrete_gaussian_distance(scale) < 1e-25


@pytest.mark.parametrize("scale", [2.0, 300.0])
def test_the_tail_follows_the_law(scale, monkeypatch):
    """Far draws only: the 20 highest bits of the words are held at 1."""
    bits = jax.random.bits
    held = jnp.array([0xFFFFF000, 0, 0], jnp.uint32)[:, None]
    monkeypatch.setattr(
        jax.random, "bits", lambda key, shape, dtype: bits(key, shape, dtype) | held
    )
    far = np.abs(np.asarray(draw(scale, 5)))
    x, probability = law(scale, int(14 * scale))
    upper = 2 * np.cumsum(probability[x > 0][::-1])[::-1]  # P(|X| >= k), k = 1, 2, ...
    least = np.searchsorted(-upper, -(2.0**-20))  # P(|X| >= least + 1) < 2^-20
    # Values so far out that they lie in the held part as a whole: as rare as by law.
    for k in (least + 2, least + 2 + int(scale / 2)):
        expected = upper[k - 1] * 2.0**20
        spread = np.sqrt(expected * (1 - expected) / COUNT)
        assert (far >= k).mean() == pytest.approx(expected, abs=5 * spread)
    assert far.max() > 5 * scale


def test_the_ends_of_the_words():
    """All bits 0 and all bits 1 are the middle and the far end of the table."""
    for word, expected in ((0, 0), (2**32 - 1, len(discrete.thresholds(3.0)))):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                jax.random,
                "bits",
                lambda key, shape, dtype, word=word: jnp.full(shape, word, dtype),
            )
            assert abs(int(discrete_gaussian(None, (), 3.0))) == expected


def test_comparison_is_of_whole_words_highest_first(monkeypatch):
    shifts = (64, 32, 0)
    ends = [
        sum(int(word) << shift for word, shift in zip(row, shifts, strict=True))
        for row in discrete.thresholds(2.0)
    ]
    values = [end + offset for end in ends for offset in (-2, 0, 2)]
    values = [value for value in values if value < 1 << 96]
    words = np.array([[v >> shift & 0xFFFFFFFF for v in values] for shift in shifts])
    given = jnp.asarray(words.astype(np.uint32))
    monkeypatch.setattr(jax.random, "bits", lambda *_: given)
    expected = [sum(end <= value for end in ends) for value in values]
    found = np.abs(discrete_gaussian(None, (len(values),), 2.0))
    np.testing.assert_array_equal(found, expected)


def test_sums_follow_the_convolved_law():
    scale, shares = 0.9, 4
    sums = np.asarray(discrete_gaussian(jax.random.key(8), (COUNT, shares), scale)).sum(
        axis=1
    )
    x, one = law(scale, 12)
    several = one
    for _ in range(shares - 1):
        several = np.convolve(several, one)
    values = np.arange(shares * x[0], shares * x[-1] + 1)
    cells = several * COUNT > 20
    observed = np.bincount(sums - values[0], minlength=values.size)
    observed = np.append(observed[cells], observed[~cells].sum())
    expected = np.append(several[cells], several[~cells].sum()) * COUNT
    expected *= COUNT / expected.sum()
    assert stats.chisquare(observed, expected).pvalue > 1e-6


def test_jit_vmap_and_keys():
    def four(key):
        return discrete_gaussian(key, (4, 2), 30.0)

    keys = jax.random.split(jax.random.key(0), 50)
    mapped = jax.jit(jax.vmap(four))(keys)
    np.testing.assert_array_equal(mapped[:5], np.stack([four(key) for key in keys[:5]]))
    assert len(np.unique(np.asarray(mapped).reshape(50, -1), axis=0)) == 50


def test_no_scale_no_noise():
    for scale in (0.0, 0.01):
        assert not np.asarray(draw(scale, count=10)).any()
    assert discrete_gaussian_distance(0.0) < 1e-25


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf"), 1e9])
def test_impossible_scales_are_refused(scale):
    for function in (lambda: draw(scale), lambda: discrete_gaussian_distance(scale)):
        with pytest.raises(ValueError, match="scale"):
            function()
