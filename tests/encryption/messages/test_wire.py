import struct

import pytest
from hypothesis import given, settings, strategies as st

from fedjax_private.encryption.errors import ProtocolError, RefusedError, WireError
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.wire import (
    AUTHORITY,
    FIRST_EDGE,
    SERVER,
    Kind,
    Message,
    kind_of,
    read,
    size,
    split,
    write,
)

KEY = bytes(range(16))
PAYLOAD = b"payload"
HEADER = struct.Struct("<4sBB16sQQQIQ")
FIELDS = ("magic", "version", "kind", "key", "round", "sender", "receiver")
FIELDS += ("count", "length")

DIRECTORY = {}
PARTIES = {n: Party(n, DIRECTORY) for n in (1, 2, FIRST_EDGE, AUTHORITY, SERVER)}
DIRECTORY.update({n: party.identity.public for n, party in PARTIES.items()})


def upload(sender=1, receiver=SERVER, round_number=7, payload=PAYLOAD, **changes):
    wanted = {"key_id": KEY, "numbers": (1,), **changes}
    kind = wanted.pop("kind", Kind.UPLOAD)
    return write(PARTIES[sender], receiver, kind, round_number, payload, **wanted)


def received(data, receiver=SERVER, **changes):
    wanted = {"payload": 7, "most_numbers": 3, "key_id": KEY, **changes}
    return read(PARTIES[receiver], data, wanted.pop("kind", Kind.UPLOAD), **wanted)


def retagged(data, sender=1, receiver=SERVER):
    """Altered bytes with the tag that their sender would put on them."""
    return data[:-32] + PARTIES[sender].channel_to(receiver).tag(data[:-32])


def with_field(data, name, value):
    fields = list(HEADER.unpack_from(data))
    fields[FIELDS.index(name)] = value
    return HEADER.pack(*fields) + data[HEADER.size :]


def test_round_trip_and_layout():
    data = upload(numbers=(5, 1))
    assert len(data) == size(2, 7) == 58 + 16 + 7 + 32
    header = b"FJPE\x04\x01" + KEY + struct.pack("<QQQIQ", 7, 1, SERVER, 2, 7)
    body = header + struct.pack("<QQ", 5, 1) + PAYLOAD
    assert data[:-32] == body
    assert data[-32:] == PARTIES[SERVER].channel_from(1).tag(body)
    message = received(data)
    assert message == Message(7, 1, (5, 1), PAYLOAD)
    assert isinstance(message.payload, memoryview)


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_and_extreme_numbers(kind):
    largest = 2**64 - 1
    data = upload(
        AUTHORITY, 2, largest, b"", kind=kind, numbers=(0, largest), key_id=KEY
    )
    message = received(data, 2, kind=kind, payload=0, most_numbers=2)
    assert message.round_number == largest
    assert message.numbers == (0, largest)
    assert message.sender == AUTHORITY


def test_payloads_may_grow_with_the_clients():
    for numbers, payload in (((), b"ab"), ((5,), b"abxyz"), ((5, 1), b"abxyzXYZ")):
        data = upload(numbers=numbers, payload=payload)
        message = received(data, payload=2, each=3)
        assert (message.numbers, bytes(message.payload)) == (numbers, payload)
        for wrong in ({"payload": 3, "each": 3}, {"payload": 1, "each": 4}):
            if numbers != (5,) or wrong["each"] == 3:
                with pytest.raises(WireError):
                    received(data, **wrong)
    with pytest.raises(WireError, match="bytes where"):
        received(upload(numbers=(1, 2, 3, 4), payload=bytes(14)), payload=2, each=3)


def test_what_follows_a_message_is_split_off():
    data = upload(numbers=(5, 1))
    for rest in (b"", b"rest"):
        message, count, after = split(data + rest)
        assert (message, count, bytes(after)) == (data, 2, rest)
    long = with_field(data, "length", 2**60)
    for wrong in (b"", data[:57], data[:-1], long, None):
        with pytest.raises(WireError, match="truncated"):
            split(wrong)


def test_a_message_states_its_kind():
    for kind in Kind:
        assert kind_of(upload(kind=kind)) == kind
    for data in (b"", b"FJPE", b"FJPE\x04"):
        assert kind_of(data) == 0


def test_numbers_and_keys_are_optional():
    data = write(PARTIES[1], 2, Kind.SHARE, 0, PAYLOAD)
    message = read(PARTIES[2], data, Kind.SHARE, payload=7)
    assert message.numbers == ()
    with pytest.raises(WireError, match="bytes where"):
        read(PARTIES[SERVER], upload(), Kind.UPLOAD, payload=7, key_id=KEY)


def test_every_truncation_and_extension_is_refused():
    data = upload()
    for cut in range(len(data)):
        with pytest.raises(WireError):
            received(data[:cut])
        with pytest.raises(WireError):
            received(data[cut + 1 :])
    for extra in (b"\0", b"\0" * 8, b"\0" * 16, b"\0" * 24, data):
        with pytest.raises(WireError):
            received(data + extra)
    # With the sender's own tag, too, unless the header agrees.
    for altered in (data[:-33], data[:-32] + b"\0", data[:-32] + bytes(8)):
        with pytest.raises(WireError, match=r"bytes where|another number"):
            received(retagged(altered + bytes(32)))


def test_every_altered_bit_is_refused():
    data = upload(numbers=(1, 2))
    for bit in range(8 * len(data)):
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WireError):
            received(bytes(altered))


