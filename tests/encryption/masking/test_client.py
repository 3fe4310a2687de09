"""What a client refuses to a server that lies."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedjax_private.encryption.errors import ProtocolError, RefusedError, WireError
from fedjax_private.encryption.masking.client import MaskingClient
from fedjax_private.encryption.masking.server import MaskingServer
from fedjax_private.encryption.messages.wire import SERVER, Kind, write
from tests.encryption.masking.rounds import Group, Parties, sum_facts, vectors

NUMBERS = tuple(range(6))
STEPS = ("shares", "masked", "consent", "open_masks")
UNTIL = dict(zip(STEPS, ("share", "upload", "consent", "open"), strict=True))


def group_of(uploads=4, numbers=NUMBERS, **changes):
    group = Group(sum_facts(uploads, **changes), numbers)
    group.given = vectors(group.facts, numbers)
    return group


def call(group, step, number, message):
    extra = (group.given[number],) if step == "masked" else ()
    return getattr(group.clients[number], step)(message, *extra)


def told(group, kind, payload, receiver, round_number=0, numbers=(), key_id=None):
    """Any message that a server can write."""
    return write(
        group.parties(SERVER),
        receiver,
        kind,
        round_number,
        payload,
        key_id=key_id or group.facts.key_id,
        numbers=numbers,
    )


def survivors(group, places, receiver):
    payload = group.server.roster.marks(set(places))
    return told(group, Kind.SURVIVORS, payload, receiver)


@pytest.mark.parametrize("step", STEPS)
def test_altered_messages_are_refused_and_change_nothing(step):
    """Stranger, of `masks`: alters the server's messages to a client -> refused."""
    group = group_of()
    message = group.run(group.given, until=UNTIL[step])[2]
    others = [message + b"\0", message[:-1], b"", bytes(len(message)), None]
    for place in range(0, len(message), 7):
        for bit in (1, 128):
            changed = bytearray(message)
            changed[place] ^= bit
            others.append(bytes(changed))
    for other in others:
        with pytest.raises(ProtocolError):
            call(group, step, 2, other)
    call(group, step, 2, message)
    with pytest.raises(RefusedError):  # nor a second time
        call(group, step, 2, message)


@pytest.mark.parametrize("step", STEPS)
def test_messages_for_others_of_others_or_of_other_sums_are_refused(step):
    """Stranger, of `masks`: redirects messages, or sends them in the server's place ->
    refused."""
    group = group_of()
    messages = group.run(group.given, until=UNTIL[step])
    size = len(messages[2]) - 90 - 8 * 6 * (step == "shares")
    kind = Kind(messages[2][5])
    wrong = [
        messages[3],
        told(group, kind, bytes(size), 2, key_id=bytes(16)),
        write(group.parties(3), 2, kind, 0, bytes(size), key_id=group.facts.key_id),
        told(group, Kind.UPLOAD, bytes(size), 2),
    ]
    if step != "shares":
        wrong.append(told(group, kind, bytes(size), 2, round_number=1))
    for message in wrong:
        with pytest.raises(WireError):
            call(group, step, 2, message)


@pytest.mark.parametrize("step", STEPS[1:])
def test_every_step_waits_for_the_one_before(step):
    """Server, of `masks`: skips or repeats a step of a round -> refused."""
    group = group_of()
    with pytest.raises(RefusedError, match="expects no"):
        call(group, step, 0, b"")
    group.run(group.given, until=UNTIL[step])
    for other in STEPS[1:]:
        if other != step:
            with pytest.raises(RefusedError, match="expects no"):
                call(group, other, 0, b"")


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0, 1, 2), "holds at least 4 uploads"),
        ((0, 1, 3, 4, 5), "client 2 does not take part"),
        ((0, 2, 1, 3, 4), "out of order"),
    ],
)
def test_invitations_name_enough_clients_in_order(numbers, words):
    """Server, of `masks`: invites too few clients, or some twice -> refused."""
    group = group_of()
    message = told(group, Kind.INVITATION, b"", 2, numbers=numbers)
    with pytest.raises(RefusedError, match=words):
        group.clients[2].shares(message)


def test_a_round_is_joined_once_by_whichever_object():
    """Server, of `masks`: invites a client to a round again -> refused."""
    group = group_of()
    group.run(group.given)
    again = MaskingClient(group.parties(2), group.facts)
    message = told(group, Kind.INVITATION, b"", 2, numbers=NUMBERS)
    for client in (again, group.clients[2]):
        with pytest.raises(RefusedError, match="shared masks in round 0 already"):
            client.shares(message)


@pytest.mark.parametrize("places", [{0, 1, 2}, {0, 1, 3, 4, 5}, {2}, set()])
def test_vectors_need_enough_clients_that_shared(places):
    """Server, of `masks`: says that too few clients have shared seeds, to get a vector
    with few masks -> refused."""
    group = group_of()
    boxes = group.run(group.given, until="upload")[2]
    marks = group.server.roster.marks(places)
    payload = marks + boxes[58 + len(marks) : -32]
    with pytest.raises(RefusedError, match="too few to open a sum"):
        call(group, "masked", 2, told(group, Kind.BOXES, payload, 2))
    for vector in (np.zeros(19, int), np.zeros((20, 1), int), np.zeros(20)):
        with pytest.raises(ValueError, match="hide vectors of 20 integers"):
            group.clients[2].masked(boxes, vector)
    call(group, "masked", 2, boxes)


