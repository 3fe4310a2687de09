"""Sums under pairwise masks whose parties share one process: a session a round."""

import os
import time
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.aggregation.inputs import check_clients, check_round
from fedjax_private.aggregation.sums import ReferenceSum, grid_of, integer_codec
from fedjax_private.aggregation.topologies import Parties
from fedjax_private.aggregation.types import (
    Codec,
    FloatArray,
    IntArray,
    Session,
    SessionReport,
)
from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.masking.client import MaskingClient
from fedjax_private.encryption.masking.packing import word
from fedjax_private.encryption.masking.rosters import MaskedSum, Roster
from fedjax_private.encryption.masking.server import MaskingServer
from fedjax_private.encryption.messages.wire import SERVER
from fedjax_private.encryption.parameters import SumRequest
from fedjax_private.encryption.parties.attendance import NOBODY, Attendance, DropOut
from fedjax_private.encryption.parties.traffic import Traffic
from fedjax_private.trust import Trust


class MaskedAggregation:
    """Aggregation under pairwise masks for one training run.

    All parties live in this process because the run is a simulation; they still
    exchange bytes only. A client can mask its vector only when it knows who else takes
    part, so a session keeps the vectors of its round, in the bytes of whole numbers,
    until it is released. One session is open at a time: opening the next discards an
    unfinished one.

    Formal guarantees: those of `MaskingClient`: a server, malicious or not as chosen,
    and fewer than `facts.quorum` colluding clients learn sums of at least
    `trust.uploads` uploads, one a round in which a client's vector is.

    Args:
        request: what is to be summed, under an exact scheme.
        trust: the fewest uploads that a released sum holds.
        recovery_threshold: T, how many clients open a sum; see `MaskedSum`.
        malicious: whether the server may depart from the protocol.
        drop_out: draws the clients that vanish after they have uploaded: before they
            consent, and again before they open masks.

    Raises:
        ValueError: if the arguments disagree.
    """

    def __init__(
        self,
        request: SumRequest,
        trust: Trust,
        *,
        recovery_threshold: int | None = None,
        malicious: bool = True,
        drop_out: DropOut = NOBODY,
    ) -> None:
        self.request, self.trust, self.drop_out = request, trust, drop_out
        self.facts = masked_sum(request, trust, recovery_threshold, malicious)
        self._parties, self._clients = Parties(), dict[int, MaskingClient]()
        self.server = MaskingServer(self._parties(SERVER), self.facts)
        self._opened: list[int] = []

    @property
    def codec(self) -> Codec:
        """Randomised rounding to signed integers, as exact schemes."""
        return integer_codec(grid_of(self.request))

    @property
    def description(self) -> str:
        """Sentences for reports: parameters, what is released, who opens sums."""
        return description(self.request, self.facts, self.drop_out)

    def open(self, round_number: int) -> Session:
        """Opens the session of one round.

        Raises:
            RefusedError: the round has been opened before.
            ValueError: it has no number.
        """
        round_number = check_round(round_number)
        if round_number in self._opened:
            raise RefusedError(
                f"round {round_number} has been opened before: an aggregation serves "
                "one run, so make another for the next."
            )
        self._opened.append(round_number)
        return _MaskedSession(self, round_number)

    @property
    def latest_round(self) -> int:
        """The round opened last."""
        return self._opened[-1]

    def meet(self, numbers: Collection[int]) -> dict[int, MaskingClient]:
        """Returns clients by number; those that are new meet all the others.

        Keys of pairs of clients are made when they first meet in a round.
        """
        for number in numbers:
            if number not in self._clients:
                party = self._parties(number)
                self._clients[number] = MaskingClient(party, self.facts)
                party.channel_to(SERVER), party.channel_from(SERVER)
                server = self._parties(SERVER)
                server.channel_to(number), server.channel_from(number)
        if len(numbers) >= self.facts.uploads:
            roster = Roster.of(self.facts, self.latest_round, tuple(sorted(numbers)))
            for place, number in enumerate(roster.clients):
                for other in roster.neighbours[place]:
                    self._parties(number).pair_channel(roster.clients[other])
        return {number: self._clients[number] for number in sorted(numbers)}


def masked_sum(
    request: SumRequest,
    trust: Trust,
    recovery_threshold: int | None,
    malicious: bool,
    session: bytes | None = None,
) -> MaskedSum:
    """Returns the public facts of masked sums; of a new session unless it is given.

    The modulus 2^M holds sums of the most uploads, or within the sum bound if that is
    less. Only with residues, where uploads carry noise, are sums taken mod 2^b.

    Raises:
        ValueError: as `MaskedSum` does.
    """
    return MaskedSum(
        request.values,
        request.bits if request.residues else request.lane_bits,
        trust.uploads,
        request.uploads,
        recovery_threshold,
        malicious,
        session or os.urandom(16),
    )


