"""Predictions on encrypted images as an HTTP service (aiohttp).

    GET    /health              whether it runs
    GET    /model               the offer: names, normalisation, the public plan
    POST   /sessions            a hello; answered with a session
    PUT    /sessions/{id}/keys  evaluation keys, once
    POST   /sessions/{id}/predict   encrypted images; answered with encrypted scores
    DELETE /sessions/{id}

Bodies are `frames`; refusals are JSON, `{"error": "one sentence"}`. Each session has a
process of its own (`worker`), to which payloads are passed on as they arrive: the
service itself neither keeps nor parses them. To serve other machines, put a server in
front that terminates TLS and bounds connections.

Formal guarantees. Against the server, honest but curious: it computes on ciphertexts
under a key that it does not have, and so learns nothing of images and scores but the
times and the number of requests, if CKKS with these parameters is IND-CPA secure (ring
learning with errors at 128 bits). Decrypted scores may leak the secret key (Li and
Micciancio, EUROCRYPT 2021), so clients must not send them back. Against a client that
holds the token: it learns the scores of the images that it asks about, up to the stated
error, and of ciphertext noise no more than `planning.flooding` bounds, for as many
images as all holders of the token together may ask about, over all sessions, and
restarts under the same limit. Against strangers: see `frames`; and each session's bytes
reach only its own process, whose memory and time are bounded.

What many queries still reveal: scores are functions of the weights. A linear model
follows exactly from (inputs + 1) scores a class, and small networks follow
approximately from some thousands (Tramer et al., "Stealing Machine Learning Models via
Prediction APIs", USENIX Security 2016); a client with many labelled or unlabelled
images can train a copy on the scores alone. Encryption hides the client's queries, so
that the server cannot tell such queries from honest ones. Two things make extraction
costlier: the query limit, which counts all slots of a request, since the server cannot
see which are used; and noise on the scores, which averages out over repeated questions.
Neither is a guarantee about the weights. Differentially private training bounds what
any number of queries reveals about membership of training records.
"""

import asyncio
import contextlib
import logging
import pickle
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import aiohttp
from aiohttp import http_exceptions, web

from fedjax_private.encryption.errors import ProtocolError, RefusedError, WireError
from fedjax_private.inference.serving import frames
from fedjax_private.inference.serving.access import Quota
from fedjax_private.inference.serving.frames import Body, Kind
from fedjax_private.inference.serving.offer import Offer
from fedjax_private.inference.serving.sessions import (
    Limits,
    Log,
    Refusal,
    Session,
    Sessions,
)
from fedjax_private.inference.serving.worker import Command, Task, WorkerEnded

_CHUNK_BYTES = 1 << 18
_SECONDS_TO_READ_REFUSAL = 2.0
_SECONDS_TO_FINISH = 60.0
_MOST_HELLOS = 1 << 20
_LOGGER = logging.getLogger(__name__)

