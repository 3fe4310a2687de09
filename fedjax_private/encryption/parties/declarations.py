"""Sums that decryptors check: what clients declare of their uploads.

A ciphertext is (c0, c1), and whoever decrypts a sum multiplies its c1 by a secret key.
So a decryptor that answers for a c1 of a server's choice can be made to decrypt single
uploads, or to tell its key. It therefore answers for sums of uploads alone:

    client -- upload (c0, c1) -------------------> server, or a relay
    client -- declaration: key, round, SHA-256 of c1 --> every decryptor
    server -- the c1 of every upload, by client -------> every decryptor
    server -- the sum of c0 ---------------------------> the authority, if there is one

The decryptor compares every c1 with the declaration of its client, adds them up itself,
and decrypts that sum. It gets no single c0, because the authority could decrypt it.
"""

import functools
import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.math.rings import Residues, Ring, RunningSum
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.wire import (
    FIRST_EDGE,
    Kind,
    Messages,
    read,
    write,
)

DIGEST_BYTES = 32
_Bytes = bytes | memoryview


class Parts:
    """The second polynomials (c1) of the uploads in a sum, one upload after another.

    `digests` and `total` depend on nothing but the bytes, and are computed once. So in
    a simulation, where all holders get the same object, the work is done once for all
    of them; as processes of their own, each does it. No holder relies on another for
    the check: each compares the digests with the declarations that it has received.

    Args:
        each: packed polynomials of each upload, all of one length.
        ring: the ring of the polynomials.
    """

    def __init__(self, each: Sequence[_Bytes], ring: Ring) -> None:
        self.each, self._ring = tuple(each), ring

    @classmethod
    def from_bytes(cls, data: _Bytes, count: int, ring: Ring) -> "Parts":
        """Returns `count` parts of equal length.

        Raises:
            WireError: if there is not a byte or more for each.
        """
        size = len(data) // count if count else 0
        if not size or size * count != len(data):
            raise WireError(f"{len(data)} bytes are no parts of {count} uploads.")
        view = memoryview(data)
        return cls([view[i : i + size] for i in range(0, len(data), size)], ring)

    def to_bytes(self) -> bytes:
        """Returns the bytes that `from_bytes` reads."""
        return b"".join(self.each)

    def __len__(self) -> int:
        """The bytes of all parts."""
        return sum(map(len, self.each))

    @functools.cached_property
    def digests(self) -> tuple[bytes, ...]:
        """The SHA-256 of each part."""
        return tuple(map(digest, self.each))

    @functools.cached_property
    def total(self) -> Residues:
        """The sum (R, L, N) of the parts.

        Raises:
            WireError: if a part does not consist of polynomials.
        """
        total = RunningSum(self._ring)
        for part in self.each:
            total.add(self._ring.unpack(part))
        return total.total


def digest(part: _Bytes) -> bytes:
    """Returns the SHA-256 of the packed second polynomials of an upload."""
    return hashlib.sha256(part).digest()


def declare(
    party: Party,
    decryptors: Iterable[int],
    round_number: int,
    part: _Bytes,
    key_id: bytes,
) -> Messages:
    """Returns a client's declarations of its upload, a message for each decryptor."""
    payload = digest(part)
    return {
        decryptor: write(
            party,
            decryptor,
            Kind.DECLARATION,
            round_number,
            payload,
            key_id=key_id,
        )
        for decryptor in decryptors
    }


def check(declared: Mapping[int, bytes], clients: Sequence[int], parts: Parts) -> None:
    """Checks that parts are what their clients have declared. A pure function.

    Args:
        declared: client -> the digest that it has declared, for this key and round.
        clients: the client of each part.
        parts: what the server sent.

    Raises:
        RefusedError: if a client has declared nothing or something else, if a client is
            named twice, if two clients have one part, or if there is not one part for
            each client.
    """
    if len(parts.each) != len(clients) or len(set(clients)) < len(clients):
        raise RefusedError("a sum needs one part of each client that it names.")
    for client, found in zip(clients, parts.digests, strict=True):
        if client not in declared:
            raise RefusedError(f"client {client} has declared no upload.")
        if declared[client] != found:
            raise RefusedError(f"client {client} has declared another upload.")
    if len(set(parts.digests)) < len(clients):
        raise RefusedError("two clients have declared the same upload.")


class Declarations:
    """The declarations that one decryptor has received under one key.

    It keeps a client's last declaration only, and that until the round's sum is
    decrypted, so that its memory is bounded by the number of clients. Safe to use from
    several threads.

    Args:
        party: the decryptor.
        key_id: names the key.
    """

    def __init__(self, party: Party, key_id: bytes) -> None:
        self._party, self._key_id = party, key_id
        self._last: dict[int, tuple[int, bytes]] = {}
        self._storing = threading.Lock()

    def accept(self, data: bytes) -> None:
        """Accepts the declaration of a client.

        Raises:
            WireError: if the message is no declaration under this key, from its sender.
            RefusedError: if the sender is no client, or has declared an upload of that
                round or of a later one, or if this decryptor has decrypted its sum.
        """
        message = read(
            self._party,
            data,
            Kind.DECLARATION,
            payload=DIGEST_BYTES,
            key_id=self._key_id,
        )
        client, round_number = message.sender, message.round_number
        if client >= FIRST_EDGE:
            raise RefusedError(f"{client} declares an upload, but is no client.")
        self._party.refuse_again("decrypted", round_number)
        with self._storing:
            last, _ = self._last.get(client, (-1, b""))
            if last >= round_number:
                raise RefusedError(
                    f"client {client} has declared an upload of round {last} already, "
                    f"and now one of round {round_number}."
                )
            self._last[client] = round_number, bytes(message.payload)

    def total(
        self, round_number: int, clients: Sequence[int], parts: Parts
    ) -> Residues:
        """Returns the sum (R, L, N) of parts, checked.

        Raises:
            RefusedError: see `check`.
            WireError: if a part does not consist of polynomials.
        """
        last = [(client, self._last.get(client)) for client in clients]
        declared = {
            client: entry[1]
            for client, entry in last
            if entry is not None and entry[0] == round_number
        }
        check(declared, clients, parts)
        return parts.total

    def forget(self, round_number: int) -> None:
        """Forgets the declarations of a round whose sum is decrypted."""
        with self._storing:
            self._last = {
                client: declared
                for client, declared in self._last.items()
                if declared[0] != round_number
            }
