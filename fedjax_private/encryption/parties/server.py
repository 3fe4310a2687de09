"""The aggregation server, which adds uploads that it cannot read."""

from collections.abc import Container

import numpy as np

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.math.packing import FloatArray, IntArray
from fedjax_private.encryption.math.rings import Residues
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.messages.wire import (
    AUTHORITY,
    EDGE_SERVERS,
    FIRST_EDGE,
    Kind,
    Message,
    read,
    write,
)
from fedjax_private.encryption.openfhe.contexts import ring_of


class AggregationServer:
    """Adds uploads without being able to read them. Held by the server and by edges.

    Holds the key's name and ciphertexts, no secret key, not even the public one.

    Formal guarantees: a server that follows the protocol learns who uploaded, when and
    how many values, and the sums that are released to it, nothing else, under the
    assumptions and with the exceptions named at `KeyAuthority` and `KeyHolder`. It
    takes uploads from those they name only, one a client and round, under the current
    key, of the right length, with coefficients below the modulus; every other message
    is refused and changes nothing, and no byte of any reaches OpenFHE.

    Not guaranteed: uploads are not proven to be well-formed. A client that departs from
    the protocol can spoil the sum, with a vector beyond the declared range or with
    random coefficients. It can also learn the secret key, a joint key too: with the
    upload (0, K) the released sum contains K s, from which everybody who sees that sum
    reads s if K is large. Whoever knows s and holds ciphertexts decrypts them: the
    server and that client together read every upload under that key, those of earlier
    rounds included. An eavesdropper who recorded uploads is as good as the server. A
    check of the range does not exclude this, because a K that fits the range suffices.
    `SumSettings.key_rounds` bounds the number of rounds under one key.

    Args:
        party: the server, and the parties that it knows.
        material: of the current key; the public key is not kept.
        relays: the parties that may send sums of several clients; which clients these
            are is taken on their word.
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
        """The open round, or None."""
        return self._round

    @property
    def clients(self) -> tuple[int, ...]:
        """The clients whose uploads are in the sum of the open round."""
        return tuple(self._clients)

    def open(self, round_number: int) -> None:
        """Starts a round. An unfinished round is discarded."""
        self._round, self._clients, self._total = round_number, {}, None

    def add(self, data: bytes) -> None:
        """Adds one upload, or a relay's sum of several. A refused one changes nothing.

        Raises:
            WireError: if the message is not an upload under this key, from its sender.
            RefusedError: if the upload's round is not open, if a client has been added
                before, if a client names others, or if the sum is full.
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

    def sum_message(self) -> bytes:
        """Ends the round as `take_total` does; returns its sum for the authority."""
        return self._finish(Kind.SUM, AUTHORITY)

    def forward(self, receiver: int) -> bytes:
        """Ends the round as `take_total` does; returns its sum for the next relay."""
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
        result = self._round, self.clients, self._ring.reduce(self._total)
        self._round, self._clients, self._total = None, {}, None
        return result

    def read_release(self, data: bytes) -> tuple[int, FloatArray | IntArray]:
        """Returns the round and the sum (values,) that the authority released.

        Raises:
            WireError: if the message is not a release from the authority, or holds an
                entry that no sum has.
        """
        request = self.material.parameters.request
        message = read(
            self._party,
            data,
            Kind.RELEASED,
            payload=request.released.itemsize * request.values,
            most_numbers=request.uploads,
            key_id=self.material.key_id,
            sender=AUTHORITY,
        )
        released = np.frombuffer(message.payload, request.released)
        if not request.scheme.exact:
            if not np.isfinite(released).all():
                raise WireError("a released sum has an entry that is not finite.")
            return message.round_number, released.astype(np.float64)
        half = 1 << (request.bits if request.residues else request.lane_bits) - 1
        if released.min() < -half or released.max() >= half:
            raise WireError(f"a released sum has an entry beyond +-{half}.")
        return message.round_number, released.astype(np.int64)

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
                f"{'none' if self._round is None else self._round} is open."
            )
        if message.numbers != (message.sender,) and message.sender not in self._relays:
            raise RefusedError(
                f"{message.sender} sent an upload in the name of {message.numbers}."
            )
        if not message.numbers or max(message.numbers) >= FIRST_EDGE:
            raise RefusedError("an upload that belongs to no client.")
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
