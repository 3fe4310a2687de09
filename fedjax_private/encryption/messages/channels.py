"""Who speaks to whom: long-term identities, and a keyed channel for every pair.

The parties know each other's public keys beforehand (a public-key infrastructure, as in
Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning",
CCS 2017). From them each pair derives keys of its own, one set a direction.
"""

import dataclasses
import hmac
import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedjax_private.encryption.messages.wire import WireError

_KEY_BYTES = 32
_NONCE_BYTES = 12
SEAL_BYTES = _NONCE_BYTES + 16  # by which sealing makes longer


@dataclasses.dataclass(frozen=True)
class Channel:
    """The keys of messages from one party to one other.

    Formal guarantees: whoever holds neither party's private key can neither alter nor
    invent a message that `verify` accepts (HMAC-SHA256 is a pseudo-random function)
    nor read one that was sealed (ChaCha20-Poly1305, RFC 8439), assuming that
    Diffie-Hellman on Curve25519 is hard and the public keys are the right ones. What is
    replayed is accepted: messages carry their round, and receivers count.

    Attributes:
        authentication: (32,) bytes.
        secrecy: (32,) bytes.
    """

    authentication: bytes = dataclasses.field(repr=False)
    secrecy: bytes = dataclasses.field(repr=False)

    def tag(self, *parts: bytes | memoryview) -> bytes:
        """Returns the tag of a message given in parts, (32,) bytes."""
        made = hmac.new(self.authentication, digestmod="sha256")
        for part in parts:
            made.update(part)
        return made.digest()

    def verify(self, tag: bytes, *parts: bytes | memoryview) -> bool:
        """Whether the tag is the message's; takes the same time for all wrong ones."""
        return hmac.compare_digest(self.tag(*parts), tag)

    def seal(self, secret: bytes) -> bytes:
        """Returns the secret, encrypted and authenticated; 28 bytes longer."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + ChaCha20Poly1305(self.secrecy).encrypt(nonce, secret, None)

    def open(self, sealed: bytes) -> bytes:
        """Returns what was sealed.

        Raises:
            WireError: if it was altered, or sealed for another channel.
        """
        if len(sealed) < SEAL_BYTES:
            raise WireError("a sealed message is truncated.")
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return ChaCha20Poly1305(self.secrecy).decrypt(nonce, rest, None)
        except InvalidTag as error:
            raise WireError("a sealed message was altered or misdirected.") from error


class Identity:
    """One party's long-term key pair. The private key never leaves the object."""

    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()

    @property
    def public(self) -> bytes:
        """(32,) bytes that name the party."""
        return self._private.public_key().public_bytes_raw()

    def sending(self, receiver: bytes) -> Channel:
        """The channel from here to the party with that public key.

        Raises:
            WireError: if no party can have that key.
        """
        return self._channel(receiver, self.public + receiver)

    def receiving(self, sender: bytes) -> Channel:
        """The channel from the party with that public key to here.

        Raises:
            WireError: if no party can have that key.
        """
        return self._channel(sender, sender + self.public)

    def _channel(self, peer: bytes, direction: bytes) -> Channel:
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError as error:
            raise WireError("not the public key of a party.") from error
        keys = HKDF(
            algorithm=hashes.SHA256(),
            length=2 * _KEY_BYTES,
            salt=None,
            info=b"fedjax_private channel 1" + direction,
        ).derive(shared)
        return Channel(keys[:_KEY_BYTES], keys[_KEY_BYTES:])


# Party's number -> its public key: what everybody is told before training.
Directory = Mapping[int, bytes]


class Party:
    """One party's identity, number, and channels to and from those it knows.

    Args:
        number: a client's, or one of `wire`'s for servers and the authority.
        directory: who else there is; it may grow as parties join.
        identity: a fresh one by default.
    """

    def __init__(
        self, number: int, directory: Directory, identity: Identity | None = None
    ) -> None:
        self.number = number
        self.identity = identity or Identity()
        self._directory = directory
        self._sending: dict[int, Channel] = {}
        self._receiving: dict[int, Channel] = {}

    def to(self, receiver: int) -> Channel:
        """The channel to a party.

        Raises:
            WireError: if the directory does not list it.
        """
        if receiver not in self._sending:
            key = self._key_of(receiver)
            self._sending[receiver] = self.identity.sending(key)
        return self._sending[receiver]

    def by(self, sender: int) -> Channel:
        """The channel from a party.

        Raises:
            WireError: if the directory does not list it.
        """
        if sender not in self._receiving:
            key = self._key_of(sender)
            self._receiving[sender] = self.identity.receiving(key)
        return self._receiving[sender]

    def _key_of(self, number: int) -> bytes:
        if number not in self._directory:
            raise WireError(f"nobody is known by the number {number}.")
        return self._directory[number]
