import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fedjax_private.encryption.math.packing import pack, unpack
from fedjax_private.encryption.parameters import Parameters, Scheme, SumRequest, derive
from tests.encryption.fixtures import sum_request


def small(scheme, values, *, slots=4, lanes=0, residues=False, **changes):
    """Parameters of a ring too small to be safe, for sums by hand."""
    request = sum_request(scheme, values, **{"uploads": 3, **changes})
    request = dataclasses.replace(request, residues=residues)
    dimension = slots if scheme.exact else 2 * slots
    return Parameters(request, dimension, (60,), lanes=lanes)


@given(
    values=st.integers(1, 40),
    slots=st.sampled_from([1, 2, 4, 8]),
    packed=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_round_trip_of_reals(values, slots, packed, seed):
    p = small(Scheme.CKKS, values, slots=slots, packing="complex" if packed else "real")
    vector = np.random.default_rng(seed).normal(size=values)
    rows = pack(vector, p)
    assert rows.dtype == (np.complex128 if packed else np.float64)
    assert rows.shape == (p.rows, slots)
    got = unpack(rows, p)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, vector)


@given(
    values=st.integers(1, 40),
    slots=st.sampled_from([1, 2, 4, 8]),
    uploads=st.integers(1, 9),
    bits=st.integers(2, 8),
    lanes=st.integers(1, 4),
    seed=st.integers(0, 99),
    residues=st.booleans(),
)
@settings(deadline=None)
def test_round_trip_of_whole_numbers(
    values, slots, uploads, bits, lanes, seed, residues
):
    p = small(
        Scheme.EXACT,
        values,
        slots=slots,
        lanes=lanes,
        uploads=uploads,
        quantization_bits=bits,
        residues=residues,
    )
    most, half = 2 ** (bits - 1) - 1, 2 ** (bits - 1)
    random = np.random.default_rng(seed)
    vectors = random.integers(-most, most + 1, (uploads, values))
    vectors[:, 0] = most
    vectors[:, -1] = -most
    rows = [pack(vector, p) for vector in vectors]
    for row, vector in zip(rows, vectors, strict=True):
        assert row.dtype == np.int64
        assert row.shape == (p.rows, slots)
        assert 0 <= row.min() <= row.max() < p.plaintext_modulus
        np.testing.assert_array_equal(unpack(row, p), vector)
    # Sums of rows are sums of vectors: no lane reaches into the next.
    got, expected = unpack(np.sum(rows, axis=0), p), vectors.sum(axis=0)
    assert got.dtype == np.int64
    if residues:
        expected = (expected + half) % (2 * half) - half
    np.testing.assert_array_equal(got, expected)


@given(seed=st.integers(0, 99), uploads=st.integers(2, 5))
@settings(deadline=None)
def test_rows_of_a_noisy_sum_tell_the_true_sum_only(seed, uploads):
    # Noise may be beyond the range of b bits in one upload and gone in the sum: rows
    # that had been reduced would tell how many uploads were.
    p = small(
        Scheme.EXACT, 8, lanes=2, uploads=uploads, quantization_bits=4, residues=True
    )
    random = np.random.default_rng(seed)
    vectors = random.integers(-500, 500, (uploads, 8))
    vectors[-1] = random.integers(-7, 8, 8) - vectors[:-1].sum(axis=0)
    total = np.sum([pack(v, p) for v in vectors], axis=0) % p.plaintext_modulus
    np.testing.assert_array_equal(total, pack(vectors.sum(axis=0), p))
    np.testing.assert_array_equal(unpack(total, p), vectors.sum(axis=0))


def test_two_reals_share_a_slot():
    p = small(Scheme.CKKS, 5, slots=2)
    rows = pack(np.arange(1, 6, dtype=np.float32), p)
    np.testing.assert_array_equal(rows, [[1 + 2j, 3 + 4j], [5, 0]])
    p = small(Scheme.CKKS, 5, slots=2, packing="real")
    rows = pack(np.arange(1, 6, dtype=np.float32), p)
    np.testing.assert_array_equal(rows, [[1, 2], [3, 4], [5, 0]])


