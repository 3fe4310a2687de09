import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from fedjax_private.encryption.math import shamir
from fedjax_private.encryption.math.rings import Ring
from fedjax_private.encryption.math.shamir import lagrange_at_zero, scale, share
from tests.encryption.transforms import combine

BITS_53 = 9007199254429697
BELOW_2_60 = 1152921504606830593
ABOVE_2_60 = 1152921504606994433  # where drawing drops almost every other word
BELOW_2_62 = 2**62 - 57
LARGE = (BITS_53, BELOW_2_60, ABOVE_2_60, BELOW_2_62)
SMALL = (17, 19, 23, 101, 251, 257)

# The chance that a test of sound randomness fails; what the system draws has no seed.
SIGNIFICANCE = 1e-7


def residues(moduli, size, seed=0):
    generator = np.random.default_rng(seed)
    rows = [generator.integers(0, q, size, dtype=np.uint64) for q in moduli]
    return np.stack(rows)


def ring_of(values, moduli):
    return Ring(values.shape[-1], tuple(moduli))


def dealt(secret, moduli, threshold, count):
    return share(secret, ring_of(secret, moduli), threshold, count)


def scaled_by(values, factors, moduli):
    return scale(values, factors, ring_of(values, moduli))


def by_point(shares, points=None):
    points = range(1, len(shares) + 1) if points is None else points
    return {point: shares[point - 1] for point in points}


def interpolated(points, values, modulus, at):
    """The polynomial through the points, at `at`, in Python integers."""
    total = 0
    for i, x in enumerate(points):
        others = [other for j, other in enumerate(points) if j != i]
        above = math.prod(at - other for other in others)
        below = math.prod(x - other for other in others)
        total += int(values[i]) * above * pow(below, -1, modulus)
    return total % modulus


