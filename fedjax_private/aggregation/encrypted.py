"""Encrypted sums: clients encrypt, a server adds, an authority or holders decrypt."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fedjax_private.aggregation.codecs import codec_of, grid_of
from fedjax_private.aggregation.plain import BYTES_PER_VALUE
from fedjax_private.aggregation.reference import PlainTwin
from fedjax_private.aggregation.topologies import (
    TOPOLOGIES,
    Network,
    Parties,
    Traffic,
    server_for,
)
from fedjax_private.aggregation.types import (
    Codec,
    FloatArray,
    IntArray,
    Session,
    SessionReport,
)
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.messages.wire import AUTHORITY, SERVER
from fedjax_private.encryption.parameters import Parameters, SumRequest, derive
from fedjax_private.encryption.parties.roles import Encryptor, KeyAuthority
from fedjax_private.encryption.parties.server import AggregationServer, Fusion
from fedjax_private.encryption.parties.threshold import KeyHolder, make_joint_key
from fedjax_private.encryption.workers import Workers
from fedjax_private.quantization import Grid
from fedjax_private.trust import Decryptor, Trust

# As many are held at once, or one upload's.
_CIPHERTEXTS = 512


class _Decryption(Protocol):
    """Whoever can decrypt under one key."""

    material: Material

    @property
    def used_up(self) -> bool:
        """Whether the key has decrypted all that it may."""

    def decrypt(
        self, server: Party, adding: AggregationServer, traffic: Traffic
    ) -> npt.NDArray[Any]:
        """Ends the round; returns the sum (values,)."""


class _ByAuthority:
    def __init__(
        self, parties: Parties, request: SumRequest, trust: Trust, workers: Workers
    ) -> None:
        self._authority = KeyAuthority(parties(AUTHORITY), request, trust, workers)
        self.material = self._authority.material

    @property
    def used_up(self) -> bool:
        return self._authority.used_up

    def decrypt(
        self, server: Party, adding: AggregationServer, traffic: Traffic
    ) -> npt.NDArray[Any]:
        with traffic.adding():
            message = adding.sum_message()
        traffic.sent("server to authority", message)
        answer = self._authority.decrypt(message)
        _, total = adding.released(traffic.sent("authority to server", answer))
        return total


class _ByHolders:
    def __init__(
        self,
        parties: Parties,
        request: SumRequest,
        trust: Trust,
        quorum: int,
    ) -> None:
        numbers = range(request.holders)
        self._quorum = quorum
        self._holders = {
            number: KeyHolder(parties(number), request, trust, numbers, quorum)
            for number in numbers
        }
        self.material = make_joint_key(self._holders)

    @property
    def used_up(self) -> bool:
        return any(holder.used_up for holder in self._holders.values())

    def decrypt(
        self, server: Party, adding: AggregationServer, traffic: Traffic
    ) -> npt.NDArray[Any]:
        fusion = Fusion(server, adding, tuple(self._holders), self._quorum)
        for number, message in fusion.requests().items():
            traffic.sent("server to holder", message)
            answer = self._holders[number].partial(message)
            fusion.add(traffic.sent("holder to server", answer))
        return fusion.release()


@dataclasses.dataclass
class _Key:
    """One key's roles: what a rotation replaces."""

    decryption: _Decryption
    encryptor: Encryptor
    server: AggregationServer


