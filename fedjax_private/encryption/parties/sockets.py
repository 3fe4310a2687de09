"""How processes of one machine pass messages on: a socket for each party that answers.

Who lacks the run's key is not listened to, and what is longer than any message is not
read. What the messages say is for the roles to check.
"""

import contextlib
import dataclasses
import functools
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.connection import (
    Client,
    Connection,
    Listener,
    answer_challenge,
    deliver_challenge,
)
from typing import Any

from fedjax_private.encryption.messages.wire import (
    AUTHORITY,
    MAGIC,
    SERVER,
    RefusedError,
    size,
)
from fedjax_private.encryption.parameters import SumRequest, derive
from fedjax_private.trust import Trust

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
        start_thread(self._accept, listener, answer)

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
                start_thread(self._serve, listener.accept(), answer)
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


def start_thread(function: Callable[..., None], *arguments: Any) -> None:
    """Runs a function in a thread that does not keep the process from ending."""
    threading.Thread(target=function, args=arguments, daemon=True).start()