_T = TypeVar("_T")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Service:
    """A served model. Formal guarantees: see the module.

    Args:
        offer: the public facts about the model.
        task: what each session's process evaluates.
        token: (32,) bytes; holders of it may open sessions.
        quota: of the token, over all sessions.
        limits: on sessions.
        log: called with a line for each event of a session, never with its content.

    Raises:
        ValueError: if the quota allows more images than the plan's flooding is for.
    """

    def __init__(
        self,
        offer: Offer,
        task: Task,
        token: bytes,
        quota: Quota,
        limits: Limits = Limits(),  # noqa: B008
        log: Log = lambda line: None,
    ) -> None:
        if quota.limit > offer.plan.queries:
            raise ValueError(
                f"the noise on answers is planned for {offer.plan.queries} images, and "
                f"the token allows {quota.limit}."
            )
        self._plan, self._offer = offer.plan, offer.to_bytes()
        self._task, self._token, self._quota = pickle.dumps(task), token, quota
        self._limits, self._log = limits, log
        self._sessions = Sessions(limits, log)
        self._evaluating = asyncio.Semaphore(limits.at_once)
        self._hellos: set[bytes] = set()
        self._closing = False

    def application(self) -> web.Application:
        """The service as an aiohttp application."""
        application = web.Application(
            middlewares=[_refusals], client_max_size=frames.size(0)
        )
        router = application.router
        router.add_get("/health", self._health)
        router.add_get("/model", self._model)
        router.add_post("/sessions", self._open)
        router.add_put("/sessions/{name}/keys", self._keys)
        router.add_post("/sessions/{name}/predict", self._predict)
        router.add_delete("/sessions/{name}", self._close)
        application.cleanup_ctx.append(self._idle)
        return application

    async def run(self, host: str, port: int, ready: Callable[[int], None]) -> None:
        """Serves until SIGINT or SIGTERM, then finishes the bodies in progress.

        Args:
            host: address to listen at.
            port: to listen at; 0 for any free one.
            ready: called with the port once the service listens.

        Raises:
            OSError: if it cannot listen there.
        """
        runner = web.AppRunner(
            self.application(),
            access_log=None,
            logger=_LOGGER,
            auto_decompress=False,  # compressed bodies are not expanded
            lingering_time=_SECONDS_TO_READ_REFUSAL,
            shutdown_timeout=_SECONDS_TO_FINISH,
            handle_signals=False,
        )
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            for number in signals:
                loop.add_signal_handler(number, stop.set)
            ready(runner.addresses[0][1])
            await stop.wait()
            for number in signals:  # a second signal ends the process at once
                loop.remove_signal_handler(number)
            await self._finish(runner)
        finally:
            await runner.cleanup()

    async def _finish(self, runner: web.AppRunner) -> None:
        """Waits until the bodies that have begun are answered; takes no others."""
        self._closing = True
        self._log("finishing what is in progress")
        for site in list(runner.sites):
            await site.stop()
        # aiohttp's own shutdown would not read the rest of a body.
        end = time.monotonic() + _SECONDS_TO_FINISH
        while self._sessions.busy and time.monotonic() < end:
            await asyncio.sleep(0.05)

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "sessions": len(self._sessions)})

    async def _model(self, request: web.Request) -> web.Response:
        return web.Response(body=self._offer, content_type="application/json")

    async def _open(self, request: web.Request) -> web.Response:
        channel = frames.opening_channel(self._token, self._offer)
        length = frames.NONCE_BYTES
        prefix = await self._prefix(request, length)
        body = channel.read_prefix(prefix, Kind.HELLO, 0, length)
        received = bytearray()
        await self._rest(request, body, received.extend)
        nonce = bytes(received)
        if nonce in self._hellos:
            raise WireError("a hello was replayed: make a fresh one.")
        if len(self._hellos) >= _MOST_HELLOS:
            raise Refusal(503, "too many sessions were opened: start the server again.")
        self._hellos.add(nonce)
        welcome, *channels = frames.write_welcome(self._token, self._offer, nonce)
        await self._sessions.start(self._task, *channels)
        return _response(welcome)

    async def _keys(self, request: web.Request) -> web.Response:
        start, length = time.perf_counter(), self._plan.evaluation_keys_bytes
        async with self._body(request, Kind.KEYS, length) as (session, body):
            if session.ready:
                raise Refusal(409, "this session has its evaluation keys already.")
            await self._pass_on(request, session, body, Command.LOAD_KEYS)
            try:
                await self._work(session, 0)
            except ProtocolError as error:
                # The library may have loaded some of the keys.
                await self._sessions.end(session, "its evaluation keys were refused")
                raise Refusal(400, f"evaluation keys were refused: {error}") from error
            session.ready = True
            seconds = time.perf_counter() - start
            self._log(f"session {session.name[:8]}: keys loaded in {seconds:.2f} s")
            return _response(session.answer(Kind.READY))

    async def _predict(self, request: web.Request) -> web.Response:
        length = self._plan.request_bytes
        async with self._body(request, Kind.REQUEST, length) as (session, body):
            if not session.ready:
                raise Refusal(409, "this session has no evaluation keys yet.")
            images = self._plan.images_per_request
            self._quota.check(images)
            await self._pass_on(request, session, body, Command.EVALUATE)
            try:
                # Checks again: other sessions may have used the quota.
                self._quota.charge(images)
            except BaseException:
                await session.worker.discard()
                raise
            session.images += images
            answer = await self._work(session, self._plan.answer_bytes)
            return _response(session.answer(Kind.ANSWER, answer))

    async def _close(self, request: web.Request) -> web.Response:
        async with self._body(request, Kind.CLOSE, 0) as (session, body):
            await self._rest(request, body, lambda chunk: None)
            answer = _response(session.answer(Kind.CLOSED))
            await self._sessions.end(session, "closed by its client")
            return answer

    @contextlib.asynccontextmanager
    async def _body(
        self, request: web.Request, kind: Kind, length: int
    ) -> AsyncIterator[tuple[Session, Body]]:
        """Reads an authentic header, and reserves its session for the body.

        Raises:
            WireError: as `Channel.read_prefix`.
            Refusal: if there is no such session, or it is at work.
        """
        session = self._sessions.find(request.match_info["name"])
        prefix = await self._prefix(request, length)
        # No await from here to `busy`: of two bodies with one number, one gets through.
        body = session.to_server.read_prefix(prefix, kind, session.counter, length)
        if session.busy:
            raise Refusal(409, "this session is at work: one body at a time.")
        session.counter += 1
        session.busy = True
        try:
            yield session, body
        except WorkerEnded as error:
            reason = f"its process has ended: {error}"
            await self._sessions.end(session, reason)
            raise Refusal(422, f"the session has ended, {reason}.") from error
        finally:
            session.busy, session.used = False, time.monotonic()

    async def _prefix(self, request: web.Request, payload: int) -> bytes:
        """Reads the prefix of a body with a payload of at most `payload` bytes."""
        if self._closing:
            raise Refusal(503, "the server is shutting down.")
        length, limit = request.content_length, frames.size(payload)
        if length is not None and length > limit:
            raise Refusal(
                413, f"a body of {length} bytes: at most {limit} bytes are read."
            )
        return await self._in_time(_exactly(request.content, frames.PREFIX_BYTES))

    async def _rest(
        self, request: web.Request, body: Body, sink: Callable[[bytes], object]
    ) -> None:
        """Passes a payload to a sink; checks its tag, and that nothing follows."""
        content = request.content

        async def read() -> None:
            left = body.length
            while left:
                chunk = await content.read(min(left, _CHUNK_BYTES))
                if not chunk:
                    raise WireError("a body ended before its payload did.")
                left -= len(chunk)
                body.update(chunk)
                passed = sink(chunk)
                if isinstance(passed, Awaitable):
                    await passed
            body.verify(await _exactly(content, frames.TAG_BYTES))
            if await content.read(1):
                raise WireError("a body goes on after its tag.")

        await self._in_time(read())

    async def _pass_on(
        self, request: web.Request, session: Session, body: Body, command: Command
    ) -> None:
        """Passes a payload to the session's process, which waits for `_work`."""
        await session.worker.begin(command)
        try:
            await self._rest(request, body, session.worker.send)
        except BaseException:
            await session.worker.discard()
            raise

    async def _work(self, session: Session, most: int) -> bytes:
        """Has the session's process work on the payload that was passed to it."""
        async with self._evaluating:
            return await session.worker.commit(most, self._limits.work_seconds)

    async def _in_time(self, reading: Awaitable[_T]) -> _T:
        try:
            return await asyncio.wait_for(reading, self._limits.body_seconds)
        except asyncio.TimeoutError as error:
            raise Refusal(
                408, f"a body took longer than {self._limits.body_seconds:g} s."
            ) from error

    async def _idle(self, application: web.Application) -> AsyncIterator[None]:
        ending = asyncio.create_task(self._sessions.end_idle())
        yield
        ending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ending
        await self._sessions.end_all("the server shuts down")


async def _exactly(content: aiohttp.StreamReader, length: int) -> bytes:
    try:
        return await content.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise WireError("a body ended too early.") from error


def _response(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/octet-stream")


@web.middleware
async def _refusals(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Answers any error with a status and one sentence."""
    try:
        return await handler(request)
    except Refusal as error:
        status, reason = error.status, str(error)
    except RefusedError as error:  # at the query limit
        status, reason = 429, str(error)
    except ProtocolError as error:
        status, reason = 400, str(error)
    except web.HTTPException as error:
        status, reason = error.status, f"{error.reason}: see GET /model."
    except (aiohttp.ClientError, ConnectionError, http_exceptions.BadHttpMessage):
        status, reason = 400, "the body cannot be read."
    except Exception as error:
        # The type only: the message may hold a client's data.
        _LOGGER.error("a request failed: %s", type(error).__name__)
        status, reason = 500, "the server failed."
    return web.json_response({"error": reason}, status=status)
