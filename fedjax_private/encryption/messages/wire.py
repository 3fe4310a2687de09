"""Messages between parties: a fixed header, parties' numbers, a payload, a tag.

    magic 4 | version 1 | kind 1 | key id 16 | round 8 | sender 8 | receiver 8 |
    count 4 | payload length 8 | numbers 8 * count | payload | tag 32

Little endian. Nothing in a message decides how it is parsed but its length and `count`,
both bounded by what the reader expects before anything is looked at; the tag is checked
before any field is believed.
"""

import dataclasses
import enum
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedjax_private.encryption.messages.channels import Party

MAGIC = b"FJPE"
VERSION = 3
KEY_ID_BYTES = 16
TAG_BYTES = 32

_HEADER = struct.Struct(f"<4sBB{KEY_ID_BYTES}sQQQIQ")
_NUMBER_BYTES = 8

# Parties that are no clients; clients are numbered from 0 up to, not including, these.
SERVER = 2**64 - 1
AUTHORITY = 2**64 - 2
EDGES = 2**64 - 2**32  # the first of the edge servers
EDGE_SERVERS = range(EDGES, AUTHORITY)
NO_KEY = bytes(KEY_ID_BYTES)


class ProtocolError(ValueError):
    """A message that a party does not accept."""


class WireError(ProtocolError):
    """A message that is malformed, forged, or not the one expected."""


class RefusedError(ProtocolError):
    """A well-formed message that the protocol forbids."""


class Kind(enum.IntEnum):
    """What a message carries."""

    UPLOAD = 1  # encrypted vectors, one client's or the sum of several
    SUM = 2  # an encrypted sum, from the server to whoever decrypts
    PARTIAL = 3  # a partial decryption of a sum
    RECOVERY_REQUEST = 4  # who has gone, and who stands in
    RECOVERY = 5  # partial decryptions with shares of those who have gone
    COMMON = 6  # joint key: the polynomial that all holders use
    COMMITMENT = 7  # joint key: the hash of a holder's contribution
    CONTRIBUTION = 8  # joint key: the contribution itself
    SHARE = 9  # a share of one holder's key for another, sealed
    RELEASED = 10  # a decrypted sum


# Receiver's number -> the message for it.
Messages = dict[int, bytes]

# The payload of a recovery request: how many of its numbers are of those who have gone.
GONE = struct.Struct("<I")


@dataclasses.dataclass(frozen=True)
class Message:
    """One message, its tag verified.

    Attributes:
        kind: what it carries.
        key_id: (16,) bytes that name the public key it belongs to.
        round_number: the round it belongs to, below 2^64.
        sender: a party's number.
        receiver: a party's number.
        numbers: clients that it speaks of, such as those whose vectors are summed.
        payload: bytes whose meaning the kind fixes.
    """

    kind: Kind
    key_id: bytes
    round_number: int
    sender: int
    receiver: int
    numbers: tuple[int, ...]
    payload: memoryview


def size(numbers: int, payload: int) -> int:
    """Bytes of a message that names so many clients and carries so many bytes."""
    return _HEADER.size + _NUMBER_BYTES * numbers + payload + TAG_BYTES


def write(
    party: "Party",
    receiver: int,
    kind: Kind,
    round_number: int,
    payload: bytes | memoryview,
    *,
    key_id: bytes = NO_KEY,
    numbers: tuple[int, ...] = (),
) -> bytes:
    """Returns the bytes of a message from `party`, authenticated for its receiver.

    Raises:
        WireError: if a number is negative or too large for its field, or the receiver
            is unknown.
    """
    try:
        header = _HEADER.pack(
            MAGIC,
            VERSION,
            kind,
            key_id,
            round_number,
            party.number,
            receiver,
            len(numbers),
            len(payload),
        )
        listed = struct.pack(f"<{len(numbers)}Q", *numbers)
    except struct.error as error:
        raise WireError(
            f"round {round_number}, sender {party.number} or the numbers of clients do "
            f"not fit a message: {error}."
        ) from error
    tag = party.to(receiver).tag(header, listed, payload)
    return b"".join((header, listed, payload, tag))


def read(
    party: "Party",
    data: bytes,
    kind: Kind,
    *,
    payload: int,
    most_numbers: int = 0,
    key_id: bytes = NO_KEY,
) -> Message:
    """Returns the message to `party` in `data` if it is of the expected form.

    Args:
        party: who reads.
        data: from anyone.
        kind: the kind expected.
        payload: the bytes of payload expected.
        most_numbers: how many clients it may name at most.
        key_id: the key that it must belong to.

    Raises:
        WireError: if it is not bytes, of another length, kind, format or key, meant for
            another party, names a client twice, or was not sent by its sender.
    """
    if not isinstance(data, bytes):
        raise WireError(f"a message is bytes, got {type(data).__name__}.")
    # Lengths first: what is too long or too short is refused before it is looked at.
    count, rest = divmod(len(data) - size(0, payload), _NUMBER_BYTES)
    if rest or not 0 <= count <= most_numbers:
        raise WireError(
            f"a message of {len(data)} bytes where {size(most_numbers, payload)} were "
            "expected."
        )
    magic, version, found, key, round_number, sender, receiver, listed, length = (
        _HEADER.unpack_from(data)
    )
    expected = {
        "magic number": (magic, MAGIC),
        "format version": (version, VERSION),
        "kind": (found, kind),
        "key": (key, key_id),
        "receiver": (receiver, party.number),
        "number of clients": (listed, count),
        "payload length": (length, payload),
    }
    for name, (got, wanted) in expected.items():
        if got != wanted:
            raise WireError(f"a message of another {name}: {got!r}, not {wanted!r}.")
    body, tag = memoryview(data)[:-TAG_BYTES], data[-TAG_BYTES:]
    if not party.by(sender).verify(tag, body):
        raise WireError(f"a message that {sender} did not send: its tag is wrong.")
    numbers = struct.unpack_from(f"<{count}Q", data, _HEADER.size)
    if len(set(numbers)) < count:
        raise WireError("a message that names a client twice.")
    start = _HEADER.size + _NUMBER_BYTES * count
    return Message(kind, key, round_number, sender, receiver, numbers, body[start:])


def read_sender(data: bytes) -> int:
    """Who a message says that it is from, before anything about it is verified.

    Raises:
        WireError: if it is too short to say.
    """
    if not isinstance(data, bytes) or len(data) < _HEADER.size:
        raise WireError("a message is truncated, or not bytes.")
    return int(_HEADER.unpack_from(data)[5])
