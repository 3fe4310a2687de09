"""A client of the service: its images leave this process as ciphertext only.

    with RemoteModel.connect("http://127.0.0.1:8443", token) as model:
        scores = model.predict(images)

Formal guarantees: those of `querier.Querier`, which holds the only secret key and never
hands it out, and of `frames`. The server's address and offer are not trusted: what is
read is bounded before it is believed, a plan is followed only if `PublicPlan` accepts
it, and an answer is decrypted only if holders of the token made it for this request. A
server that holds the token can still answer with wrong scores; nothing proves that it
evaluated the model that it named.
"""

import contextlib
import http.client
import json
import ssl
import threading
import time
import urllib.parse
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.inference.evaluating.querier import Querier
from fedjax_private.inference.serving import frames
from fedjax_private.inference.serving.frames import Kind, Line
from fedjax_private.inference.serving.offer import OFFER_BYTES, Offer

_ERROR_BYTES = 1 << 14
_CHUNK_BYTES = 1 << 18
_MOST_ANSWER_BYTES = 1 << 30


class ServiceError(RuntimeError):
    """The service cannot be reached, or does not answer as it should."""


def read_offer(url: str, *, timeout: float = 300.0) -> Offer:
    """What a server says of its model, before any key is made for it.

    Raises:
        ValueError: no such URL.
        ServiceError: the server is not reached.
        WireError: it makes no offer that a client may follow.
    """
    http_ = _Http(url, timeout)
    with contextlib.closing(http_):
        return Offer.from_bytes(http_.ask("GET", "/model", b"", OFFER_BYTES))


