"""The server of masked sums: it passes messages on, adds, and removes opened masks."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedjax_private.encryption.errors import RefusedError, VoidRoundError
from fedjax_private.encryption.masking import seeds
from fedjax_private.encryption.masking.client import NONCE
from fedjax_private.encryption.masking.packing import unpack, word
from fedjax_private.encryption.masking.rosters import (
    BOX_BYTES,
    CHECK_BYTES,
    MaskedSum,
    Roster,
)
from fedjax_private.encryption.masking.seeds import PRIME, SEED_BYTES, Expander
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.wire import Kind, Messages, read, write


class MaskingServer:
    """Adds masked vectors that it cannot read, and opens the masks of their sum.

    Formal guarantees: see `MaskingClient`; this class holds only what clients sent. It
    takes one message of each kind from each client of the round, in the order of the
    protocol; every other message is refused and changes nothing. A sum is released if
    the shares fit the check values and deposits that their clients sent before.

    Args:
        party: the server, and the parties that it knows.
        facts: about the sum.
    """

    def __init__(self, party: Party, facts: MaskedSum) -> None:
        self.facts, self._party = facts, party
        self._roster: Roster | None = None
        self._expected: Kind | None = None
        self._answered: set[int] = set()

    @property
    def round_number(self) -> int | None:
        """The open round, or None."""
        return self._roster.round_number if self._roster else None

    @property
    def roster(self) -> Roster:
        """The clients of the open round. Raises RefusedError if none is open."""
        if self._roster is None:
            raise RefusedError("no round of masked sums is open.")
        return self._roster

    def invite(self, round_number: int, clients: Sequence[int]) -> Messages:
        """Starts a round; returns the messages that invite its clients.

        An unfinished round is discarded.

        Raises:
            RefusedError: if the clients are too few or too many.
        """
        roster = Roster.of(self.facts, round_number, tuple(sorted(clients)))
        self._roster = roster
        self._total: npt.NDArray[Any] | None = None
        self._sharing: set[int] = set()
        self._uploaded: set[int] = set()
        self._sent: dict[int, memoryview] = {}  # with shares, by place
        self._consents: dict[int, memoryview] = {}
        # The shares that each place gives, and which of them it has.
        self._openings: dict[int, tuple[seeds.Limbs, npt.NDArray[np.bool_]]] = {}
        self._expect(Kind.SHARES)
        return {
            client: self._write(client, Kind.INVITATION, b"", roster.clients)
            for client in roster.clients
        }

    def add_shares(self, data: bytes) -> None:
        """Takes a client's sealed shares. Raises as `_read` does."""
        place, payload = self._read(Kind.SHARES, data, self.roster.shares_bytes)
        self._sent[place] = payload

    def boxes(self) -> Messages:
        """Ends the sharing; returns to each client that shared the shares for it.

        Raises:
            VoidRoundError: if too few have shared.
        """
        roster = self.roster
        self._sharing = self._end(Kind.SHARES, Kind.MASKED, "shared seeds")
        marks = roster.marks(self._sharing)
        first, empty = CHECK_BYTES + roster.deposit_bytes, bytes(BOX_BYTES)

        def payload(place: int) -> bytes:
            boxes = [
                _part(self._sent[other], roster.index(other, place), BOX_BYTES, first)
                if other in self._sharing
                else empty
                for other in roster.neighbours[place]
            ]
            return b"".join((marks, *boxes))

        return self._to(self._sharing, Kind.BOXES, payload)

    def add_masked(self, data: bytes) -> None:
        """Adds a masked vector. Raises as `_read` does; a refused one changes nothing.

        Raises:
            WireError: also if the padding of the vector is not zero.
        """
        roster, facts = self.roster, self.facts
        vector = functools.partial(unpack, values=facts.values, bits=facts.bits)
        place, payload = self._read(Kind.MASKED, data, roster.masked_bytes, vector)
        if self._total is None:
            self._total = np.zeros(facts.values, word(facts.bits))
        self._total += payload
        self._uploaded.add(place)

    def survivors(self) -> Messages:
        """Ends the uploads; returns to each uploader the list of all.

        Raises:
            VoidRoundError: if too few have uploaded.
        """
        kind = Kind.CONSENT if self.facts.malicious else Kind.UNMASKING
        marks = self.roster.marks(self._end(Kind.MASKED, kind, "uploaded"))
        return self._to(self._uploaded, Kind.SURVIVORS, lambda place: marks)

    def add_consent(self, data: bytes) -> None:
        """Takes a client's consents for its neighbours. Raises as `_read` does."""
        place, payload = self._read(Kind.CONSENT, data, self.roster.consent_bytes)
        self._consents[place] = payload

    def consents(self) -> Messages:
        """Ends the consents; returns to each client those of its neighbours.

        Raises:
            VoidRoundError: if too few have consented.
        """
        roster = self.roster
        consenting = self._end(Kind.CONSENT, Kind.UNMASKING, "consented")

        empty = bytes(CHECK_BYTES)

        def payload(place: int) -> bytes:
            return b"".join(
                _part(self._consents[other], roster.index(other, place), CHECK_BYTES)
                if other in consenting
                else empty
                for other in roster.neighbours[place]
            )

        return self._to(consenting, Kind.CONSENTS, payload)

    def add_opening(self, data: bytes) -> None:
        """Takes a client's shares of the seeds that open the sum; see `_read`."""
        place, payload = self._read(Kind.UNMASKING, data, self.roster.opening_bytes)
        shares = seeds.from_bytes(payload)
        self._openings[place] = shares, np.all(shares < PRIME, axis=1)

    def release(self) -> tuple[tuple[int, ...], npt.NDArray[np.int64]]:
        """Ends the round; returns its clients and their sum (values,).

        The sum is the number that is congruent to it mod 2^M in -2^(M-1)...2^(M-1) - 1.

        Raises:
            VoidRoundError: if masks cannot be opened.
        """
        roster, total, bits = self.roster, self._total, self.facts.bits
        if self._expected is not Kind.UNMASKING or total is None:
            raise RefusedError(f"round {roster.round_number} is not to be opened yet.")
        self._roster = self._expected = None
        masks = Expander(total)
        gone = self._sharing - self._uploaded
        needed = {
            place
            for place in gone
            if not self._uploaded.isdisjoint(roster.neighbours[place])
        }
        opened = self._opened(roster, self._uploaded | needed)
        for place in sorted(self._uploaded):
            seed = opened[place]
            if seeds.check_value(seed) != self._sent[place][:CHECK_BYTES]:
                client = roster.clients[place]
                raise self._void(roster, f"shares of client {client}'s seed do not fit")
            masks.subtract(seed)
        for place in sorted(needed):
            for other, seed in self._deposit(roster, place, opened[place]):
                if other not in self._uploaded:
                    continue
                if place > other:
                    masks.subtract(seed)
                else:
                    masks.add(seed)
        # The highest bit of M becomes the sign.
        unused = 64 - bits
        signed = (total.astype(np.uint64) << np.uint64(unused)).view(np.int64) >> unused
        return tuple(roster.clients[p] for p in sorted(self._uploaded)), signed

    def _opened(self, roster: Roster, places: set[int]) -> dict[int, bytes]:
        """Returns the seed of each place, from T shares; grouped by their holders."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for place in sorted(places):
            present = [
                holder
                for holder in roster.holders(place)
                if holder in self._openings
                and self._openings[holder][1][_share_index(roster, holder, place)]
            ]
            if len(present) < roster.threshold:
                raise self._void(
                    roster,
                    f"{len(present)} clients open the mask of client "
                    f"{roster.clients[place]}, and {roster.threshold} are needed",
                )
            groups.setdefault(tuple(present[: roster.threshold]), []).append(place)
        opened = {}
        for holders, members in groups.items():
            shares = np.stack(
                [
                    self._openings[holder][0][
                        [_share_index(roster, holder, place) for place in members]
                    ]
                    for holder in holders
                ]
            )
            found = seeds.combine([holder + 1 for holder in holders], shares)
            for place, limbs in zip(members, found, strict=True):
                opened[place] = seeds.to_bytes(limbs)
        return opened

    def _deposit(
        self, roster: Roster, place: int, key: bytes
    ) -> list[tuple[int, bytes]]:
        """Returns the seeds that a client that vanished has in common with others."""
        end = CHECK_BYTES + roster.deposit_bytes
        try:
            pairs = AESGCM(key).decrypt(NONCE, self._sent[place][CHECK_BYTES:end], None)
        except InvalidTag:
            client = roster.clients[place]
            raise self._void(
                roster, f"shares of client {client} do not open its deposit"
            ) from None
        return [
            (other, pairs[SEED_BYTES * i : SEED_BYTES * (i + 1)])
            for i, other in enumerate(roster.neighbours[place])
        ]

    def _void(self, roster: Roster, why: str) -> VoidRoundError:
        return VoidRoundError(f"round {roster.round_number} is void: {why}.")

    def _expect(self, kind: Kind) -> None:
        self._expected, self._answered = kind, set()

    def _end(self, kind: Kind, following: Kind, done: str) -> set[int]:
        """Ends a stage; returns who answered in it."""
        roster, answered = self.roster, self._answered
        if self._expected is not kind:
            raise RefusedError(
                f"round {roster.round_number} does not expect {kind.name.lower()} now."
            )
        needed = roster.threshold
        if kind is not Kind.CONSENT:
            needed = max(needed, self.facts.uploads)
        if len(answered) < needed:
            self._roster = self._expected = None
            raise self._void(
                roster, f"{len(answered)} clients have {done}, and {needed} must"
            )
        self._expect(following)
        return answered

    def _read(
        self,
        kind: Kind,
        data: bytes,
        size: int,
        parse: Callable[[memoryview], Any] = lambda payload: payload,
    ) -> tuple[int, Any]:
        """Returns the place of a message's sender, and its payload, verified.

        Raises:
            WireError: if it is not a message of that kind under these facts from a
                client of the round.
            RefusedError: if another stage is open, or if the client has sent one
                before, or not the one before it.
        """
        roster = self.roster
        if self._expected is not kind:
            raise RefusedError(
                f"round {roster.round_number} does not expect {kind.name.lower()} now."
            )
        message = read(self._party, data, kind, payload=size, key_id=self.facts.key_id)
        place = roster.place(message.sender)
        if message.round_number != roster.round_number:
            raise RefusedError(
                f"a message of round {message.round_number}, but "
                f"{roster.round_number} is open."
            )
        before = {
            Kind.MASKED: self._sharing,
            Kind.CONSENT: self._uploaded,
            Kind.UNMASKING: set(self._consents)
            if self.facts.malicious
            else self._uploaded,
        }
        if place in self._answered or place not in before.get(kind, {place}):
            raise RefusedError(
                f"client {message.sender} has sent {kind.name.lower()} in round "
                f"{roster.round_number} already, or has left it before."
            )
        parsed = parse(message.payload)
        self._answered.add(place)
        return place, parsed

    def _to(
        self, places: set[int], kind: Kind, payload: Callable[[int], bytes]
    ) -> Messages:
        clients = self.roster.clients
        return {
            clients[place]: self._write(clients[place], kind, payload(place))
            for place in sorted(places)
        }

    def _write(
        self,
        receiver: int,
        kind: Kind,
        payload: bytes,
        numbers: tuple[int, ...] = (),
    ) -> bytes:
        return write(
            self._party,
            receiver,
            kind,
            self.roster.round_number,
            payload,
            key_id=self.facts.key_id,
            numbers=numbers,
        )


def _part(data: memoryview, index: int, size: int, first: int = 0) -> memoryview:
    """Returns the part of that index among parts of one size."""
    start = first + size * index
    return data[start : start + size]


def _share_index(roster: Roster, holder: int, place: int) -> int:
    """Returns which of the shares that a holder gives is of a place's seed."""
    return 0 if holder == place else 1 + roster.index(holder, place)
