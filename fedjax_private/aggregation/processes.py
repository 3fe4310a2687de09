"""Encrypted sums whose parties are processes."""

import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from fedjax_private.aggregation.codecs import codec_of, grid_of
from fedjax_private.aggregation.encrypted import describe
from fedjax_private.aggregation.plain import BYTES_PER_VALUE
from fedjax_private.aggregation.reference import PlainTwin
from fedjax_private.aggregation.types import (
    Codec,
    FloatArray,
    IntArray,
    Session,
    SessionReport,
)
from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.messages.wire import AUTHORITY, SERVER
from fedjax_private.encryption.openfhe.backend import interpreter
from fedjax_private.encryption.parameters import SumRequest, derive
from fedjax_private.encryption.parties.processes import Child, together
from fedjax_private.encryption.parties.sockets import Run
from fedjax_private.encryption.parties.threshold import KeyHolder, make_joint_key
from fedjax_private.quantization import Grid
from fedjax_private.trust import Trust


class ProcessAggregation:
    """Encrypted aggregation whose server, clients and decryptors are processes.

    They exchange bytes over local sockets: see `encryption.processes`. Sums, keys and
    their rotation, and what is refused are as in `EncryptedAggregation`; so is that
    one session is open at a time. Close it, or use it as a context manager; processes
    also end with the object and with this program.

    Formal guarantees: those of `encryption.processes`: no secret key is ever in the
    server's memory, nor in this program's. This program sees every vector, because it
    trains all clients; and processes of one user can read each other's memory, so that
    this shows what the protocol needs, and protects nobody from whoever runs it. A
    stranger who gets at the sockets can keep the server busy; what he sends is refused.

    Args:
        request: what is to be summed.
        trust: who decrypts, and the fewest uploads that a released sum holds.
        quorum: holders that can stand in for others; unused with an authority.
        topology: `star`, without any servers between.
        workers: threads of each process, for ciphertexts.
        processes: over how many the clients are dealt, by their numbers modulo that;
            one for each upload by default, at most 8.
        python: the command that starts an interpreter; this one by default.
        capture: whether the server keeps all bytes that it receives, for `captured`.

    Raises:
        ValueError: if no parameters serve the request, or the arguments disagree.
        OpenFHEUnavailable: where OpenFHE cannot be imported.
        OSError: if the command does not start an interpreter.
    """

    def __init__(
        self,
        request: SumRequest,
        trust: Trust,
        *,
        quorum: int = 1,
        topology: str = "star",
        workers: int = 1,
        processes: int | None = None,
        python: Sequence[str] | None = None,
        capture: bool = False,
    ) -> None:
        if topology != "star":
            raise ValueError(
                f"uploads of separate processes travel as a star, not as a {topology}."
            )
        if processes is None:
            processes = min(request.uploads, 8)
        if processes < 1 or workers < 1:
            raise ValueError(
                "clients need at least one process, and each at least one worker; got "
                f"{processes} and {workers}."
            )
        self.request, self.trust, self.quorum = request, trust, quorum
        self.topology, self.vector_size = topology, request.values
        self.parameters = derive(request)
        self._holders = range(request.holders if request.scheme.threshold else 0)
        self._seconds_keys = 0.0
        self._children: list[Child] = []
        run = Run(
            folder=tempfile.mkdtemp(prefix="fedjax_private-"),
            authkey=secrets.token_bytes(32),
            request=request,
            trust=trust,
            quorum=quorum,
            threads=workers,
            capture=capture,
        )
        self._end = weakref.finalize(self, _end, self._children, run.folder)

        def start(role: str, name: str) -> Child:
            self._children.append(Child(run, role, name, python or interpreter()))
            return self._children[-1]

        try:
            self._server = start("server", "server")
            self._authority = None if self._holders else start("authority", "authority")
            self._clients = [start("clients", f"clients {i}") for i in range(processes)]
            self._introduce()
        except BaseException:
            self.close()
            raise

    @property
    def codec(self) -> Codec:
        """CKKS: float32 as it is. Exact: randomised rounding to integers mod 2^b."""
        return codec_of(self.request)

    @property
    def grid(self) -> Grid:
        """Exact: which integers stand for which values."""
        return grid_of(self.request)

    @property
    def description(self) -> str:
        """Sentences for reports: scheme, parameters, who decrypts, and where."""
        who = "key authority" if self._authority else "key holders (clients too)"
        return (
            describe(self.parameters, self.trust, self.quorum, self.topology)
            + f" Server, clients and {who} run in separate processes."
        )

    def open(self, round_number: int) -> Session:
        """Opens the session of one round; no round can be released twice.

        Raises:
            RuntimeError: if a process has ended; so do the session's methods.
        """
        decryptors = [self._authority] if self._authority else self._clients
        if any(together("used_up", dict.fromkeys(decryptors, ()))):
            self._make_key()
        seconds, self._seconds_keys = self._seconds_keys, 0.0
        self._server.call("open", round_number)
        return _ProcessSession(self, round_number, seconds)

    def captured(self) -> list[bytes]:
        """All bytes that the server has received, if `capture` was asked for."""
        return self._server.call("received")

    def close(self) -> None:
        """Ends the processes. The second time it does nothing."""
        self._end()

    def __enter__(self) -> "ProcessAggregation":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _introduce(self) -> None:
        """Enrols server and decryptors, makes a key, and has them listen."""
        numbers = {self._server: (SERVER,)} | self._homes(self._holders)
        if self._authority:
            numbers[self._authority] = (AUTHORITY,)
        directory: dict[int, bytes] = {}
        for known in together("enrol", numbers):
            directory.update(known)
        together("know", dict.fromkeys(self._children, (directory,)))
        self._enrolled = set(directory)
        self._make_key()
        together("listen", numbers)

    def _make_key(self) -> None:
        start = time.perf_counter()
        if self._authority:
            material: Material = self._authority.call("make_key")
        else:
            holders = {h: _RemoteHolder(self._home(h), h) for h in self._holders}
            material = make_joint_key(cast(Mapping[int, KeyHolder], holders))
        self._server.call("use", material.without_key())
        together("use", dict.fromkeys(self._clients, (material,)))
        self.key_id = material.key_id
        self._seconds_keys += time.perf_counter() - start

    def _upload(
        self, round_number: int, clients: Sequence[int], slots: npt.NDArray[Any]
    ) -> float:
        """Has clients encrypt and send; returns seconds of encryption, added up."""
        new = [client for client in clients if client not in self._enrolled]
        for known in together("enrol", self._homes(new)):
            self._server.call("know", known)
        self._enrolled.update(new)
        row = dict(zip(clients, slots, strict=True))
        calls = {
            home: (round_number, own, np.stack([row[client] for client in own]))
            for home, own in self._homes(clients).items()
        }
        return sum(together("upload", calls))

    def _homes(self, numbers: Iterable[int]) -> dict[Child, tuple[int, ...]]:
        """Which of those clients live in which process."""
        homes: dict[Child, tuple[int, ...]] = {}
        for number in numbers:
            home = self._home(number)
            homes[home] = (*homes.get(home, ()), number)
        return homes

    def _home(self, number: int) -> Child:
        return self._clients[number % len(self._clients)]


