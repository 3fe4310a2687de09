"""Server, clients and decryptors in processes of their own, which exchange bytes.

    driver -- pipe: what to do ------------------> every process
    clients' process -- socket: upload ----------> server's process
    server's process -- socket: sum -------------> authority's, or a holder's process

The driver is the training program. It hands clients their vectors, because a simulation
trains all of them in one program; it tells everybody the others' public keys, as the
public-key infrastructure does that is assumed; and it carries the messages by which
holders make a joint key. A driver and the processes that it starts trust each other:
what goes over pipes is pickled. What goes over sockets never is: those are the messages
of the roles, and whoever receives one checks it.

Formal guarantees: those of `roles` and `threshold`, here about processes. A secret key,
of a party or of a scheme, stays in the memory of the process that made it; the server's
holds its own identity's, and none that decrypts an upload.
"""

import abc
import contextlib
import functools
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import (
    Connection,
    Pipe,
)
from typing import Any

import numpy.typing as npt

from fedjax_private.encryption.messages.channels import Directory, Party
from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.messages.wire import (
    AUTHORITY,
    SERVER,
    RefusedError,
    WireError,
)
from fedjax_private.encryption.parties.roles import Encryptor, KeyAuthority
from fedjax_private.encryption.parties.server import AggregationServer, Fusion
from fedjax_private.encryption.parties.sockets import Post, Run, start_thread
from fedjax_private.encryption.parties.threshold import KeyHolder
from fedjax_private.encryption.workers import Workers

_SECONDS_TO_END = 10.0


