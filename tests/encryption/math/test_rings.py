import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fedjax_private.encryption.errors import WireError
from fedjax_private.encryption.math.rings import Ring, RunningSum

# Primes of the widths that the schemes use.
P45, P53, P54, P60 = (
    35184372060161,
    9007199254429697,
    9007199254847489,
    1152921504606830593,
)


def polynomials(ring, count, seed=0):
    random = np.random.default_rng(seed)
    shape = (count, ring.dimension)
    rows = [random.integers(0, q, shape, dtype=np.uint64) for q in ring.moduli]
    return np.stack(rows, axis=1)


def bits_of(data):
    return np.unpackbits(np.frombuffer(data, np.uint8)).sum()


@pytest.mark.parametrize(
    "moduli", [(P45,), (P53,), (P60,), (P53, P54), (P60, P60 - 2), (P45, P53, P54, P60)]
)
@pytest.mark.parametrize("count", [1, 2, 16, 17, 33])
def test_round_trip_at_the_widths_in_use(moduli, count):
    ring = Ring(256, moduli)
    sent = polynomials(ring, count)
    data = ring.pack(sent)
    widths = {P45: 45, P53: 53, P54: 54, P60: 60, P60 - 2: 60}
    # 256 / 8 = 32 bytes for each bit of a coefficient.
    assert len(data) == count * 32 * sum(widths[q] for q in moduli)
    assert len(data) == count * ring.polynomial_bytes
    got = ring.unpack(data)
    assert got.dtype == np.uint64
    assert got.shape == (count, len(moduli), 256)
    np.testing.assert_array_equal(got, sent)


@given(data=st.data())
@settings(deadline=None, max_examples=200)
def test_round_trip_of_any_ring(data):
    bits = data.draw(st.lists(st.integers(2, 60), min_size=1, max_size=3))
    moduli = [data.draw(st.integers(2 ** (b - 1), 2**b - 1)) for b in bits]
    ring = Ring(data.draw(st.sampled_from([8, 16, 64])), tuple(moduli))
    count = data.draw(st.integers(1, 18))
    sent = polynomials(ring, count, data.draw(st.integers(0, 99)))
    sent[0, :, :3] = np.array(moduli, np.uint64)[:, None] - np.uint64(1)
    packed = ring.pack(sent)
    assert len(packed) == count * ring.dimension * sum(bits) // 8
    np.testing.assert_array_equal(ring.unpack(packed), sent)
    # No bit is stored twice, and none besides.
    assert bits_of(packed) == bits_of(sent.tobytes())


@given(data=st.data())
@settings(deadline=None, max_examples=50)
def test_all_bytes_are_polynomials_or_refused(data):
    ring = Ring(8, (2**13 - 1, 97))
    content = data.draw(st.binary(min_size=0, max_size=60))
    try:
        got = ring.unpack(content)
    except WireError:
        return
    assert ring.pack(got) == content


def test_layout_by_hand():
    # 11 bits are planes of 8, 2 and 1. Bits 8 and 9 of coefficients 0, 2, 4 and 6 come
    # first, then those of 1, 3, 5 and 7; at last bit 10 of all eight.
    ring = Ring(8, (2**11 - 1,))
    values = np.array([[[0x401, 2, 0x103, 4, 5, 0x206, 7, 0x308]]], np.uint64)
    low = bytes([1, 2, 3, 4, 5, 6, 7, 8])
    high = bytes([0b00_00_01_00, 0b11_10_00_00, 0b00000001])
    assert ring.pack(values) == low + high


def test_what_is_packed_may_be_a_view():
    ring = Ring(64, (P45, P53))
    sent = polynomials(ring, 6)
    for view in (sent[::2], sent[::-1], sent[:, :, ::-1], np.asfortranarray(sent)):
        np.testing.assert_array_equal(ring.unpack(ring.pack(view)), view)
    data = b"x" + ring.pack(sent)
    np.testing.assert_array_equal(ring.unpack(memoryview(data)[1:]), sent)


@pytest.mark.parametrize("moduli", [(P45,), (P53,), (P54,), (P60,), (P53, P54), (97,)])
def test_coefficients_reach_up_to_the_modulus(moduli):
    ring = Ring(64, moduli)
    for limb, q in enumerate(moduli):
        for position in (0, 17, 63):
            sent = np.zeros((17, len(moduli), 64), np.uint64)
            sent[16, limb, position] = q - 1
            assert ring.unpack(ring.pack(sent))[16, limb, position] == q - 1
            for beyond in (q, 2 ** q.bit_length() - 1):
                sent[16, limb, position] = beyond
                with pytest.raises(WireError, match="not below the modulus"):
                    ring.unpack(ring.pack(sent))


def test_other_lengths_are_refused():
    ring = Ring(64, (P45,))
    data = ring.pack(polynomials(ring, 2))
    for altered in (b"", data[:-1], data + b"\0", data[: 64 * 45 // 8 - 1], data[1:]):
        with pytest.raises(WireError, match="whole polynomials"):
            ring.unpack(altered)


@pytest.mark.parametrize("moduli", [(P45,), (P53, P54), (P60,), (3, P60)])
def test_sums_are_those_of_integers(moduli):
    ring = Ring(8, moduli)
    sent = polynomials(ring, 7)
    got = ring.reduce(sent.sum(axis=0, dtype=np.uint64))
    for limb, q in enumerate(moduli):
        for position in range(8):
            total = sum(int(value) for value in sent[:, limb, position])
            assert got[limb, position] == total % q
    np.testing.assert_array_equal(ring.reduce(got), got)


@pytest.mark.parametrize(
    ("moduli", "additions"),
    [((P60,), 16), ((P54, P53), 1024), ((P53,), 2048), ((P45,), 2**19), ((3, P60), 16)],
)
def test_as_many_additions_as_promised_do_not_overflow(moduli, additions):
    ring = Ring(8, moduli)
    assert ring.additions == additions
    # The largest coefficient that the width could hold, not just the modulus.
    for q in moduli:
        assert additions * (2 ** q.bit_length() - 1) < 2**64
    total = np.zeros((1, len(moduli), 8), np.uint64)
    largest = np.array(moduli, np.uint64)[:, None] - np.uint64(1)
    for _ in range(min(additions, 2048)):
        total += largest
    for limb, q in enumerate(moduli):
        assert int(total[0, limb, 0]) == min(additions, 2048) * (q - 1)
        expected = -min(additions, 2048) % q
        np.testing.assert_array_equal(ring.reduce(total)[0, limb], expected)


def test_size_of_the_modulus():
    assert Ring(8, (P53, P54)).limbs == 2


@pytest.mark.parametrize("moduli", [(P45,), (P60,), (P53, P54)])
@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
def test_running_sums_do_not_overflow(moduli, count):
    ring = Ring(8, moduli)
    column = np.array(moduli, np.uint64)[:, None]
    largest = np.broadcast_to(column - np.uint64(1), (2, len(moduli), 8))
    total = RunningSum(ring)
    for _ in range(count):
        total.add(largest.copy())
    expected = [[-count % q] * 8 for q in moduli]
    np.testing.assert_array_equal(total.total, [expected, expected])
