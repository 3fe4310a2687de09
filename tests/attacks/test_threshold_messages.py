"""Hostile messages to holders of a joint key and to the server that they answer."""

import functools
import os
import tracemalloc

import pytest

from fedjax_private.encryption.errors import ProtocolError, RefusedError, WireError
from fedjax_private.encryption.messages.wire import SERVER, Kind, write
from tests.encryption.federation import (
    CKKS,
    CLIENTS,
    HOLDERS,
    LEAST_CLIENTS,
    QUORUM,
    Federation,
    request_of,
)
from tests.encryption.fixtures import altered

pytestmark = pytest.mark.needs_openfhe


# To the server and to holders that decrypt


def test_the_server_counts_parts_of_this_sums_holders_and_each_once(federation):
    """Holder or stranger: answers twice, for another sum, under another key or with
    altered numbers -> refused."""
    first, _ = federation.fusion()
    number = HOLDERS[1]
    holder, party = federation.holders[number], federation.parties[number]
    old = holder.partially_decrypt(first.requests()[number])
    fusion, total = federation.fusion()
    part = holder.partially_decrypt(fusion.requests()[number])
    size = federation.parameters.rows * federation.ring.polynomial_bytes
    key = federation.material.key_id

    def forged(payload, sender=party, key_id=key):
        number = fusion.round_number
        return write(sender, SERVER, Kind.PARTIAL, number, payload, key_id=key_id)

    for data in (
        old,
        forged(b""),
        forged(bytes(size - 1)),
        forged(b"\xff" * size),
        forged(bytes(size), key_id=os.urandom(16)),
        *(altered(part, position) for position in (0, 30, 200, len(part) // 2, -1)),
    ):
        with pytest.raises(WireError):
            fusion.add(data)
    with pytest.raises(RefusedError, match="unexpected"):
        fusion.add(forged(bytes(size), federation.parties[1]))
    fusion.add(part)
    with pytest.raises(RefusedError, match="unexpected"):
        fusion.add(part)
    federation.answer(fusion, [n for n in HOLDERS if n != number])
    federation.check(fusion.release(), total)


def test_the_server_counts_recoveries_that_it_asked_for_and_each_once(federation):
    """Holder: stands in without being asked, or twice -> refused."""
    fusion, total = federation.fusion()
    federation.answer(fusion, HOLDERS[:4])
    requests = fusion.recovery_requests()
    assert len(requests) == QUORUM
    for number, request in requests.items():
        data = federation.holders[number].stand_in(request)
        for bad in (altered(data, 300), altered(data, -1)):
            with pytest.raises(WireError):
                fusion.add_recovery(bad)
        with pytest.raises(WireError):
            fusion.add(data)
        fusion.add_recovery(data)
        with pytest.raises(RefusedError, match=f"{number} was not asked"):
            fusion.add_recovery(data)
    federation.check(fusion.release(), total)


def test_a_request_to_stand_in_is_the_servers_and_whole(federation):
    """Stranger: asks holders to stand in for others, or alters the server's request ->
    refused."""
    fusion, total = federation.fusion()
    federation.answer(fusion, HOLDERS[1:])
    helper = federation.holders[0]
    request = functools.partial(
        federation.recovery_request, 0, fusion.round_number, (3,), (0, 11, 5)
    )
    for changes in (
        {"sender": federation.parties[11]},
        {"key_id": os.urandom(16)},
        {"payload": b""},
        {"payload": b"\xff\xff\xff\xff"},
        {"payload": bytes(4)},
    ):
        with pytest.raises(ProtocolError):
            helper.stand_in(request(**changes))
    for position in range(0, len(request()), 7):
        with pytest.raises(WireError):
            helper.stand_in(altered(request(), position))
    with pytest.raises(WireError):
        federation.holders[11].stand_in(request())
    federation.stand_in(fusion)
    federation.check(fusion.release(), total)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"key_id": b"another key's id"}, id="under another key"),
        pytest.param({"sender": 2}, id="from a client"),
        pytest.param({"sender": 11}, id="from a holder"),
        pytest.param({"receiver": 11}, id="for another holder"),
        pytest.param({"kind": Kind.UPLOAD}, id="of another kind"),
        pytest.param({"numbers": tuple(range(7))}, id="of too many uploads"),
        pytest.param({"numbers": (0, 1, 2)}, id="of too few uploads"),
        pytest.param({"numbers": ()}, id="of no upload"),
        pytest.param({"numbers": (0, 1, 2, 3, 3)}, id="of one client twice"),
        pytest.param({"parts": lambda whole: whole[:-1]}, id="truncated"),
        pytest.param({"parts": lambda whole: whole + whole}, id="too long"),
        pytest.param(
            {"parts": lambda whole: b"\xff" * len(whole)}, id="beyond the modulus"
        ),
    ],
)
def test_a_holder_refuses_what_is_no_sum_of_the_servers(federation, changes):
    """Server or stranger: asks a holder to decrypt what is no sum: another kind, key or
    receiver, too few or many uploads, another length -> refused, and not counted."""
    fusion, _ = federation.fusion(LEAST_CLIENTS)
    whole = fusion.parts.to_bytes()
    fields = {"kind": Kind.SUM, "receiver": 0, "round_number": fusion.round_number}
    fields |= {"key_id": federation.material.key_id, "numbers": fusion.clients}
    fields |= {"parts": lambda whole: whole, "sender": SERVER, **changes}
    sender = fields.pop("sender")
    party = federation.parties.get(sender, federation.server_party)
    parts = fields.pop("parts")(whole)
    with pytest.raises(ProtocolError):
        data = write(party, payload=b"", **fields) + parts
        federation.holders[0].partially_decrypt(data)
    # What was refused has not been counted.
    federation.answer(fusion, (0,))


@pytest.mark.parametrize("count", [len(CLIENTS), 2**17])
def test_a_holder_makes_nothing_of_a_sum_of_more_clients_than_bytes(federation, count):
    """Client or stranger: sends a holder a sum that states a byte of parts for each of
    very many clients, so that much memory is taken -> refused before any is."""
    stranger, key_id = federation.parties[1], federation.material.key_id
    header = functools.partial(write, stranger, 0, Kind.SUM, 0, key_id=key_id)
    data = header(b"", numbers=tuple(range(count))) + bytes(count)
    tracemalloc.start()
    with pytest.raises(WireError, match="are no parts of"):
        federation.holders[0].partially_decrypt(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2 * len(data) + 10_000


def test_a_sum_that_was_altered_on_its_way_is_refused(federation):
    """Stranger: alters a sum on its way to a holder -> refused."""
    fusion, _ = federation.fusion(LEAST_CLIENTS)
    data = fusion.requests()[0]
    for position in (*range(0, 140, 3), len(data) // 2, len(data) - 33, len(data) - 1):
        # A part of an upload is refused because its client has declared another.
        with pytest.raises(ProtocolError):
            federation.holders[0].partially_decrypt(altered(data, position))
    federation.answer(fusion, (0,))


def test_a_sum_under_a_former_key_is_refused():
    """Server: asks holders for a sum under a former key -> refused."""
    federation = Federation(request_of(CKKS)).with_key()
    former, _ = federation.fusion()
    federation.begin()
    federation.with_key()
    with pytest.raises(WireError, match="another key"):
        federation.holders[0].partially_decrypt(former.requests()[0])
    federation.works()
