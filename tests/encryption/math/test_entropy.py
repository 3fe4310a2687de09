import math

import numpy as np
import pytest
from scipy import stats

from fedjax_private.encryption.math import entropy
from fedjax_private.encryption.math.entropy import (
    gaussian,
    random_words,
    wide_gaussian,
)

SIZE = 400_000
STD = 3.5e9
# What the system draws has no seed: the chance that a test of sound samples fails.
SIGNIFICANCE = 1e-7


def p_value(samples, std=STD):
    return stats.kstest(samples, stats.norm(scale=std).cdf).pvalue


def test_samples_are_gaussian():
    samples = gaussian(SIZE, STD)
    assert samples.shape == (SIZE,)
    assert samples.dtype == np.float64
    assert p_value(samples) > SIGNIFICANCE


@pytest.mark.parametrize(
    "spoil",
    [
        lambda samples: samples * 1.04,
        lambda samples: samples + 0.03 * STD,
        np.abs,
        lambda samples: np.random.default_rng(0).uniform(-2 * STD, 2 * STD, SIZE),
        lambda samples: np.random.default_rng(0).laplace(0, STD / 2**0.5, SIZE),
    ],
)
def test_samples_that_are_not_would_be_found_out(spoil):
    assert p_value(spoil(gaussian(SIZE, STD))) < SIGNIFICANCE


