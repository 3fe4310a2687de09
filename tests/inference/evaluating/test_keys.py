import numpy as np
import pytest

from fedjax_private.encryption.workers import Workers
from fedjax_private.inference.evaluating.ckks import ckks_of
from fedjax_private.inference.evaluating.keys import KeyRing, automorphism, write_keys
from fedjax_private.inference.planning.polynomials import Number
from fedjax_private.inference.planning.rings import RingChoice

pytestmark = pytest.mark.needs_openfhe


def test_automorphisms_compose():
    polynomial = np.arange(64, dtype=np.uint64)[None]
    twice = automorphism(automorphism(polynomial, 5), 5)
    np.testing.assert_array_equal(twice, automorphism(polynomial, 25))
    inverse = pow(5, -1, 128)
    again = automorphism(automorphism(polynomial, 5), inverse)
    np.testing.assert_array_equal(again, polynomial)


def test_keys_from_bytes_rotate_and_relinearise():
    choice = RingChoice(8192, 31, 26, 4)
    ckks, rotations, workers = ckks_of(choice), (1, 7, 2048, 4095), Workers()
    pair = ckks.context.KeyGen()
    data = write_keys(ckks, pair, rotations, workers)
    polynomials = 1 + ckks.ring.limbs * (1 + len(rotations))
    assert len(data) == 32 + polynomials * ckks.ring.polynomial_bytes
    ring = KeyRing(ckks, rotations)
    public = ring.load(memoryview(data), workers)
    x = np.random.default_rng(0).uniform(-1, 1, ckks.slots)
    made = ckks.context.Encrypt(public, ckks.encode(x, 2.0**60, 4))
    made.SetKeyTag(ring.tag)
    number = Number(made, 2.0**60, 4)

    def assert_holds(result, expected):
        slots = ckks.decrypted(result, pair.secretKey)
        np.testing.assert_allclose(slots.real, expected, atol=1e-3)

    turned = ckks.hoisted(number)
    for step in rotations:
        assert_holds(ckks.rotated(number, step), np.roll(x, -step))
        assert_holds(turned(step), np.roll(x, -step))
    small = Number(ckks.context.Encrypt(public, ckks.encode(x, 2.0**45, 4)), 2.0**45, 4)
    small.ciphertext.SetKeyTag(ring.tag)
    assert_holds(ckks.times(small, small), x * x)
