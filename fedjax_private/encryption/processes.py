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

import contextlib
import dataclasses
import functools
import os
import pickle
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import (
    Client,
    Connection,
    Listener,
    Pipe,
    answer_challenge,
    deliver_challenge,
)
from typing import Any

import numpy.typing as npt

from fedjax_private.encryption.channels import Directory, Party
from fedjax_private.encryption.material import Material
from fedjax_private.encryption.parameters import SumRequest, derive
from fedjax_private.encryption.roles import AggregationServer, Encryptor, KeyAuthority
from fedjax_private.encryption.threshold import Fusion, KeyHolder
from fedjax_private.encryption.wire import (
    AUTHORITY,
    MAGIC,
    SERVER,
    RefusedError,
    WireError,
    size,
)
from fedjax_private.encryption.workers import Workers
from fedjax_private.trust import Trust

_SECONDS_TO_END = 10.0
_NAMES = {SERVER: "the server", AUTHORITY: "the key authority"}
Answer = Callable[[bytes], bytes]


@dataclasses.dataclass(frozen=True)
class Run:
    """What every process of a run is told.

    Attributes:
        folder: where their sockets are, named by parties' numbers; nobody else's.
        authkey: who lacks it is not listened to.
        request: what is to be summed.
        trust: who decrypts, and the fewest uploads that a released sum holds.
        quorum: holders that can stand in for others.
        threads: of each process, for ciphertexts.
        capture: whether the server keeps all bytes that it receives.
    """

    folder: str
    authkey: bytes = dataclasses.field(repr=False)
    request: SumRequest
    trust: Trust
    quorum: int
    threads: int
    capture: bool

    @property
    def longest(self) -> int:
        """Bytes of the longest message: an upload, its sum, or what is released."""
        parameters = derive(self.request)
        ciphertexts = 2 * parameters.rows * parameters.polynomial_bytes
        return size(self.request.uploads, max(ciphertexts, 8 * self.request.values))


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
        with theirs:
            self.process = subprocess.Popen(
                [*python, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
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


class Post:
    """The sockets of one process: those of its own parties, and the way to others'.

    A connection carries one message and its answer: another message, nothing, or the
    sentence that refuses it. Messages, and what the driver asks for, are handled one at
    a time in the main thread, where OpenFHE's first encoding must be made.
    """

    def __init__(self, run: Run) -> None:
        self._folder, self._authkey, self._longest = (
            run.folder,
            run.authkey,
            run.longest,
        )
        self._inbox: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = (
            queue.SimpleQueue()
        )
        self.received: list[bytes] | None = [] if run.capture else None

    def listen(self, number: int, answer: Answer) -> None:
        """Has messages to a party answered."""
        listener = Listener(self._address(number), "AF_UNIX", backlog=64)
        _start(self._accept, listener, answer)

    def ask(self, number: int, message: bytes) -> bytes:
        """Sends a message to a party; returns its answer.

        Raises:
            RefusedError: in the receiver's words.
            RuntimeError: if there is no answer.
        """
        try:
            with Client(self._address(number), authkey=self._authkey) as connection:
                connection.send_bytes(message)
                answer = self.keep(connection.recv_bytes(self._longest))
        except (OSError, EOFError) as error:
            name = _NAMES.get(number, f"key holder {number}")
            raise RuntimeError(
                f"{name} does not answer: its process has ended."
            ) from error
        if answer and not answer.startswith(MAGIC):
            raise RefusedError(answer.decode(errors="replace"))
        return answer

    def keep(self, data: bytes) -> bytes:
        """Returns received bytes, which are kept if that was asked for."""
        if self.received is not None:
            self.received.append(data)
        return data

    def do(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Returns what the function returns, or raises, in the main thread."""
        done: Future[Any] = Future()
        self._inbox.put((done, functools.partial(function, *arguments)))
        return done.result()

    def work(self) -> None:
        """The main thread's part. Does not return."""
        while True:
            done, function = self._inbox.get()
            try:
                done.set_result(function())
            except Exception as error:
                done.set_exception(error)

    def _accept(self, listener: Listener, answer: Answer) -> None:
        while True:
            with contextlib.suppress(OSError):
                _start(self._serve, listener.accept(), answer)
                continue
            time.sleep(0.1)  # too many connections for now

    def _serve(self, connection: Connection, answer: Answer) -> None:
        # What goes wrong with a connection, too long a message included, ends that
        # connection only. The challenges are here because a Listener with an authkey
        # makes everybody wait for a stranger who does not answer his.
        with connection, contextlib.suppress(Exception):
            deliver_challenge(connection, self._authkey)
            answer_challenge(connection, self._authkey)
            data = self.keep(connection.recv_bytes(self._longest))
            try:
                answered = self.do(answer, data)
            except Exception as error:
                answered = str(error).encode()
            connection.send_bytes(answered)

    def _address(self, number: int) -> str:
        return os.path.join(self._folder, str(number))


class _Role:
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

    def _answer(self, number: int, data: bytes) -> bytes:
        raise NotImplementedError


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
            party, run.request, run.trust, numbers, run.quorum, self._workers
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
    _start(_obey, control, post, ROLES[role](run, post), run.folder)
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


def _start(function: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


if __name__ == "__main__":
    # By its name: that is how what is pickled refers to this module.
    from fedjax_private.encryption import processes

    processes.main(int(sys.argv[-1]))
