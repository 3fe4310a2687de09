"""Sockets between processes of one machine, one for each party that answers.

Connections without the run's key are rejected, and bytes beyond the longest possible
message are not read. The parties check the messages themselves.
"""

import contextlib
import dataclasses
import functools
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from multiprocessing.connection import (
    Client,
    Connection,
    Listener,
    answer_challenge,
    deliver_challenge,
)
from typing import Any

from fedjax_private.encryption.errors import NoAnswerError, RefusedError
from fedjax_private.encryption.messages.wire import AUTHORITY, MAGIC, SERVER, size
from fedjax_private.encryption.parameters import SumRequest, derive
from fedjax_private.trust import Trust

_NAMES = {SERVER: "the server", AUTHORITY: "the key authority"}
Answer = Callable[[bytes], bytes]


@dataclasses.dataclass(frozen=True)
class Run:
    """The facts about a run that all its processes get.

    Attributes:
        folder: the folder of the run's sockets, named by numbers of parties.
        authkey: the run's key, without which connections are rejected.
        request: what is to be summed.
        trust: states who decrypts, and the fewest uploads that a released sum holds.
        quorum: the number of holders that can stand in for others.
        verified: whether decryptors check which uploads a sum holds.
    """

    folder: str
    authkey: bytes = dataclasses.field(repr=False)
    request: SumRequest
    trust: Trust
    quorum: int
    verified: bool

    @property
    def makers(self) -> Sequence[int]:
        """Those who make the keys of the run: the authority, or all holders."""
        holders = range(self.request.holders)
        return holders if self.request.scheme.threshold else (AUTHORITY,)

    @property
    def longest(self) -> int:
        """Bytes of the longest message: an upload, a sum with parts, or a release."""
        parameters, uploads = derive(self.request), self.request.uploads
        half = parameters.rows * parameters.polynomial_bytes
        ciphertexts = half * (1 + (uploads if self.verified else 1))
        return size(uploads, max(ciphertexts, 8 * self.request.values))


class Mailbox:
    """Receives messages for the parties of one process, and sends messages to others.

    A connection carries one message and its answer: another message, nothing, or the
    sentence that refuses it. A message is handled in the thread of its connection.
    `in_main_thread` is for what must be handled one at a time, or by the thread that
    made OpenFHE's first encoding. So are calls from the driver.
    """

    def __init__(self, run: Run) -> None:
        self._folder, self._authkey = run.folder, run.authkey
        self._longest = run.longest
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = (
            queue.SimpleQueue()
        )

    def listen(self, number: int, answer: Answer) -> None:
        """Answers messages to the party with that number from now on."""
        listener = Listener(self._address(number), "AF_UNIX", backlog=64)
        start_thread(self._accept, listener, answer)

    def ask(self, number: int, message: bytes) -> bytes:
        """Sends a message to a party and returns the answer.

        Raises:
            RefusedError: if the receiver refuses the message, with its sentence.
            NoAnswerError: if there is no answer.
        """
        try:
            with Client(self._address(number), authkey=self._authkey) as connection:
                connection.send_bytes(message)
                answer = connection.recv_bytes(self._longest)
        except (OSError, EOFError) as error:
            name = _NAMES.get(number, f"key holder {number}")
            raise NoAnswerError(
                f"{name} does not answer: its process has ended."
            ) from error
        if answer and not answer.startswith(MAGIC):
            raise RefusedError(answer.decode(errors="replace"))
        return answer

    def in_main_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function in the main thread; returns its result or raises its error.

        For other threads, while the main thread is in `run`.
        """
        result: Future[Any] = Future()
        self._calls.put((result, functools.partial(function, *arguments)))
        return result.result()

    def run(self) -> None:
        """Makes the calls for other threads. For the main thread. Does not return."""
        while True:
            result, function = self._calls.get()
            try:
                result.set_result(function())
            except Exception as error:
                result.set_exception(error)

    def _accept(self, listener: Listener, answer: Answer) -> None:
        while True:
            with contextlib.suppress(OSError):
                start_thread(self._serve, listener.accept(), answer)
                continue
            time.sleep(0.1)  # too many connections at the moment

    def _serve(self, connection: Connection, answer: Answer) -> None:
        # An error on a connection, such as too long a message, ends that connection
        # only. The challenges are here, in the connection's own thread, because a
        # Listener with an authkey would block for a stranger who does not answer.
        with connection, contextlib.suppress(Exception):
            deliver_challenge(connection, self._authkey)
            answer_challenge(connection, self._authkey)
            data = connection.recv_bytes(self._longest)
            try:
                reply = answer(data)
            except NoAnswerError:
                return  # a simulated party that has vanished
            except Exception as error:
                # Never empty, because that would be consent.
                reply = (str(error) or type(error).__name__).encode()
            connection.send_bytes(reply)

    def _address(self, number: int) -> str:
        return os.path.join(self._folder, str(number))


def start_thread(function: Callable[..., None], *arguments: Any) -> None:
    """Runs a function in a thread that does not keep the process alive."""
    threading.Thread(target=function, args=arguments, daemon=True).start()
