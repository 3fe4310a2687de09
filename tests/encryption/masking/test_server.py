"""What the server refuses, and what it does with clients that lie."""

import numpy as np
import pytest

from fedjax_private.encryption.errors import ProtocolError, RefusedError, WireError
from fedjax_private.encryption.masking import seeds
from fedjax_private.encryption.messages.wire import SERVER, Kind, write
from tests.encryption.masking.rounds import STAGES, Group, sum_facts, vectors

NUMBERS = tuple(range(5))
ADD = dict(
    zip(STAGES, ("add_shares", "add_masked", "add_consent", "add_opening"), strict=True)
)
STEP = dict(zip(STAGES, ("shares", "masked", "consent", "open_masks"), strict=True))


@pytest.fixture
def group():
    group = Group(sum_facts(3), NUMBERS)  # T = 3 + 1 of five
    group.given = vectors(group.facts, NUMBERS)
    return group


def answers(group, stage, numbers=NUMBERS, round_number=0, leaving=None):
    """The messages of clients in a stage of a round that has come to it."""
    messages = group.run(group.given, round_number, leaving, until=stage)
    found = {}
    for n in numbers:
        extra = (group.given[n],) if stage == "upload" else ()
        found[n] = getattr(group.clients[n], STEP[stage])(messages[n], *extra)
    return found


def finish(group, stage, sent):
    """Runs the rest of the round; returns the sum."""
    server = group.server
    ends = dict(
        zip(
            STAGES,
            (server.boxes, server.survivors, server.consents, server.release),
            strict=True,
        )
    )
    for n in sent:
        getattr(server, ADD[stage])(sent[n])
    result = ends[stage]()
    for later in STAGES[STAGES.index(stage) + 1 :]:
        for n, message in result.items():
            extra = (group.given[n],) if later == "upload" else ()
            answer = getattr(group.clients[n], STEP[later])(message, *extra)
            getattr(server, ADD[later])(answer)
        result = ends[later]()
    return result


@pytest.mark.parametrize("stage", STAGES)
def test_altered_and_repeated_messages_change_nothing(group, stage):
    """Client or stranger, of `masks`: alters or repeats messages to the server ->
    refused."""
    sent = answers(group, stage)
    add, message = getattr(group.server, ADD[stage]), sent[0]
    others = [message + b"\0", message[:-1], b"", bytes(len(message)), None]
    for place in range(0, len(message), 11):
        changed = bytearray(message)
        changed[place] ^= 1
        others.append(bytes(changed))
    for other in others:
        with pytest.raises(ProtocolError):
            add(other)
    add(message)
    with pytest.raises(RefusedError, match="already"):
        add(message)
    del sent[0]
    _, total = finish(group, stage, sent)
    wrapped = sum(v.astype(object) for v in group.given.values())
    assert ((total - wrapped) % 2**16 == 0).all()


@pytest.mark.parametrize("stage", STAGES)
def test_strangers_other_rounds_and_other_stages_are_refused(group, stage):
    """Stranger, of `masks`: sends messages as a client, of another round or stage ->
    refused."""
    sent = answers(group, stage)
    add = getattr(group.server, ADD[stage])
    size, kind = len(sent[1]) - 90, Kind(sent[1][5])
    name = group.facts.key_id

    def message(number=1, kind=kind, round_number=0, key_id=name):
        party = group.parties(number)
        return write(party, SERVER, kind, round_number, bytes(size), key_id=key_id)

    for wrong in (
        message(99),
        message(SERVER),
        message(key_id=bytes(16)),
        message(kind=Kind.UPLOAD),
        message(round_number=1),
    ):
        with pytest.raises(ProtocolError):
            add(wrong)
    for other in set(STAGES) - {stage}:
        with pytest.raises(RefusedError, match="does not expect"):
            getattr(group.server, ADD[other])(sent[1])


def test_who_has_left_is_not_taken_back(group):
    """Client, of `masks`: comes back after it has missed a step -> refused."""
    late = answers(group, "share")[4]
    group.server.invite(1, NUMBERS)  # round 0 is discarded
    with pytest.raises(RefusedError, match="a message of round 0, but 1"):
        group.server.add_shares(late)
    boxes = group.run(group.given, 2, {4: "share"}, until="upload")
    assert 4 not in boxes
    size = group.server.roster.masked_bytes
    name = group.facts.key_id
    message = write(group.parties(4), SERVER, Kind.MASKED, 2, bytes(size), key_id=name)
    with pytest.raises(RefusedError, match="has left it before"):
        group.server.add_masked(message)


