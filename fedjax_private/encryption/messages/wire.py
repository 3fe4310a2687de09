"""Messages between parties: a fixed header, client numbers, a payload, a tag.

    magic 4 | version 1 | kind 1 | key id 16 | round 8 | sender 8 | receiver 8 |
    count 4 | payload length 8 | numbers 8 * count | payload | tag 32

Numbers are little endian. Only the length of a message and its `count` decide how it is
parsed, and the reader bounds both by what it expects before it parses anything. The tag
is verified before any field is trusted.
"""

import dataclasses
import enum
import struct

from fedjax_private.encryption.errors import WireError
from fedjax_private.encryption.messages.channels import Party

MAGIC = b"FJPE"
VERSION = 4
KEY_ID_BYTES = 16
TAG_BYTES = 32

_HEADER = struct.Struct(f"<4sBB{KEY_ID_BYTES}sQQQIQ")
_NUMBER_BYTES = 8

# Numbers of parties that are not clients. Clients have numbers below all of these.
# The number of the server.
SERVER = 2**64 - 1
# The number of the key authority.
AUTHORITY = 2**64 - 2
# The number of the first edge server of a tree; the others follow.
FIRST_EDGE = 2**64 - 2**32
EDGE_SERVERS = range(FIRST_EDGE, AUTHORITY)
NO_KEY = bytes(KEY_ID_BYTES)


class Kind(enum.IntEnum):
    """The kinds of messages, by what they carry."""

    UPLOAD = 1  # an encrypted vector of one client, or the sum of several
    SUM = 2  # an encrypted sum, from the server to whoever decrypts
    PARTIAL = 3  # a partial decryption of a sum
    RECOVERY_REQUEST = 4  # the missing holders, and those that stand in
    RECOVERY = 5  # partial decryptions with shares of missing holders' keys
    SEED_COMMITMENT = 6  # joint key: the hash of a holder's seed
    SEED = 7  # joint key: the seed
    COMMITMENT = 8  # joint key: the hash of a holder's contribution
    CONTRIBUTION = 9  # joint key: the contribution itself
    SHARE = 10  # joint key: a sealed share of one holder's key for another holder
    RELEASED = 11  # a decrypted sum
    VOUCHER = 12  # the public facts about a key, from one of those who made it
    CHALLENGE = 13  # joint key: a seed of the challenge to all dealers
    ANSWERS = 14  # joint key: a holder's answers to that challenge
    DECLARATION = 15  # the digest of an upload, from its client to a decryptor
    INVITATION = 32  # masks: the clients of a round
    SHARES = 33  # masks: a client's sealed shares, and its deposit
    BOXES = 34  # masks: the sealed shares for one client
    MASKED = 35  # masks: a masked vector
    SURVIVORS = 36  # masks: the clients whose vectors are in the sum
    CONSENT = 37  # masks: a client's consent to that list, for each neighbour
    CONSENTS = 38  # masks: the consents for one client
    UNMASKING = 39  # masks: shares of the seeds that open a sum


# Number of a receiver -> the message for it.
Messages = dict[int, bytes]

# The payload of a recovery request: how many of its first numbers are missing holders.
MISSING_COUNT = struct.Struct("<I")


@dataclasses.dataclass(frozen=True)
class Message:
    """One message, verified by `read`, whose arguments say the rest about it.

    Attributes:
        round_number: the round that it belongs to, below 2^64.
        sender: the number of a party.
        numbers: the clients that it names, such as those whose vectors are summed.
        payload: bytes whose meaning depends on the kind.
    """

    round_number: int
    sender: int
    numbers: tuple[int, ...]
    payload: memoryview


def size(numbers: int, payload: int) -> int:
    """Returns the bytes of a message with `numbers` clients and `payload` bytes."""
    return _HEADER.size + _NUMBER_BYTES * numbers + payload + TAG_BYTES


def kind_of(data: bytes) -> int:
    """Returns the kind that a message states, which `read` has still to check."""
    return data[len(MAGIC) + 1] if len(data) > len(MAGIC) + 1 else 0


def split(data: bytes) -> tuple[bytes, int, memoryview]:
    """Splits bytes after the message that they begin with, which is not checked here.

    Returns:
        The message, how many clients it states, and the bytes that follow it.

    Raises:
        WireError: if the message would be longer than all of the bytes.
    """
    if not isinstance(data, bytes) or len(data) < _HEADER.size:
        raise WireError("a message is truncated, or not bytes.")
    *_, count, payload = _HEADER.unpack_from(data)
    end = size(count, payload)
    if len(data) < end:
        raise WireError("a message is truncated.")
    return data[:end], count, memoryview(data)[end:]


def write(
    party: Party,
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
        WireError: if a number is negative or too large for its field, or if the
            receiver is unknown.
    """
    parties, counts = (party.number, receiver), (len(numbers), len(payload))
    try:
        header = _HEADER.pack(
            MAGIC, VERSION, kind, key_id, round_number, *parties, *counts
        )
        packed_numbers = struct.pack(f"<{len(numbers)}Q", *numbers)
    except struct.error as error:
        raise WireError(
            f"round {round_number}, sender {party.number} or the numbers of clients do "
            f"not fit a message: {error}."
        ) from error
    tag = party.channel_to(receiver).tag(header, packed_numbers, payload)
    return b"".join((header, packed_numbers, payload, tag))


def read(
    party: Party,
    data: bytes,
    kind: Kind,
    *,
    payload: int,
    each: int = 0,
    most_numbers: int = 0,
    key_id: bytes = NO_KEY,
    sender: int | None = None,
) -> Message:
    """Returns the message to `party` in `data`, verified.

    Args:
        party: the reader.
        data: bytes of any origin.
        kind: the expected kind.
        payload: the expected bytes of payload.
        each: the expected bytes of payload besides, for each client that it names.
        most_numbers: the most clients that it may name.
        key_id: the key that it must belong to.
        sender: the party that it must come from; None for any.

    Raises:
        WireError: if `data` is not bytes; has another length, kind, format, key, sender
            or receiver; names a client twice; or was not sent by its sender.
    """
    if not isinstance(data, bytes):
        raise WireError(f"a message must be bytes, got {type(data).__name__}.")
    # The length first: a message that is too long or too short is not parsed.
    count, rest = divmod(len(data) - size(0, payload), _NUMBER_BYTES + each)
    if rest or not 0 <= count <= most_numbers:
        longest = size(most_numbers, payload + each * most_numbers)
        raise WireError(
            f"a message of {len(data)} bytes where {longest} were expected."
        )
    stated = _HEADER.unpack_from(data)
    round_number, stated_sender = stated[4:6]
    needed = {  # in the order of the header
        "magic number": MAGIC,
        "format version": VERSION,
        "kind": kind,
        "key": key_id,
        "round": round_number,
        "sender": stated_sender if sender is None else sender,
        "receiver": party.number,
        "number of clients": count,
        "payload length": payload + each * count,
    }
    for got, (name, value) in zip(stated, needed.items(), strict=True):
        if got != value:
            raise WireError(f"a message of another {name}: {got!r}, not {value!r}.")
    body, tag = memoryview(data)[:-TAG_BYTES], data[-TAG_BYTES:]
    if not party.channel_from(stated_sender).verify(tag, body):
        raise WireError(
            f"a message that {stated_sender} did not send: its tag is wrong."
        )
    numbers = struct.unpack_from(f"<{count}Q", data, _HEADER.size)
    if len(set(numbers)) < count:
        raise WireError("a message that names a client twice.")
    start = _HEADER.size + _NUMBER_BYTES * count
    return Message(round_number, stated_sender, numbers, body[start:])