@pytest.mark.parametrize("limit", [3.0, 4.0])
def test_tails_are_as_heavy_as_they_should_be(limit):
    samples = gaussian(1_000_000, 1.0)
    for beyond in ((samples > limit).sum(), (samples < -limit).sum()):
        expected = stats.norm.sf(limit)
        assert stats.binomtest(beyond, 1_000_000, expected).pvalue > SIGNIFICANCE


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        # The farthest that there is: 2^-64 (1, 1), whose square is 2^-127.
        ((0, 0), (9.38241, 9.38241)),
        ((2**64 - 1, 0), (-9.38241, 9.38241)),
        ((0, 2**62), (0.0, 1.66511)),  # (0, 1/2): 2 sqrt(ln 2)
        ((2**64 - 2**62, 0), (-1.66511, 0.0)),
        ((2**62, 2**62), (0.83255, 0.83255)),  # the square is 1/2: sqrt(2 ln 2) in all
    ],
)
def test_words_become_points_of_the_plane(monkeypatch, words, expected):
    # Every second point lies outside of the disc, and is dropped.
    def drawn(size):
        points = np.full((2, size // 2), 2**63 - 1, np.uint64)
        points[:, ::2] = np.array(words, np.uint64)[:, None]
        return points.ravel()

    monkeypatch.setattr(entropy, "random_words", drawn)
    samples = gaussian(5, 2.0)
    first, second = 2 * np.array(expected)
    wanted = [first] * 3 + [second] * 2
    np.testing.assert_allclose(samples, wanted, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 7, 4097, 40_001])
def test_as_many_samples_as_are_asked_for(monkeypatch, size):
    monkeypatch.setattr(entropy, "_BLOCK", 1000)
    samples = gaussian(size, 1.0)
    assert samples.shape == (size,)
    assert len(set(samples.tolist())) == size


def test_calls_are_independent():
    first, second = gaussian(SIZE, 1.0), gaussian(SIZE, 1.0)
    assert not np.isin(first[:1000], second).any()
    assert stats.pearsonr(first, second).pvalue > SIGNIFICANCE
    assert stats.pearsonr(first[:-1], first[1:]).pvalue > SIGNIFICANCE


def test_no_seed_reaches_them():
    drawn = []
    for _ in range(2):
        np.random.seed(0)  # noqa: NPY002
        drawn.append(gaussian(8, 1.0))
    assert not np.isin(drawn[0], drawn[1]).any()


def test_a_forked_child_draws_others(in_new_process):
    ours, theirs = in_new_process(
        """
import os
from fedjax_private.encryption.math.entropy import random_words
random_words(4)
readable, writable = os.pipe()
child = os.fork()
if child == 0:
    os.write(writable, random_words(4).tobytes())
    os._exit(0)
os.waitpid(child, 0)
result = random_words(4).tobytes(), os.read(readable, 32)
"""
    )
    assert len(ours) == len(theirs) == 32
    assert ours != theirs


def test_words_are_uniform():
    drawn = random_words(SIZE)
    assert drawn.shape == (SIZE,)
    assert drawn.dtype == np.uint64
    assert stats.kstest(drawn / 2.0**64, stats.uniform.cdf).pvalue > SIGNIFICANCE
    bits = np.unpackbits(drawn.view(np.uint8)).reshape(SIZE, 64).sum(axis=0)
    assert min(stats.binomtest(int(b), SIZE).pvalue for b in bits) > SIGNIFICANCE / 64
    assert random_words(0).size == gaussian(0, 1.0).size == 0


WIDTHS = [1.0, 1e3, 2.0**29, 2.0**31, 3.7e15, 2.0**60, 2.0**85, 2.0**92]


@pytest.mark.parametrize("std", WIDTHS)
def test_wide_samples_are_gaussian_integers(std):
    high, low, shift = wide_gaussian((400, 1000), std)
    assert high.shape == low.shape == (400, 1000)
    assert (high.dtype, low.dtype) == (np.int64, np.uint64)
    assert int(low.max()) < (2 ** (shift + 1) if shift else 1)
    samples = (high * 2.0**shift + low).ravel()
    assert samples.std() == pytest.approx(std, rel=5.5 / math.sqrt(2 * SIZE), abs=0.1)
    assert abs(samples.mean()) < 5.5 * std / math.sqrt(SIZE)
    if std > 100:  # else steps show
        assert p_value(samples, std) > SIGNIFICANCE


@pytest.mark.parametrize("std", [2.0**31, 3.7e15, 2.0**60, 2.0**70, 2.0**92])
def test_every_bit_of_wide_samples_is_as_good_as_a_coin(std):
    # A float64's lowest bits would be zero wherever a sample has more than 53 bits.
    high, low, shift = wide_gaussian((SIZE,), std)
    assert 0 < shift < 63
    for bit in range(shift):
        ones = int((low >> np.uint64(bit) & np.uint64(1)).sum())
        assert stats.binomtest(ones, SIZE).pvalue > SIGNIFICANCE / 64
    # The upper word has the rest: up to the deviation of 16 above what is uniform.
    above = high + (low >> np.uint64(shift)).view(np.int64)
    for bit in range(round(math.log2(std)) - shift - 1):
        ones = int((above >> bit & 1).sum())
        assert stats.binomtest(ones, SIZE).pvalue > SIGNIFICANCE / 64


def test_what_lies_between_the_upper_words_has_no_step():
    # The sum of two uniform numbers: its density is a triangle.
    _, low, shift = wide_gaussian((SIZE,), 2.0**40)
    triangle = stats.triang(0.5, scale=2.0 ** (shift + 1))
    assert stats.kstest(low, triangle.cdf).pvalue > SIGNIFICANCE


def law(std, shift):
    """The law of wide samples, by distribution functions: integer -> probability."""
    sigma, steps = std / 2**shift, 2**shift
    ends = np.arange(-math.ceil(20 * sigma), math.ceil(20 * sigma) + 1) - 0.5
    # Differences of the smaller tails are exact far out, too.
    tails = stats.norm.sf(np.abs(ends) / sigma)
    rounded = np.where(ends[:-1] < 0, tails[1:] - tails[:-1], tails[:-1] - tails[1:])
    rounded[np.abs(ends[:-1] + 0.5) < 0.25] = 1 - 2 * stats.norm.sf(0.5 / sigma)
    uniform = np.full(steps, 1 / steps)
    sums = np.convolve(uniform, uniform) if shift else np.ones(1)
    spread = np.zeros(len(rounded) * steps)
    spread[::steps] = rounded
    return np.convolve(spread, sums)


def information(probabilities):
    """I as `wide_gaussian` says it."""
    roots = np.sqrt(np.concatenate([[0.0], probabilities, [0.0]]))
    return 4 * (np.diff(roots) ** 2).sum()


@pytest.mark.parametrize("sigma", [8.01, 11.3, 16.0])
@pytest.mark.parametrize("shift", [0, 1, 6])
def test_the_law_hides_shifts_as_well_as_a_gaussian_does(sigma, shift):
    std = sigma * 2**shift
    assert wide_gaussian((1,), std)[2] == shift
    probabilities = law(std, shift)
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    assert information(probabilities) * std**2 <= 1 + 1e-9
    # The distance itself, of a shift by a third of the deviation, and by one step.
    for shifted in (1, round(std / 3)):
        apart = np.pad(probabilities, (0, shifted)), np.pad(probabilities, (shifted, 0))
        distance = np.abs(apart[0] - apart[1]).sum() / 2
        assert distance <= shifted / (2 * std)
        # Of a Gaussian it is sqrt(2 / pi) times that, for small shifts.
        assert distance > 0.75 * shifted / (2 * std)


def test_one_uniform_number_would_show_small_shifts():
    shift, sigma = 6, 11.3
    rounded = law(sigma, 0)
    steps = np.repeat(rounded / 2**shift, 2**shift)
    assert information(steps) * (sigma * 2**shift) ** 2 > 30


@pytest.mark.parametrize("std", [9.0, 2.0**50 * 1.3, 2.0**80])
def test_upper_words_follow_the_law_that_the_proof_assumes(std):
    shift = max(0, math.ceil(math.log2(std)) - 4)
    high, _, below = wide_gaussian((SIZE,), std)
    found = (high >> shift - below) + (shift > 0)
    rounded = law(std / 2.0**shift, 0)
    if shift > below:
        # The upper parts of two uniform numbers carry half of the time.
        rounded = (rounded + np.roll(rounded, 1)) / 2
    middle = len(rounded) // 2
    for k in range(-20, 21):
        count, chance = int((found == k).sum()), rounded[middle + k]
        assert stats.binomtest(count, SIZE, chance).pvalue > SIGNIFICANCE / 41


def test_far_samples_are_as_many_kinds_as_they_should_be():
    # Of one word a sample there would be holes here: 2^34 words for 2^40 numbers.
    samples = gaussian(4_000_000, 2.0**40)
    far = np.rint(samples[np.abs(samples) > 4.5 * 2.0**40]).astype(np.int64)
    assert len(far) > 10
    assert len(set(far.tolist())) == len(far)


def test_no_width_gives_no_noise():
    high, low, _ = wide_gaussian((3, 5), 0.0)
    assert not high.any()
    assert not low.any()
