import itertools
import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedjax_private.encryption.masking import seeds
from fedjax_private.encryption.masking.seeds import PRIME, Expander


def key_stream(seed, size):
    """AES-128 in counter mode from block 0, by the cipher's other mode."""
    block = Cipher(algorithms.AES(seed), modes.ECB()).encryptor().update
    counters = range(-(-size // 16))
    return b"".join(block(count.to_bytes(16, "big")) for count in counters)[:size]


@pytest.mark.parametrize("kind", ["<u2", "<u4", "<u8"])
def test_masks_are_the_key_stream_after_the_check_value(kind):
    seed, vector = os.urandom(16), np.arange(1001, dtype=kind)
    before, expander = vector.copy(), Expander(vector)
    stream = key_stream(seed, 16 + vector.nbytes)
    assert seeds.check_value(seed) == stream[:16]
    mask = np.frombuffer(stream[16:], kind)
    expander.add(seed)
    np.testing.assert_array_equal(expander.vector, before + mask)
    expander.subtract(os.urandom(16))
    assert (expander.vector != before).mean() > 0.99
    expander = Expander(before + mask)
    expander.subtract(seed)
    np.testing.assert_array_equal(expander.vector, before)


def test_a_known_mask():
    # NIST SP 800-38A, F.1.1: the key and the first block of AES-128; its stream at 0.
    seed = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    assert seeds.check_value(seed).hex() == "7df76b0c1ab899b33e42f047b91b546f"


def test_seeds_are_below_the_prime_and_fresh(monkeypatch):
    assert PRIME == 65_521
    assert all(PRIME % factor for factor in range(2, 256))
    drawn = seeds.draw(5000)
    assert drawn.shape == (5000, 8) and drawn.dtype == np.uint16
    assert (drawn < PRIME).all()
    assert len({row.tobytes() for row in drawn}) == 5000
    # What is too large is drawn again.
    words = iter([[PRIME, 7] + [1] * 6, [65_535], [9]])
    monkeypatch.setattr(
        os, "urandom", lambda size: np.array(next(words), "<u2").tobytes()
    )
    np.testing.assert_array_equal(seeds.draw(1), [[9, 7, 1, 1, 1, 1, 1, 1]])


def test_bytes_of_seeds():
    drawn = seeds.draw(3)
    data = seeds.to_bytes(drawn)
    assert len(data) == 48
    np.testing.assert_array_equal(seeds.from_bytes(data), drawn)


def test_any_threshold_of_shares_recovers():
    secrets, points = seeds.draw(3), (1, 2, 5, 100, PRIME - 1)
    shares = seeds.split(secrets, 3, points)
    assert shares.shape == (5, 3, 8) and (shares < PRIME).all()
    for some in itertools.permutations(range(5), 3):
        found = seeds.combine([points[i] for i in some], shares[list(some)])
        np.testing.assert_array_equal(found, secrets)
    wrong = seeds.combine(points[:2], shares[:2])
    assert (wrong != secrets).mean() > 0.9


def test_shares_are_values_of_a_polynomial(monkeypatch):
    # f(x) = s + 3 x + 5 x^2 for each limb, by hand.
    monkeypatch.setattr(
        seeds, "draw", lambda count: np.repeat([[3], [5]], 8, 1).astype(np.uint16)
    )
    secret = np.full((1, 8), 65_000, np.uint16)
    shares = seeds.split(secret, 3, (1, 2, 10))
    np.testing.assert_array_equal(shares[:, 0, 0], [65_008, 65_026, 65_530 - PRIME])


def test_large_thresholds_are_exact():
    secrets, points = seeds.draw(1), tuple(range(1, 701))
    shares = seeds.split(secrets, 600, points)
    limbs = shares[:, 0].astype(object)
    found = seeds.combine(points[-600:], shares[-600:])
    np.testing.assert_array_equal(found, secrets)
    # The 601st share is on the polynomial of the first 600, by Python's integers.
    x, total = 650, 0
    for i in range(600):
        top, bottom = 1, 1
        for j in range(600):
            if i != j:
                top = top * (x - points[j]) % PRIME
                bottom = bottom * (points[i] - points[j]) % PRIME
        total += limbs[i] * top * pow(bottom, -1, PRIME)
    np.testing.assert_array_equal(total % PRIME, limbs[x - 1])


def test_fewer_shares_are_uniform_whatever_the_secret():
    counts = []
    for value in (0, PRIME - 1):
        secrets = np.full((4000, 8), value, np.uint16)
        share = seeds.split(secrets, 2, (3,))
        counts.append(np.histogram(share, bins=16, range=(0, PRIME))[0])
    for count in counts:
        chi = ((count - 2000) ** 2 / 2000).sum()
        assert chi < 50  # 15 degrees of freedom: beyond 50 with probability 1e-5
