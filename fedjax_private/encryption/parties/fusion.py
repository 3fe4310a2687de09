"""Threshold decryption, server's side: adds up the holders' partial decryptions."""

import threading
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from fedjax_private.encryption.errors import RefusedError, VoidRoundError, WireError
from fedjax_private.encryption.math import plaintexts
from fedjax_private.encryption.math.packing import FloatArray, IntArray, unpack
from fedjax_private.encryption.math.rings import Residues
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.wire import (
    Kind,
    Message,
    Messages,
    read,
    write,
)
from fedjax_private.encryption.openfhe.contexts import ring_of
from fedjax_private.encryption.parties.recovery import Recovery
from fedjax_private.encryption.parties.server import AggregationServer


class Fusion:
    """One decryption by holders, at the server: partial decryptions in, the sum out.

    Formal guarantees: none beyond `AggregationServer`'s: it holds what holders sent,
    which together decrypts this one sum. It takes one part from each holder. Where some
    are missing, it asks T others to stand in, and T others again if one of those does
    not answer either: see `recovery`.

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
        self._recovery: Recovery | None = None
        self._waiting: set[int] = set()  # for these holders that stand in
        self._gone: set[int] = set()  # holders that were asked to, in vain
        self._helped = np.zeros_like(self._total)

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
        message, parts = self._read(Kind.PARTIAL, data)
        with self._adding:
            # Once others stand in, a late answer would count twice.
            if self._recovery is not None or message.sender not in self.missing:
                raise RefusedError(
                    f"an unexpected partial decryption from {message.sender}."
                )
            self._total = self._ring.add(self._total, parts)
            self._answered.append(message.sender)

    @property
    def recovered(self) -> int:
        """The number of holders that others stood in for."""
        return len(self._recovery.missing) if self._recovery else 0

    @property
    def complete(self) -> bool:
        """Whether every part has arrived, of a holder or of those that stand in."""
        return not self._waiting if self._recovery else not self.missing

    def recover(self, ask: Callable[[Messages], Iterable[bytes]]) -> None:
        """Has holders stand in for those that are missing, until a set has done so.

        Args:
            ask: sends requests to holders, and returns the answers that arrive.

        Raises:
            VoidRoundError: if fewer than T holders are left.
        """
        while not self.complete:
            for answer in ask(self.recovery_requests()):
                self.add_recovery(answer)

    def recovery_requests(self) -> Messages:
        """Returns the messages that ask T holders to stand in for the missing ones.

        Called again, it asks others in place of those that have not answered.

        Raises:
            RefusedError: if no holder is missing, or all have been stood in for.
            VoidRoundError: if fewer than T holders are left.
        """
        if self.complete:
            raise RefusedError(f"no holder is missing in round {self.round_number}.")
        missing = self._recovery.missing if self._recovery else self.missing
        self._gone |= self._waiting
        # In one order, whichever answered first.
        left = [h for h in self._holders if h in {*self._answered} - self._gone]
        if len(left) < self._quorum:
            raise VoidRoundError(
                f"round {self.round_number} is void: {len(left)} of "
                f"{len(self._holders)} holders are left to decrypt it, and "
                f"{self._quorum} are needed."
            )
        recovery = self._recovery = Recovery(missing, tuple(left[: self._quorum]))
        self._waiting = set(recovery.present)
        self._helped = np.zeros_like(self._total)
        return self._to(
            recovery.present, Kind.RECOVERY_REQUEST, recovery.payload, recovery.numbers
        )

    def add_recovery(self, data: bytes) -> None:
        """Adds the partial decryption of a holder that stands in for missing ones.

        Raises:
            WireError: if the message is no such decryption of this sum.
            RefusedError: if the sender was not asked, has answered before, or answers
                an earlier request.
        """
        message, parts = self._read(Kind.RECOVERY, data)
        sender, recovery = message.sender, self._recovery
        if recovery is None or sender not in self._waiting:
            raise RefusedError(f"{sender} was not asked to stand in.")
        if message.numbers != recovery.numbers:
            raise RefusedError(f"{sender} stands in for others, or beside others.")
        self._helped = self._ring.add(self._helped, parts)
        self._waiting.remove(sender)
        if not self._waiting:
            self._total = self._ring.add(self._total, self._helped)

    def release(self) -> FloatArray | IntArray:
        """Returns the sum (values,).

        Raises:
            RefusedError: if a partial decryption is missing.
        """
        if not self.complete:
            waiting = self._waiting or set(self.missing)
            raise RefusedError(
                f"round {self.round_number} is void: partial decryptions of holders "
                f"{sorted(waiting)} are missing."
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

    def _read(self, kind: Kind, data: bytes) -> tuple[Message, Residues]:
        message = read(
            self._party,
            data,
            kind,
            payload=len(self._total) * self._ring.polynomial_bytes,
            most_numbers=len(self._holders) if kind is Kind.RECOVERY else 0,
            key_id=self._key_id,
        )
        if message.round_number != self.round_number:
            raise WireError(
                f"a partial decryption of round {message.round_number}, not of "
                f"{self.round_number}."
            )
        return message, self._ring.unpack(message.payload)