class RemoteModel:
    """A session with a served model. Use `connect`; close it, or use `with`.

    It retries nothing: a request that failed may have been counted. After an error in
    the transport, open a new session. Threads may share it; they take turns.

    Attributes:
        offer: what the server says of the model.
    """

    def __init__(self, http_: "_Http", offer: Offer, lines: tuple[Line, Line]) -> None:
        self._http, self.offer = http_, offer
        self._to_server, self._to_client = lines
        self._path = f"/sessions/{self._to_server.session.hex()}"
        self._counter = 1
        self._lock = threading.Lock()
        self._querier = Querier.create(offer.plan)

    @classmethod
    def connect(
        cls, url: str, token: bytes, *, timeout: float = 300.0
    ) -> "RemoteModel":
        """Opens a session: makes keys, and uploads those for evaluation.

        Args:
            url: `http://host:port`, or `https://` with a certificate that the system
                trusts.
            token: (32,) bytes, the server's access token.
            timeout: seconds that one request may take.

        Raises:
            ValueError: no such URL.
            ServiceError: the server is not reached.
            RefusedError: it refuses, in its words.
            WireError: it does not know the token, or its offer or answers are not such
                as a server of this version makes.
        """
        http_ = _Http(url, timeout)
        try:
            said = http_.ask("GET", "/model", b"", OFFER_BYTES)
            offer, nonce = Offer.from_bytes(said), frames.nonce()
            hello = frames.opening(token, said).write(Kind.HELLO, 0, nonce)
            longest = frames.size(frames.SESSION_BYTES + frames.NONCE_BYTES)
            welcome = http_.ask("POST", "/sessions", hello, longest)
            model = cls(http_, offer, frames.welcomed(token, said, nonce, welcome))
        except BaseException:
            http_.close()
            raise
        try:
            keys = model._querier.evaluation_keys()
            model._exchange("PUT", "/keys", Kind.KEYS, keys, Kind.READY, 0)
        except BaseException:
            model.close()
            raise
        return model

    def predict(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Returns the scores of images, (B, outputs); any number of them.

        Args:
            images: (B, *input_shape), uint8 as stored, which are normalised as the
                offer says, or floating point as normalised already.

        Raises:
            ValueError: images of another shape or dtype.
            ServiceError: the server is not reached any more.
            RefusedError: it refuses, such as for the query limit.
            WireError: its answer is not one.
        """
        plan = self.offer.plan
        if images.ndim < 1 or images.shape[1:] != tuple(plan.input_shape):
            raise ValueError(
                f"images must be (B, {', '.join(map(str, plan.input_shape))}), got "
                f"{images.shape}."
            )
        if images.dtype == np.uint8:
            images = self.offer.normalization(images)
        elif not np.issubdtype(images.dtype, np.floating):
            raise ValueError(f"images must be uint8 or floats, got {images.dtype}.")
        scores = np.zeros((len(images), plan.outputs))
        for first in range(0, len(images), plan.images_per_request):
            some = images[first : first + plan.images_per_request].astype(np.float32)
            scores[first : first + len(some)] = self._predict(some)
        return scores

    def close(self) -> None:
        """Ends the session. The server forgets its keys; more calls do nothing."""
        with contextlib.suppress(ServiceError, RefusedError, WireError):
            if not self._http.closed:
                self._exchange("DELETE", "", Kind.CLOSE, b"", Kind.CLOSED, 0)
        self._http.close()

    def __enter__(self) -> "RemoteModel":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _predict(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        request = self._querier.encrypt(images)
        answer = self._exchange(
            "POST",
            "/predict",
            Kind.REQUEST,
            request,
            Kind.ANSWER,
            self.offer.plan.answer_bytes,
        )
        return self._querier.decrypt(answer, len(images))

    def _exchange(
        self,
        method: str,
        path: str,
        kind: Kind,
        payload: bytes,
        answer: Kind,
        most: int,
    ) -> bytes:
        """Sends a body of the session; returns the payload of its answer."""
        most = min(most, _MOST_ANSWER_BYTES)
        with self._lock:
            number = self._counter
            self._counter += 1
            body = self._to_server.write(kind, number, payload)
            said = self._http.ask(method, self._path + path, body, frames.size(most))
        return self._to_client.read(said, answer, number, most=most)


class _Http:
    """One connection to a server that nobody trusts."""

    def __init__(self, url: str, timeout: float) -> None:
        parts = urllib.parse.urlsplit(url)
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError(f"{url!r} is no URL of the form http://host:port.")
        self._url, self._root, self._timeout = url, parts.path.rstrip("/"), timeout
        self.closed = False
        self._connection = (
            http.client.HTTPConnection(host, port, timeout=timeout)
            if parts.scheme == "http"
            else http.client.HTTPSConnection(
                host, port, timeout=timeout, context=ssl.create_default_context()
            )
        )

    def close(self) -> None:
        self.closed = True
        self._connection.close()

    def ask(self, method: str, path: str, body: bytes, most: int) -> bytes:
        """Returns the body of an answer of at most so many bytes.

        Raises:
            ServiceError: no answer, or none of HTTP's.
            RefusedError: a refusal, in the server's words.
            WireError: a longer one.
        """
        if self.closed:
            raise ServiceError("the session is closed: connect again.")
        try:
            return self._ask(method, path, body, most)
        except WireError:
            self.close()  # with the rest of the answer unread
            raise
        except (OSError, http.client.HTTPException) as error:
            # Whether the server has counted what was sent is not known.
            self.close()
            said = str(error) or type(error).__name__
            raise ServiceError(
                f"no answer from {self._url} ({said}): is `serve` running there?"
            ) from error

    def _ask(self, method: str, path: str, body: bytes, most: int) -> bytes:
        headers = {"Content-Type": "application/octet-stream"} if body else {}
        # A server that refuses early does not read on: its reason is waiting.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.request(method, self._root + path, body or None, headers)
        with self._connection.getresponse() as response:
            accepted = response.status == http.client.OK
            said = _read(response, most if accepted else _ERROR_BYTES, self._timeout)
        if not accepted:
            raise RefusedError(_reason(response.status, said))
        return said


def _read(response: http.client.HTTPResponse, most: int, seconds: float) -> bytes:
    chunks, length, deadline = [], 0, time.monotonic() + seconds
    while chunk := response.read1(_CHUNK_BYTES):
        chunks.append(chunk)
        length += len(chunk)
        if length > most:
            raise WireError(f"the server answers with more than {most} bytes.")
        if time.monotonic() > deadline:
            raise TimeoutError("its answer takes too long")
    return b"".join(chunks)


def _reason(status: int, body: bytes) -> str:
    """The server's sentence, as far as it can be shown."""
    try:
        sentence = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        sentence = None
    if not isinstance(sentence, str) or not sentence.isprintable():
        sentence = "without saying why."
    return f"the server refused ({status}): {sentence}"
