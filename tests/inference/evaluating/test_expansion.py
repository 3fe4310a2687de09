import numpy as np
import pytest

from fedjax_private.inference.evaluating.expansion import fresh_seed, reseeded, uniform
from fedjax_private.inference.planning.rings import RingChoice, ring_of

pytestmark = pytest.mark.needs_openfhe


def test_uniform_polynomials_are_uniform_and_repeatable():
    ring = ring_of(RingChoice(8192, 30, 30, 7))
    seed = fresh_seed()
    first, second = uniform(seed, 0, ring), uniform(seed, 1, ring)
    assert (first != second).mean() > 0.99
    np.testing.assert_array_equal(first, uniform(seed, 0, ring))
    assert (first != uniform(fresh_seed(), 0, ring)).mean() > 0.99
    for row, modulus in zip(first, ring.moduli, strict=True):
        assert row.max() < modulus
        # 8,192 uniform samples: 5 deviations of mean and of each sixteenth.
        assert abs(row.mean() / modulus - 0.5) < 5 / np.sqrt(12 * 8192)
        counts = np.histogram(row, 16, (0, modulus))[0]
        assert np.abs(counts - 512).max() < 5 * np.sqrt(512)


def test_reseeding_keeps_what_a_pair_decrypts_to():
    ring = ring_of(RingChoice(8192, 30, 30, 7))
    seed = fresh_seed()
    secret, b, a, other = (uniform(seed, i, ring) for i in range(4))
    moduli = np.array(ring.moduli, object)[:, None]
    b_new = reseeded(ring, secret, np.stack([b, a]), other)
    s = secret.astype(object)
    left = (b_new.astype(object) + other.astype(object) * s) % moduli
    right = (b.astype(object) + a.astype(object) * s) % moduli
    np.testing.assert_array_equal(left, right)
