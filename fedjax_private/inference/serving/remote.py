"""A client of the service. Images leave its process as ciphertext only.

    with RemoteModel.connect("http://127.0.0.1:8443", token) as model:
        scores = model.predict(images)

Formal guarantees: those of `querier.Querier`, which holds the only secret key and sends
it to nobody, and of `frames`. The server's address and offer are not trusted: what is
read is bounded before it is used, a plan is followed only if `PublicPlan` accepts it,
and an answer is decrypted only if holders of the token made it for this request. A
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
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.inference.evaluating.querier import Querier
from fedjax_private.inference.serving import frames
from fedjax_private.inference.serving.frames import Channel, Kind
from fedjax_private.inference.serving.offer import OFFER_BYTES, Offer

_ERROR_BYTES = 1 << 14
_CHUNK_BYTES = 1 << 18
_MOST_ANSWER_BYTES = 1 << 30

# By the kind of a body: method, path in the session, and the kind of its answer.
_EXCHANGES = {
    Kind.KEYS: ("PUT", "/keys", Kind.READY),
    Kind.REQUEST: ("POST", "/predict", Kind.ANSWER),
    Kind.CLOSE: ("DELETE", "", Kind.CLOSED),
}


class ServiceError(RuntimeError):
    """The service cannot be reached, or does not answer as it should."""


def read_offer(url: str, *, timeout: float = 300.0) -> Offer:
    """Returns a server's offer. It takes no token, and no key is made.

    Args:
        url: as for `RemoteModel.connect`.
        timeout: seconds that the request may take.

    Raises:
        ValueError: if the URL is malformed.
        ServiceError: if the server is not reached.
        WireError: if its offer is malformed, or asks too much of a client.
    """
    connection = _Connection(url, timeout)
    with contextlib.closing(connection):
        return Offer.from_bytes(connection.ask("GET", "/model", b"", OFFER_BYTES))


class RemoteModel:
    """A session with a served model. Build with `connect`; close it, or use `with`.

    It does not retry, because a request that failed may have been counted. After an
    error in the transport, open a new session. Threads may share it; they take turns.

    Attributes:
        offer: the server's offer.
        querier: the client's keys.
    """

    def __init__(
        self, connection: "_Connection", offer: Offer, channels: tuple[Channel, Channel]
    ) -> None:
        self._connection, self.offer = connection, offer
        self._to_server, self._to_client = channels
        self._path = f"/sessions/{self._to_server.session.hex()}"
        self._counter = 1
        self._lock = threading.Lock()
        self.querier = Querier(offer.plan)

    @classmethod
    def connect(
        cls, url: str, token: bytes, *, timeout: float = 300.0
    ) -> "RemoteModel":
        """Opens a session: makes keys, and uploads the evaluation keys.

        Args:
            url: `http://host:port`, or `https://` with a certificate that the system
                trusts.
            token: (32,) bytes, the server's access token.
            timeout: seconds that one request may take.

        Raises:
            ValueError: if the URL is malformed.
            ServiceError: if the server is not reached.
            RefusedError: if the server refuses, with its reason.
            WireError: if the server does not know the token, or its offer or answers
                are not those of a server of this version.
        """
        with contextlib.ExitStack() as on_error:
            connection = _Connection(url, timeout)
            on_error.callback(connection.close)
            data = connection.ask("GET", "/model", b"", OFFER_BYTES)
            offer, nonce = Offer.from_bytes(data), frames.nonce()
            hello = frames.opening_channel(token, data).write(Kind.HELLO, 0, nonce)
            longest = frames.size(frames.SESSION_BYTES + frames.NONCE_BYTES)
            welcome = connection.ask("POST", "/sessions", hello, longest)
            channels = frames.read_welcome(token, data, nonce, welcome)
            model = cls(connection, offer, channels)
            on_error.callback(model.close)
            model._exchange(Kind.KEYS, model.querier.evaluation_keys())
            on_error.pop_all()
        return model

    def predict(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Returns the scores (B, outputs) of any number of images.

        Args:
            images: (B, *input_shape): uint8 as stored, which are normalised as the
                offer says, or floating point, already normalised.

        Raises:
            ValueError: if images have another shape or dtype.
            ServiceError: if the server is not reached any more.
            RefusedError: if the server refuses, for instance at the query limit.
            WireError: if its answer is malformed or forged.
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
            request = self.querier.encrypt(some)
            answer = self._exchange(Kind.REQUEST, request, plan.answer_bytes)
            scores[first : first + len(some)] = self.querier.decrypt(answer, len(some))
        return scores

    def close(self) -> None:
        """Ends the session, and the server frees its keys. Later calls do nothing."""
        with contextlib.suppress(ServiceError, RefusedError, WireError):
            if not self._connection.closed:
                self._exchange(Kind.CLOSE)
        self._connection.close()

    def __enter__(self) -> "RemoteModel":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _exchange(self, kind: Kind, payload: bytes = b"", length: int = 0) -> bytes:
        """Sends a body of the session; returns the payload of its answer."""
        method, path, answer = _EXCHANGES[kind]
        most = frames.size(min(length, _MOST_ANSWER_BYTES))
        with self._lock:
            number = self._counter
            self._counter += 1
            body = self._to_server.write(kind, number, payload)
            data = self._connection.ask(method, self._path + path, body, most)
        return self._to_client.read(data, answer, number, length)


class _Connection:
    """One HTTP connection to an untrusted server."""

    def __init__(self, url: str, timeout: float) -> None:
        parts = urllib.parse.urlsplit(url)
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError(f"url must have the form http://host:port, got {url!r}.")
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
        """Returns the body of an answer of at most `most` bytes.

        Raises:
            ServiceError: if there is no answer, or it is not HTTP.
            RefusedError: if the server refuses, with its reason.
            WireError: if the answer is longer.
        """
        if self.closed:
            raise ServiceError("the session is closed: connect again.")
        try:
            return self._ask(method, path, body, most)
        except WireError:
            self.close()  # with the rest of the answer unread
            raise
        except (OSError, http.client.HTTPException) as error:
            # The server may or may not have counted the request.
            self.close()
            reason = str(error) or type(error).__name__
            raise ServiceError(
                f"no answer from {self._url} ({reason}): is a service running there?"
            ) from error

    def _ask(self, method: str, path: str, body: bytes, most: int) -> bytes:
        headers = {"Content-Type": "application/octet-stream"} if body else {}
        # A server that refuses early stops reading; its reason can still be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.request(method, self._root + path, body or None, headers)
        with self._connection.getresponse() as response:
            accepted = response.status == http.client.OK
            data = _read(response, most if accepted else _ERROR_BYTES, self._timeout)
        if not accepted:
            raise RefusedError(_reason(response.status, data))
        return data


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
    """The server's sentence, if it can be shown on a terminal."""
    try:
        sentence = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        sentence = None
    if not isinstance(sentence, str) or not sentence.isprintable():
        sentence = "without a reason."
    return f"the server refused ({status}): {sentence}"