@pytest.mark.parametrize("malicious", [True, False])
@pytest.mark.parametrize(
    ("places", "words"),
    [
        ({0, 1, 2}, "must hold at least 4"),
        ({0, 1, 3, 4, 5}, "lacks this client's vector"),
        ({0, 1, 2, 3, 5}, "a client without seeds"),
        (set(), "must hold at least 4"),
    ],
)
def test_lists_of_uploads_are_long_and_true(malicious, places, words):
    """Server, of `masks`: lists fewer uploads than agreed, or clients that shared no
    seeds -> refused."""
    group = group_of(malicious=malicious)
    stage, step = ("consent",) * 2 if malicious else ("open", "open_masks")
    group.run(group.given, leaving={5: "share"}, until=stage)
    with pytest.raises(RefusedError, match=words):
        call(group, step, 2, survivors(group, places, 2))
    call(group, step, 2, survivors(group, {0, 1, 2, 3}, 2))


def test_two_lists_open_neither():
    """The server shows two lists, and relays all consents."""
    group = group_of()
    group.run(group.given, until="consent")
    lists = {n: {0, 1, 2, 3, 4} if n < 3 else set(NUMBERS) for n in NUMBERS}
    for n in NUMBERS:
        message = group.clients[n].consent(survivors(group, lists[n], n))
        group.server._answered.discard(n)
        group.server.add_consent(message)
        with pytest.raises(RefusedError):  # no second list
            group.clients[n].consent(survivors(group, NUMBERS, n))
    for n, message in group.server.consents().items():
        with pytest.raises(RefusedError, match="shown others another list"):
            group.clients[n].open_masks(message)


def test_colluders_below_the_quorum_do_not_help_two_lists():
    """Server and fewer than 2T - m clients, of `masks`: have two lists opened ->
    refused."""
    # Of seven clients 1 colludes (quorum 2 of 4, T = 3 + 2): it consents to both lists.
    numbers = tuple(range(7))
    group = group_of(4, numbers)
    assert group.facts.quorum == 2
    group.run(group.given, until="consent")
    lists = [set(numbers), {0, 1, 2, 3, 4, 6}]
    shown = {n: lists[n > 3] for n in numbers}
    consents = {
        n: group.clients[n].consent(survivors(group, shown[n], n))
        for n in (1, 2, 3, 4, 6)
    }
    twin = group.clients[0]
    both = []
    for places in lists:
        state = twin._round
        both.append(twin.consent(survivors(group, places, 0)))
        state.expected = Kind.SURVIVORS  # departs from the protocol
    opened = 0
    for n in consents:
        parts = []
        for other in group.server.roster.neighbours[n]:
            sent = both[n > 3] if other == 0 else consents.get(other, bytes(300))
            index = group.server.roster.index(other, n)
            parts.append(sent[58 + 16 * index : 74 + 16 * index])
        message = told(group, Kind.CONSENTS, b"".join(parts), n)
        try:
            group.clients[n].open_masks(message)
            opened += 1
        except RefusedError:
            pass
    assert opened == 0


def test_consents_count_for_their_receiver_and_round_only():
    """Server, of `masks`: replays consents of another round, or for another client ->
    refused."""
    group = group_of()
    consents = group.run(group.given, until="open")
    older = consents[2][58:-32]
    for payload in (consents[3][58:-32], bytes(80), older[16:] + older[:16]):
        with pytest.raises(RefusedError, match="1 clients consent"):
            group.clients[2].open_masks(told(group, Kind.CONSENTS, payload, 2))
    group.run(group.given, 1, until="open")
    with pytest.raises(RefusedError, match="1 clients consent"):
        group.clients[2].open_masks(told(group, Kind.CONSENTS, older, 2, 1))


def test_only_one_of_two_seeds_is_opened_and_only_once():
    """Server, of `masks`: asks for both seeds of a client, or twice -> refused."""
    group = group_of()
    consents = group.run(group.given, leaving={5: "upload"}, until="open")
    held = dict(group.clients[2]._round.keys)
    boxes = group.clients[2]._round.boxes
    opening = group.clients[2].open_masks(consents[2])
    for index, (other, keys) in enumerate(held.items()):
        box = boxes[48 * index : 48 * index + 48]
        shares = AESGCM(keys.box(other, 2)).decrypt(bytes(12), box, None)
        first = 58 + 16 + 16 * index
        wanted, secret = shares[:16], shares[16:]
        if other == 5:
            wanted, secret = secret, wanted
        assert opening[first : first + 16] == wanted
        assert secret not in opening
    with pytest.raises(RefusedError, match="expects no"):
        group.clients[2].open_masks(consents[2])


def test_an_honest_server_is_not_asked_for_consents():
    group = group_of(malicious=False)
    lists = group.run(group.given, until="open")
    with pytest.raises(RefusedError, match="without consents"):
        group.clients[0].consent(lists[0])


def test_servers_with_other_facts_reach_nobody():
    """Server, of `masks`: tells clients other facts about the sum, such as a lower
    threshold -> refused."""
    parties = Parties()
    group = Group(sum_facts(4), NUMBERS, parties)
    other = MaskingServer(parties(SERVER), sum_facts(3))
    for n, message in other.invite(0, NUMBERS).items():
        with pytest.raises(WireError, match="another key"):
            group.clients[n].shares(message)
