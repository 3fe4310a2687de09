"""Starts a peer's worker in its environment, and asks it for timings."""

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.benchmarks.peers.environments import (
    PeerUnavailable,
    clean_environ,
    python,
)
from experiments.benchmarks.peers.registry import (
    PEERS,
    READY_NUMBERS,
    STAGES,
    suite_of,
    unsuitable,
)

SCRIPT = Path(__file__).with_name("worker.py")
START_SECONDS = 600.0
ANSWER_SECONDS = 600.0
CLOSE_SECONDS = 5.0

_LONGEST_LINE = 1 << 20
_LONGEST_ERROR = 300


class Worker:
    """A running peer, warmed up; `close` ends it.

    Args:
        peer: a key of `PEERS`.
        case: the work.
        threads: 1 keeps it on one core.
        executable: the Python of its environment.

    Attributes:
        ready: its ready line: `warmup_seconds` (of the first call of the variant in
            use, compilation included), `variant`, `versions`, and the `READY_NUMBERS`
            of its suite.

    Raises:
        PeerUnavailable: on construction and in `repeat`, which close it then: it ended,
            reported an error, was too slow, or gave an answer that breaks the protocol.
    """

    ready: Mapping[str, Any]

    def __init__(
        self, peer: str, case: Mapping[str, Any], threads: int, executable: str | Path
    ):
        self._peer, self._suite = peer, suite_of(case)
        self._received = b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close
        try:
            self._process = subprocess.Popen(
                [str(executable), "-s", str(SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=clean_environ(),
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise PeerUnavailable(f"{peer} cannot be started: {error}.") from error
        request = {"peer": peer, "case": dict(case), "threads": threads}
        self.ready = self._ask(request, START_SECONDS, self._is_ready)

    def repeat(self, times: int) -> list[Any]:
        """The seconds of doing the work a number of times.

        In suites with `STAGES` they are lists, one number a stage.
        """

        def fits(answer: dict[str, Any]) -> bool:
            seconds = answer.get("seconds")
            return (
                isinstance(seconds, list)
                and len(seconds) == times
                and all(map(self._is_measurement, seconds))
            )

        return self._ask({"repeat": times}, ANSWER_SECONDS, fits)["seconds"]

    def close(self) -> None:
        """Ends the worker."""
        if self._errors.closed:
            return
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._process.stdin.close()
            self._process.wait(CLOSE_SECONDS)
        self._kill()

    def _kill(self) -> None:
        """Ends the worker at once, with all processes that it has started."""
        if self._process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):
                file.close()

    def _ask(
        self,
        request: dict[str, Any],
        seconds: float,
        fits: Callable[[dict[str, Any]], bool],
    ) -> dict[str, Any]:
        try:
            try:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
            except OSError:
                raise self._ended() from None
            try:
                answer = json.loads(self._line(seconds))
            except ValueError:
                answer = None
            if isinstance(answer, dict) and isinstance(answer.get("error"), str):
                raise PeerUnavailable(
                    f"{self._peer}: {answer['error'][:_LONGEST_ERROR]}"
                )
            if not isinstance(answer, dict) or not fits(answer):
                raise PeerUnavailable(
                    f"{self._peer} gave an answer that breaks the protocol."
                )
        except BaseException:
            self._kill()
            raise
        return answer

    def _line(self, seconds: float) -> bytes:
        """The next line; raises ValueError if it is too long."""
        output = self._process.stdout.fileno()
        deadline = time.monotonic() + seconds
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([output], [], [], left)[0]:
                raise PeerUnavailable(
                    f"{self._peer} gave no answer within {seconds:g} s."
                )
            if not (chunk := os.read(output, _LONGEST_LINE)):
                raise self._ended()
            self._received += chunk
            if len(self._received) > _LONGEST_LINE:
                raise ValueError("a line is too long.")
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _ended(self) -> PeerUnavailable:
        """The error of a worker that has ended, with the last line that it wrote."""
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _LONGEST_LINE))
        lines = self._errors.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()] or ["it wrote nothing"]
        return PeerUnavailable(f"{self._peer} ended: {said[-1][:_LONGEST_ERROR]}")

    def _is_ready(self, answer: dict[str, Any]) -> bool:
        numbers = ("warmup_seconds", *READY_NUMBERS.get(self._suite, ()))
        return answer.get("ready") is True and all(
            _is_number(answer.get(name)) for name in numbers
        )

    def _is_measurement(self, value: Any) -> bool:
        stages = STAGES.get(self._suite)
        if stages is None:
            return _is_number(value)
        return (
            isinstance(value, list)
            and len(value) == len(stages)
            and all(map(_is_number, value))
        )


def start(
    peer: str, case: Mapping[str, Any], threads: int, say: Callable[[str], None]
) -> Worker:
    """Starts a peer; makes its environment if it is missing.

    Args:
        peer: a key of `PEERS`.
        case: the work; the names of its fields tell its suite.
        threads: 1 keeps the peer on one core.
        say: is told of work that takes long.

    Raises:
        PeerUnavailable: it cannot run here.
        ValueError: an unknown peer, or a case that does not suit it.
    """
    if reason := unsuitable(peer, case):
        raise ValueError(reason)
    return Worker(peer, case, threads, python(PEERS[peer].environment, say))


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value >= 0
    )
