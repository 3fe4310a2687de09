"""Verified dealing: what passes, what does not, and what it reveals."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.math import polynomials
from fedjax_private.encryption.math.rings import Ring
from fedjax_private.encryption.noise import NOISE_STD
from fedjax_private.encryption.parameters import Scheme, derive
from fedjax_private.encryption.parties.dealing import Dealing
from fedjax_private.encryption.primes import prime_above
from tests.encryption.fixtures import sum_request
from tests.encryption.transforms import at_zero

RING = Ring(64, (prime_above(30, 128), prime_above(31, 128)))
HOLDERS, QUORUM, BITS = (9, 2, 4, 7), 3, 4
ME = 2


@pytest.fixture(scope="module")
def dealing():
    return Dealing(RING, QUORUM, HOLDERS, BITS)


def evaluated(integers):
    """The polynomial (L, N) with those coefficients, in values."""
    limbs = [np.array(integers % q, np.uint64) for q in RING.moduli]
    return polynomials.evaluate(np.stack(limbs)[None], RING)[0]


def negacyclic(a, s):
    """The product (N,) of two polynomials, by its definition, over the integers."""
    n = len(a)
    product = np.zeros(n, object)
    for i, j in itertools.product(range(n), range(n)):
        sign = 1 if i + j < n else -1
        product[(i + j) % n] += sign * int(a[i]) * int(s[j])
    return product


class Dealers:
    """A key of each holder, as in a key generation, in integers."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.q = math.prod(RING.moduli)
        self.a = rng.integers(0, 2**60, 64).astype(object) % self.q
        self.common = evaluated(self.a)
        self.keys = rng.integers(-1, 2, (len(HOLDERS), 64))
        self.errors = rng.normal(0, NOISE_STD, (len(HOLDERS), 64)).round().astype(int)
        self.products = [negacyclic(self.a, key) for key in self.keys]
        self.contributions = [
            evaluated(error - product)
            for error, product in zip(self.errors, self.products, strict=True)
        ]

    def deal(self, dealing, **changed):
        """What each receiver has of each dealer, [dealer][receiver]."""
        keys = [evaluated(key.astype(object)) for key in self.keys]
        for name, key in changed.items():
            keys[HOLDERS.index(int(name[1:]))] = key
        dealt = [dealing.deal(key) for key in keys]
        return [[dealing.read(data) for data in of_one] for of_one in dealt]

    def answers(self, dealing, dealt, challenge):
        return [
            dealing.answers(
                np.stack([of_one[receiver][0] for of_one in dealt]),
                np.stack([of_one[receiver][1] for of_one in dealt]),
                self.common,
                challenge,
            )
            for receiver in range(len(HOLDERS))
        ]

    def check(self, dealing, dealt, me=ME, seed=bytes(32)):
        challenge = dealing.challenge(seed)
        answers = self.answers(dealing, dealt, challenge)
        answers = [dealing.scalars.unpack(data) for data in answers]
        dealing.check(me, answers, self.contributions, challenge)


@pytest.fixture(scope="module")
def dealers():
    return Dealers()


def at_the_origin(values, modulus):
    """What the first T of values, at the points 1, 2, ..., have at 0."""
    points = dict(enumerate(values[:QUORUM], 1))
    terms = (
        int(at_zero(points, point, modulus)) * value.astype(object)
        for point, value in points.items()
    )
    return sum(terms) % modulus


def test_the_opened_numbers_are_masked_projections_of_key_and_error(dealing, dealers):
    dealt = dealers.deal(dealing)
    challenge = dealing.challenge(b"challenge".ljust(32))
    rho, tau = challenge.astype(object)
    answers = dealers.answers(dealing, dealt, challenge)
    received = [dealing.scalars.unpack(data) for data in answers]
    for dealer, (key, product) in enumerate(
        zip(dealers.keys, dealers.products, strict=True)
    ):
        for limb, q in enumerate(RING.moduli):
            opened = at_the_origin([of_all[dealer, limb] for of_all in received], q)
            masks = at_the_origin([masks[limb] for _, masks in dealt[dealer]], q)
            expected = rho @ key + tau @ product + masks
            np.testing.assert_array_equal((opened - expected) % q, 0)
    dealers.check(dealing, dealt)


def test_honest_dealers_pass_every_time(dealing, dealers):
    dealt = dealers.deal(dealing)
    for seed, me in itertools.product(range(8), HOLDERS):
        dealers.check(dealing, dealt, me, bytes([seed]) * 32)


@pytest.mark.parametrize("coefficient", range(0, 64, 9))
def test_a_key_with_one_other_coefficient_fails(dealing, dealers, coefficient):
    """Holder: deals shares of a key that is not the one in its part of the public key
    -> found out in every check."""
    # Its error is that coefficient's multiple of the common polynomial.
    key = dealers.keys[3].astype(object)
    key[coefficient] += 1
    dealt = dealers.deal(dealing, _7=evaluated(key))
    with pytest.raises(RefusedError, match="holder 7 dealt are not of the key"):
        dealers.check(dealing, dealt)


