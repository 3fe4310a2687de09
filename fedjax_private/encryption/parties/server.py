"""The server's side: adding what it cannot read, and fusing partial decryptions."""

from collections.abc import Container, Sequence

import numpy as np

from fedjax_private.encryption.math import plaintexts
from fedjax_private.encryption.math.packing import FloatArray, IntArray, unpack
from fedjax_private.encryption.math.rings import Residues
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.messages.wire import (
    AUTHORITY,
    EDGE_SERVERS,
    EDGES,
    GONE,
    Kind,
    Message,
    Messages,
    RefusedError,
    WireError,
    read,
    write,
)
from fedjax_private.encryption.openfhe.contexts import ring_of


class AggregationServer:
    """Adds uploads without being able to read them. Held by the server and by edges.

    Holds the key's name and ciphertexts, no secret key, not even the public one.

    Formal guarantees: a server that follows the protocol learns who uploaded, when and
    how many values, and the sums that are released to it, nothing else, under the
    assumptions and with the exceptions named at `KeyAuthority` and
    `threshold.KeyHolder`. It takes uploads from those they name only, one a client and
    round, under the current key, of the right length, with coefficients below the
    modulus; every other message is refused and changes nothing, and no byte of any
    reaches OpenFHE.

    Not guaranteed: uploads are not proven to be well-formed. A client can spoil the sum
    with a vector beyond the declared range, or with no ciphertext at all but random
    coefficients.

    Args:
        party: who it is, and whom it knows.
        material: of the current key; the public key is not kept.
        relays: who may send sums of several clients; their word is taken for whose.
    """

    def __init__(
        self,
        party: Party,
        material: Material,
        relays: Container[int] = EDGE_SERVERS,
    ) -> None:
        self.material = material.without_key()
        self._party, self._relays = party, relays
        self._ring = ring_of(material.parameters)
        self._round: int | None = None
        self._clients: dict[int, None] = {}
        self._total: Residues | None = None
        self._added = 0

    @property
    def round_number(self) -> int | None:
        """The round that is open."""
        return self._round

    @property
    def clients(self) -> tuple[int, ...]:
        """Whose uploads the open round's sum holds."""
        return tuple(self._clients)

    def open(self, round_number: int) -> None:
        """Starts a round. What an unfinished one held is discarded."""
        self._round, self._clients, self._total = round_number, {}, None

    def add(self, data: bytes) -> None:
        """Adds one upload, or a relay's sum of some. A refused one changes nothing.

        Raises:
            WireError: if the message is not an upload under this key, by its sender.
            RefusedError: if no round is open, the upload belongs to another, a client
                has been added already, names others, or the sum is full.
        """
        parameters, ring = self.material.parameters, self._ring
        message = read(
            self._party,
            data,
            Kind.UPLOAD,
            payload=2 * parameters.rows * ring.polynomial_bytes,
            most_numbers=parameters.request.uploads,
            key_id=self.material.key_id,
        )
        self._check(message)
        polynomials = ring.unpack(message.payload)
        if self._total is None:
            self._total, self._added = polynomials, 1
        else:
            if self._added == ring.additions - 1:
                self._total, self._added = ring.reduce(self._total), 1
            self._total += polynomials
            self._added += 1
        self._clients.update(dict.fromkeys(message.numbers))

    def sum_message(self, receiver: int = AUTHORITY) -> bytes:
        """Ends the round and returns its encrypted sum, for the key authority.

        Raises:
            RefusedError: if no round is open or nothing has been added.
        """
        return self._finish(Kind.SUM, receiver)

    def forward(self, receiver: int) -> bytes:
        """Ends the round and returns its encrypted sum, for whoever adds next.

        Raises:
            RefusedError: if no round is open or nothing has been added.
        """
        return self._finish(Kind.UPLOAD, receiver)

    def take_total(self) -> tuple[int, tuple[int, ...], Residues]:
        """Ends the round; returns its number, its clients and its sum (2R, L, N).

        Raises:
            RefusedError: if no round is open or nothing has been added.
        """
        if self._round is None or self._total is None:
            raise RefusedError(
                "there is no sum: no round is open, or it has no upload."
            )
        taken = self._round, self.clients, self._ring.reduce(self._total)
        self._round, self._clients, self._total = None, {}, None
        return taken

    def released(self, data: bytes) -> tuple[int, FloatArray | IntArray]:
        """Returns the round and the sum (values,) in an authority's answer.

        Raises:
            WireError: if it is not the authority's, or of another form.
        """
        request = self.material.parameters.request
        message = read(
            self._party,
            data,
            Kind.RELEASED,
            payload=request.released.itemsize * request.values,
            most_numbers=request.uploads,
            key_id=self.material.key_id,
        )
        if message.sender != AUTHORITY:
            raise WireError(f"a released sum from {message.sender}.")
        released = np.frombuffer(message.payload, request.released)
        if request.scheme.exact:
            return message.round_number, released.astype(np.int64)
        return message.round_number, released.astype(np.float64)

    def _finish(self, kind: Kind, receiver: int) -> bytes:
        round_number, clients, total = self.take_total()
        return write(
            self._party,
            receiver,
            kind,
            round_number,
            self._ring.pack(total),
            key_id=self.material.key_id,
            numbers=clients,
        )

    def _check(self, message: Message) -> None:
        if message.round_number != self._round:
            raise RefusedError(
                f"an upload of round {message.round_number}, but "
                + (
                    "none is open."
                    if self._round is None
                    else f"{self._round} is open."
                )
            )
        if message.numbers != (message.sender,) and message.sender not in self._relays:
            raise RefusedError(
                f"{message.sender} sent an upload in the name of {message.numbers}."
            )
        if not message.numbers or max(message.numbers) >= EDGES:
            raise RefusedError("an upload that is of no client.")
        for client in message.numbers:
            if client in self._clients:
                raise RefusedError(
                    f"client {client} has uploaded in round {self._round} already."
                )
        most = self.material.parameters.request.uploads
        if len(self._clients) + len(message.numbers) > most:
            raise RefusedError(
                f"the sum of round {self._round} is full: the parameters hold at most "
                f"{most} uploads."
            )


