"""Starts the processes of parties, and calls them over pipes.

    driver -- pipe: calls ---------------------> every process
    clients' process -- socket: upload --------> server's process
    clients' process -- socket: declaration ---> authority's, or a holder's process
    server's process -- socket: sum -----------> authority's, or a holder's process

The driver is the training program. It hands clients their vectors, because a simulation
trains all of them in one program. It tells every process the public keys of the others,
in place of the assumed public-key infrastructure, and carries the messages by which
holders make a joint key. `processes` runs in each process.

Tests start whole federations of processes: see `tests/aggregation/test_processes.py`.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.connection import Pipe
from typing import Any

from fedjax_private.encryption.openfhe.backend import interpreter
from fedjax_private.encryption.parties.sockets import Run

_MODULE = "fedjax_private.encryption.parties.processes"  # runs in each process
_SECONDS_TO_END = 10.0


class Child:
    """A process of one role, for the driver that starts it.

    The process ends when the driver closes the pipe between them, or when the driver
    itself ends.

    Args:
        run: the facts about the run.
        role: one of `processes.ROLES`.
        name: for error messages.
    """

    def __init__(self, run: Run, role: str, name: str) -> None:
        self.name = name
        self._control, child_end = Pipe()
        # A new interpreter and not a fork, the default of `multiprocessing`: a fork
        # copies the state of OpenFHE's random generator, so that two clients would
        # encrypt with the same randomness (see `openfhe.backend.Backend`). A session of
        # its own, so that only the driver handles interrupts from the keyboard. Without
        # accelerators, whose memory JAX would otherwise claim.
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "JAX_PLATFORMS": "cpu",
        }
        with child_end:
            self.process = subprocess.Popen(
                [*interpreter(), "-m", _MODULE, str(child_end.fileno())],
                pass_fds=[child_end.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=environment,
            )
        self._send((role, run))

    def call(self, method: str, *arguments: Any) -> Any:
        """Calls a method of the role. Returns and raises as `call_all` does."""
        return call_all(method, {self: arguments})[0]

    def close(self) -> None:
        """Tells the process to end."""
        self._control.close()

    def wait(self) -> None:
        """Waits for the process to end, and kills it if that takes too long."""
        try:
            self.process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _send(self, call: object) -> None:
        # If the process has ended, reading its answer fails.
        with contextlib.suppress(OSError):
            self._control.send(call)

    def _receive(self) -> Any:
        try:
            return self._control.recv()
        except (EOFError, OSError):
            return RuntimeError(
                f"the process {self.name!r} has ended, with status "
                f"{self.process.wait()}: no further round is possible."
            )


def call_all(method: str, calls: Mapping[Child, tuple[Any, ...]]) -> list[Any]:
    """Calls a method of the roles of several processes at once.

    Args:
        method: the name of the method.
        calls: process -> its arguments.

    Returns:
        The results, in the order of `calls`.

    Raises:
        ValueError: if a role raises one (so for every ProtocolError), with the same
            type and sentence.
        RuntimeError: likewise, or if a process has ended or failed otherwise.
    """
    try:
        for child, arguments in calls.items():
            child._send((method, arguments))
        answers = [child._receive() for child in calls]
    except BaseException:
        # Interrupted: the next answer would belong to this call.
        for child in calls:
            child.process.kill()
        raise
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers
