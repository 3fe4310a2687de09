"""Encrypted sums whose parties share one process: a session a round."""

import contextlib
import dataclasses
import functools
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.aggregation.sums import EncryptedSums, ReferenceSum
from fedjax_private.aggregation.topologies import TOPOLOGIES, Parties
from fedjax_private.aggregation.types import (
    FloatArray,
    IntArray,
    Session,
    SessionReport,
)
from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.material import Lifetime, Material
from fedjax_private.encryption.messages.vouchers import vouched
from fedjax_private.encryption.messages.wire import AUTHORITY, SERVER, Messages
from fedjax_private.encryption.parameters import SumRequest
from fedjax_private.encryption.parties.attendance import NOBODY, Attendance, DropOut
from fedjax_private.encryption.parties.authority import KeyAuthority
from fedjax_private.encryption.parties.encryptor import Encryptor
from fedjax_private.encryption.parties.fusion import Fusion
from fedjax_private.encryption.parties.holders import KeyHolder, decrypt_together
from fedjax_private.encryption.parties.joint_key import make_joint_key
from fedjax_private.encryption.parties.server import AggregationServer
from fedjax_private.encryption.parties.traffic import Traffic
from fedjax_private.encryption.workers import Workers
from fedjax_private.trust import Trust

# The most ciphertexts in memory at once, unless one upload has more.
_CIPHERTEXTS = 512


class _ByAuthority:
    """The key authority, which can decrypt alone."""

    link = "client to authority"

    def __init__(
        self,
        parties: Parties,
        request: SumRequest,
        trust: Trust,
        workers: Workers,
        verified: bool,
        lifetime: Lifetime,
    ) -> None:
        self._authority = KeyAuthority(
            parties(AUTHORITY), request, trust, workers, verified, lifetime
        )
        self.decryptors = {AUTHORITY: self._authority}
        self.material = self._authority.material

    @property
    def used_up(self) -> bool:
        return self._authority.used_up

    def decrypt(
        self,
        server: Party,
        adding: AggregationServer,
        traffic: Traffic,
        attendance: Attendance,
    ) -> tuple[npt.NDArray[Any], int | None]:
        with traffic.adding():
            message = adding.sum_message()
        traffic.sent("server to authority", message)
        answer = self._authority.decrypt(message)
        traffic.sent("authority to server", answer)
        return adding.read_release(answer), None


class _ByHolders:
    """All holders of shares of a key, who decrypt together."""

    link = "client to holder"

    def __init__(
        self,
        parties: Parties,
        request: SumRequest,
        trust: Trust,
        quorum: int,
        workers: Workers,
        verified: bool,
        lifetime: Lifetime,
    ) -> None:
        numbers = range(request.holders)
        self._quorum, self._workers = quorum, workers
        self.decryptors = {
            number: KeyHolder(
                parties(number), request, trust, numbers, quorum, verified, lifetime
            )
            for number in numbers
        }
        self.material = make_joint_key(self.decryptors)

    @property
    def used_up(self) -> bool:
        return any(holder.used_up for holder in self.decryptors.values())

    def decrypt(
        self,
        server: Party,
        adding: AggregationServer,
        traffic: Traffic,
        attendance: Attendance,
    ) -> tuple[npt.NDArray[Any], int | None]:
        """Returns the sum, and how many holders others stood in for."""
        fusion = Fusion(server, adding, tuple(self.decryptors), self._quorum)
        parts = fusion.parts
        if parts is not None:
            # What depends on no holder is computed once: see `Parts`.
            common = (lambda: parts.digests), (lambda: parts.total)
            self._workers.map(lambda index: common[index](), len(common))

        requests = []
        for number, message in fusion.headers().items():
            traffic.sent("server to holder", message, parts)
            if attendance.answers(number):
                requests.append((self.decryptors[number], message))
        rows = self.material.parameters.rows
        spans = self._workers.spans(len(requests), rows) if requests else []

        # Holders work at the same time, each with its own key and its own noise.
        def answer(index: int) -> list[bytes]:
            holders, messages = zip(*requests[spans[index]], strict=True)
            answers = decrypt_together(holders, messages, parts)
            for partial in answers:
                fusion.add(partial)
            return answers

        for partial in itertools.chain(*self._workers.map(answer, len(spans))):
            traffic.sent("holder to server", partial)

        def ask(requests: Messages) -> Iterator[bytes]:
            for number, message in requests.items():
                traffic.sent("server to holder", message)
                if attendance.answers(number):
                    # A holder that has used up its answers is asked in vain.
                    with contextlib.suppress(RefusedError):
                        answer = self.decryptors[number].stand_in(message)
                        yield traffic.sent("holder to server", answer)

        fusion.recover(ask)
        return fusion.release(), fusion.recovered