class EncryptedAggregation:
    """Encrypted aggregation for one training run.

    All parties live in this process because the run is a simulation; they still
    exchange bytes only. One session is open at a time: opening the next discards an
    unfinished one. When a key has decrypted as much as its noise protects, the next
    round starts with a new one, and what was encrypted under the old is refused.

    Formal guarantees: those of `encryption.roles` and `encryption.threshold`: a server
    reads no upload, only the released sums, unless it colludes with the key authority,
    or with T holders. A client whose vector leaves the declared range of CKKS stops the
    run with an error, which is itself visible; declare a bound that noise exceeds with
    negligible probability. Exact schemes saturate instead, and count it.

    Args:
        request: what is to be summed.
        trust: who decrypts, and the fewest uploads that a released sum holds.
        quorum: holders that can stand in for others; unused with an authority.
        topology: one of `TOPOLOGIES`.
        fan_out: clients of one edge server, in a tree.
        workers: threads for ciphertexts; by default one for each usable core.

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
    ) -> None:
        if topology not in TOPOLOGIES:
            raise ValueError(
                f"unknown topology {topology!r}: choose one of {', '.join(TOPOLOGIES)}."
            )
        if fan_out < 1:
            raise ValueError(f"an edge server has at least one client, got {fan_out}.")
        self.request, self.trust, self.quorum = request, trust, quorum
        self.topology, self._fan_out = topology, fan_out
        self.parameters: Parameters = derive(request)
        self.vector_size = request.values
        self._workers = workers or Workers.start()
        self._parties = Parties()
        self._server = self._parties(SERVER)
        self._seconds_keys = 0.0
        self._key = self._make_key()

    @property
    def codec(self) -> Codec:
        """CKKS: float32 as it is. Exact: randomised rounding to integers mod 2^b."""
        return codec_of(self.request)

    @property
    def grid(self) -> Grid:
        """Exact: which integers stand for which values."""
        return grid_of(self.request)

    @property
    def key_id(self) -> bytes:
        """(16,) bytes that name the current key."""
        return self._key.server.material.key_id

    @property
    def description(self) -> str:
        """A sentence or two for reports: scheme, parameters, who decrypts, topology."""
        return describe(self.parameters, self.trust, self.quorum, self.topology)

    def open(self, round_number: int) -> Session:
        """Opens the session of one round; no round can be released twice."""
        if self._key.decryption.used_up:
            self._key = self._make_key()
        seconds, self._seconds_keys = self._seconds_keys, 0.0
        self._key.server.open(round_number)
        return _EncryptedSession(self, round_number, seconds)

    def _make_key(self) -> _Key:
        start = time.perf_counter()
        decryption: _Decryption
        if self.request.scheme.threshold:
            decryption = _ByHolders(
                self._parties, self.request, self.trust, self.quorum
            )
        else:
            decryption = _ByAuthority(
                self._parties, self.request, self.trust, self._workers
            )
        material = Material.from_bytes(decryption.material.to_bytes())
        key = _Key(
            decryption,
            Encryptor(material, self._workers),
            server_for(self.topology, self._server, material),
        )
        self._seconds_keys += time.perf_counter() - start
        return key


class _EncryptedSession:
    def __init__(
        self, aggregation: EncryptedAggregation, round_number: int, seconds_keys: float
    ) -> None:
        self._of, self._round = aggregation, round_number
        self._key = aggregation._key
        self._traffic = Traffic()
        network = Network(
            self._key.server, aggregation._parties, self._traffic, aggregation._fan_out
        )
        self._route = TOPOLOGIES[aggregation.topology](network)
        self._twin = PlainTwin(aggregation.request, round_number)
        self._seconds_encrypt, self._seconds_keys = 0.0, seconds_keys
        self._upload_bytes = 0

    def add(self, clients: IntArray, slots: npt.NDArray[np.generic]) -> None:
        slots = np.asarray(slots)
        self._twin.add(clients, slots)
        # A few uploads at a time: one is up to eight times its vector, and a chunk of
        # them may not fit into memory.
        block = max(1, _CIPHERTEXTS // self._of.parameters.rows)
        for first in range(0, len(slots), block):
            ids = [int(client) for client in clients[first : first + block]]
            start = time.perf_counter()
            encrypted = self._key.encryptor.ciphertexts(
                ids, slots[first : first + block]
            )
            self._seconds_encrypt += time.perf_counter() - start
            for client, ciphertexts in zip(ids, encrypted, strict=True):
                self._route.send(
                    self._of._parties(client), self._uploading(ciphertexts)
                )

    def _uploading(self, ciphertexts: memoryview) -> Callable[[Party, int], bytes]:
        def upload(client: Party, receiver: int) -> bytes:
            start = time.perf_counter()
            made = self._key.encryptor.upload(
                client, receiver, self._round, ciphertexts
            )
            self._seconds_encrypt += time.perf_counter() - start
            self._upload_bytes += len(made)
            return made

        return upload

    def release(self) -> tuple[FloatArray, SessionReport]:
        self._twin.close()
        if self._key.server.round_number != self._round:
            raise RuntimeError(f"round {self._round} was discarded by a later one.")
        self._route.arrive()
        added, start = self._traffic.seconds_add, time.perf_counter()
        total = self._key.decryption.decrypt(
            self._of._server, self._key.server, self._traffic
        )
        seconds = time.perf_counter() - start - (self._traffic.seconds_add - added)
        uploads = self._twin.uploads
        report = SessionReport(
            uploads=uploads,
            upload_bytes_per_client=round(self._upload_bytes / uploads),
            download_bytes_per_client=BYTES_PER_VALUE * self._of.vector_size,
            seconds_encrypt=self._seconds_encrypt,
            seconds_add=self._traffic.seconds_add,
            seconds_decrypt=seconds,
            max_error=self._twin.error(total),
            seconds_keys=self._seconds_keys,
            saturated=self._twin.saturated,
            link_bytes=self._traffic.per_message(),
        )
        return total.astype(np.float64), report


def describe(parameters: Parameters, trust: Trust, quorum: int, topology: str) -> str:
    """Sentences for reports: scheme, parameters, what is released, who decrypts."""
    request, scheme = parameters.request, parameters.request.scheme
    ring = (
        f"ring dimension {parameters.ring_dimension}, a modulus of "
        f"{parameters.modulus_bits} bits, 128-bit security, "
        f"{parameters.bytes_per_value:.2f} bytes a value"
    )
    if scheme.exact:
        what = (
            f"{'BFV' if scheme.threshold else 'BGV'} (OpenFHE): {ring}; exact sums mod "
            f"2^{request.bits} of up to {request.uploads} uploads, {parameters.lanes} "
            f"lanes a slot, on a grid that spans sums within {request.sum_bound:g}."
        )
    else:
        packing = "complex" if request.complex_packing else "real"
        what = (
            f"CKKS (OpenFHE, {packing} packing): {ring}; sums of up to "
            f"{request.uploads} uploads with entries within {request.sum_bound:g} and "
            f"errors of {parameters.error_std(request.uploads):.1g} (one sigma)."
        )
    sums = parameters.sums_per_key
    if sums is not None:
        what += (
            f" Gaussian noise floods what decryption would tell of the key, to within "
            f"2^-{request.statistical_bits} in KL divergence over {sums} sums a key; "
            "then a new key is made."
        )
    elif scheme.exact:
        what += " What is released is exact, and tells nothing of the key."
    else:
        what += (
            " UNPROTECTED: released sums tell of the key; they may be shown only to "
            "those who hold it."
        )
    if scheme.threshold:
        who = (
            f"All {request.holders} holders of key shares together decrypt one sum of "
            f"at least {trust.uploads} uploads a round; {quorum} of them can stand in "
            "for others."
        )
    elif trust.decryptor is Decryptor.EVERY_CLIENT:
        who = (
            "BASELINE: every client holds the one secret key, so that one of them and "
            "the server together read every upload; a sum holds at least "
            f"{trust.uploads}."
        )
    else:
        who = (
            "A key authority, assumed not to collude, decrypts one sum of at least "
            f"{trust.uploads} uploads a round."
        )
    return f"{what} {who} Uploads travel as a {topology}."
