"""Frames: the HTTP bodies of a session, authenticated and numbered.

    magic 4 | version 1 | kind 1 | direction 1 | session 16 | counter 8 | length 8 |
    tag of the header 32 | payload | tag of all of it 32

Little endian. The header has a tag of its own, so that a server does not read a payload
of hundreds of megabytes from a sender without the key. A session begins with a fresh
nonce from each side. Its keys, one for each direction, are derived from both nonces,
from the access token and from the offer (`offer.Offer`) that the client read.

Formal guarantees, of `Channel`: an adversary without the access token makes the
receiver of a session accept no body but those its sender made, each at most once, in
their order, in the session and the direction that they were made for. Assumed is that
HMAC-SHA256 is a pseudo-random function, that the token has 256 random bits, and that a
side never makes the same nonce twice. Holders of one token can speak for one another
and for the server: against them, and for secrecy of who asks how often, put TLS in
front. Refusals are not authenticated: they are sentences, and nothing is computed from
them.
"""

import dataclasses
import enum
import hashlib
import hmac
import os
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedjax_private.encryption.errors import WireError

MAGIC = b"FJPS"
VERSION = 1
SESSION_BYTES = 16
NONCE_BYTES = 32
TAG_BYTES = 32
NO_SESSION = bytes(SESSION_BYTES)

_HEADER = struct.Struct(f"<4sBBB{SESSION_BYTES}sQQ")
_KEY_BYTES = 32
PREFIX_BYTES = _HEADER.size + TAG_BYTES  # what is read before a payload


class Kind(enum.IntEnum):
    """What a body contains."""

    HELLO = 1  # a client's nonce
    WELCOME = 2  # a session and the server's nonce
    KEYS = 3  # evaluation keys
    READY = 4  # the keys were loaded
    REQUEST = 5  # encrypted images
    ANSWER = 6  # encrypted scores
    CLOSE = 7
    CLOSED = 8


class Direction(enum.IntEnum):
    """The receiver of a body."""

    TO_SERVER = 0
    TO_CLIENT = 1


def size(payload: int) -> int:
    """Bytes of a body with a payload of `payload` bytes."""
    return PREFIX_BYTES + payload + TAG_BYTES


def nonce() -> bytes:
    """A fresh nonce, (32,) bytes."""
    return os.urandom(NONCE_BYTES)


class Body:
    """A body that is being written or read: its prefix, and its tag so far."""

    def __init__(self, key: bytes, prefix: bytes, kind: Kind, length: int) -> None:
        self.prefix, self.kind, self.length = prefix, kind, length
        # A letter separates the tags of headers from those of bodies.
        self._tag = hmac.new(key, b"B" + prefix, "sha256")

    def update(self, payload: bytes | memoryview) -> None:
        """Takes the next bytes of the payload."""
        self._tag.update(payload)

    def tag(self) -> bytes:
        """The tag of the header and of the payload so far, (32,) bytes."""
        return self._tag.digest()

    def verify(self, tag: bytes) -> None:
        """Checks the tag at the end of a body that was read.

        Raises:
            WireError: if it is not the tag of the bytes that were read.
        """
        if not hmac.compare_digest(self._tag.digest(), tag):
            raise WireError("a body was altered on its way: its tag is wrong.")


