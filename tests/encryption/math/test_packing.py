import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fedjax_private.encryption.math.packing import pack, unpack
from fedjax_private.encryption.parameters import Parameters, Scheme, SumRequest, derive
from tests.encryption.fixtures import sum_request


def small(scheme, values, *, slots=4, lanes=0, **changes):
    """Parameters of a ring too small to be safe, for sums by hand."""
    request = sum_request(scheme, values, **{"uploads": 3, **changes})
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
)
@settings(deadline=None)
def test_round_trip_of_whole_numbers(values, slots, uploads, bits, lanes, seed):
    p = small(
        Scheme.EXACT,
        values,
        slots=slots,
        lanes=lanes,
        uploads=uploads,
        quantization_bits=bits,
    )
    random = np.random.default_rng(seed)
    vectors = random.integers(0, 2**bits, (uploads, values))
    vectors[0] = 2**bits - 1
    rows = [pack(vector, p) for vector in vectors]
    for row, vector in zip(rows, vectors, strict=True):
        assert row.dtype == np.int64
        assert row.shape == (p.rows, slots)
        assert row.min() >= 0
        np.testing.assert_array_equal(unpack(row, p), vector)
    # Sums of rows are sums of vectors: no lane reaches into the next.
    total = np.sum(rows, axis=0)
    assert total.max() < 2 ** (p.lanes * p.lane_bits)
    got = unpack(total, p)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, vectors.sum(axis=0) % 2**bits)


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
    rows = pack(np.array([1, 2, 3, 4, 5, 6, 15]), p)
    # The first lane of all slots comes first.
    np.testing.assert_array_equal(rows, [[1 + (3 << 6), 2 + (4 << 6)], [5 + 960, 6]])
    # Carries end within a lane and are cut off: 3 * 15 = 45 = 2 * 16 + 13.
    np.testing.assert_array_equal(unpack(3 * rows, p), [3, 6, 9, 12, 15, 2, 13])


@pytest.mark.parametrize("uploads", [1, 2, 3, 4, 5, 31, 32, 33])
def test_full_lanes_do_not_run_over(uploads):
    request = SumRequest(Scheme.EXACT, 20_000, uploads)
    p = derive(request)
    full = np.full(20_000, 2**16 - 1)
    total = uploads * pack(full, p)
    assert total.max() < p.plaintext_modulus
    np.testing.assert_array_equal(unpack(total, p), uploads * full % 2**16)


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
    rows = pack(np.full(9, 15), p)
    np.testing.assert_array_equal(rows[0], 15 + (15 << 6))
    np.testing.assert_array_equal(rows[1], [15, 0, 0, 0])
    rows[1, 1:] = 7
    rows[1, 0] += 7 << 6
    np.testing.assert_array_equal(unpack(rows, p), np.full(9, 15))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint64])
def test_whole_numbers_of_any_type(dtype):
    p = small(Scheme.EXACT, 4, lanes=3, quantization_bits=7)
    vector = np.array([0, 1, 99, 127], dtype)
    np.testing.assert_array_equal(unpack(pack(vector, p), p), vector)


def test_fractions_are_not_cut_off_but_refused():
    with pytest.raises(ValueError, match="got float64: quantise first"):
        pack(np.array([0.9, 1.5]), small(Scheme.EXACT, 2, lanes=1))


@pytest.mark.parametrize(
    "value", [-1, 16, 2**40, -(2**63), 2**63 - 1, np.uint64(2**64 - 1)]
)
def test_whole_numbers_out_of_range_are_refused(value):
    p = small(Scheme.EXACT, 5, lanes=2, quantization_bits=4)
    vector = np.zeros(5, np.asarray(value).dtype)
    vector[3] = value
    with pytest.raises(ValueError, match=r"lie in \[0, 2\^4\), got"):
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
