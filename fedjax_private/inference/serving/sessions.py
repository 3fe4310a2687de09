"""The open sessions of a service, and the limits on them."""

import asyncio
import collections
import dataclasses
import time
from collections.abc import Callable

from fedjax_private.choices import Settings, positive, setting
from fedjax_private.inference.serving.frames import Channel, Kind
from fedjax_private.inference.serving.worker import Worker

_REASONS_KEPT = 256
Log = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Limits(Settings):
    """Limits on what clients may use of a service."""

    sessions: int = setting(16, "open at once, each with a process", positive)
    idle_seconds: float = setting(600.0, "until an unused session ends", positive)
    body_seconds: float = setting(300.0, "in which a body must arrive", positive)
    work_seconds: float = setting(120.0, "to load keys, or for a request", positive)
    at_once: int = setting(2, "evaluations at a time; others wait", positive)


class Refusal(Exception):
    """The refusal of an HTTP request.

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
        name: the session's id, in hexadecimal digits.
        to_server: channel of the client's bodies.
        to_client: channel of the answers.
        worker: the session's process.
        counter: number of the client's next body.
        ready: whether evaluation keys were loaded.
        busy: whether a body is being received or worked on.
        images: images that the client has asked about.
        used: time of the last use, in seconds of `time.monotonic`.
    """

    name: str
    to_server: Channel
    to_client: Channel
    worker: Worker
    counter: int = 1
    ready: bool = False
    busy: bool = False
    images: int = 0
    used: float = dataclasses.field(default_factory=time.monotonic)

    def answer(self, kind: Kind, payload: bytes = b"") -> bytes:
        """The body that answers the client's last one, with the same number."""
        return self.to_client.write(kind, self.counter - 1, payload)


class Sessions:
    """The open sessions, and the reasons why the last ones ended."""

    def __init__(self, limits: Limits, log: Log) -> None:
        self._limits, self._log = limits, log
        self._open: dict[str, Session] = {}
        self._starting = 0
        self._ended: collections.OrderedDict[str, str] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def busy(self) -> bool:
        """Whether any session is receiving a body, or working on one."""
        return any(session.busy for session in self._open.values())

    async def start(self, task: bytes, to_server: Channel, to_client: Channel) -> None:
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
        self._log(f"session {name[:8]}: opened, {len(self)} open")

    def find(self, name: str) -> Session:
        """The open session of that name. Raises Refusal if there is none."""
        if name not in self._open:
            reason = self._ended.get(name, "it has ended, or never existed")
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
        self._log(
            f"session {session.name[:8]}: ended ({reason}) after {session.images} "
            f"images, {len(self)} open"
        )

    async def end_all(self, reason: str) -> None:
        """Ends all sessions."""
        for session in list(self._open.values()):
            await self.end(session, reason)

    async def end_idle(self) -> None:
        """Ends sessions when they become idle. Does not return."""
        limit = self._limits.idle_seconds
        while True:
            await asyncio.sleep(min(limit / 4, 5.0))
            oldest = time.monotonic() - limit
            for session in list(self._open.values()):
                if not session.busy and session.used < oldest:
                    await self.end(session, f"idle for {limit:g} s")
