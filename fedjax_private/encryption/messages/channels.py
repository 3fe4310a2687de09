"""Identities of parties, and an authenticated channel for every pair of them.

The parties know each other's public keys beforehand (a public-key infrastructure, as in
Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning",
CCS 2017). From these, each pair derives its own keys, one set for each direction.
"""

import dataclasses
import functools
import hmac
import os
import threading
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedjax_private.encryption.errors import RefusedError, WireError

_KEY_BYTES = 32
_NONCE_BYTES = 12
SEAL_BYTES = _NONCE_BYTES + 16  # that sealing adds to a secret


@dataclasses.dataclass(frozen=True)
class Channel:
    """The keys of messages from one party to another.

    Formal guarantees: whoever holds neither party's private key can neither alter nor
    invent a message that `verify` accepts (HMAC-SHA256 is a pseudo-random function)
    nor read one that was sealed (ChaCha20-Poly1305, RFC 8439), assuming that
    Diffie-Hellman on Curve25519 is hard and the public keys are the right ones.
    Replayed messages are accepted: messages carry their round, and receivers count.

    Attributes:
        authentication: the key of tags, 32 bytes.
        secrecy: the key of sealed secrets, 32 bytes.
        derivation: the key from which the pair derives keys of rounds, 32 bytes.
    """

    authentication: bytes = dataclasses.field(repr=False)
    secrecy: bytes = dataclasses.field(repr=False)
    derivation: bytes = dataclasses.field(repr=False)

    def tag(self, *parts: bytes | memoryview) -> bytes:
        """Returns the tag, 32 bytes, of a message given in parts."""
        mac = hmac.new(self.authentication, digestmod="sha256")
        for part in parts:
            mac.update(part)
        return mac.digest()

    def verify(self, tag: bytes, *parts: bytes | memoryview) -> bool:
        """Returns whether the tag is right; every wrong tag takes the same time."""
        return hmac.compare_digest(self.tag(*parts), tag)

    def seal(self, secret: bytes) -> bytes:
        """Returns the secret encrypted and authenticated, 28 bytes longer."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + ChaCha20Poly1305(self.secrecy).encrypt(nonce, secret, None)

    def open(self, sealed: bytes) -> bytes:
        """Returns the secret that was sealed.

        Raises:
            WireError: if the sealed bytes were altered, or belong to another channel.
        """
        if len(sealed) < SEAL_BYTES:
            raise WireError("a sealed message is truncated.")
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return ChaCha20Poly1305(self.secrecy).decrypt(nonce, rest, None)
        except InvalidTag as error:
            raise WireError("a sealed message was altered or misdirected.") from error


class Identity:
    """The long-term key pair of a party. The private key never leaves the object."""

    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()

    @functools.cached_property
    def public(self) -> bytes:
        """The public key, 32 bytes, by which others know the party."""
        return self._private.public_key().public_bytes_raw()

    def channel(self, sender: bytes, receiver: bytes) -> Channel:
        """Returns the channel between two parties, by public keys; one is this party.

        Raises:
            WireError: if no party can have the other's key.
        """
        peer = receiver if sender == self.public else sender
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError as error:
            raise WireError("not the public key of a party.") from error
        keys = HKDF(
            algorithm=hashes.SHA256(),
            length=3 * _KEY_BYTES,
            salt=None,
            info=b"fedjax_private channel 1" + sender + receiver,
        ).derive(shared)
        parts = (keys[at : at + _KEY_BYTES] for at in range(0, len(keys), _KEY_BYTES))
        return Channel(*parts)


# Number of a party -> its public key. Everybody knows it before training.
Directory = Mapping[int, bytes]


class Party:
    """A party: its number, its identity, its channels, and its record of rounds.

    The record lives as long as the party, and so longer than any key. It is in memory
    only: a party that starts anew needs a new identity, under which it knows nothing of
    what it did before.

    Args:
        number: of a client, or one that `wire` reserves for servers and the authority.
        directory: the public keys of the other parties; it may grow as parties join.
    """

    def __init__(self, number: int, directory: Directory) -> None:
        self.number, self.identity = number, Identity()
        self._directory = directory
        self._channels: dict[tuple[bytes, bytes], Channel] = {}
        self._done: dict[str, set[int]] = {}
        self._first = 0  # round of the newest key that it has taken
        self._recording = threading.Lock()

    def once(self, act: str, round_number: int) -> None:
        """Records that the party does something in a round, under whichever key.

        Safe to call from several threads: of several calls, one succeeds.

        Args:
            act: what it does, as a participle: `decrypted` or `uploaded`.
            round_number: the round.

        Raises:
            RefusedError: if the party has done it in that round before.
        """
        with self._recording:
            self.refuse_again(act, round_number)
            self._done.setdefault(act, set()).add(round_number)

    def refuse_again(self, act: str, round_number: int) -> None:
        """Raises RefusedError if `once` would, and records nothing."""
        if round_number in self._done.get(act, ()):
            raise RefusedError(
                f"party {self.number} has {act} in round {round_number} already: it "
                "does so once a round, whichever the key."
            )

    def take_key(self, first_round: int) -> None:
        """Records that the party takes, or uses, a key that serves from a round on.

        Safe to call from several threads.

        Raises:
            RefusedError: if it has taken a key that serves from a later round on.
        """
        with self._recording:
            if first_round < self._first:
                raise RefusedError(
                    f"party {self.number} has taken a key that serves from round "
                    f"{self._first} on: it does not go back to one from round "
                    f"{first_round} on, which may be known by now."
                )
            self._first = first_round

    def channel_to(self, receiver: int) -> Channel:
        """Returns the channel to the party with that number.

        Raises:
            WireError: if the directory does not list it.
        """
        return self._channel(self.identity.public, self._key_of(receiver))

    def channel_from(self, sender: int) -> Channel:
        """Returns the channel from the party with that number.

        Raises:
            WireError: if the directory does not list it.
        """
        return self._channel(self._key_of(sender), self.identity.public)

    def pair_channel(self, other: int) -> Channel:
        """Returns the one of the two channels with a party that both know as theirs.

        It is that from the lower number to the higher.

        Raises:
            WireError: if the directory does not list it.
        """
        if self.number < other:
            return self.channel_to(other)
        return self.channel_from(other)

    def _channel(self, sender: bytes, receiver: bytes) -> Channel:
        if (sender, receiver) not in self._channels:
            channel = self.identity.channel(sender, receiver)
            self._channels[sender, receiver] = channel
        return self._channels[sender, receiver]

    def _key_of(self, number: int) -> bytes:
        if number not in self._directory:
            raise WireError(f"the directory has no party with number {number}.")
        return self._directory[number]
