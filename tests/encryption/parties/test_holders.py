"""Holders: what they decrypt, when they stand in, and what they refuse."""

import itertools

import pytest

from fedjax_private.encryption.errors import ProtocolError, RefusedError
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.wire import SERVER
from fedjax_private.encryption.parameters import Scheme, SumRequest, derive
from fedjax_private.encryption.parties.holders import KeyHolder
from fedjax_private.trust import Decryptor, Trust
from tests.encryption.federation import (
    CKKS,
    CLIENTS,
    EXACT,
    HOLDERS,
    LEAST,
    LEAST_CLIENTS,
    QUORUM,
    Federation,
    request_of,
)

pytestmark = pytest.mark.needs_openfhe


@pytest.mark.parametrize("scheme", [CKKS, EXACT])
@pytest.mark.parametrize("bits", [40, 60, 70, 80, 100, 128])
def test_every_request_that_has_parameters_can_be_decrypted(scheme, bits):
    request = request_of(scheme, values=9, statistical_bits=bits, precision=1e-2)
    try:
        derive(request)
    except ValueError:
        return  # refused in time
    Federation(request).with_key().works()


def test_clients_that_never_upload_are_missed_only_below_the_least_number(federation):
    fusion, total = federation.fusion(tuple(CLIENTS)[:LEAST])
    federation.answer(fusion, HOLDERS)
    federation.check(fusion.release(), total)
    fusion, _ = federation.fusion(tuple(CLIENTS)[: LEAST - 1])
    for number, data in fusion.requests().items():
        with pytest.raises(RefusedError, match=f"at least {LEAST}"):
            federation.holders[number].partially_decrypt(data)
    federation.works()


def test_any_quorum_stands_in_for_the_others(federation):
    for gone in itertools.combinations(HOLDERS, len(HOLDERS) - QUORUM):
        fusion, total = federation.fusion(LEAST_CLIENTS)
        present = [number for number in HOLDERS if number not in gone]
        federation.answer(fusion, present[::-1])
        assert fusion.missing == gone
        federation.stand_in(fusion)
        federation.check(fusion.release(), total)


def test_a_quorum_of_those_left_is_enough(federation):
    for gone in HOLDERS:
        fusion, total = federation.fusion(LEAST_CLIENTS)
        federation.answer(fusion, [number for number in HOLDERS if number != gone])
        federation.stand_in(fusion)
        federation.check(fusion.release(), total)


@pytest.mark.parametrize(
    ("gone", "present"),
    [
        pytest.param((3,), (0, 11), id="too few"),
        pytest.param((3,), (0, 11, 5, 12), id="too many"),
        pytest.param((), (0, 11, 5), id="for nobody"),
        pytest.param((3,), (), id="by nobody"),
        pytest.param((3,), (11, 5, 12), id="without itself"),
        pytest.param((0,), (11, 5, 12), id="for itself"),
        pytest.param((0,), (0, 11, 5), id="for and by itself"),
        pytest.param((3, 1), (0, 11, 5), id="for a client without shares"),
        pytest.param((3,), (0, 11, 4), id="with a client without shares"),
        pytest.param((3,), (0, 11, SERVER), id="with the server"),
        pytest.param((3, 3), (0, 11, 5), id="twice for one"),
        pytest.param((3,), (0, 0, 11), id="by itself twice"),
        pytest.param((3,), (0, 11, 3), id="with whom it stands in for"),
    ],
)
def test_a_holder_stands_in_within_a_quorum_of_holders_only(federation, gone, present):
    fusion, _ = federation.fusion(LEAST_CLIENTS)
    federation.answer(fusion, (0,))
    helper, number = federation.holders[0], fusion.round_number
    with pytest.raises(ProtocolError):
        helper.stand_in(federation.recovery_request(0, number, gone, present))
    # What was refused has not been done.
    helper.stand_in(federation.recovery_request(0, number, (3,), (0, 11, 5)))


def test_a_holder_stands_in_once_beside_the_same_others(federation):
    """Server: has a holder stand in twice beside the same others -> refused."""
    fusion, _ = federation.fusion()
    federation.answer(fusion, HOLDERS)
    helper, number = federation.holders[0], fusion.round_number
    asked = [((3, 12), (0, 11, 5)), ((3,), (0, 11, 5)), ((3,), (0, 12, 5))]
    for gone, present in asked:
        helper.stand_in(federation.recovery_request(0, number, gone, present))
    # Nor in another order.
    for gone, present in (*asked, ((12, 3), (5, 0, 11)), ((3,), (5, 12, 0))):
        with pytest.raises(RefusedError, match="has stood in beside these"):
            helper.stand_in(federation.recovery_request(0, number, gone, present))


