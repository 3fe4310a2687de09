"""Encrypted sums whose parties are processes of their own: a session a round."""

import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from fedjax_private.aggregation.sums import EncryptedSums, ReferenceSum
from fedjax_private.aggregation.types import (
    FloatArray,
    IntArray,
    Session,
    SessionReport,
)
from fedjax_private.encryption.messages.material import Lifetime, Material
from fedjax_private.encryption.messages.wire import AUTHORITY, SERVER
from fedjax_private.encryption.parameters import SumRequest
from fedjax_private.encryption.parties.attendance import NOBODY, DropOut
from fedjax_private.encryption.parties.children import Child, call_all
from fedjax_private.encryption.parties.holders import KeyHolder
from fedjax_private.encryption.parties.joint_key import make_joint_key
from fedjax_private.encryption.parties.sockets import Run
from fedjax_private.encryption.parties.traffic import Traffic
from fedjax_private.trust import Trust

# Of clients, which share them by their numbers modulo that.
MOST_PROCESSES = 8


class ProcessAggregation(EncryptedSums):
    """Encrypted aggregation whose server, clients and decryptors are processes.

    They exchange bytes over local sockets: see `encryption.parties.processes`. Sums,
    keys and their rotation, and refusals are as in `EncryptedAggregation`; so is that
    one session is open at a time. Close it when done; processes also end with the
    object and with this program.

    Formal guarantees: those of `encryption.parties.processes`: no secret key is ever in
    the server's memory, nor in this program's. This program sees every vector, because
    it trains all clients; and processes of one user can read each other's memory. So
    this shows what the protocol needs, and protects nobody from the user who runs it. A
    stranger who reaches the sockets can keep the server busy; what he sends is refused.

    Args:
        request: what is to be summed.
        trust: who decrypts, and the fewest uploads that a released sum holds.
        quorum: holders that can stand in for others; unused with an authority.
        key_rounds: rounds until a new key is made; None until its budget is used up.
        verified: whether decryptors check which uploads a sum holds.
        drop_out: draws the holders of key shares that vanish in each round: they answer
            no messages about its sum.

    Attributes:
        children: the processes by name: `server`, `authority` where one key is used,
            and `clients 0`, `clients 1`, ...

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
        key_rounds: int | None = None,
        verified: bool = True,
        drop_out: DropOut = NOBODY,
    ) -> None:
        super().__init__(request, trust, quorum, "star", key_rounds, verified, drop_out)
        self._holders = range(request.holders if request.scheme.threshold else 0)
        self.children: dict[str, Child] = {}
        folder = tempfile.mkdtemp(prefix="fedjax_private-")
        run = Run(folder, secrets.token_bytes(32), request, trust, quorum, verified)
        self._end = weakref.finalize(self, _end, self.children, folder)

        def start(role: str, name: str) -> Child:
            child = self.children[name] = Child(run, role, name)
            return child

        try:
            self._server = start("server", "server")
            self._authority = None if self._holders else start("authority", "authority")
            self._clients = [
                start("clients", f"clients {i}")
                for i in range(min(request.uploads, MOST_PROCESSES))
            ]
            self._introduce()
        except BaseException:
            self.close()
            raise

    @property
    def description(self) -> str:
        """Sentences for reports: scheme, parameters, who decrypts, and where."""
        who = "key authority" if self._authority else "key holders (clients too)"
        sums = super().description
        return f"{sums} Server, clients and {who} run in separate processes."

    def open(self, round_number: int) -> Session:
        """Opens the session of one round, after those of all lower numbers.

        Raises:
            RefusedError: the round has been opened before, or is before all that the
                present key serves.
            RuntimeError: if a process has ended; so do the session's methods.
        """
        self._open_once(round_number)
        used_up = any(call_all("used_up", dict.fromkeys(self._makers, ())))
        if self._takes_new_key(round_number, used_up):
            self._make_key()
        self._server.call("open", round_number)
        if self.drop_out.probability:
            answers = self.drop_out.answers(round_number, self._holders)
            call_all("attend", dict.fromkeys(self._clients, (answers,)))
        return _ProcessSession(
            self.request,
            self._server,
            self._upload,
            round_number,
            self._taken_seconds_keys,
        )

    def close(self) -> None:
        """Ends the processes. The second time it does nothing."""
        self._end()

    def _introduce(self) -> None:
        """Enrols server and decryptors, makes a key, and has them listen."""
        numbers = {self._server: (SERVER,)} | self._by_process(self._holders)
        if self._authority:
            numbers[self._authority] = (AUTHORITY,)
        directory: dict[int, bytes] = {}
        for public_keys in call_all("enrol", numbers):
            directory.update(public_keys)
        call_all("know", dict.fromkeys(self.children.values(), (directory,)))
        self._enrolled = set(directory)
        self._make_key()
        call_all("listen", numbers)

    def _make_key(self) -> None:
        start = time.perf_counter()
        if self._authority:
            material: Material = self._authority.call("make_key", self._lifetime)
        else:
            holders = {
                holder: _RemoteHolder(self._process_of(holder), holder, self._lifetime)
                for holder in self._holders
            }
            material = make_joint_key(cast(Mapping[int, KeyHolder], holders))
        self._server.call("use", self._vouchers([SERVER])[SERVER])
        call_all("use", dict.fromkeys(self._clients, (material.to_bytes(),)))
        self._admitted: set[int] = set()  # clients that may use this key
        self._seconds_keys += time.perf_counter() - start

    def _upload(
        self, round_number: int, clients: Sequence[int], slots: npt.NDArray[Any]
    ) -> list[tuple[float, Traffic]]:
        """Has clients encrypt and send; returns what each process counted.

        That is its seconds of encryption, and its messages but the uploads.
        """
        new = [client for client in clients if client not in self._enrolled]
        for public_keys in call_all("enrol", self._by_process(new)):
            others = [self._server, *self._makers]
            call_all("know", dict.fromkeys(others, (public_keys,)))
        self._enrolled.update(new)
        self._admit(clients)
        row = dict(zip(clients, slots, strict=True))
        calls = {
            process: (round_number, numbers, np.stack([row[n] for n in numbers]))
            for process, numbers in self._by_process(clients).items()
        }
        return call_all("upload", calls)

    @property
    def _makers(self) -> list[Child]:
        """The processes of those who made the key, and who decrypt."""
        return [self._authority] if self._authority else self._clients

    def _admit(self, clients: Sequence[int]) -> None:
        """Has the makers of the key vouch for it to clients, once to each."""
        new = [client for client in clients if client not in self._admitted]
        if not new:
            return
        start, vouchers = time.perf_counter(), self._vouchers(new)
        calls = {
            process: ({number: vouchers[number] for number in numbers},)
            for process, numbers in self._by_process(new).items()
        }
        call_all("admit", calls)
        self._admitted.update(new)
        self._seconds_keys += time.perf_counter() - start

    def _vouchers(self, receivers: Sequence[int]) -> dict[int, list[bytes]]:
        """Returns the vouchers of all makers of the key, for each receiver."""
        vouchers: dict[int, list[bytes]] = {receiver: [] for receiver in receivers}
        for messages in call_all("vouch", dict.fromkeys(self._makers, (receivers,))):
            for receiver, data in messages:
                vouchers[receiver].append(data)
        return vouchers

    def _by_process(self, clients: Iterable[int]) -> dict[Child, tuple[int, ...]]:
        """Returns the clients that live in each process, of those given."""
        numbers: dict[Child, tuple[int, ...]] = {}
        for client in clients:
            process = self._process_of(client)
            numbers[process] = (*numbers.get(process, ()), client)
        return numbers

    def _process_of(self, client: int) -> Child:
        return self._clients[client % len(self._clients)]


class _RemoteHolder:
    """A key holder in its process, for `make_joint_key`."""

    def __init__(self, process: Child, number: int, lifetime: Lifetime) -> None:
        self._process, self._number = process, number
        process.call("hold", number, lifetime)

    @property
    def material(self) -> Material:
        return self._process.call("material", self._number)

    def __getattr__(self, method: str) -> Any:
        return lambda *arguments: self._process.call(
            "step", self._number, method, *arguments
        )


class _ProcessSession:
    def __init__(
        self,
        request: SumRequest,
        server: Child,
        upload: Callable[
            [int, Sequence[int], npt.NDArray[Any]], list[tuple[float, Traffic]]
        ],
        round_number: int,
        taken_seconds_keys: Callable[[], float],
    ) -> None:
        self._server, self._upload, self._round = server, upload, round_number
        self._reference = ReferenceSum(request, round_number)
        self._seconds_encrypt, self._taken_seconds_keys = 0.0, taken_seconds_keys
        self._traffic = Traffic()

    def add(self, clients: IntArray, slots: npt.NDArray[np.generic]) -> None:
        clients, slots = np.asarray(clients), np.asarray(slots)
        self._reference.check(clients, slots)
        ids = [int(client) for client in clients]
        try:
            counted = self._upload(self._round, ids, slots)
        except ValueError:  # of some; the server has taken others
            taken = np.isin(clients, self._server.call("uploaded", self._round))
            self._reference.add(clients[taken], slots[taken])
            raise
        self._reference.add(clients, slots)
        for seconds, traffic in counted:
            self._seconds_encrypt += seconds
            self._traffic.include(traffic)

    def release(self) -> tuple[FloatArray, SessionReport]:
        self._reference.close()
        total, recovered, decrypting, traffic = self._server.call(
            "release", self._round
        )
        self._traffic.include(traffic)
        report = self._reference.report(
            total,
            upload_bytes_per_client=round(
                self._traffic.bytes_from("client") / len(self._reference.clients)
            ),
            seconds_encrypt=self._seconds_encrypt,
            seconds_add=self._traffic.seconds_add,
            seconds_decrypt=decrypting,
            seconds_keys=self._taken_seconds_keys(),
            link_bytes=self._traffic.per_message(),
            recovered_holders=recovered,
        )
        return total.astype(np.float64), report


def _end(children: Mapping[str, Child], folder: str) -> None:
    for child in children.values():
        child.close()
    for child in children.values():
        child.wait()
    shutil.rmtree(folder, ignore_errors=True)
