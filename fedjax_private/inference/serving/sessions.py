"""The sessions of a service: who is in, how long, and how many."""

import asyncio
import collections
import dataclasses
import time
from collections.abc import Callable

from fedjax_private.inference.serving.frames import Kind, Line
from fedjax_private.inference.serving.worker import Worker

_REASONS_KEPT = 256
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a service lets strangers, and holders of its token, take.

    Attributes:
        sessions: that are open at once; each has a process.
        idle_seconds: after which a session ends.
        body_seconds: in which a body has to arrive.
        work_seconds: that keys may take to load, or a request to be evaluated.
        memory: bytes of address space of a session's process.
        at_once: evaluations that share the cores; others wait.
    """

    sessions: int = 16
    idle_seconds: float = 600.0
    body_seconds: float = 300.0
    work_seconds: float = 120.0
    memory: int = 8 << 30
    at_once: int = 2

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not 0 < getattr(self, field.name) < float("inf"):
                raise ValueError(
                    f"{field.name} must be positive and finite, got "
                    f"{getattr(self, field.name)}."
                )


class Refusal(Exception):
    """What an HTTP request is refused with.

    Args:
        status: of HTTP.
        reason: one sentence.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclasses.dataclass
class Session:
    """One client's session.

    Attributes:
        name: its id, in hexadecimal digits.
        to_server: what the client says.
        to_client: what it is told.
        worker: its process.
        counter: the number of the next body from the client.
        ready: whether its keys were loaded.
        busy: whether a body is being received or worked on.
        images: that it has asked about.
        used: when it was last used, in seconds of `time.monotonic`.
    """

    name: str
    to_server: Line
    to_client: Line
    worker: Worker
    counter: int = 1
    ready: bool = False
    busy: bool = False
    images: int = 0
    used: float = dataclasses.field(default_factory=time.monotonic)

    def answer(self, kind: Kind, payload: bytes = b"") -> bytes:
        """The body that answers the client's last one, and has its number."""
        return self.to_client.write(kind, self.counter - 1, payload)


class Sessions:
    """The open sessions, and why the last ones ended."""

    def __init__(self, limits: Limits, say: Say) -> None:
        self._limits, self._say = limits, say
        self._open: dict[str, Session] = {}
        self._starting = 0
        self._ended: collections.OrderedDict[str, str] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def busy(self) -> bool:
        """Whether any is receiving a body, or at work on one."""
        return any(session.busy for session in self._open.values())

    async def start(self, task: bytes, to_server: Line, to_client: Line) -> None:
        """Opens a session. Raises Refusal if there are too many."""
        if len(self._open) + self._starting >= self._limits.sessions:
            raise Refusal(
                503,
                f"all {self._limits.sessions} sessions are taken: close one, or try "
                "again later.",
            )
        self._starting += 1
        try:
            worker = await Worker.start(task)
        except OSError as error:
            raise Refusal(503, "no process can be started: try later.") from error
        finally:
            self._starting -= 1
        name = to_server.session.hex()
        self._open[name] = Session(name, to_server, to_client, worker)
        self._say(f"session {name[:8]}: opened, {len(self)} open")

    def find(self, name: str) -> Session:
        """The open session of that name. Raises Refusal if there is none."""
        if name not in self._open:
            reason = self._ended.get(name, "it has ended, or never was")
            raise Refusal(404, f"no such session: {reason}; open a new one.")
        return self._open[name]

    async def end(self, session: Session, reason: str) -> None:
        """Ends a session and its process."""
        if self._open.pop(session.name, None) is None:
            return
        self._ended[session.name] = reason
        while len(self._ended) > _REASONS_KEPT:
            self._ended.popitem(last=False)
        await session.worker.end()
        self._say(
            f"session {session.name[:8]}: ended ({reason}) after {session.images} "
            f"images, {len(self)} open"
        )

    async def end_all(self, reason: str) -> None:
        """Ends all sessions."""
        for session in list(self._open.values()):
            await self.end(session, reason)

    async def end_idle(self) -> None:
        """Ends sessions that nobody uses, as they fall idle. Does not return."""
        limit = self._limits.idle_seconds
        while True:
            await asyncio.sleep(min(limit / 4, 5.0))
            oldest = time.monotonic() - limit
            for session in list(self._open.values()):
                if not session.busy and session.used < oldest:
                    await self.end(session, f"idle for {limit:g} s")