# Those who made a key, and decrypt with it, by number.
_Decryptors = Mapping[int, KeyAuthority] | Mapping[int, KeyHolder]


def _vouchers(receiver: Party, decryptors: _Decryptors) -> list[bytes]:
    number = receiver.number
    return [maker.vouch([number])[number] for maker in decryptors.values()]


def _vouched(receiver: Party, decryptors: _Decryptors) -> Material:
    return vouched(receiver, tuple(decryptors), _vouchers(receiver, decryptors))


@dataclasses.dataclass
class _Key:
    """The roles of one key; a rotation replaces them."""

    decryption: _ByAuthority | _ByHolders
    encryptor: Encryptor
    server: AggregationServer
    _facts: dict[int, Material] = dataclasses.field(default_factory=dict)

    def facts(self, relay: Party) -> Material:
        """Returns the facts about the key, from vouchers that a relay reads once."""
        if relay.number not in self._facts:
            decryptors = self.decryption.decryptors
            self._facts[relay.number] = _vouched(relay, decryptors)
        return self._facts[relay.number]

    def admit(self, clients: Iterable[Party]) -> float:
        """Has the makers of the key vouch for it to clients, once to each.

        Returns the seconds that this took: 0 if none is new.
        """
        new = [client for client in clients if not self.encryptor.admits(client)]
        if not new:
            return 0.0
        start = time.perf_counter()
        for client in new:
            vouchers = _vouchers(client, self.decryption.decryptors)
            self.encryptor.admit(client, vouchers)
        return time.perf_counter() - start


class EncryptedAggregation(EncryptedSums):
    """Encrypted aggregation for one training run.

    All parties live in this process because the run is a simulation; they still
    exchange bytes only. One session is open at a time: opening the next discards an
    unfinished one. When a key has decrypted as much as its noise protects, or has
    served `key_rounds` rounds, the next round starts with a new one, and uploads under
    the old key are refused.

    Formal guarantees: those of `KeyAuthority`, `KeyHolder` and `Encryptor`: a server
    reads no upload, only the released sums, unless it colludes with the key authority,
    with T holders, or with a client that departs from the protocol: such a client can
    learn the key of its rounds (see `AggregationServer`). If sums are verified, this
    holds for a server and for relays that depart from the protocol, too; if not, for
    those that follow it. Codecs cut off entries of uploads beyond the value bound, and
    the report counts them, which is a fact about the vectors. A client whose vector is
    not finite stops the run, which is visible to all; private clients cannot have one,
    because clipping leaves out records whose gradient is not finite.

    Args:
        request: what is to be summed.
        trust: who decrypts, and the fewest uploads that a released sum holds.
        quorum: holders that can stand in for others; unused with an authority.
        topology: one of `TOPOLOGIES`.
        fan_out: clients of one edge server, in a tree; at least 1.
        workers: threads for ciphertexts; by default one for each usable core.
        key_rounds: rounds until a new key is made; None until its budget is used up.
        verified: whether decryptors check which uploads a sum holds, so that the server
            and relays need not be believed; see `encryption.parties.declarations`.
        drop_out: draws the holders of key shares that vanish in each round.

    Raises:
        ValueError: if no parameters serve the request, or the arguments disagree.
        OpenFHEUnavailable: where OpenFHE cannot be imported.
    """

    def __init__(
        self,
        request: SumRequest,
        trust: Trust,
        *,
        quorum: int = 1,
        topology: str = "star",
        fan_out: int = 8,
        workers: Workers | None = None,
        key_rounds: int | None = None,
        verified: bool = True,
        drop_out: DropOut = NOBODY,
    ) -> None:
        super().__init__(
            request, trust, quorum, topology, key_rounds, verified, drop_out
        )
        self.fan_out = fan_out
        self._workers = workers or Workers.start()
        self._parties = Parties()
        self._key = self._make_key()

    def open(self, round_number: int) -> Session:
        """Opens the session of one round, after those of all lower numbers.

        Raises:
            RefusedError: the round has been opened before, or is before all that the
                present key serves.
        """
        self._open_once(round_number)
        if self._takes_new_key(round_number, self._key.decryption.used_up):
            self._key = self._make_key()
        self._key.server.open(round_number)
        seconds = self._taken_seconds_keys()
        return _EncryptedSession(self, self._key, self._parties, round_number, seconds)

    def _make_key(self) -> _Key:
        start = time.perf_counter()
        parties, request, trust = self._parties, self.request, self.trust
        decryption: _ByAuthority | _ByHolders
        if request.scheme.threshold:
            decryption = _ByHolders(
                parties,
                request,
                trust,
                self.quorum,
                self._workers,
                self.verified,
                self._lifetime,
            )
        else:
            decryption = _ByAuthority(
                parties, request, trust, self._workers, self.verified, self._lifetime
            )
        material = Material.from_bytes(decryption.material.to_bytes())
        decryptors, server = decryption.decryptors, parties(SERVER)
        facts = _vouched(server, decryptors)
        relays = TOPOLOGIES[self.topology].relays
        key = _Key(
            decryption,
            Encryptor(material, tuple(decryptors), self._workers),
            AggregationServer(server, facts, relays, self.verified),
        )
        self._seconds_keys += time.perf_counter() - start
        return key


