"""Fusing partial decryptions: sums, and rounds in which holders go missing."""

import contextlib
import dataclasses

import numpy as np
import pytest

from fedjax_private.encryption.errors import RefusedError, VoidRoundError
from fedjax_private.encryption.parties.fusion import Fusion
from tests.encryption.federation import (
    CKKS,
    CLIENTS,
    EXACT,
    HOLDERS,
    QUORUM,
    VALUES,
    Federation,
    request_of,
)

pytestmark = pytest.mark.needs_openfhe


def test_sums_of_several_rounds_equal_the_plain_ones(federation):
    for clients, number in (
        (CLIENTS, None),
        ((5, 3, 0, 1), 2**63),
        ((1, 2, 4, 0, 5), 10**6),
    ):
        fusion, total = federation.fusion(clients, number)
        assert fusion.clients == tuple(clients)
        federation.answer(fusion, HOLDERS)
        federation.check(fusion.release(), total)


@pytest.mark.parametrize("residues", [False, True])
def test_large_exact_sums_leave_their_neighbours_alone(residues):
    request = dataclasses.replace(request_of(EXACT), residues=residues)
    federation = Federation(request).with_key()
    largest, vector = 2**15 - 1, np.zeros(VALUES, np.int64)
    vector[::3], vector[1::3] = largest, -largest
    federation.server.open(0)
    for client in CLIENTS:
        federation.upload(client, 0, vector)
    fusion = Fusion(federation.server_party, federation.server, HOLDERS, QUORUM)
    federation.answer(fusion, HOLDERS)
    released = fusion.release()
    # An even number of uploads: n (2^15 - 1) is -n mod 2^16.
    assert len(CLIENTS) % 2 == 0
    expected = -len(CLIENTS) if residues else len(CLIENTS) * largest
    assert set(released[::3]) == {expected}
    assert set(released[1::3]) == {-expected}
    assert set(released[2::3]) == {0}


def test_clients_without_a_share_are_added_like_any_others(federation):
    outsiders = [n for n in federation.parties if n not in HOLDERS]
    assert outsiders == [1, 2, 4]
    fusion, total = federation.fusion((*outsiders, 0))
    federation.answer(fusion, HOLDERS)
    federation.check(fusion.release(), total)


@pytest.mark.parametrize("changes", [{}, {"precision": 1e-9}])
def test_the_error_of_a_sum_is_as_large_as_the_parameters_say(changes):
    federation = Federation(request_of(CKKS, **changes)).with_key()
    fusion, total = federation.fusion()
    federation.answer(fusion, HOLDERS)
    expected = federation.parameters.error_std(len(CLIENTS))
    assert (fusion.release() - total).std() == pytest.approx(expected, rel=0.06)


def test_two_holders_decrypt_together_and_neither_alone():
    federation = Federation(request_of(EXACT, holders=2), (1, 4), 2).with_key()
    federation.works()
    fusion, _ = federation.fusion()
    federation.answer(fusion, (4,))
    with pytest.raises(VoidRoundError, match="1 of 2 holders are left"):
        fusion.recovery_requests()


def test_fewer_than_a_quorum_void_the_round_and_not_the_next_one(federation):
    fusion, _ = federation.fusion()
    federation.answer(fusion, HOLDERS[: QUORUM - 1])
    with pytest.raises(VoidRoundError, match=r"void: 2 of 5 holders are left .* 3 are"):
        fusion.recovery_requests()
    with pytest.raises(RefusedError, match="void"):
        fusion.release()
    federation.works()


def test_a_helper_that_vanishes_voids_the_round_and_not_the_next_one(federation):
    fusion, _ = federation.fusion()
    federation.answer(fusion, HOLDERS[1:])
    vanished = HOLDERS[2]
    federation.stand_in(fusion, absent=(vanished,))
    message = rf"round {fusion.round_number} is void: .*\[{vanished}\] are missing"
    with pytest.raises(RefusedError, match=message):
        fusion.release()
    federation.works()


def test_others_stand_in_where_one_that_was_to_stand_in_vanishes(federation):
    for vanished in HOLDERS[1:4]:
        fusion, total = federation.fusion()
        federation.answer(fusion, HOLDERS[1:])
        federation.stand_in(fusion, absent=(vanished,))
        # Nothing of the first set counts. Another one is asked, without the vanished.
        parts = federation.stand_in(fusion)
        assert len(parts) == QUORUM and fusion.complete and fusion.recovered == 1
        federation.check(fusion.release(), total)


def test_two_that_vanish_leave_too_few(federation):
    fusion, _ = federation.fusion()
    federation.answer(fusion, HOLDERS[1:])
    federation.stand_in(fusion, absent=HOLDERS[1:3])
    with pytest.raises(VoidRoundError, match="2 of 5 holders are left"):
        fusion.recovery_requests()
    federation.works()


def test_answers_of_an_earlier_set_do_not_count(federation):
    fusion, total = federation.fusion()
    federation.answer(fusion, HOLDERS[1:])
    requests = fusion.recovery_requests()
    first = {n: federation.holders[n].stand_in(data) for n, data in requests.items()}
    slow, *others = first
    for number in others:
        fusion.add_recovery(first[number])
    requests = fusion.recovery_requests()
    assert slow not in requests
    for data in first.values():
        with pytest.raises(RefusedError, match=r"asked to|stands in"):
            fusion.add_recovery(data)
    for number, data in requests.items():
        fusion.add_recovery(federation.holders[number].stand_in(data))
    federation.check(fusion.release(), total)
    with pytest.raises(RefusedError, match="no holder is missing"):
        fusion.recovery_requests()


def test_recover_asks_until_a_set_has_answered(federation):
    fusion, total = federation.fusion()
    federation.answer(fusion, HOLDERS[1:])
    asked = []

    def ask(requests):
        asked.append(tuple(requests))
        for number, data in requests.items():
            if number != HOLDERS[2]:
                yield federation.holders[number].stand_in(data)

    fusion.recover(ask)
    assert asked == [HOLDERS[1:4], (HOLDERS[1], *HOLDERS[3:])]
    federation.check(fusion.release(), total)


def test_a_sum_is_not_released_before_the_last_part_has_come(federation):
    fusion, total = federation.fusion()
    requests = fusion.requests()
    for count, number in enumerate(HOLDERS):
        assert fusion.missing == HOLDERS[count:]
        with pytest.raises(RefusedError, match="void"):
            fusion.release()
        fusion.add(federation.holders[number].partially_decrypt(requests[number]))
    federation.check(fusion.release(), total)


def test_a_part_that_comes_after_others_stood_in_is_not_counted_twice(federation):
    fusion, total = federation.fusion()
    late = federation.holders[HOLDERS[0]].partially_decrypt(
        fusion.requests()[HOLDERS[0]]
    )
    federation.answer(fusion, HOLDERS[1:])
    federation.stand_in(fusion)
    with pytest.raises(RefusedError, match="unexpected"):
        fusion.add(late)
    federation.check(fusion.release(), total)


def test_a_recovery_without_anybody_missing_does_not_void_the_round(federation):
    fusion, total = federation.fusion()
    federation.answer(fusion, HOLDERS)
    with contextlib.suppress(RefusedError):
        fusion.recovery_requests()
    federation.check(fusion.release(), total)