@pytest.mark.parametrize("name", FIELDS)
def test_every_altered_field_is_refused(name):
    data = upload()
    value = HEADER.unpack_from(data)[FIELDS.index(name)]
    if isinstance(value, bytes):
        others = [bytes(len(value)), value[::-1], b"\xff" * len(value)]
    else:
        width = {"version": 8, "kind": 8, "count": 32}.get(name, 64)
        others = {0, 1, 2, 3, value + 1, value ^ 1, 2**width - 1, 2 ** (width - 1)}
        others = [n for n in others if n != value and n < 2**width]
    for other in others:
        with pytest.raises(WireError):
            received(with_field(data, name, other))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("magic", b"FJPK", "another magic number"),
        ("version", 3, "another format version"),
        ("version", 5, "another format version"),
        ("kind", Kind.SUM, "another kind"),
        ("kind", 0, "another kind"),
        ("kind", 255, "another kind"),
        ("key", bytes(16), "another key"),
        ("receiver", AUTHORITY, "another receiver"),
        ("count", 0, "another number of clients"),
        ("count", 2, "another number of clients"),
        ("count", 2**32 - 1, "another number of clients"),
        ("length", 0, "another payload length"),
        ("length", 8, "another payload length"),
        ("length", 2**64 - 1, "another payload length"),
        ("sender", 2, "2 did not send"),
        ("sender", SERVER, "did not send"),
        ("sender", 99, "no party with number 99"),
    ],
)
def test_a_sender_cannot_lie_about_a_field(name, value, message):
    with pytest.raises(WireError, match=message):
        received(retagged(with_field(upload(), name, value)))


def test_a_count_that_shifts_the_payload_is_refused():
    # As many bytes, were a number's eight taken for payload or the other way round.
    data = upload(payload=bytes(16), numbers=(1, 2))
    for count, length in ((1, 24), (3, 8), (0, 32), (4, 0)):
        altered = with_field(with_field(data, "count", count), "length", length)
        with pytest.raises(WireError, match="another number of clients"):
            received(retagged(altered), payload=16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": Kind.SUM}, "another kind"),
        ({"payload": 6}, "bytes where"),
        ({"payload": 8}, "bytes where"),
        ({"payload": 15}, "another number of clients"),
        ({"most_numbers": 0}, "bytes where"),
        ({"key_id": bytes(16)}, "another key"),
        ({"receiver": AUTHORITY}, "another receiver"),
    ],
)
def test_readers_refuse_what_they_do_not_expect(change, message):
    with pytest.raises(WireError, match=message):
        received(upload(), **change)


def test_what_was_sent_to_another_is_refused():
    # Even with its name changed: the channel is not theirs.
    data = upload(receiver=2)
    with pytest.raises(WireError, match="another receiver"):
        received(data)
    with pytest.raises(WireError, match="its tag is wrong"):
        received(with_field(data, "receiver", SERVER))
    # Nor can it be sent back.
    back = with_field(with_field(upload(), "receiver", 1), "sender", SERVER)
    with pytest.raises(WireError, match="its tag is wrong"):
        received(back, 1)


def test_what_was_sent_in_another_round_cannot_be_renamed():
    data = upload(round_number=7)
    assert received(data).round_number == 7
    with pytest.raises(WireError, match="its tag is wrong"):
        received(with_field(data, "round", 8))


def test_strangers_are_refused():
    stranger = Party(99, DIRECTORY)
    data = write(stranger, SERVER, Kind.UPLOAD, 7, PAYLOAD, key_id=KEY, numbers=(99,))
    with pytest.raises(WireError, match="no party with number 99"):
        received(data)
    # A stranger that takes another's number has another key.
    impostor = Party(1, DIRECTORY)
    data = write(impostor, SERVER, Kind.UPLOAD, 7, PAYLOAD, key_id=KEY, numbers=(1,))
    with pytest.raises(WireError, match="1 did not send: its tag is wrong"):
        received(data)
    with pytest.raises(WireError, match="no party with number 99"):
        write(PARTIES[1], 99, Kind.UPLOAD, 7, PAYLOAD)


@pytest.mark.parametrize("numbers", [(1, 1), (2, 1, 2), (0, 0, 0)])
def test_repeated_numbers_are_refused(numbers):
    with pytest.raises(WireError, match="names a client twice"):
        received(upload(numbers=numbers))


def test_too_many_numbers_are_refused():
    assert received(upload(numbers=(1, 2, 3))).numbers == (1, 2, 3)
    with pytest.raises(WireError, match="bytes where"):
        received(upload(numbers=(1, 2, 3, 4)))


@pytest.mark.parametrize(
    "data", [None, "text", 5, bytearray(200), memoryview(bytes(9))]
)
def test_what_is_not_bytes_is_refused(data):
    with pytest.raises(WireError, match="must be bytes, got"):
        received(data)


@pytest.mark.parametrize(
    ("round_number", "numbers"),
    [(-1, ()), (2**64, ()), (0, (-1,)), (0, (2**64,))],
)
def test_numbers_that_do_not_fit_are_not_written(round_number, numbers):
    with pytest.raises(WireError, match="do not fit a message"):
        upload(round_number=round_number, numbers=numbers)


def test_a_sender_that_does_not_fit_does_not_write():
    for number in (-1, 2**64):
        with pytest.raises(WireError, match="do not fit a message"):
            write(Party(number, DIRECTORY), SERVER, Kind.UPLOAD, 0, PAYLOAD)


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=300)
def test_random_bytes_are_refused(data):
    for altered in (data, data + bytes(size(1, 7) - len(data)), b"FJPE\x04\x01" + data):
        with pytest.raises(WireError):
            received(altered)


def test_refusals_are_value_errors():
    for error in (WireError, RefusedError):
        assert issubclass(error, ProtocolError)
    assert issubclass(ProtocolError, ValueError)
    assert FIRST_EDGE < AUTHORITY < SERVER
