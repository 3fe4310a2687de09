"""Integer grids: means, ranges and norms against exact arithmetic."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from fedjax_private.clients import for_each_client
from fedjax_private.quantization import (
    NOT_FINITE,
    Grid,
    dequantize,
    outside,
    quantize,
    quantize_bounded,
    rounded_norm_bound,
    squares_within,
    wrap,
)

few = settings(max_examples=25, deadline=None, derandomize=True)
bits = st.sampled_from([2, 3, 8, 16, 23, 24])
int32 = st.integers(-(2**31), 2**31 - 1)
BETA = math.exp(-0.5)


def unit_grid(b):
    """Steps of width 1, which no arithmetic rounds."""
    return Grid(b, float(2 ** (b - 1) - 1))


@functools.lru_cache(maxsize=32)
def bounded(grid, norm_bound, tries=64):
    """Compiled; maps over keys, with one vector for all."""
    one = functools.partial(
        quantize_bounded, grid=grid, norm_bound=norm_bound, tries=tries
    )
    return jax.jit(jax.vmap(one, in_axes=(0, None)))


@functools.lru_cache(maxsize=32)
def unbounded(grid):
    """The same without a bound."""
    return jax.jit(jax.vmap(functools.partial(quantize, grid=grid), in_axes=(0, None)))


def squares(integers):
    return np.sum(np.asarray(integers, np.int64) ** 2, axis=-1)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


# --- the grid


def test_steps_worked_by_hand():
    assert Grid(2, 5.0).step == 5.0  # -1, 0, 1
    assert Grid(8, 1.27).step == pytest.approx(0.01, rel=1e-15)
    assert Grid(24, 8388607.0).step == 1.0


@pytest.mark.parametrize("b", [-1, 0, 1, 25, 32])
def test_other_bits_are_refused(b):
    with pytest.raises(ValueError, match="between 2 and 24"):
        Grid(b, 1.0)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.inf, math.nan, 1e-40, 1e38])
def test_bounds_that_float32_cannot_serve_are_refused(bound):
    with pytest.raises(ValueError, match="positive and finite"):
        Grid(16, bound)


# --- randomised rounding


def off_by_sigmas(integers, scaled):
    """How many standard deviations of unbiased rounding its mean is off."""
    rest = scaled - np.floor(scaled)
    integers = np.asarray(integers, np.float64)
    spread = np.sqrt(rest * (1 - rest) / integers.size)
    return abs(integers.mean() - scaled) / spread


@pytest.mark.parametrize("value", [0.02, 0.37, 0.5, -0.3, -2.96, 25.71, -100.4])
def test_rounding_is_unbiased_with_negative_controls(value):
    grid, count = Grid(10, 12.0), 100_000
    vector = jnp.full(count, value, jnp.float32)
    scaled = float(np.float32(value)) / grid.step
    integers = np.asarray(quantize(jax.random.key(3), vector, grid))
    clipped = np.clip(scaled, -grid.most, grid.most)
    if abs(scaled) > grid.most:
        np.testing.assert_array_equal(integers, clipped)
        return
    assert integers.dtype == np.int32
    assert set(np.unique(integers)) == {math.floor(scaled), math.ceil(scaled)}
    assert off_by_sigmas(integers, scaled) < 5
    rest = scaled - math.floor(scaled)
    assert integers.var() == pytest.approx(rest * (1 - rest), rel=0.05)
    for biased in (np.rint, np.trunc, np.floor):
        wrong = np.full(count, biased(scaled))
        if wrong[0] != scaled:
            assert off_by_sigmas(wrong, scaled) > 5
    # An up-probability that is 2 % of a step too large is noticed.
    shifted = quantize(jax.random.key(4), vector + 0.02 * grid.step, grid)
    assert off_by_sigmas(shifted, scaled) > 5


def test_entries_and_keys_are_independent():
    vector = np.full(400, 0.3, np.float32)
    sums = np.asarray(unbounded(unit_grid(8))(keys(2000), vector)).sum(axis=1)
    assert sums.var() == pytest.approx(400 * 0.3 * 0.7, rel=0.15)
    assert len(np.unique(sums)) > 20


def test_chances_are_those_of_the_fraction_to_the_last_bit(monkeypatch):
    """A fraction of 3/8 rounds away from zero for 3/8 of all 2^32 words."""
    vector = jnp.array([0.375, 0.375, -0.375, -0.375, 5.0, 1 - 2.0**-24])
    threshold = 3 << 29
    last = (1 << 32) - 256
    words = jnp.array(
        [threshold - 1, threshold, threshold - 1, threshold, 0, last - 1], jnp.uint32
    )
    monkeypatch.setattr(jax.random, "bits", lambda key, shape, dtype: words)
    found = quantize(jax.random.key(0), vector, unit_grid(8))
    np.testing.assert_array_equal(found, [1, 0, -1, 0, 5, 1])


@few
@given(
    b=bits,
    seed=st.integers(0, 100),
    unit=hnp.arrays(np.float32, 8, elements=st.floats(-1, 1, width=32)),
    bound=st.floats(1e-3, 1e3),
)
def test_rounding_moves_by_less_than_a_step(b, seed, unit, bound):
    grid = Grid(b, bound)
    vector = unit * np.float32(bound)
    integers = np.asarray(quantize(jax.random.key(seed), jnp.asarray(vector), grid))
    assert np.abs(integers).max() <= grid.most
    moved = np.abs(integers * grid.step - vector.astype(np.float64))
    # What float32 loses of a value in steps comes on top.
    assert (moved < grid.step + 2.0**-22 * np.abs(vector)).all()
    assert int(outside(jnp.asarray(vector), grid)) == 0


def test_what_is_outside_saturates_and_is_counted():
    grid = Grid(8, 12.7)
    vector = jnp.array([0.0, 12.7, -12.7, 13.0, -1e30, 3e38, math.inf, -math.inf])
    integers = np.asarray(quantize(jax.random.key(0), vector, grid))
    np.testing.assert_array_equal(integers[[0, 3, 4, 5]], [0, 127, -127, 127])
    count = outside(vector, grid)
    assert int(count) == 5 and count.dtype == jnp.int32 and count.shape == ()


@pytest.mark.parametrize("b", [2, 9, 24])
def test_what_is_not_finite_becomes_the_one_integer_that_no_value_becomes(b):
    grid = Grid(b, 1.0)
    vector = jnp.array([math.nan, -math.inf, -1.0, 1.0, math.inf, 0.0, 0.5, -3e38])
    integers = np.asarray(quantize(jax.random.key(0), vector, grid))
    assert NOT_FINITE == -(2**31)
    np.testing.assert_array_equal(integers == NOT_FINITE, ~np.isfinite(vector))
    assert int(outside(vector, grid)) == 4


# --- sums, true and mod 2^b


def test_wrapping_worked_by_hand():
    found = wrap(jnp.array([-9, -8, -1, 0, 7, 8, 15, 16, 24]), 4)
    np.testing.assert_array_equal(found, [7, -8, -1, 0, 7, -8, -1, 0, -8])
    assert found.dtype == jnp.int32
    found = wrap(np.array([-9, -8, 2**40 + 7, -(2**40) - 9]), 4)
    np.testing.assert_array_equal(found, [7, -8, 7, 7])
    assert found.dtype == np.int64


@few
@given(b=bits, values=st.lists(int32, min_size=8, max_size=8), turns=int32)
def test_wrapping_is_periodic_and_centred(b, values, turns):
    x = jnp.array(values, jnp.int32)
    wrapped = np.asarray(wrap(x, b), np.int64)
    half = 1 << b - 1
    np.testing.assert_array_equal(
        wrapped, (np.array(values) + half) % (2 * half) - half
    )
    np.testing.assert_array_equal(wrap(x + jnp.int32(turns) * (1 << b), b), wrapped)
    np.testing.assert_array_equal(wrap(np.array(values), b), wrapped)


@few
@given(b=bits, seed=st.integers(0, 1000), clients=st.sampled_from([1, 2, 300]))
def test_true_sums_of_any_type_become_multiples_of_the_step(b, seed, clients):
    grid = Grid(b, 3.0)
    signed = np.random.default_rng(seed).integers(
        -grid.most, grid.most + 1, (clients, 8)
    )
    total = signed.sum(axis=0)  # beyond 2^24, with 24 bits
    expected = total.astype(np.float32) * np.float32(grid.step)
    for given_total in (
        total,
        total.astype(np.float64),
        jnp.asarray(total, jnp.float32),
        jnp.asarray(signed, jnp.int32).sum(axis=0),
    ):
        found = dequantize(given_total, grid)
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(
        found, grid.step * total.astype(np.float64), rtol=2.0**-22
    )


@few
@given(b=bits, seed=st.integers(0, 100), bound=st.floats(1e-3, 1e3))
def test_multiples_of_the_step_are_exact(b, seed, bound):
    grid = Grid(b, bound)
    integers = np.random.default_rng(seed).integers(-grid.most, grid.most + 1, 8)
    expected = integers.astype(np.float32) * np.float32(grid.step)
    np.testing.assert_array_equal(dequantize(integers, grid), expected)
    steps = jnp.asarray(integers, jnp.float32)  # multiples of a step of width 1
    there = quantize(jax.random.key(seed), steps, unit_grid(b))
    np.testing.assert_array_equal(dequantize(there, unit_grid(b)), steps)


@pytest.mark.parametrize("b", [4, 16, 24])
def test_true_sums_are_right_and_sums_mod_2_to_the_b_within_the_bound(b):
    grid = unit_grid(b)
    most = float(grid.most)
    vectors = np.zeros((3, 8), np.float32)
    vectors[:, :4] = [
        [most, most, -most, 3.0],
        [-most, most, -most, 4.0],
        [most, most, 0.0, -6.0],
    ]
    coded = [
        quantize(jax.random.key(0), jnp.asarray(vector), grid) for vector in vectors
    ]
    total = np.sum(np.asarray(coded, np.int64), axis=0)
    expected = np.float32([most, 3 * most, -2 * most, 1.0])
    np.testing.assert_array_equal(dequantize(total, grid)[:4], expected)
    # 2 most = 2^b - 2; a partial sum beyond the range is no matter.
    expected = [most, most - 2, 2.0, 1.0]
    np.testing.assert_array_equal(dequantize(wrap(total, b), grid)[:4], expected)
    one_more = np.full(8, grid.most + 1)
    np.testing.assert_array_equal(dequantize(wrap(one_more, b), grid), -most - 1)


# --- norms


def test_norm_bounds_worked_by_hand():
    unit = unit_grid(8)
    # c = 3, d = 4, sqrt(2 log(1/beta)) = 2: 9 + 1 + 2 (3 + 1) = 18; or 3 + 2 = 5.
    assert rounded_norm_bound(3.0, 4, unit, math.exp(-2)) == pytest.approx(18**0.5)
    assert rounded_norm_bound(3.0, 4, unit, 0.0) == 5.0
    # 9 + 1 + 10 (3 + 1) = 50 is more than 25.
    assert rounded_norm_bound(3.0, 4, unit, math.exp(-50)) == 5.0
    # Steps of 0.1: c = 30, d = 100; 900 + 25 + 2 (30 + 5) = 995.
    tenth = Grid(8, 12.7)
    found = rounded_norm_bound(3.0, 100, tenth, math.exp(-2))
    assert found == pytest.approx(995**0.5)
    assert rounded_norm_bound(3.0, 100, tenth, 0.0) == pytest.approx(40.0)


def test_inflation_at_sixteen_bits():
    """39,700 entries, a range of 6 sigma of noise 13.7 C, and one rejection in 10^6.

    A step is 6 * 13.7 C / 32767 = 0.002509 C, and sqrt(39700) = 199.25 of them 0.49984.
    """
    grid = Grid(16, 6 * 13.7)
    always = rounded_norm_bound(1.0, 39_700, grid, 0.0) * grid.step
    likely = rounded_norm_bound(1.0, 39_700, grid, 1e-6) * grid.step
    assert always == pytest.approx(1.49984, abs=1e-5)
    # 1 + 0.49984^2 / 4 + sqrt(2 * 13.8155) * 0.002509 * (1 + 0.24992) = 1.07894
    assert likely == pytest.approx(math.sqrt(1.07894), abs=1e-5)
    assert round(likely, 2) == 1.04


@pytest.mark.parametrize(
    ("clip_norm", "size", "beta"),
    [
        (0.0, 4, 0.5),
        (math.inf, 4, 0.5),
        (math.nan, 4, 0.5),
        (1.0, 0, 0.5),
        (1.0, 4, 1.0),
        (1.0, 4, -0.1),
        (1.0, 4, math.nan),
    ],
)
def test_bounds_of_nothing_are_refused(clip_norm, size, beta):
    with pytest.raises(ValueError, match="got"):
        rounded_norm_bound(clip_norm, size, unit_grid(8), beta)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.inf, math.nan])
def test_impossible_norm_bounds_are_refused(bound):
    with pytest.raises(ValueError, match="norm_bound must be positive"):
        quantize_bounded(jax.random.key(0), jnp.zeros(3), unit_grid(8), bound)


@pytest.mark.parametrize("size", [7, (1 << 16) + 1])
def test_squares_are_added_without_rounding(size):
    rng = np.random.default_rng(size)
    for largest in (3, 70_000, (1 << 23) - 1):
        integers = rng.integers(-largest, largest + 1, size)
        integers[0] = -largest
        total = int(sum(int(i) ** 2 for i in integers))
        for limit, expected in (
            (total - 1, False),
            (total, True),
            (total + 1, True),
            (max(total - 2**16, 0), False),
            (total + 2**32, True),
            (2**90, True),
        ):
            given_integers = jnp.asarray(integers, jnp.int32)
            found = squares_within(given_integers, limit)
            assert bool(found) is expected, (largest, limit - total)


def test_the_largest_squares_do_not_overflow():
    integers = jnp.full((1 << 16) + 1, (1 << 23) - 1, jnp.int32)
    total = ((1 << 16) + 1) * ((1 << 23) - 1) ** 2
    assert not squares_within(integers, total - 1)
    assert squares_within(integers, total)


# The rounded norm grows most where all entries are just below half a step.
SIZE, VALUE = 4096, 0.499
WORST = np.full(SIZE, VALUE, np.float32)


def test_conditioned_rounding_never_exceeds_the_bound():
    grid = unit_grid(16)
    plain = unbounded(grid)(keys(200), WORST)
    clip_norm = VALUE * math.sqrt(SIZE)
    bound = rounded_norm_bound(clip_norm, SIZE, grid, BETA)
    # The published probability, and the control: a bound that rejects every second.
    assert np.mean(squares(plain) <= bound**2) >= 1 - BETA
    median = math.sqrt(VALUE * SIZE)
    assert 0.3 < np.mean(squares(plain) > median**2) < 0.7
    for norm_bound in (bound, median):
        found = np.asarray(bounded(grid, norm_bound)(keys(200), WORST))
        assert (squares(found) <= norm_bound**2).all()
        assert set(np.unique(found)) == {0, 1}
        assert len(np.unique(found, axis=0)) == 200  # no fallback, no key used twice


@few
@given(
    seed=st.integers(0, 1000),
    scale=st.sampled_from([0.0, 1e-3, 0.5, 3.0, 200.0, 1e9]),
    factor=st.sampled_from([0.3, 1.0, 3.0]),
)
def test_the_bound_holds_for_vectors_that_break_their_promise(seed, scale, factor):
    grid, norm_bound = Grid(10, 51.1), 37.5
    vector = np.random.default_rng(seed).normal(size=64).astype(np.float32) * scale
    vector[0] *= factor
    found = bounded(grid, norm_bound, 3)(keys(4, seed), vector)
    assert (squares(found) <= norm_bound**2).all()


def test_the_published_probability_of_acceptance():
    grid = unit_grid(16)
    rng = np.random.default_rng(0)
    sparse = np.zeros(256, np.float32)
    sparse[0] = 3.5
    for vector in (
        np.full(256, 0.5, np.float32),
        np.full(256, -7.25, np.float32),
        rng.normal(size=256).astype(np.float32),
        sparse,
    ):
        clip_norm = float(np.linalg.norm(vector.astype(np.float64)))
        plain = unbounded(grid)(keys(1000), vector)
        for beta in (0.0, 1e-3, 0.1, BETA):
            bound = rounded_norm_bound(clip_norm, vector.size, grid, beta)
            assert np.mean(squares(plain) <= bound**2 * (1 + 1e-6)) >= 1 - beta


def test_the_bias_of_conditioned_rounding_is_small():
    grid, count = unit_grid(16), 200
    deviation = math.sqrt(VALUE * (1 - VALUE) / (count * SIZE))
    bound = rounded_norm_bound(VALUE * math.sqrt(SIZE), SIZE, grid, BETA)
    off = np.asarray(bounded(grid, bound)(keys(count, 7), WORST)).mean() - VALUE
    # A rejected rounding has about 2 of 32 entries more than usual.
    assert abs(off) < 1e-3 + 5 * deviation
    # The control: every second one rejected shows.
    tight = math.sqrt(VALUE * SIZE)
    off = np.asarray(bounded(grid, tight)(keys(count, 7), WORST)).mean() - VALUE
    assert off < -10 * deviation
    assert abs(off) * math.sqrt(SIZE) < BETA / (1 - BETA) * math.sqrt(SIZE)


def test_without_luck_entries_are_rounded_towards_zero():
    """64 entries of +-1.49: no try finds two fifths of the usual squared norm."""
    signs = np.where(np.arange(64) % 3, 1, -1)
    vector = jnp.asarray(1.49 * signs, jnp.float32)
    # Exactly on the bound is within it; below it nothing is left.
    on_it = bounded(unit_grid(8), 8.0)(keys(3), vector)
    np.testing.assert_array_equal(on_it, np.broadcast_to(signs, (3, 64)))
    below = bounded(unit_grid(8), 7.999, 1)(keys(3), vector)
    assert not np.asarray(below).any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_vector_that_is_not_finite_becomes_zero(bad):
    vector = jnp.full(16, 2.0).at[3].set(bad)
    found = bounded(unit_grid(8), 1e6)(keys(3), vector)
    assert not np.asarray(found).any()
    found = bounded(unit_grid(8), 1e6)(keys(3), jnp.full(16, 2.0))
    np.testing.assert_array_equal(found, np.full((3, 16), 2))


# --- transformations


def test_all_ways_to_map_over_clients_agree():
    grid = Grid(7, 30.0)
    # A bound so tight that vectors need several tries, or the fallback.
    tight = 0.97 * rounded_norm_bound(4.0, 64, grid, BETA)

    def run(_, key, vector):
        signed = quantize(key, vector, grid)
        return {
            "signed": signed,
            "bounded": quantize_bounded(key, vector, grid, tight, tries=5),
            "outside": outside(vector, grid),
            "wrapped": wrap(signed * 77, grid.bits),
            "back": dequantize(signed, grid),
        }

    rng = np.random.default_rng(1)
    lengths = np.array([0.5, 3.0, 4.0, 4.0, 5.0, 300.0])
    vectors = rng.normal(size=(6, 64))
    vectors *= lengths[:, None] / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = jnp.asarray(vectors, jnp.float32)
    one = jax.jit(run)
    pairs = zip(keys(6), vectors, strict=True)
    expected = jax.tree.map(
        lambda *leaves: np.stack(leaves), *(one(None, *pair) for pair in pairs)
    )
    assert [row.any() for row in expected["bounded"]] == [True] * 5 + [False]
    found = run(None, keys(6)[2], vectors[2])  # not compiled
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[2]), found, expected)
    for backend in ("vmap", "shard_map"):
        found = for_each_client(run, backend)(None, keys(6), vectors)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
