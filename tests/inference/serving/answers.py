"""Servers that answer what a test tells them to, for tests of clients."""

import contextlib
import functools
import http.server
import os
import threading

from fedjax_private.datasets.examples import Normalization
from fedjax_private.inference import plan
from fedjax_private.inference.serving import frames
from fedjax_private.inference.serving.frames import Kind
from fedjax_private.inference.serving.offer import Offer
from tests.inference.serving.services import tiny

TOKEN = os.urandom(32)


def tiny_offer():
    """An offer of the tiny circuit; nothing evaluates it."""
    public = plan(tiny(), packing="single").public
    return Offer(
        os.urandom(16),
        "tiny",
        "mnist_5k",
        Normalization(),
        ("a", "b", "c"),
        None,
        public,
    )


class Answers:
    """A server that answers requests with the results of `answer(method, path, body)`.

    A result is a status, and bytes or an iterator of bytes.
    """

    def __init__(self, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, said = answer(self.command, self.path, body)
                self.send_response(status)
                if isinstance(said, bytes):
                    self.send_header("Content-Length", str(len(said)))
                    said = [said]
                else:
                    self.send_header("Connection", "close")
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    for part in said:
                        self.wfile.write(part)

            do_GET = do_POST = do_PUT = do_DELETE = _handle

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        serve = functools.partial(self._server.serve_forever, poll_interval=0.02)
        threading.Thread(target=serve, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class Honest:
    """The answers of a service that evaluates nothing; tests change parts of it."""

    def __init__(self, offer):
        self.offer = offer.to_bytes()
        self.answer = bytes(offer.plan.answer_bytes)
        self.asked = []

    def __call__(self, method, path, body):
        self.asked.append((method, path))
        if path == "/model":
            return 200, self.offer
        if path == "/sessions":
            nonce = body[frames.PREFIX_BYTES : -frames.TAG_BYTES]
            said, _, self.channel = frames.write_welcome(TOKEN, self.offer, nonce)
            self.number = 0
            return 200, said
        self.number += 1
        if path.endswith("/keys"):
            return 200, self.channel.write(Kind.READY, self.number)
        if path.endswith("/predict"):
            return self.predict()
        return 200, self.channel.write(Kind.CLOSED, self.number)

    def predict(self):
        return 200, self.channel.write(Kind.ANSWER, self.number, self.answer)