class _RemoteHolder:
    """A key holder in its process, for `make_joint_key`."""

    def __init__(self, home: Child, number: int) -> None:
        self._home, self._number = home, number
        home.call("hold", number)

    @property
    def material(self) -> Material:
        return self._home.call("material", self._number)

    def __getattr__(self, method: str) -> Any:
        return lambda *given: self._home.call("step", self._number, method, *given)


class _ProcessSession:
    def __init__(
        self, aggregation: ProcessAggregation, round_number: int, seconds_keys: float
    ) -> None:
        self._of, self._round = aggregation, round_number
        self._twin = PlainTwin(aggregation.request, round_number)
        self._seconds_encrypt, self._seconds_keys = 0.0, seconds_keys

    def add(self, clients: IntArray, slots: npt.NDArray[np.generic]) -> None:
        slots = np.asarray(slots)
        self._twin.add(clients, slots)
        ids = [int(client) for client in clients]
        self._seconds_encrypt += self._of._upload(self._round, ids, slots)

    def release(self) -> tuple[FloatArray, SessionReport]:
        self._twin.close()
        total, adding, decrypting, links = self._of._server.call("release", self._round)
        sizes = {link: round(sum(each) / len(each)) for link, each in links.items()}
        report = SessionReport(
            uploads=self._twin.uploads,
            upload_bytes_per_client=sizes["client to server"],
            download_bytes_per_client=BYTES_PER_VALUE * self._of.vector_size,
            seconds_encrypt=self._seconds_encrypt,
            seconds_add=adding,
            seconds_decrypt=decrypting,
            max_error=self._twin.error(total),
            seconds_keys=self._seconds_keys,
            saturated=self._twin.saturated,
            link_bytes=sizes,
        )
        return total.astype(np.float64), report


def _end(children: Sequence[Child], folder: str) -> None:
    for child in children:
        child.close()
    for child in children:
        child.wait()
    shutil.rmtree(folder, ignore_errors=True)