def draw_words(monkeypatch, words):
    """Makes the key stream return these, once."""
    left = np.asarray(words, np.uint64).ravel().tolist()

    def draw(size):
        taken, left[:] = left[: size // 8], left[size // 8 :]
        assert 8 * len(taken) == size
        return np.array(taken, np.uint64).tobytes()

    monkeypatch.setattr(shamir, "stream", lambda key: draw)
    return left


# Sharing and combining.


@given(data=st.data())
@settings(deadline=None)
def test_any_threshold_shares_in_any_order_give_the_secret(data):
    moduli = data.draw(
        st.lists(st.sampled_from(SMALL + LARGE), min_size=1, max_size=3, unique=True)
    )
    count = data.draw(st.integers(1, 12))
    threshold = data.draw(st.integers(1, count))
    points = data.draw(st.permutations(range(1, count + 1)))
    points = points[: data.draw(st.integers(threshold, count))]
    secret = residues(moduli, 5, data.draw(st.integers(0, 99)))
    shares = dealt(secret, moduli, threshold, count)
    assert shares.dtype == np.uint64
    assert shares.shape == (count, *secret.shape)
    recovered = combine(by_point(shares, points), moduli, threshold)
    assert recovered.dtype == np.uint64
    np.testing.assert_array_equal(recovered, secret)


def test_every_subset_of_five():
    secret = residues((7, BELOW_2_60), 4)
    shares = dealt(secret, (7, BELOW_2_60), 3, 5)
    for points in itertools.permutations(range(1, 6), 3):
        recovered = combine(by_point(shares, points), (7, BELOW_2_60), 3)
        np.testing.assert_array_equal(recovered, secret)


@pytest.mark.parametrize("threshold", [1, 2, 17])
def test_shares_are_on_one_polynomial_in_python_integers(threshold):
    count = 20
    secret = residues(LARGE, 3)
    secret[:, 0] = 0
    secret[:, 1] = np.array(LARGE, np.uint64) - np.uint64(1)
    shares = dealt(secret, LARGE, threshold, count)
    points = range(1, threshold + 1)
    for row, q in enumerate(LARGE):
        assert shares[:, row].max() < q
        for slot in range(3):
            values = shares[:, row, slot]
            assert interpolated(points, values, q, 0) == secret[row, slot]
            for point in range(threshold + 1, count + 1):
                expected = interpolated(points, values, q, point)
                assert expected == values[point - 1]


def test_by_hand(monkeypatch):
    # f(x) = 1234 + 166 x + 94 x^2 modulo 1613, and x^2 = x + 2 binom(x, 2).
    draw_words(monkeypatch, [166 + 94, 2 * 94])
    shares = dealt(np.array([[1234]], np.uint64), (1613,), 3, 6)
    assert shares.ravel().tolist() == [1494, 329, 965, 176, 1188, 775]


def test_size_of_a_federation():
    moduli = (BELOW_2_60, BITS_53)
    secret = residues(moduli, 4096)
    shares = dealt(secret, moduli, 17, 32)
    recovered = combine(by_point(shares, range(32, 15, -1)), moduli, 17)
    np.testing.assert_array_equal(recovered, secret)


def test_shares_of_a_sum_are_sums_of_shares():
    moduli = (17, *LARGE)
    column = np.array(moduli, object)[:, np.newaxis]
    left, right = residues(moduli, 50, 1), residues(moduli, 50, 2)
    added = [
        dealt(left, moduli, 4, 6).astype(object),
        dealt(right, moduli, 4, 6).astype(object),
    ]
    of_sum = (sum(added) % column).astype(np.uint64)
    secret = ((left.astype(object) + right) % column).astype(np.uint64)
    np.testing.assert_array_equal(combine(by_point(of_sum), moduli, 4), secret)


def test_shares_of_a_multiple_are_multiples_of_shares():
    secret, factors = residues(LARGE, 50), [-3, 5, 2**70, 7]
    shares = dealt(secret, LARGE, 4, 6)
    multiples = {
        point: scaled_by(values, factors, LARGE)
        for point, values in by_point(shares).items()
    }
    np.testing.assert_array_equal(
        combine(multiples, LARGE, 4), scaled_by(secret, factors, LARGE)
    )


# What fewer shares say.


def all_coefficients(modulus, threshold):
    """Every choice of coefficients, one per slot, (T - 1, q^(T - 1))."""
    return np.array(list(itertools.product(range(modulus), repeat=threshold - 1))).T


@pytest.mark.parametrize(("modulus", "threshold", "count"), [(5, 3, 4), (7, 4, 6)])
def test_fewer_shares_are_exactly_uniform_for_every_secret(
    monkeypatch, modulus, threshold, count
):
    words = all_coefficients(modulus, threshold)
    every = Counter(zip(*words.tolist(), strict=True))
    for secret in range(modulus):
        left = draw_words(monkeypatch, words)
        constant = np.full((1, words.shape[1]), secret, np.uint64)
        shares = dealt(constant, (modulus,), threshold, count)[:, 0]
        assert not left
        for seen in itertools.combinations(shares.tolist(), threshold - 1):
            assert Counter(zip(*seen, strict=True)) == every


def test_a_share_is_exactly_uniform_over_all_moduli_together(monkeypatch):
    moduli = (3, 5)
    words = np.array(list(itertools.product(range(3), range(5)))).T
    every = Counter(zip(*words.tolist(), strict=True))
    for secret in every:
        left = draw_words(monkeypatch, words)
        constant = np.repeat(np.array([secret], np.uint64).T, words.shape[1], axis=1)
        shares = dealt(constant, moduli, 2, 2)
        assert not left
        for seen in shares.tolist():
            assert Counter(zip(*seen, strict=True)) == every


def test_that_enumeration_notices_a_top_coefficient_that_is_never_zero(monkeypatch):
    words = all_coefficients(5, 3)
    words = words[:, words[-1] > 0]
    seen = []
    for secret in (1, 2):
        draw_words(monkeypatch, words)
        constant = np.full((1, words.shape[1]), secret, np.uint64)
        shares = dealt(constant, (5,), 3, 4)[:2, 0]
        seen.append(Counter(zip(*shares.tolist(), strict=True)))
    assert seen[0] != seen[1]


THRESHOLD, COUNT, SLOTS = 5, 8, 20_000


def guesses(modulus, secret, threshold=THRESHOLD):
    """What `THRESHOLD` - 1 shares give where that many would suffice, (SLOTS,)."""
    constant = np.full((1, SLOTS), secret, np.uint64)
    shares = dealt(constant, (modulus,), threshold, COUNT)
    points = (8, 2, 5, 3)
    assert len(points) == THRESHOLD - 1
    return combine(by_point(shares, points), (modulus,), THRESHOLD - 1)[0]


def chance_of_uniform(values, modulus):
    """The p-value of `values` under the uniform law below the modulus."""
    if modulus < 1000:
        return stats.chisquare(
            np.bincount(values.astype(np.intp), minlength=modulus)
        ).pvalue
    return stats.kstest(values / modulus, "uniform").pvalue


@pytest.mark.parametrize("secret", [0, 13])
@pytest.mark.parametrize("modulus", [31, BITS_53, BELOW_2_60, ABOVE_2_60])
def test_one_share_too_few_gives_uniform_values(modulus, secret):
    values = guesses(modulus, secret)
    assert chance_of_uniform(values, modulus) > SIGNIFICANCE


@pytest.mark.parametrize("modulus", [31, BELOW_2_60])
def test_a_polynomial_of_too_low_degree_is_noticed(modulus):
    values = guesses(modulus, 13, THRESHOLD - 1)
    assert set(values.tolist()) == {13}
    assert chance_of_uniform(values, modulus) < SIGNIFICANCE


@pytest.mark.parametrize(
    "biased",
    [
        pytest.param(lambda words: 1 + words % 30, id="never zero"),
        pytest.param(lambda words: words % 64 % 31, id="reduced, not rejected"),
    ],
)
def test_biased_coefficients_are_noticed(monkeypatch, biased):
    size = (THRESHOLD - 1) * SLOTS
    words = np.random.default_rng(0).integers(0, 2**40, size)
    words[:-SLOTS] %= 31
    words[-SLOTS:] = biased(words[-SLOTS:])  # of the highest degree
    draw_words(monkeypatch, words)
    assert chance_of_uniform(guesses(31, 13), 31) < SIGNIFICANCE


def test_words_that_are_too_large_are_dropped_and_drawn_again(monkeypatch):
    # Three bits of each word count.
    left = draw_words(monkeypatch, [7, 1, 5, 8 + 4, 6, 0, 2**64 - 8 + 3])
    # Of the secret zero, the first share is the coefficient.
    shares = dealt(np.zeros((1, 4), np.uint64), (5,), 2, 2)
    assert shares[0].tolist() == [[1, 4, 0, 3]]
    assert not left


def test_shares_of_one_secret_differ_between_calls():
    secret = residues((BELOW_2_60,), 8)
    first, second = (dealt(secret, (BELOW_2_60,), 2, 3) for _ in range(2))
    assert not np.any(first == second)


# Coefficients.


@given(
    points=st.lists(st.integers(1, 60), min_size=1, max_size=20, unique=True),
    modulus=st.sampled_from((61, 257, *LARGE)),
)
@settings(deadline=None)
def test_coefficients_against_python_integers(points, modulus):
    unit = np.eye(len(points), dtype=np.int64)
    expected = [interpolated(points, values, modulus, 0) for values in unit]
    coefficients = lagrange_at_zero(points, modulus)
    assert list(coefficients) == expected
    assert all(type(value) is int for value in coefficients)


def test_coefficients_by_hand():
    # 2 * 3 / (1 * 2), 1 * 3 / (-1 * 1), 1 * 2 / (-2 * -1).
    assert lagrange_at_zero((1, 2, 3), 11) == (3, 8, 1)
    assert lagrange_at_zero((3, 1, 2), 11) == (1, 3, 8)
    assert lagrange_at_zero((4,), 11) == (1,)


@pytest.mark.parametrize("points", [(), (0, 1), (1, 2, 1), (11, 1), (1, 12)])
def test_points_that_are_zero_or_repeated_are_refused(points):
    with pytest.raises(ValueError, match="distinct and not zero modulo 11"):
        lagrange_at_zero(points, 11)


def test_points_without_inverse_differences_are_refused():
    with pytest.raises(ValueError, match="not invertible"):
        lagrange_at_zero((1, 4), 15)


# Products.


@given(
    modulus=st.sampled_from(SMALL + LARGE),
    data=st.data(),
)
@settings(deadline=None)
def test_scale_against_python_integers(modulus, data):
    values = data.draw(st.lists(st.integers(0, modulus - 1), min_size=1, max_size=20))
    factor = data.draw(st.integers(-(2**130), 2**130))
    scaled = scaled_by(np.array([values], np.uint64), [factor], (modulus,))
    assert scaled.dtype == np.uint64
    assert scaled.tolist() == [[value * factor % modulus for value in values]]


def test_scale_of_extreme_values():
    halves = [2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**48, 2**52 - 1]
    for q in (2, 3, 2**31 - 1, 2**61 - 1, *LARGE):
        some = [0, 1, 2, q // 2, q // 2 + 1, q - 2, q - 1, *halves]
        some = [value for value in some if 0 <= value < q]
        for factor in some:
            scaled = scaled_by(np.array([some], np.uint64), [factor], (q,))
            assert scaled.tolist() == [[value * factor % q for value in some]]


def test_scale_of_many_random_values():
    values = residues(LARGE, 5000)
    factors = [q - 1 - 2 * row for row, q in enumerate(LARGE)]
    column = np.array(LARGE, object)[:, np.newaxis]
    expected = values.astype(object) * np.array(factors, object)[:, np.newaxis] % column
    np.testing.assert_array_equal(scaled_by(values, factors, LARGE), expected)


def test_arguments_are_left_alone():
    secret = residues((101, BELOW_2_60), 6)
    kept = secret.copy()
    shares = dealt(secret, (101, BELOW_2_60), 1, 2)
    shares[:] = 0
    scaled_by(secret, (0, 0), (101, BELOW_2_60))[:] = 1
    np.testing.assert_array_equal(secret, kept)


# What is refused.


@pytest.mark.parametrize(("threshold", "count"), [(0, 3), (4, 3), (-1, 3), (0, 0)])
def test_thresholds_out_of_range_are_refused(threshold, count):
    with pytest.raises(ValueError, match="threshold must lie between"):
        dealt(residues((101,), 2), (101,), threshold, count)


@pytest.mark.parametrize("small", [5, 3, 35])
def test_more_points_than_a_modulus_has_are_refused(small):
    moduli = (BELOW_2_60, small)
    with pytest.raises(ValueError, match="5 shares need moduli"):
        dealt(residues(moduli, 2), moduli, 2, 5)


def test_one_point_fewer_than_the_modulus_is_enough():
    secret = residues((5,), 9)
    shares = dealt(secret, (5,), 4, 4)
    np.testing.assert_array_equal(combine(by_point(shares), (5,), 4), secret)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((2, 3), np.int64), "rows of uint64"),
        (np.zeros((2, 3), np.float64), "rows of uint64"),
        (np.zeros((2, 3), np.uint32), "rows of uint64"),
        (np.zeros((3, 3), np.uint64), "rows of uint64"),
        (np.zeros(3, np.uint64), "rows of uint64"),
        (np.zeros((2, 3, 1), np.uint64), "rows of uint64"),
        (np.array([[0, 7, 1], [0, 0, 1]], np.uint64), "below its modulus"),
        (np.array([[0, 6, 1], [11, 0, 1]], np.uint64), "below its modulus"),
    ],
)
def test_other_residues_are_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        share(values, Ring(3, (7, 11)), 2, 3)