def test_nothing_is_released_early_or_twice(group):
    with pytest.raises(RefusedError, match="no round"):
        group.server.release()
    group.server.invite(0, NUMBERS)
    with pytest.raises(RefusedError, match="not to be opened yet"):
        group.server.release()
    assert group.server.round_number == 0
    group.run(group.given, 1)
    assert group.server.round_number is None
    for end in ("boxes", "survivors", "consents", "release"):
        with pytest.raises(RefusedError, match="no round"):
            getattr(group.server, end)()


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("share", "2 clients have shared seeds, and 4 must"),
        ("upload", "2 clients have uploaded, and 4 must"),
        ("consent", "2 clients have consented, and 4 must"),
        ("open", "2 clients open the mask of client 0, and 4 are needed"),
    ],
)
def test_rounds_that_too_few_finish_are_void(group, stage, words):
    with pytest.raises(RefusedError, match=words):
        group.run(group.given, 0, dict.fromkeys((2, 3, 4), stage))
    # The next round is not harmed.
    assert group.run(group.given, 1)[0] == NUMBERS


def rest(group, boxes, silent=()):
    """Runs a round from the uploads on."""
    result = boxes
    for stage in STAGES[1:]:
        for n, message in result.items():
            if n in silent:
                continue
            extra = (group.given[n],) if stage == "upload" else ()
            answer = getattr(group.clients[n], STEP[stage])(message, *extra)
            getattr(group.server, ADD[stage])(answer)
        end = {"upload": "survivors", "consent": "consents", "open": "release"}[stage]
        result = getattr(group.server, end)()
    return result


def test_shares_that_do_not_fit_are_noticed(group):
    """Client, of `masks`: gives wrong shares -> the round is void, or the sum is right
    without them."""
    messages = group.run(group.given, until="share")
    for n in NUMBERS:
        group.server.add_shares(group.clients[n].shares(messages[n]))
    boxes = group.server.boxes()
    # Client 1 opens with wrong shares: of its own seed, here.
    group.clients[1]._round.own = seeds.to_bytes(seeds.draw(2))
    with pytest.raises(RefusedError, match="shares of client 1's seed do not fit"):
        rest(group, boxes)


def test_shares_that_open_no_deposit_are_noticed(group):
    """Client, of `masks`: leaves a deposit that its shares do not open -> the round is
    void."""
    messages = group.run(group.given, until="share")
    for n in NUMBERS:
        group.server.add_shares(group.clients[n].shares(messages[n]))
    # The server holds another deposit of client 4 than that whose key is shared.
    sent = bytearray(group.server._sent[4])
    sent[16] ^= 1
    group.server._sent[4] = memoryview(bytes(sent))
    boxes = group.server.boxes()
    with pytest.raises(RefusedError, match="client 4 do not open its deposit"):
        rest(group, boxes, silent=(4,))


def test_boxes_that_do_not_open_are_missing_shares(group):
    messages = group.run(group.given, until="share")
    for n in NUMBERS:
        group.server.add_shares(group.clients[n].shares(messages[n]))
    # Client 0's box for client 1 is spoilt: T = 4 others remain.
    sent = bytearray(group.server._sent[0])
    first = 16 + group.server.roster.deposit_bytes
    sent[first] ^= 1
    group.server._sent[0] = memoryview(bytes(sent))
    clients, total = rest(group, group.server.boxes())
    assert clients == NUMBERS
    wrapped = sum(v.astype(object) for v in group.given.values())
    assert ((total - wrapped) % 2**16 == 0).all()


def test_lists_of_clients_of_a_round_are_sets(group):
    with pytest.raises(RefusedError, match="out of order"):
        group.server.invite(0, [0, 0, 1])
    with pytest.raises(RefusedError, match="a round of 2 clients"):
        group.server.invite(0, [0, 1])


def test_a_sum_without_masks_of_one_client_is_noise(group):
    """Without b of one client the sum is nothing."""
    boxes = group.run(group.given, until="upload")
    payloads = [
        np.frombuffer(group.clients[n].masked(boxes[n], group.given[n])[58:-32], "<u2")
        for n in NUMBERS
    ]
    total = np.sum(payloads, axis=0, dtype=np.uint16)
    for n in NUMBERS[1:]:
        expander = seeds.Expander(total)
        expander.subtract(group.clients[n]._round.seed)
    plain = np.sum(list(group.given.values()), axis=0).astype(np.uint16)
    assert (total != plain).mean() > 0.9
    seeds.Expander(total).subtract(group.clients[0]._round.seed)
    np.testing.assert_array_equal(total, plain)


def test_wire_errors_are_of_their_kind(group):
    group.server.invite(0, NUMBERS)
    with pytest.raises(WireError):
        group.server.add_shares(b"")
