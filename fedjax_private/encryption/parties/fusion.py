"""Threshold decryption, server's side: adds up the holders' partial decryptions."""

import threading
from collections.abc import Sequence

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.math import plaintexts
from fedjax_private.encryption.math.packing import FloatArray, IntArray, unpack
from fedjax_private.encryption.math.rings import Residues
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.wire import (
    MISSING_COUNT,
    Kind,
    Messages,
    read,
    write,
)
from fedjax_private.encryption.openfhe.contexts import ring_of
from fedjax_private.encryption.parties.server import AggregationServer


class Fusion:
    """One decryption by holders, at the server: partial decryptions in, the sum out.

    Formal guarantees: none beyond `AggregationServer`'s: it holds what holders sent,
    which together decrypts this one sum. It takes one part from each holder.

    Args:
        party: the server.
        server: holds the open round, which ends here.
        holders: the numbers of all holders, in the order that all agree on.
        quorum: T, the number of holders that can stand in for missing ones.

    Attributes:
        parts: the second polynomials of every upload, which go to every holder with its
            request, if sums are verified; else None.

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
        self._parameters = server.material.parameters
        self._key_id = server.material.key_id
        self._ring = ring_of(self._parameters)
        total = server.take_total()
        self.round_number, self.clients = total.round_number, total.clients
        self._total, self._seconds, self.parts = (
            total.firsts,
            total.seconds,
            total.parts,
        )
        self._answered: list[int] = []
        self._adding = threading.Lock()
        self._standing_in: set[int] = set()

    @property
    def missing(self) -> tuple[int, ...]:
        """The holders whose partial decryption has not arrived."""
        return tuple(h for h in self._holders if h not in self._answered)

    def requests(self) -> Messages:
        """Returns the messages that ask every holder to decrypt the sum."""
        if self.parts is None:
            return self.headers()
        parts = self.parts.to_bytes()
        return {holder: data + parts for holder, data in self.headers().items()}

    def headers(self) -> Messages:
        """Returns those messages without the parts, where a simulation sends them."""
        payload = b"" if self._seconds is None else self._ring.pack(self._seconds)
        return self._to(self._holders, Kind.SUM, payload, self.clients)

    def add(self, data: bytes) -> None:
        """Adds the partial decryption of a holder. Safe to call from several threads.

        Raises:
            WireError: if the message is no partial decryption of this sum.
            RefusedError: if it is not from a holder, or a second one.
        """
        sender, parts = self._read(Kind.PARTIAL, data)
        with self._adding:
            if sender not in self.missing:
                raise RefusedError(f"an unexpected partial decryption from {sender}.")
            self._total = self._ring.add(self._total, parts)
            self._answered.append(sender)

    def recovery_requests(self) -> Messages:
        """Returns the messages that ask T holders to stand in for the missing ones.

        Raises:
            RefusedError: if no holder is missing, or if fewer than T holders are left,
                so that the round is void.
        """
        if not self.missing:
            raise RefusedError(f"no holder is missing in round {self.round_number}.")
        present = self._answered[: self._quorum]
        if len(present) < self._quorum:
            raise RefusedError(
                f"round {self.round_number} is void: {len(self._answered)} of "
                f"{len(self._holders)} holders are left to decrypt it, and "
                f"{self._quorum} are needed."
            )
        missing, self._standing_in = self.missing, set(present)
        self._answered.extend(missing)  # a late answer would now count twice
        count = MISSING_COUNT.pack(len(missing))
        return self._to(present, Kind.RECOVERY_REQUEST, count, (*missing, *present))

    def add_recovery(self, data: bytes) -> None:
        """Adds the partial decryption of a holder that stands in for missing ones.

        Raises:
            WireError: if the message is no such decryption of this sum.
            RefusedError: if the sender was not asked, or has answered before.
        """
        sender, parts = self._read(Kind.RECOVERY, data)
        if sender not in self._standing_in:
            raise RefusedError(f"{sender} was not asked to stand in.")
        self._total = self._ring.add(self._total, parts)
        self._standing_in.remove(sender)

    def release(self) -> FloatArray | IntArray:
        """Returns the sum (values,).

        Raises:
            RefusedError: if a partial decryption is missing.
        """
        if self.missing or self._standing_in:
            raise RefusedError(
                f"round {self.round_number} is void: partial decryptions of holders "
                f"{sorted({*self.missing, *self._standing_in})} are missing."
            )
        rows = plaintexts.decode_values(self._total, self._parameters, self._ring)
        return unpack(rows, self._parameters)

    def _to(
        self,
        receivers: Sequence[int],
        kind: Kind,
        payload: bytes,
        numbers: tuple[int, ...],
    ) -> Messages:
        return {
            receiver: write(
                self._party,
                receiver,
                kind,
                self.round_number,
                payload,
                key_id=self._key_id,
                numbers=numbers,
            )
            for receiver in receivers
        }

    def _read(self, kind: Kind, data: bytes) -> tuple[int, Residues]:
        size, key_id = len(self._total) * self._ring.polynomial_bytes, self._key_id
        message = read(self._party, data, kind, payload=size, key_id=key_id)
        if message.round_number != self.round_number:
            raise WireError(
                f"a partial decryption of round {message.round_number}, not of "
                f"{self.round_number}."
            )
        return message.sender, self._ring.unpack(message.payload)
