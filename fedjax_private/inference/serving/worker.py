"""The process of a session, which alone handles the client's keys and ciphertexts.

    service -- chunks of a message, then whether it is authentic --> worker
    service <-- a status, and an answer or a sentence that refuses -- worker

A C++ library computes on a client's keys and ciphertexts, and hostile ones might crash
it. The process holds the model, the session's keys and nothing else: no token, no other
session, no secret key. If it dies, that session ends. The service does not trust the
process either: it reads a bounded number of bytes from it, and unpickles none. The
process is a new interpreter, never a fork, and does not import JAX.
"""

import asyncio
import contextlib
import dataclasses
import enum
import os
import pickle
import resource
import signal
import socket
import struct
import sys
from typing import BinaryIO

from fedjax_private.encryption.errors import ProtocolError, RefusedError, WireError
from fedjax_private.encryption.openfhe.backend import interpreter
from fedjax_private.inference.compiling.circuit import Circuit
from fedjax_private.inference.evaluating.evaluator import Evaluator
from fedjax_private.inference.planning.plan import Plan

_SECONDS_TO_END = 5.0
_CHUNK = struct.Struct("<I")
_ANSWER = struct.Struct("<BQ")
_LONGEST_SENTENCE = 2000  # characters


class WorkerEnded(RuntimeError):
    """The session's process has ended, or was ended."""


class Command(enum.IntEnum):
    """What a worker does with a message."""

    LOAD_KEYS = 1
    EVALUATE = 2


class _Status(enum.IntEnum):
    DONE = 0
    MALFORMED = 1
    REFUSED = 2
    FAILED = 3


@dataclasses.dataclass(frozen=True)
class Task:
    """What a worker evaluates.

    Attributes:
        circuit: the model.
        plan: made for the circuit.
        score_noise: as for `Evaluator`.
        memory: bytes of address space that the process may use.
    """

    circuit: Circuit
    plan: Plan
    score_noise: float
    memory: int


class Worker:
    """The service's end of a session's process. Build with `start`.

    One message at a time: `begin`, `send` for each chunk, then `commit` or `discard`.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process, self._reader, self._writer = process, reader, writer

    @classmethod
    async def start(cls, task: bytes) -> "Worker":
        """Starts a process, which prepares itself while keys are being uploaded.

        Args:
            task: a pickled `Task`.

        Raises:
            OSError: if the system cannot start one more process.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                # In a new session, so that the service alone gets interrupts from the
                # keyboard.
                process = await asyncio.create_subprocess_exec(
                    *interpreter(),
                    "-m",
                    __name__,
                    str(theirs.fileno()),
                    pass_fds=[theirs.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                )
            reader, writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
        worker = cls(process, reader, writer)
        await worker._write(struct.pack("<Q", len(task)), task)
        return worker

    async def begin(self, command: Command) -> None:
        """Begins a message. Raises WorkerEnded."""
        await self._write(bytes([command]))

    async def send(self, chunk: bytes) -> None:
        """Passes on a chunk, not yet authenticated. Raises WorkerEnded."""
        await self._write(_CHUNK.pack(len(chunk)), chunk)

    async def discard(self) -> None:
        """Ends a message that is not authentic. Raises WorkerEnded."""
        await self._write(_CHUNK.pack(0), b"\0")

    async def commit(self, most: int, seconds: float) -> bytes:
        """Ends an authentic message, and returns the worker's answer.

        Args:
            most: bytes of the longest answer.
            seconds: time after which the process is killed.

        Raises:
            ProtocolError: if the evaluator raised it.
            WorkerEnded: if the process has ended, was killed, or answers nonsense.
        """
        await self._write(_CHUNK.pack(0), b"\1")
        try:
            return await asyncio.wait_for(self._answer(most), seconds)
        except asyncio.TimeoutError as error:
            await self.end()
            raise WorkerEnded(f"it took longer than {seconds:g} s") from error
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise WorkerEnded(await self._reason()) from error

    async def end(self) -> None:
        """Kills the process, which holds nothing worth saving."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _answer(self, most: int) -> bytes:
        head = await self._reader.readexactly(_ANSWER.size)
        status, length = _ANSWER.unpack(head)
        limit = most if status == _Status.DONE else 4 * _LONGEST_SENTENCE
        if length > limit:
            await self.end()
            raise WorkerEnded("its process gave an answer that is too long")
        answer = await self._reader.readexactly(length)
        if status == _Status.DONE:
            return answer
        sentence = answer.decode(errors="replace")
        if status == _Status.MALFORMED:
            raise WireError(sentence)
        if status == _Status.REFUSED:
            raise RefusedError(sentence)
        await self.end()
        raise WorkerEnded(sentence)

    async def _write(self, *parts: bytes) -> None:
        try:
            for part in parts:
                self._writer.write(part)
            await self._writer.drain()
        except ConnectionError as error:
            raise WorkerEnded(await self._reason()) from error

    async def _reason(self) -> str:
        try:
            status = await asyncio.wait_for(self._process.wait(), _SECONDS_TO_END)
        except asyncio.TimeoutError:
            await self.end()
            return "its process closed the connection"
        if status < 0:
            with contextlib.suppress(ValueError):
                return f"its process was killed by {signal.Signals(-status).name}"
        return f"its process ended with status {status}"


def main(descriptor: int) -> None:
    """Runs the process whose service is at the other end of a socket."""
    with socket.socket(fileno=descriptor) as connection:
        reader = connection.makefile("rb")
        (length,) = struct.unpack("<Q", _exactly(reader, 8))
        task = pickle.loads(_exactly(reader, length))
        # Hostile bytes can use no more memory. A core file would hold a client's keys.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (task.memory, task.memory))
        evaluator = Evaluator(task.circuit, task.plan, score_noise=task.score_noise)
        with contextlib.suppress(EOFError, ConnectionError):
            _answer_messages(connection, reader, evaluator, task.memory)


def _answer_messages(
    connection: socket.socket, reader: BinaryIO, evaluator: Evaluator, memory: int
) -> None:
    """Answers messages until the service closes the connection."""
    while True:
        command = Command(_exactly(reader, 1)[0])
        chunks: list[bytes] = []
        while length := _CHUNK.unpack(_exactly(reader, _CHUNK.size))[0]:
            chunks.append(_exactly(reader, length))
        if _exactly(reader, 1) != b"\1":  # not authentic
            continue
        data = b"".join(chunks)
        chunks.clear()
        status, answer = _Status.DONE, b""
        try:
            if command == Command.LOAD_KEYS:
                evaluator.load_keys(data)
            else:
                answer = evaluator.evaluate(data)
        except RefusedError as error:
            status, answer = _Status.REFUSED, _sentence(error)
        except ProtocolError as error:
            status, answer = _Status.MALFORMED, _sentence(error)
        except MemoryError:
            status = _Status.FAILED
            answer = f"it needs more memory than {memory >> 20} MiB".encode()
        except Exception as error:
            status, answer = _Status.FAILED, _sentence(error)
        del data
        connection.sendall(_ANSWER.pack(status, len(answer)))
        connection.sendall(answer)


def _sentence(error: Exception) -> bytes:
    text = str(error) if isinstance(error, ProtocolError) else type(error).__name__
    return text[:_LONGEST_SENTENCE].encode(errors="replace")


def _exactly(reader: BinaryIO, length: int) -> bytes:
    data = reader.read(length)
    if len(data) != length:
        raise EOFError
    return data


if __name__ == "__main__":
    # Pickled tasks refer to this module by its name, not as __main__.
    from fedjax_private.inference.serving import worker

    worker.main(int(sys.argv[-1]))