class _EncryptedSession:
    def __init__(
        self,
        aggregation: EncryptedAggregation,
        key: _Key,
        parties: Parties,
        round_number: int,
        seconds_keys: float,
    ) -> None:
        self._key, self._parties, self._round = key, parties, round_number
        # A few uploads at a time: one is up to eight times its vector, and a chunk of
        # them may not fit into memory.
        self._block = max(1, _CIPHERTEXTS // aggregation.parameters.rows)
        self._traffic = Traffic()
        self._route = TOPOLOGIES[aggregation.topology](
            key.server,
            parties,
            self._traffic,
            aggregation.fan_out,
            aggregation.verified,
            key.facts,
        )
        self._verified = aggregation.verified
        answers = aggregation.drop_out.answers(
            round_number, range(aggregation.request.holders)
        )
        self._attendance = Attendance(answers)
        self._reference = ReferenceSum(aggregation.request, round_number)
        self._seconds_encrypt, self._seconds_keys = 0.0, seconds_keys
        self._upload_bytes = 0

    def add(self, clients: IntArray, slots: npt.NDArray[np.generic]) -> None:
        slots = np.asarray(slots)
        self._reference.check(clients, slots)
        for first in range(0, len(slots), self._block):
            block = slice(first, first + self._block)
            ids = [int(client) for client in clients[block]]
            self._seconds_keys += self._key.admit(map(self._parties, ids))
            start = time.perf_counter()
            encrypted = self._key.encryptor.ciphertexts(ids, slots[block])
            self._seconds_encrypt += time.perf_counter() - start
            taken = first
            try:
                for client, ciphertexts in zip(ids, encrypted, strict=True):
                    if self._verified:
                        self._declare(self._parties(client), ciphertexts)
                    upload = functools.partial(self._upload, ciphertexts)
                    self._route.send(self._parties(client), upload)
                    taken += 1
            finally:
                self._reference.add(clients[first:taken], slots[first:taken])

    def _upload(self, ciphertexts: memoryview, client: Party, receiver: int) -> bytes:
        start = time.perf_counter()
        data = self._key.encryptor.upload(client, receiver, self._round, ciphertexts)
        self._seconds_encrypt += time.perf_counter() - start
        self._upload_bytes += len(data)
        return data

    def _declare(self, client: Party, ciphertexts: memoryview) -> None:
        start, decryption = time.perf_counter(), self._key.decryption
        decryptors = decryption.decryptors
        messages = self._key.encryptor.declare(client, self._round, ciphertexts)
        for number, message in messages.items():
            decryptors[number].declare(self._traffic.sent(decryption.link, message))
            self._upload_bytes += len(message)
        self._seconds_encrypt += time.perf_counter() - start

    def release(self) -> tuple[FloatArray, SessionReport]:
        self._reference.close()
        if self._key.server.round_number != self._round:
            raise RuntimeError(f"round {self._round} was discarded by a later one.")
        self._route.arrive()
        added, start = self._traffic.seconds_add, time.perf_counter()
        total, recovered = self._key.decryption.decrypt(
            self._parties(SERVER), self._key.server, self._traffic, self._attendance
        )
        seconds = time.perf_counter() - start - (self._traffic.seconds_add - added)
        report = self._reference.report(
            total,
            upload_bytes_per_client=round(
                self._upload_bytes / len(self._reference.clients)
            ),
            seconds_encrypt=self._seconds_encrypt,
            seconds_add=self._traffic.seconds_add,
            seconds_decrypt=seconds,
            seconds_keys=self._seconds_keys,
            link_bytes=self._traffic.per_message(),
            recovered_holders=recovered,
        )
        return total.astype(np.float64), report