def description(request: SumRequest, facts: MaskedSum, drop_out: DropOut) -> str:
    """Sentences for reports: parameters, what is released, who opens sums."""
    kind, spanned = f"within {request.sum_bound:g}", "uploads"
    if request.residues:
        kind, spanned = f"mod 2^{facts.bits}", "sums"
    if facts.sparse:
        who = "each client masks with some others only, in a random graph"
    else:
        who = f"{facts.threshold} of {facts.uploads} clients open the masks of a sum"
    server = (
        "A server that departs from the protocol"
        if facts.malicious
        else "A server that follows the protocol"
    )
    vanishing = ""
    if drop_out.probability:
        vanishing = (
            " In this simulation a client vanishes after its upload with probability "
            f"{drop_out.probability:g}."
        )
    return (
        f"Pairwise masks (Bonawitz et al.): sums of whole numbers {kind}, of up to "
        f"{request.uploads} uploads, on a grid of {request.bits} bits that spans "
        f"{spanned} within {request.grid_bound:g}, {facts.bits / 8:.2f} bytes a value "
        f"and keys; {who}. {server} and fewer than {facts.quorum} colluding clients "
        f"learn sums of at least {facts.uploads} uploads, and a client's upload is in "
        f"one of them.{vanishing}"
    )


class _MaskedSession:
    def __init__(self, aggregation: MaskedAggregation, round_number: int) -> None:
        self._aggregation, self._round = aggregation, round_number
        self._reference = ReferenceSum(aggregation.request, round_number)
        self._vectors: dict[int, npt.NDArray[Any]] = {}
        self._lost: set[int] = set()
        self._traffic = Traffic()
        self._sent = 0  # bytes of the clients that upload

    def add(self, clients: IntArray, slots: npt.NDArray[np.generic]) -> None:
        slots = np.asarray(slots)
        self._reference.check(clients, slots)
        self._reference.add(clients, slots)
        kept = slots.astype(word(self._aggregation.facts.bits))
        for client, vector in zip(clients, kept, strict=True):
            self._vectors[int(client)] = vector

    def lose(self, clients: IntArray) -> None:
        """Notes clients that share seeds, and vanish before they upload."""
        self._lost.update(check_clients(clients))

    def release(self) -> tuple[FloatArray, SessionReport]:
        self._reference.close()
        if self._aggregation.latest_round != self._round:
            raise RuntimeError(f"round {self._round} was discarded by a later one.")
        start = time.perf_counter()
        everyone = self._aggregation.meet({*self._vectors, *self._lost})
        clients = {n: each for n, each in everyone.items() if n in self._vectors}
        keys = time.perf_counter() - start
        added, encrypted = self._traffic.seconds_add, 0.0
        server, sent = self._aggregation.server, self._received
        messages = server.invite(self._round, tuple(everyone))
        start = time.perf_counter()
        for number, client in everyone.items():
            message = client.shares(messages[number])
            link = "client to server: shares"
            send = sent if number in clients else self._traffic.sent
            with self._traffic.adding():
                server.add_shares(send(link, message))
        with self._traffic.adding():
            messages = server.boxes()
        for number, client in clients.items():
            vector = self._vectors.pop(number)
            box = self._traffic.sent("server to client: shares", messages[number])
            message = client.masked(box, vector)
            with self._traffic.adding():
                server.add_masked(sent("client to server: vector", message))
        encrypted = time.perf_counter() - start - (self._traffic.seconds_add - added)
        start = time.perf_counter()
        drawn = self._aggregation.drop_out.answers(self._round, clients)
        attendance, messages = Attendance(drawn), server.survivors()
        if self._aggregation.facts.malicious:
            for number, message in messages.items():
                if attendance.answers(number):
                    answer = clients[number].consent(message)
                    server.add_consent(sent("client to server: consents", answer))
            messages = server.consents()
        for number, message in messages.items():
            if attendance.answers(number):
                answer = clients[number].open_masks(message)
                server.add_opening(sent("client to server: opening", answer))
        _, total = server.release()
        report = self._reference.report(
            total,
            upload_bytes_per_client=round(self._sent / len(clients)),
            seconds_encrypt=encrypted,
            seconds_add=self._traffic.seconds_add,
            seconds_decrypt=time.perf_counter() - start,
            seconds_keys=keys,
            link_bytes=self._traffic.per_message(),
        )
        return total.astype(np.float64), report

    def _received(self, link: str, message: bytes) -> bytes:
        self._sent += len(message)
        return self._traffic.sent(link, message)