class Child:
    """A process, as the driver that started it sees it.

    It ends when the driver closes the pipe between them, or ends itself.

    Args:
        run: what it is told.
        role: one of `ROLES`.
        name: for error messages.
        python: the command that starts an interpreter.

    Raises:
        OSError: if there is no such command.
    """

    def __init__(self, run: Run, role: str, name: str, python: Sequence[str]) -> None:
        self.name = name
        self._control, theirs = Pipe()
        # A new interpreter, never a fork of this one, which `multiprocessing` makes by
        # default: a fork copies the state of OpenFHE's random generator, and two
        # clients would encrypt with the same randomness (see `backend.Backend`). A
        # session of its own: interrupts from the keyboard are the driver's to handle.
        # Accelerators are the driver's too: JAX would take one's memory on sight.
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "JAX_PLATFORMS": "cpu",
        }
        with theirs:
            self.process = subprocess.Popen(
                [*python, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=environment,
            )
        self._send((role, run))

    def call(self, method: str, *arguments: Any) -> Any:
        """Returns what a method of its role returns. Raises as `together` does."""
        return together(method, {self: arguments})[0]

    def close(self) -> None:
        """Lets the process end."""
        self._control.close()

    def wait(self) -> None:
        """Returns when the process has ended. It is killed if it takes long."""
        try:
            self.process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _send(self, question: object) -> None:
        # Whether the process has ended shows when its answer is read.
        with contextlib.suppress(OSError):
            self._control.send(question)

    def _receive(self) -> Any:
        try:
            return self._control.recv()
        except (EOFError, OSError):
            return RuntimeError(
                f"the process {self.name!r} has ended, with status "
                f"{self.process.wait()}: no further round is possible."
            )


def together(method: str, calls: Mapping[Child, tuple[Any, ...]]) -> list[Any]:
    """Calls a method of several processes' roles at once, with arguments for each.

    Raises:
        ValueError: as the role does: the same type (so for every ProtocolError), the
            same sentence.
        RuntimeError: likewise; or if a process has ended, or failed otherwise.
    """
    try:
        for child, arguments in calls.items():
            child._send((method, arguments))
        answers = [child._receive() for child in calls]
    except BaseException:
        # Interrupted: the next answer to be read would be to this question.
        for child in calls:
            child.process.kill()
        raise
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


class _Role(abc.ABC):
    """What all roles do. The driver calls what has no underscore."""

    def __init__(self, run: Run, post: Post) -> None:
        self._run, self._post = run, post
        self._workers = Workers.start(run.threads)
        self._directory: dict[int, bytes] = {}
        self._parties: dict[int, Party] = {}

    def enrol(self, *numbers: int) -> Directory:
        """Makes parties that live here; returns their public keys."""
        for number in numbers:
            party = self._parties[number] = Party(number, self._directory)
            self._directory[number] = party.identity.public
        return {number: self._directory[number] for number in numbers}

    def know(self, directory: Directory) -> None:
        """Takes the public keys of parties elsewhere."""
        self._directory.update(directory)

    def listen(self, *numbers: int) -> None:
        """Has parties answer messages, once they have a key."""
        for number in numbers:
            self._post.listen(number, functools.partial(self._answer, number))

    @abc.abstractmethod
    def _answer(self, number: int, data: bytes) -> bytes:
        """What one of the parties says to a message."""


class _Server(_Role):
    def use(self, material: Material) -> None:
        self._adding = AggregationServer(self._parties[SERVER], material, relays=())

    def open(self, round_number: int) -> None:
        self._adding.open(round_number)
        self._seconds, self._links = 0.0, dict[str, list[int]]()

    def release(self, round_number: int) -> tuple[npt.NDArray[Any], float, float, Any]:
        """Returns the sum, seconds of adding and of decryption, lengths by link."""
        if self._adding.round_number != round_number:
            raise RefusedError(f"round {round_number} is not open.")
        start, added = time.perf_counter(), self._seconds
        threshold = self._run.request.scheme.threshold
        total = self._by_holders() if threshold else self._by_authority(round_number)
        seconds = time.perf_counter() - start - (self._seconds - added)
        return total, self._seconds, seconds, self._links

    def received(self) -> list[bytes]:
        return list(self._post.received or [])

    def _answer(self, number: int, data: bytes) -> bytes:
        start = time.perf_counter()
        self._adding.add(data)
        self._seconds += time.perf_counter() - start
        self._sent("client to server", data)
        return b""

    def _by_authority(self, round_number: int) -> npt.NDArray[Any]:
        start = time.perf_counter()
        message = self._adding.sum_message()
        self._seconds += time.perf_counter() - start
        answer = self._ask("authority", AUTHORITY, message)
        found, total = self._adding.released(answer)
        if found != round_number:
            raise WireError(f"the sum of round {found} where {round_number} was meant.")
        return total

    def _by_holders(self) -> npt.NDArray[Any]:
        holders, quorum = range(self._run.request.holders), self._run.quorum
        fusion = Fusion(self._parties[SERVER], self._adding, holders, quorum)
        requests = fusion.requests()
        ask = functools.partial(self._ask, "holder")
        with ThreadPoolExecutor() as pool:
            for part in pool.map(ask, requests, requests.values()):
                fusion.add(part)
        return fusion.release()

    def _ask(self, kind: str, number: int, message: bytes) -> bytes:
        self._sent(f"server to {kind}", message)
        answer = self._post.ask(number, message)
        self._sent(f"{kind} to server", answer)
        return answer

    def _sent(self, link: str, message: bytes) -> None:
        self._links.setdefault(link, []).append(len(message))


class _Authority(_Role):
    def make_key(self) -> Material:
        run, party = self._run, self._parties[AUTHORITY]
        self._key = KeyAuthority(party, run.request, run.trust, self._workers)
        return self._key.material

    def used_up(self) -> bool:
        return self._key.used_up

    def _answer(self, number: int, data: bytes) -> bytes:
        return self._key.decrypt(data)


class _Clients(_Role):
    def __init__(self, run: Run, post: Post) -> None:
        super().__init__(run, post)
        self._holders: dict[int, KeyHolder] = {}

    def hold(self, number: int) -> None:
        """Begins a share of a new key."""
        run, party = self._run, self._parties[number]
        numbers = range(run.request.holders)
        self._holders[number] = KeyHolder(
            party, run.request, run.trust, numbers, run.quorum
        )

    def step(self, number: int, method: str, *arguments: Any) -> Any:
        """Takes a step of `make_joint_key`."""
        return getattr(self._holders[number], method)(*arguments)

    def material(self, number: int) -> Material:
        return self._holders[number].material

    def used_up(self) -> bool:
        return any(holder.used_up for holder in self._holders.values())

    def use(self, material: Material) -> None:
        self._encryptor = Encryptor(material, self._workers)

    def upload(
        self, round_number: int, clients: Sequence[int], vectors: npt.NDArray[Any]
    ) -> float:
        """Encrypts a vector of each client, and sends it; returns seconds of the first.

        One at a time: an upload may be several times as long as its vector.
        """
        seconds = 0.0
        for client, vector in zip(clients, vectors, strict=True):
            start, party = time.perf_counter(), self._parties[client]
            upload = self._encryptor.encrypt(party, SERVER, round_number, vector)
            seconds += time.perf_counter() - start
            self._post.ask(SERVER, upload)
        return seconds

    def _answer(self, number: int, data: bytes) -> bytes:
        return self._holders[number].partial(data)


ROLES: dict[str, type[_Role]] = {
    "server": _Server,
    "authority": _Authority,
    "clients": _Clients,
}


def main(descriptor: int) -> None:
    """Runs a process whose driver is at the other end of a pipe. Does not return."""
    control = Connection(descriptor)
    role, run = control.recv()
    post = Post(run)
    start_thread(_obey, control, post, ROLES[role](run, post), run.folder)
    post.work()


def _obey(control: Connection, post: Post, role: _Role, folder: str) -> None:
    """Does what the driver asks for, and ends the process when the driver has gone."""
    try:
        while True:
            method, arguments = pickle.loads(post.keep(control.recv_bytes()))
            try:
                answer = post.do(getattr(role, method), *arguments)
            except (ValueError, RuntimeError) as error:
                answer = error
            except Exception as error:
                answer = RuntimeError(f"{type(error).__name__}: {error}")
            control.send(answer)
    finally:
        # All processes end now. Not by way of the main thread, which may be waiting
        # for an answer from one that has.
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)


if __name__ == "__main__":
    # By its name: that is how what is pickled refers to this module.
    from fedjax_private.encryption.parties import processes

    processes.main(int(sys.argv[-1]))
