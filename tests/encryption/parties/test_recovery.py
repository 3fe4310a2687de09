"""Masks on the answers of holders that stand in, and the attack that they prevent."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.messages.wire import Kind
from fedjax_private.encryption.parties import holders
from fedjax_private.encryption.parties.recovery import Recovery, masks
from tests.encryption.federation import CKKS, Federation, request_of
from tests.encryption.transforms import coefficients, product

pytestmark = pytest.mark.needs_openfhe

SIGNIFICANCE = 1e-7
NAMES, QUORUM, KEY = (0, 1, 2, 3, 4), 3, b"k" * 16


@pytest.fixture(scope="module")
def five():
    return Federation(request_of(CKKS, holders=5), NAMES, QUORUM).with_key()


def masks_of(federation, recovery, number=7, key_id=KEY, rows=2):
    return {
        name: masks(
            federation.parties[name], recovery, federation.ring, rows, key_id, number
        )
        for name in recovery.present
    }


def test_masks_cancel_over_those_that_stand_in_and_over_nobody_else(five):
    ring, recovery = five.ring, Recovery((3, 4), (0, 1, 2))
    found = masks_of(five, recovery)
    total = sum(found.values()) % ring.column
    assert total.shape == (2, ring.limbs, ring.dimension) and not total.any()
    for left in range(1, QUORUM):
        for some in itertools.combinations(found.values(), left):
            partly = sum(some) % ring.column
            for limb, q in enumerate(ring.moduli):
                values = (partly[:, limb].ravel() / q).astype(np.float64)
                assert stats.kstest(values, "uniform").pvalue > SIGNIFICANCE


def test_masks_belong_to_one_recovery_of_one_sum_under_one_key(five):
    recovery = Recovery((3, 4), (0, 1, 2))
    mask = masks_of(five, recovery)[0]
    # The order in a request does not matter.
    assert (masks_of(five, Recovery((4, 3), (2, 0, 1)))[0] == mask).all()
    others = [
        masks_of(five, Recovery((3,), (0, 1, 2)))[0],
        masks_of(five, Recovery((3,), (0, 1, 4)))[0],
        masks_of(five, recovery, number=8)[0],
        masks_of(five, recovery, key_id=b"q" * 16)[0],
    ]
    for one, other in itertools.combinations([mask, *others], 2):
        assert not (one == other).any()
    rows = masks_of(five, recovery)[0]
    assert not (rows[0] == rows[1]).any()


def answers_of_one_helper(federation, sets):
    """What holder 0 answers in one sum, beside others each time: (T, L, N) arrays."""
    fusion, _ = federation.fusion()
    federation.answer(fusion, NAMES)
    answers = []
    for missing, present in sets:
        request = federation.recovery_request(0, fusion.round_number, missing, present)
        reply = federation.holders[0].stand_in(request)
        answers.append(federation.polynomials(reply, Kind.RECOVERY)[0])
    return answers


def coefficient(present):
    """The Lagrange coefficient at zero of holder 0, whose point is 1."""
    others = [name for name in present if name]
    return Fraction(math.prod(name + 1 for name in others), math.prod(others))


def small_combination(federation, sets):
    """The largest coefficient of `v a_1 - u a_2`, over q / 2.

    a_i is the multiple of one unknown product by the Lagrange coefficient of the i-th
    set, with noise, and u / v their ratio: the unknown cancels, and what is left of
    multiples without masks are the two small noises times v and u.
    """
    ring = federation.ring
    first, second = answers_of_one_helper(federation, sets)
    ratio = coefficient(sets[0][1]) / coefficient(sets[1][1])

    def times(polynomial, factor):
        constant = np.array([[factor % q] for q in ring.moduli], np.uint64)
        return product(polynomial, np.broadcast_to(constant, polynomial.shape), ring)

    left, right = times(first, ratio.denominator), times(second, ratio.numerator)
    difference = ring.reduce(left + ring.column - right)
    values = np.abs(coefficients(difference, ring).astype(float))
    return values.max() / (math.prod(ring.moduli) / 2)


SETS = (((3,), (0, 1, 2)), ((3,), (0, 2, 4)))


def test_two_answers_of_a_helper_have_no_small_combination(five):
    """Server: has a holder stand in with two sets of others for one sum, to combine its
    answers -> nothing."""
    assert small_combination(five, SETS) > 0.99


def test_without_masks_they_have_one_that_bares_the_noise(five, monkeypatch):
    def nothing(party, recovery, ring, rows, key_id, number):
        return np.zeros((rows, ring.limbs, ring.dimension), np.uint64)

    monkeypatch.setattr(holders, "masks", nothing)
    assert small_combination(five, SETS) < 1e-10


def test_requests_that_differ_from_helper_to_helper_decrypt_nothing(five):
    """Server: tells holders different sets of those that stand in -> nothing."""
    fusion, total = five.fusion()
    five.answer(fusion, NAMES[1:])
    number = fusion.round_number
    parts = [
        five.polynomials(data, Kind.RECOVERY) for data in _told_apart(five, number)
    ]
    values = five.decoded(parts)
    assert np.abs(values - total).max() > 1


def _told_apart(federation, number):
    for helper, present in ((1, (1, 2, 3)), (2, (1, 2, 4)), (3, (1, 2, 3))):
        request = federation.recovery_request(helper, number, (0,), present)
        yield federation.holders[helper].stand_in(request)


@pytest.mark.parametrize(
    ("missing", "present"),
    [
        ((0,), (1, 2, 3)),  # not among those that stand in
        ((1,), (0, 1, 2)),  # missing, and standing in
        ((1, 9), (0, 2, 3)),  # nobody's number
        ((1,), (0, 2)),
        ((1,), (0, 2, 3, 4)),
    ],
)
def test_other_sets_are_refused_before_anything_is_counted(five, missing, present):
    """Server: asks too few, too many or wrong holders to stand in -> refused, and not
    counted."""
    fusion, _ = five.fusion()
    five.answer(fusion, NAMES[:1])
    helper, before = five.holders[0], five.holders[0]._given
    with pytest.raises(ValueError):
        request = five.recovery_request(0, fusion.round_number, missing, present)
        helper.stand_in(request)
    with pytest.raises(RefusedError, match="not the one decrypted last"):
        number = fusion.round_number + 1
        helper.stand_in(five.recovery_request(0, number, (1,), (0, 2, 3)))
    assert helper._given == before