def test_a_large_key_with_a_small_error_fails(dealers):
    """Holder: deals shares of another, large key that fits its part of the public key
    -> found out."""
    # s' = (e - b) / a for any small e: the relation alone would hold.
    dealing = Dealing(RING, QUORUM, HOLDERS, BITS)
    values = np.empty_like(dealers.common)
    for limb, q in enumerate(RING.moduli):
        b = dealers.contributions[3][limb].astype(object)
        inverse = [pow(int(x), -1, q) for x in dealers.common[limb]]
        values[limb] = (1 - b) * np.array(inverse, object) % q  # e = 1
    dealt = dealers.deal(dealing, _7=values)
    with pytest.raises(RefusedError, match="holder 7 dealt are not of the key"):
        dealers.check(dealing, dealt)


def test_a_sparse_deviation_fails_once_in_two_for_each_repetition(dealing, dealers):
    """Holder: deals shares that are wrong in one place only -> found out, except with a
    probability of 2^-40."""
    # The least that a deviation can be: one coefficient, half of q. Uniform challenges
    # would miss it once in q; these, which are small, half of the time.
    rho = dealing.challenge(bytes(32))[0]
    assert dealing.repetitions == 48
    caught = (rho != 0).mean()
    assert caught == pytest.approx(0.5, abs=0.05)
    assert 2.0**-dealing.repetitions * len(HOLDERS) <= 2**-40


@pytest.mark.parametrize(("holders", "repetitions"), [(2, 48), (256, 48), (257, 56)])
def test_repetitions_cover_all_dealers(holders, repetitions):
    made = Dealing(RING, holders, tuple(range(holders)), BITS)
    assert made.repetitions == repetitions
    assert holders * 2.0**-repetitions <= 2**-40
    added = made.dealt.polynomial_bytes - made.scalars.polynomial_bytes
    assert added == RING.polynomial_bytes


def test_masks_are_gaussian_of_their_width_and_whole(dealing):
    zero = np.zeros((2, 64), np.uint64)
    found = []
    for _ in range(60):
        dealt = [dealing.read(data)[1] for data in dealing.deal(zero)]
        limbs = []
        for limb, q in enumerate(RING.moduli):
            value = at_the_origin([masks[limb] for masks in dealt], q)
            limbs.append(np.where(value > q // 2, value - q, value))
        np.testing.assert_array_equal(*limbs)  # one integer for all primes
        found += list(limbs[0])
    found = np.array(found, float)
    assert stats.kstest(found / dealing.mask_std, "norm").pvalue > 1e-7
    assert np.abs(found).max() < dealing.bound


def test_the_masks_divergence_is_two_to_the_minus_s():
    # Of R Gaussians of deviation sigma, moved by the inner products.
    rng = np.random.default_rng(0)
    dimension = 2048
    dealing = Dealing(Ring(dimension, RING.moduli), 2, (0, 1), 30)
    for seed in range(5):
        rho, tau = dealing.challenge(bytes([seed]) * 32).astype(float)
        key = rng.integers(-1, 2, dimension)
        error = rng.normal(0, NOISE_STD, dimension).round()
        moved = rho @ key + tau @ error
        divergence = np.square(moved).sum() / (2 * dealing.mask_std**2)
        assert 2**-30 / 8 < divergence < 2**-30


@pytest.mark.parametrize("scheme", [Scheme.THRESHOLD_CKKS, Scheme.THRESHOLD_EXACT])
@pytest.mark.parametrize("holders", [2, 32, 256])
def test_what_passes_spoils_a_sum_by_less_than_the_holders_noise(scheme, holders):
    uploads = max(holders, 8)
    parameters = derive(sum_request(scheme, 1000, uploads, holders))
    # The primes do not matter here, their size does.
    moduli = tuple(2**bits - 1 for bits in parameters.limb_bits)
    ring = Ring(parameters.ring_dimension, moduli)
    dealing = Dealing(ring, holders // 2 + 1, tuple(range(holders)), 30)
    assert dealing.most_norm == 9 * dealing.bound
    noise = math.sqrt(holders) * parameters.flooding_std
    assert dealing.error_std(uploads) < noise
    # The bound is far from the modulus, so that wrong keys do not wrap around to it.
    assert 8 * dealing.bound < math.prod(moduli) / dealing.ring.dimension


def test_wide_masks_fit_where_much_is_hidden():
    for bits, wraps in ((64, False), (128, True)):
        dealing = Dealing(RING, 2, (0, 1), bits)
        assert (dealing.most_norm > 10 * dealing.bound) is wraps
        shares = dealing.deal(np.zeros((2, 64), np.uint64))
        assert len(shares[0]) == dealing.dealt.polynomial_bytes