@dataclasses.dataclass(frozen=True)
class Channel:
    """One direction of one session. Formal guarantees: see the module.

    Attributes:
        key: (32,) bytes.
        direction: the receiver.
        session: (16,) bytes, or `NO_SESSION` before there is one.
    """

    key: bytes = dataclasses.field(repr=False)
    direction: Direction
    session: bytes

    def begin(self, kind: Kind, counter: int, length: int) -> Body:
        """A body to be written; its prefix is complete."""
        header = _HEADER.pack(
            MAGIC, VERSION, kind, self.direction, self.session, counter, length
        )
        return Body(self.key, header + self._tag(header), kind, length)

    def write(self, kind: Kind, counter: int, payload: bytes = b"") -> bytes:
        """Returns a whole body."""
        body = self.begin(kind, counter, len(payload))
        body.update(payload)
        return b"".join((body.prefix, payload, body.tag()))

    def read_prefix(self, prefix: bytes, kind: Kind, counter: int, length: int) -> Body:
        """Returns the body to be read after its prefix, if it is the expected one.

        Args:
            prefix: `PREFIX_BYTES` bytes, from anyone.
            kind: the expected kind.
            counter: the expected number.
            length: the expected bytes of payload.

        Raises:
            WireError: if the prefix is of another format, session, direction, kind,
                number or length, or its tag is wrong.
        """
        if len(prefix) != PREFIX_BYTES:
            raise WireError(
                f"a body of {len(prefix)} bytes: the shortest has {size(0)} bytes."
            )
        header, tag = prefix[: _HEADER.size], prefix[_HEADER.size :]
        # The tag first: without it no field is used, not even in an error.
        if not hmac.compare_digest(self._tag(header), tag):
            raise WireError(
                "a body that holders of the access token did not make for this "
                "session: the tag of its header is wrong."
            )
        magic, version, sent_kind, direction, session, number, sent = _HEADER.unpack(
            header
        )
        expected = {
            "magic number": (magic, MAGIC),
            "format version": (version, VERSION),
            "kind": (sent_kind, kind),
            "direction": (direction, self.direction),
            "session": (session, self.session),
        }
        for name, (got, wanted) in expected.items():
            if got != wanted:
                raise WireError(f"a body of another {name}: {got!r}, not {wanted!r}.")
        if number != counter:
            raise WireError(
                f"body number {number} where number {counter} is due: it was replayed, "
                "or others before it were lost; open a new session."
            )
        if sent != length:
            raise WireError(f"a payload of {sent} bytes where {length} are allowed.")
        return Body(self.key, prefix, kind, length)

    def read(self, data: bytes, kind: Kind, counter: int, length: int) -> bytes:
        """Returns the payload of a whole body; see `read_prefix`."""
        body = self.read_prefix(data[:PREFIX_BYTES], kind, counter, length)
        if len(data) != size(length):
            raise WireError(f"a body of {len(data)} bytes, not {size(length)}.")
        payload = data[PREFIX_BYTES:-TAG_BYTES]
        body.update(payload)
        body.verify(data[-TAG_BYTES:])
        return payload

    def _tag(self, header: bytes) -> bytes:
        return hmac.new(self.key, b"H" + header, "sha256").digest()


def opening_channel(token: bytes, offer: bytes) -> Channel:
    """The channel of a client's hello, which opens a session.

    Args:
        token: (32,) bytes, the access token.
        offer: the answer to `GET /model`, which names this run of the server.
    """
    key = _derive(token, b"", b"opening" + hashlib.sha256(offer).digest(), 1)
    return Channel(key, Direction.TO_SERVER, NO_SESSION)


def channels(
    token: bytes, offer: bytes, nonces: bytes, session: bytes
) -> tuple[Channel, Channel]:
    """The channels of a session: to the server, and to the client.

    Args:
        token: (32,) bytes, the access token.
        offer: as for `opening_channel`.
        nonces: (64,) bytes, the client's and the server's.
        session: (16,) bytes.
    """
    info = b"session" + hashlib.sha256(offer).digest() + session
    keys = _derive(token, nonces, info, 2)
    return (
        Channel(keys[:_KEY_BYTES], Direction.TO_SERVER, session),
        Channel(keys[_KEY_BYTES:], Direction.TO_CLIENT, session),
    )


def write_welcome(
    token: bytes, offer: bytes, client: bytes
) -> tuple[bytes, Channel, Channel]:
    """The answer to a hello with the nonce `client`, and the channels that it opens.

    Token, offer and channels are those of `channels`.
    """
    session, server = os.urandom(SESSION_BYTES), nonce()
    to_server, to_client = channels(token, offer, client + server, session)
    return to_client.write(Kind.WELCOME, 0, session + server), to_server, to_client


def read_welcome(
    token: bytes, offer: bytes, client: bytes, body: bytes
) -> tuple[Channel, Channel]:
    """The channels of the session that `body`, the answer to a hello, opens.

    Token, offer and channels are those of `channels`; the body is from anyone.

    Raises:
        WireError: if it is not the answer of a server that knows the token, and made
            the offer, to the hello with this nonce.
    """
    if len(body) != size(SESSION_BYTES + NONCE_BYTES):
        raise WireError(f"a welcome does not have {len(body)} bytes.")
    # The keys are derived from the payload, whose tag they then verify.
    payload = body[PREFIX_BYTES:-TAG_BYTES]
    session, server = payload[:SESSION_BYTES], payload[SESSION_BYTES:]
    to_server, to_client = channels(token, offer, client + server, session)
    to_client.read(body, Kind.WELCOME, 0, len(payload))
    return to_server, to_client


def _derive(token: bytes, salt: bytes, info: bytes, keys: int) -> bytes:
    return HKDF(
        algorithm=hashes.SHA256(),
        length=keys * _KEY_BYTES,
        salt=salt or None,
        info=b"fedjax_private inference 1 " + info,
    ).derive(token)