def test_recoveries_count_against_what_the_noise_protects():
    """Server: has holders stand in for one that answers late, round after round ->
    refused when the budget of answers is used up."""
    # Two sums a key, so four answers of a holder: its own and recoveries alike.
    request = request_of(CKKS, holders=5, query_budget=4)
    federation = Federation(request, tuple(range(5)), 3).with_key()
    assert federation.parameters.sums_per_key == 2
    fusion, _ = federation.fusion()
    federation.answer(fusion, range(5))
    helper, number = federation.holders[0], fusion.round_number
    for gone, present in (((3,), (0, 1, 2)), ((2,), (0, 1, 3)), ((1,), (0, 2, 3))):
        assert not helper.used_up
        helper.stand_in(federation.recovery_request(0, number, gone, present))
    assert helper.used_up
    fresh = federation.recovery_request(0, number, (4,), (0, 1, 2))
    with pytest.raises(RefusedError, match="answered as often as the noise"):
        helper.stand_in(fresh)
    fusion, _ = federation.fusion()
    with pytest.raises(RefusedError, match="answered as often as the noise"):
        helper.partially_decrypt(fusion.requests()[0])
    # Others have answers left, and the sum is decrypted without this one.
    federation.answer(fusion, (1, 2, 3, 4))
    federation.stand_in(fusion)
    assert fusion.recovered == 1
    fusion.release()


def test_a_holder_stands_in_for_the_sum_that_it_decrypted_last(federation):
    """Server: has a holder stand in for a sum of an earlier round -> refused."""
    fresh = Federation(request_of(CKKS)).with_key()
    with pytest.raises(RefusedError, match="not the one decrypted last"):
        fresh.holders[0].stand_in(fresh.recovery_request(0, 0, (3,), (0, 11, 5)))
    first, _ = federation.fusion()
    federation.answer(first, (0,))
    second, _ = federation.fusion()
    federation.answer(second, (0,))
    for number in (first.round_number, second.round_number + 1):
        data = federation.recovery_request(0, number, (3,), (0, 11, 5))
        with pytest.raises(RefusedError, match="not the one decrypted last"):
            federation.holders[0].stand_in(data)


def test_a_holder_decrypts_one_sum_a_round(federation):
    fusion, _ = federation.fusion()
    replayed, number = fusion.requests()[0], fusion.round_number
    federation.answer(fusion, (0,))
    smaller, _ = federation.fusion(LEAST_CLIENTS, number)
    other, _ = federation.fusion(round_number=number)
    for data in (replayed, smaller.requests()[0], other.requests()[0]):
        with pytest.raises(RefusedError, match="has decrypted in round"):
            federation.holders[0].partially_decrypt(data)


@pytest.mark.parametrize("scheme", [CKKS, EXACT])
def test_a_key_decrypts_no_more_than_its_noise_protects(scheme):
    request = request_of(scheme, holders=2, query_budget=5)
    federation = Federation(request, (0, 1), 2).with_key()
    sums = 5 // federation.parameters.rows
    assert sums >= 2
    sent = []
    for _ in range(sums):
        assert not any(holder.used_up for holder in federation.holders.values())
        fusion, total = federation.fusion()
        sent.append(fusion.requests()[0])
        federation.answer(fusion, (0, 1))
        federation.check(fusion.release(), total)
    assert all(holder.used_up for holder in federation.holders.values())
    for data in sent:
        with pytest.raises(RefusedError):
            federation.holders[0].partially_decrypt(data)
    fusion, _ = federation.fusion()
    with pytest.raises(RefusedError, match="fresh one"):
        federation.holders[0].partially_decrypt(fusion.requests()[0])


def test_a_budget_below_one_sum_decrypts_that_one():
    request = request_of(CKKS, holders=2, query_budget=1)
    federation = Federation(request, (0, 1), 2).with_key()
    assert federation.parameters.rows > 1
    federation.works()
    assert federation.holders[0].used_up


def test_without_a_key_nothing_is_decrypted(keyless):
    holder = keyless.holders[0]
    for call in (holder.partially_decrypt, holder.stand_in):
        with pytest.raises(RefusedError):
            call(b"")
    with pytest.raises(RefusedError):
        holder.finish()
    assert not holder.used_up


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"quorum": 2}, "more than half"),
        ({"quorum": 6}, "at most all"),
        ({"trust": Trust(4, Decryptor.KEY_AUTHORITY)}, "one of the two is wrong"),
        ({"request": SumRequest(Scheme.CKKS, 100, 6)}, "one of the two is wrong"),
        ({"request": request_of(CKKS, holders=4)}, "4 holders were declared"),
        ({"holders": (0, 1, 2, 3, 3)}, "5 holders were declared"),
        ({"party": Party(1, {})}, "1 is not among the holders"),
        ({"trust": Trust(7, Decryptor.HOLDERS)}, "at least 7 uploads"),
    ],
)
def test_arguments_that_disagree_are_refused_at_once(changes, match):
    arguments = {"party": Party(0, {}), "request": request_of(CKKS)}
    arguments |= {"trust": Trust(LEAST, Decryptor.HOLDERS), "holders": HOLDERS}
    with pytest.raises(ValueError, match=match):
        KeyHolder(**{**arguments, "quorum": QUORUM, **changes})
