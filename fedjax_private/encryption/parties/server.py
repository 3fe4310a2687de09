"""The aggregation server, which adds uploads that it cannot read."""

import dataclasses
from collections.abc import Container

import numpy as np

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.math.packing import FloatArray, IntArray
from fedjax_private.encryption.math.rings import Residues, Ring, RunningSum
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
from fedjax_private.encryption.parties.declarations import Parts


@dataclasses.dataclass(frozen=True)
class Total:
    """The encrypted sum of a round, as a server has it.

    Attributes:
        round_number: the round.
        clients: whose uploads it holds.
        firsts: (R, L, N), the sum of the first polynomials of the ciphertexts.
        seconds: (R, L, N), the sum of the second polynomials; None if sums are
            verified.
        parts: if they are, the second polynomials of every upload.
    """

    round_number: int
    clients: tuple[int, ...]
    firsts: Residues
    seconds: Residues | None
    parts: Parts | None

    def packed_seconds(self, ring: Ring) -> bytes:
        """Returns the second polynomials that decryptors get, packed."""
        if self.parts is not None:
            return self.parts.to_bytes()
        assert self.seconds is not None
        return ring.pack(self.seconds)


class AggregationServer:
    """Adds uploads without being able to read them. Held by the server and by edges.

    Holds the key's name and ciphertexts, no secret key, not even the public one.

    Formal guarantees: a server learns who uploaded, when and how many values, and the
    sums that are released to it, nothing else, under the assumptions and with the
    exceptions named at `KeyAuthority` and `KeyHolder`. If sums are verified, this holds
    even if the server or a relay departs from the protocol; if not, they must follow
    it. It takes uploads from those they name only, one a client and round, under the
    current key, of the right length, with coefficients below the modulus; every other
    message is refused and changes nothing, and no byte of any reaches OpenFHE.

    Not guaranteed: uploads are not proven to be well-formed. A client that departs from
    the protocol can spoil the sum, with a vector beyond the declared range or with
    random coefficients. It can also learn the secret key, a joint key too: with the
    upload (0, K) the released sum contains K s, from which everybody who sees that sum
    reads s if K is large. Whoever knows s and holds ciphertexts decrypts them: the
    server and that client together read every upload under that key, those of earlier
    rounds included. An eavesdropper who recorded uploads is as good as the server. A
    check of the range does not exclude this, because a K that fits the range suffices.
    `SumSettings.key_rounds` bounds the number of rounds under one key, and clients hold
    a server that departs from the protocol to it: see `Encryptor`.

    Args:
        party: the server, and the parties that it knows.
        material: of the current key; the public key is not kept.
        relays: the parties that may send sums of several clients. If sums are not
            verified, they are believed about which clients these are. If they are, a
            sum that lacks a client that it names stays masked, and is garbage.
        verified: whether decryptors check which uploads a sum holds; see
            `declarations`. Then the second polynomials of all uploads are kept until
            the round ends, and none is added up here.
    """

    def __init__(
        self,
        party: Party,
        material: Material,
        relays: Container[int] = EDGE_SERVERS,
        verified: bool = True,
    ) -> None:
        self.material = material.without_key()
        self._party, self._relays, self._verified = party, relays, verified
        self._ring = ring_of(material.parameters)
        self._part_bytes = material.parameters.rows * self._ring.polynomial_bytes
        self._round: int | None = None
        # The clients of the sum, with their second polynomials if sums are verified.
        self._clients: dict[int, bytes] = {}
        self._total = RunningSum(self._ring)
        self._asked: tuple[int, tuple[int, ...]] | None = None

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
        self._round, self._clients = round_number, {}
        self._total = RunningSum(self._ring)

    def add(self, data: bytes) -> None:
        """Adds one upload, or a relay's sum of several. A refused one changes nothing.

        Raises:
            WireError: if the message is not an upload under this key, from its sender.
            RefusedError: if the upload's round is not open, if a client has been added
                before, if a client names others, or if the sum is full.
        """
        size, verified = self._part_bytes, self._verified
        message = read(
            self._party,
            data,
            Kind.UPLOAD,
            payload=size if verified else 2 * size,
            each=size if verified else 0,
            most_numbers=self.material.parameters.request.uploads,
            key_id=self.material.key_id,
        )
        self._check(message)
        # Under a verified sum, decryptors would refuse a malformed part as a whole.
        polynomials = self._ring.unpack(message.payload)
        parts = [b""] * len(message.numbers)
        if verified:
            rest = message.payload[size:]
            parts = [bytes(rest[i : i + size]) for i in range(0, len(rest), size)]
            polynomials = polynomials[: self.material.parameters.rows]
        self._total.add(polynomials)
        self._clients.update(zip(message.numbers, parts, strict=True))

    def sum_message(self) -> bytes:
        """Ends the round as `take_total` does; returns its sum for the authority."""
        total = self.take_total()
        self._asked = total.round_number, total.clients
        return self._write(AUTHORITY, Kind.SUM, total)

    def forward(self, receiver: int) -> bytes:
        """Ends the round as `take_total` does; returns its sum for the next relay."""
        return self._write(receiver, Kind.UPLOAD, self.take_total())

    def take_total(self) -> Total:
        """Ends the round and returns its sum.

        Raises:
            RefusedError: if no round is open or nothing has been added.
        """
        if self._round is None or not self._clients:
            raise RefusedError(
                "there is no sum: no round is open, or it has no upload."
            )
        total, rows = self._total.total, self.material.parameters.rows
        verified = self._verified
        result = Total(
            self._round,
            self.clients,
            total[:rows],
            None if verified else total[rows:],
            Parts(tuple(self._clients.values()), self._ring) if verified else None,
        )
        self._round, self._clients = None, {}
        return result

    def read_release(self, data: bytes) -> FloatArray | IntArray:
        """Returns the sum (values,) that the authority released.

        Raises:
            WireError: if the message is not a release from the authority, or not of the
                sum that it was asked for last, or holds an entry that no sum has.
            RefusedError: if it was asked for none, or has released it.
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
        if self._asked is None:
            raise RefusedError("a release that was not asked for.")
        if (message.round_number, message.numbers) != self._asked:
            raise WireError(
                f"a sum of round {message.round_number} and clients "
                f"{list(message.numbers)}, but that of round {self._asked[0]} and "
                f"{list(self._asked[1])} was asked for."
            )
        self._asked = None  # one answer to one question
        released = np.frombuffer(message.payload, request.released)
        if not request.scheme.exact:
            if not np.isfinite(released).all():
                raise WireError("a released sum has an entry that is not finite.")
            return released.astype(np.float64)
        half = 1 << (request.bits if request.residues else request.lane_bits) - 1
        if released.min() < -half or released.max() >= half:
            raise WireError(f"a released sum has an entry beyond +-{half}.")
        return released.astype(np.int64)

    def _write(self, receiver: int, kind: Kind, total: Total) -> bytes:
        return write(
            self._party,
            receiver,
            kind,
            total.round_number,
            self._ring.pack(total.firsts) + total.packed_seconds(self._ring),
            key_id=self.material.key_id,
            numbers=total.clients,
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