def test_lanes_by_hand():
    # Three uploads of 4 bits need 2 bits for carries: lanes of 6.
    p = small(Scheme.EXACT, 7, slots=2, lanes=2, quantization_bits=4)
    assert (p.lane_bits, p.rows) == (6, 2)
    rows = pack(np.array([1, 2, 3, 4, 5, -6, -7]), p)
    # The first lane of all slots comes first; t = 4129 is the least prime 1 mod 4.
    assert p.plaintext_modulus == 4129
    np.testing.assert_array_equal(
        rows, [[1 + (3 << 6), 2 + (4 << 6)], [5 - 448 + 4129, -6 + 4129]]
    )
    # The lanes hold the true sum: 3 * 7 = 21 is beyond 4 bits.
    np.testing.assert_array_equal(unpack(3 * rows, p), [3, 6, 9, 12, 15, -18, -21])
    p = dataclasses.replace(p, request=dataclasses.replace(p.request, residues=True))
    # Mod 16 that is -5, -18 is -2, and 9, 12, 15 are -7, -4, -1.
    np.testing.assert_array_equal(unpack(3 * rows, p), [3, 6, -7, -4, -1, -2, -5])


@pytest.mark.parametrize("uploads", [1, 2, 3, 4, 5, 31, 32, 33])
def test_full_lanes_do_not_run_over(uploads):
    request = SumRequest(Scheme.EXACT, 20_000, uploads)
    p = derive(request)
    full = np.full(20_000, 2**15 - 1)
    full[::3] *= -1
    total = uploads * pack(full, p) % p.plaintext_modulus
    np.testing.assert_array_equal(unpack(total, p), uploads * full)


@pytest.mark.parametrize("packed", [True, False])
def test_padding_is_zero_and_is_dropped(packed):
    p = small(Scheme.CKKS, 9, packing="complex" if packed else "real")
    rows = pack(np.ones(9), p)
    flat = rows.view(np.float64).reshape(-1)
    np.testing.assert_array_equal(flat[9:], 0)
    flat[9:] = 99.0
    np.testing.assert_array_equal(unpack(rows, p), np.ones(9))


def test_padding_of_whole_numbers_is_zero_and_is_dropped():
    p = small(Scheme.EXACT, 9, lanes=2, quantization_bits=4)
    rows = pack(np.full(9, 7), p)
    np.testing.assert_array_equal(rows[0], 7 + (7 << 6))
    np.testing.assert_array_equal(rows[1], [7, 0, 0, 0])
    rows[1, 1:] = 7
    rows[1, 0] += 7 << 6
    np.testing.assert_array_equal(unpack(rows, p), np.full(9, 7))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint64])
def test_whole_numbers_of_any_type(dtype):
    p = small(Scheme.EXACT, 4, lanes=3, quantization_bits=8)
    vector = np.array([0, 1, 99, 127], dtype)
    np.testing.assert_array_equal(unpack(pack(vector, p), p), vector)


def test_fractions_are_not_cut_off_but_refused():
    with pytest.raises(ValueError, match="got float64: quantise first"):
        pack(np.array([0.9, 1.5]), small(Scheme.EXACT, 2, lanes=1))


@pytest.mark.parametrize(
    "value", [-8, 8, 2**40, -(2**63), 2**63 - 1, np.uint64(2**64 - 1)]
)
def test_whole_numbers_out_of_range_are_refused(value):
    p = small(Scheme.EXACT, 5, lanes=2, quantization_bits=4)
    vector = np.zeros(5, np.asarray(value).dtype)
    vector[3] = value
    with pytest.raises(ValueError, match=r"lie within \+-7, got"):
        pack(vector, p)


@pytest.mark.parametrize("shape", [(0,), (4,), (6,), (5, 1), (1, 5), ()])
@pytest.mark.parametrize("scheme", [Scheme.CKKS, Scheme.EXACT])
def test_vectors_of_another_shape_are_refused(scheme, shape):
    with pytest.raises(ValueError, match=r"where \(5,\) was declared"):
        pack(np.zeros(shape), small(scheme, 5, lanes=2))


@pytest.mark.parametrize("shape", [(1, 4), (2, 3), (3, 4), (8,), (2, 4, 1)])
@pytest.mark.parametrize("scheme", [Scheme.CKKS, Scheme.EXACT])
def test_rows_of_another_shape_are_refused(scheme, shape):
    p = small(scheme, 9, lanes=2)
    with pytest.raises(ValueError, match=r"where \(2, 4\) were expected"):
        unpack(np.zeros(shape, np.int64), p)


@pytest.mark.parametrize("scheme", [Scheme.CKKS, Scheme.EXACT])
def test_results_do_not_share_memory_with_their_sources(scheme):
    p = small(scheme, 8, lanes=2)
    vector = np.arange(8)
    rows = pack(vector, p)
    got = unpack(rows, p)
    rows[:] = 0
    np.testing.assert_array_equal(vector, np.arange(8))
    np.testing.assert_array_equal(got, np.arange(8))


def test_parameters_say_how_many_rows_there_are():
    p = small(Scheme.CKKS, 8)
    assert p.rows == 1
    more = dataclasses.replace(p.request, values=9)
    assert dataclasses.replace(p, request=more).rows == 2
