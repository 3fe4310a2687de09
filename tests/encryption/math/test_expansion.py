"""Arrays expanded from seeds."""

import hashlib

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from scipy import stats

from fedjax_private.encryption.math.expansion import (
    below,
    signs,
    stream,
    uniform_polynomial,
)
from fedjax_private.encryption.math.rings import Ring

RING = Ring(1024, (2**40 + 15, 2**33 + 17))  # it is not asked whether they are primes
SEED = hashlib.sha256(b"a seed").digest()


def test_a_stream_is_the_key_stream_of_chacha20():
    # RFC 8439, appendix A.1, vectors 1 and 2: the key 0, blocks 0 and 1.
    draw = stream(bytes(32))
    assert draw(3) + draw(5) == bytes.fromhex("76b8e0ada0f13d90")
    draw(56)
    assert draw(8) == bytes.fromhex("9f07e7be5551387a")


def test_words_that_are_too_large_are_dropped():
    words = [7, 12, 3, 2**63 + 9, 13, 15, 5]  # the lowest four bits count
    data = iter([np.array(words[:6], "<u8").tobytes()])
    rest = np.array([5, 14, 1], "<u8").tobytes()
    sizes = []

    def draw(size):
        sizes.append(size)
        return next(data) if len(sizes) == 1 else rest[:size]

    assert below(13, 6, draw).tolist() == [7, 12, 3, 9, 5, 5]
    assert sizes == [48, 16, 8]


def test_a_polynomial_is_uniform_and_repeats_for_its_seed_only():
    one = uniform_polynomial(SEED, RING)
    assert one.dtype == np.uint64
    assert one.shape == (2, 1024)
    np.testing.assert_array_equal(one, uniform_polynomial(SEED, RING))
    assert not (one == uniform_polynomial(SEED[::-1], RING)).any()
    for row, q in zip(one, RING.moduli, strict=True):
        assert row.max() < q
        assert stats.kstest(row / q, "uniform").pvalue > 1e-3  # of a fixed seed


def test_signs_are_differences_of_two_bits():
    got = signs(SEED, (2, 100, 64))
    keys = Cipher(algorithms.ChaCha20(SEED, bytes(16)), None).encryptor()
    bits = np.unpackbits(np.frombuffer(keys.update(bytes(3200)), np.uint8))
    expected = bits[:12800].astype(int) - bits[12800:]
    np.testing.assert_array_equal(got.reshape(-1), expected)
    counts = [np.count_nonzero(got == value) for value in (-1, 0, 1)]
    assert stats.chisquare(counts, [3200, 6400, 3200]).pvalue > 1e-3


@pytest.mark.parametrize("size", [16, 31])
def test_a_seed_has_32_bytes(size):
    with pytest.raises(ValueError, match="key"):
        stream(bytes(size))
