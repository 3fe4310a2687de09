"""A server that asks holders to stand in as it may not, and holders that answer so."""

import pytest

from fedjax_private.encryption.errors import ProtocolError, RefusedError, WireError
from fedjax_private.encryption.messages.wire import Kind, write
from tests.encryption.federation import HOLDERS, LEAST_CLIENTS, QUORUM

pytestmark = pytest.mark.needs_openfhe

PRESENT = (0, 11, 5)


def answered(federation, present=HOLDERS[1:]):
    fusion, total = federation.fusion(LEAST_CLIENTS)
    federation.answer(fusion, present)
    return fusion, total


def test_a_request_of_another_round_or_key_is_refused(federation):
    fusion, _ = answered(federation)
    helper, number = federation.holders[0], fusion.round_number
    for other in (number + 1, 2**60):
        data = federation.recovery_request(0, other, (3,), PRESENT)
        with pytest.raises(RefusedError, match="not the one decrypted last"):
            helper.stand_in(data)
    data = federation.recovery_request(0, number, (3,), PRESENT, key_id=b"k" * 16)
    with pytest.raises(WireError, match="another key"):
        helper.stand_in(data)


@pytest.mark.parametrize(
    "numbers",
    [
        (3, 3, 0, 11, 5),  # a missing holder twice
        (3, 0, 0, 11),  # itself twice
        (3, 0, 11, 11),  # another twice
        (3, 0, 11, 3),  # missing, and standing in
    ],
)
def test_a_holder_named_twice_is_refused(federation, numbers):
    fusion, _ = answered(federation)
    missing = len(numbers) - QUORUM
    data = federation.recovery_request(
        0, fusion.round_number, numbers[:missing], numbers[missing:]
    )
    with pytest.raises(WireError, match="names a client twice"):
        federation.holders[0].stand_in(data)


@pytest.mark.parametrize("count", [0, 5, 2**32 - 1])
def test_a_count_of_missing_holders_that_does_not_fit_is_refused(federation, count):
    fusion, _ = answered(federation)
    data = federation.recovery_request(
        0, fusion.round_number, (3,), PRESENT, payload=count.to_bytes(4, "little")
    )
    with pytest.raises(ProtocolError):
        federation.holders[0].stand_in(data)


def test_a_holder_that_stands_in_beside_others_than_asked_is_refused(federation):
    # Its masks would not cancel, and the sum would be noise.
    fusion, total = answered(federation)
    requests = fusion.recovery_requests()
    number = fusion.round_number
    other = federation.recovery_request(0, number, (3,), (0, 11, 12))
    wrong = federation.holders[0].stand_in(other)
    with pytest.raises(RefusedError, match="stands in for others, or beside others"):
        fusion.add_recovery(wrong)
    for holder, data in requests.items():
        fusion.add_recovery(federation.holders[holder].stand_in(data))
    federation.check(fusion.release(), total)


def test_a_holder_cannot_pass_an_answer_off_as_the_other_kind(federation):
    fusion, total = federation.fusion(LEAST_CLIENTS)
    federation.answer(fusion, HOLDERS[1:])
    size = federation.parameters.rows * federation.ring.polynomial_bytes
    party, key_id = federation.parties[HOLDERS[0]], federation.material.key_id
    forged = write(
        party,
        federation.server_party.number,
        Kind.RECOVERY,
        fusion.round_number,
        bytes(size),
        key_id=key_id,
    )
    with pytest.raises(RefusedError, match="not asked to stand in"):
        fusion.add_recovery(forged)
    with pytest.raises(WireError, match="another kind"):
        fusion.add(forged)
    federation.stand_in(fusion)
    federation.check(fusion.release(), total)