class Fusion:
    """The server's side of one decryption: partial decryptions in, the sum out.

    Formal guarantees: none beyond `AggregationServer`'s: it holds what holders sent,
    which together decrypts this one sum. It takes one part from each holder.

    Args:
        party: the server.
        server: whose open round is ended.
        holders: all holders' numbers, in the order that all agree on.
        quorum: T.

    Raises:
        RefusedError: if no round is open or nothing has been added.
    """

    def __init__(
        self,
        party: Party,
        server: AggregationServer,
        holders: Sequence[int],
        quorum: int,
    ) -> None:
        self._party, self._holders, self._quorum = party, tuple(holders), quorum
        self._material = server.material
        self._ring = ring_of(self._material.parameters)
        self.round_number, self.clients, total = server.take_total()
        self._total, self._second = total[0::2], total[1::2]
        self._answered: list[int] = []
        self._standing_in: set[int] = set()

    @property
    def missing(self) -> tuple[int, ...]:
        """Holders whose part has not come."""
        return tuple(h for h in self._holders if h not in self._answered)

    def requests(self) -> Messages:
        """The sum, for every holder."""
        payload = self._ring.pack(self._second)
        return {
            holder: write(
                self._party,
                holder,
                Kind.SUM,
                self.round_number,
                payload,
                key_id=self._material.key_id,
                numbers=self.clients,
            )
            for holder in self._holders
        }

    def add(self, data: bytes) -> None:
        """Takes a holder's part.

        Raises:
            WireError: if it is none of this round's under the joint key.
            RefusedError: if it is not from a holder, or a second one.
        """
        sender, parts = self._read(Kind.PARTIAL, data)
        if sender not in self.missing:
            raise RefusedError(f"a part of {sender}, unasked for.")
        self._total = self._ring.add(self._total, parts)
        self._answered.append(sender)

    def recovery_requests(self) -> Messages:
        """Asks T holders to stand in for those whose part has not come.

        Raises:
            RefusedError: if nobody is missing, or fewer than T holders are left: the
                round is void.
        """
        if not self.missing:
            raise RefusedError(f"nobody is missing in round {self.round_number}.")
        present = self._answered[: self._quorum]
        if len(present) < self._quorum:
            raise RefusedError(
                f"round {self.round_number} is void: {len(self._answered)} of "
                f"{len(self._holders)} holders are left to decrypt it, and "
                f"{self._quorum} are needed."
            )
        gone, self._standing_in = self.missing, set(present)
        self._answered.extend(gone)  # what comes from them now would count twice
        return {
            holder: write(
                self._party,
                holder,
                Kind.RECOVERY_REQUEST,
                self.round_number,
                GONE.pack(len(gone)),
                key_id=self._material.key_id,
                numbers=(*gone, *present),
            )
            for holder in present
        }

    def add_recovery(self, data: bytes) -> None:
        """Takes the part of a holder that stands in.

        Raises:
            WireError: if it is none of this round's under the joint key.
            RefusedError: if it is not from one that was asked, or a second one.
        """
        sender, parts = self._read(Kind.RECOVERY, data)
        if sender not in self._standing_in:
            raise RefusedError(f"{sender} stands in, unasked for.")
        self._total = self._ring.add(self._total, parts)
        self._standing_in.remove(sender)

    def release(self) -> FloatArray | IntArray:
        """Returns the sum (values,).

        Raises:
            RefusedError: if a part is missing.
        """
        if self.missing or self._standing_in:
            raise RefusedError(
                f"round {self.round_number} is void: parts of holders "
                f"{sorted({*self.missing, *self._standing_in})} are missing."
            )
        parameters = self._material.parameters
        return unpack(plaintexts.read(self._total, parameters, self._ring), parameters)

    def _read(self, kind: Kind, data: bytes) -> tuple[int, Residues]:
        ring = self._ring
        message = read(
            self._party,
            data,
            kind,
            payload=len(self._total) * ring.polynomial_bytes,
            key_id=self._material.key_id,
        )
        if message.round_number != self.round_number:
            raise WireError(f"a part of round {message.round_number}.")
        return message.sender, ring.unpack(message.payload)
