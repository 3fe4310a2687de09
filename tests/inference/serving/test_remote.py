"""A client that meets servers which are broken or hostile."""

import contextlib
import functools
import http.server
import json
import os
import threading
import time

import numpy as np
import pytest

from fedjax_private.datasets.examples import Normalization
from fedjax_private.encryption.messages.wire import RefusedError, WireError
from fedjax_private.inference import plan
from fedjax_private.inference.serving import frames
from fedjax_private.inference.serving.frames import Direction, Kind, Line
from fedjax_private.inference.serving.offer import OFFER_BYTES, Offer
from fedjax_private.inference.serving.remote import (
    RemoteModel,
    ServiceError,
    read_offer,
)
from tests.inference.serving.services import images, tiny

pytestmark = pytest.mark.needs_openfhe

TOKEN = os.urandom(32)


@pytest.fixture(scope="module")
def offer():
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
    """A server that answers each request with what `answer(method, path, body)` says:
    a status, and bytes or an iterator of such."""

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
    """What the service says, without evaluating anything; tests change parts of it."""

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
            said, _, self.line = frames.welcome(TOKEN, self.offer, nonce)
            self.number = 0
            return 200, said
        self.number += 1
        if path.endswith("/keys"):
            return 200, self.line.write(Kind.READY, self.number)
        if path.endswith("/predict"):
            return self.predict()
        return 200, self.line.write(Kind.CLOSED, self.number)

    def predict(self):
        return 200, self.line.write(Kind.ANSWER, self.number, self.answer)


@pytest.mark.parametrize(
    ("said", "match"),
    [
        (b"", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff", "no JSON"),
        (b"{}", "not an offer of version 1"),
        (b"x" * (OFFER_BYTES + 1), "more than"),
        (iter([b"x" * 70_000] * 100), "more than"),
    ],
)
def test_what_is_no_offer_is_refused(said, match):
    server = Answers(lambda *_: (200, said))
    with server, pytest.raises(WireError, match=match):
        RemoteModel.connect(server.url, TOKEN)


def test_an_offer_is_read_without_a_token(offer):
    honest = Honest(offer)
    with Answers(honest) as server:
        assert read_offer(server.url) == offer
    assert honest.asked == [("GET", "/model")]


@pytest.mark.parametrize(
    "change",
    [
        {"run": "00"},
        {"run": "zz" * 16},
        {"model": "\x1b[31mred"},
        {"model": "m" * 300},
        {"model": 3},
        {"dataset": None},
        {"scale": 0},
        {"scale": "1"},
        {"scale": True},
        {"offset": 1e400},
        {"offset": 10**400},
        {"split": []},
        {"classes": None},
        {"classes": ["a", "b"]},
        {"classes": ["a", "b", "\n"]},
        {"classes": ["a", "b", 3]},
        {"plan": "\ud800"},
        {"plan": None},
        {"plan": "{}"},
        {"plan": "[" * 10_000},
        {"version": 2},
    ],
)
def test_an_offer_is_checked_field_by_field(offer, change):
    fields = json.loads(offer.to_bytes())
    assert Offer.from_bytes(json.dumps(fields).encode()) == offer
    with pytest.raises(WireError):
        Offer.from_bytes(json.dumps(fields | change).encode())


def test_an_offer_that_was_altered_on_its_way_opens_no_session(offer):
    honest = Honest(offer)

    def answer(method, path, body):
        status, said = honest(method, path, body)
        return status, said.replace(b"255.0", b"254.0") if path == "/model" else said

    with Answers(answer) as server, pytest.raises(WireError, match="tag"):
        RemoteModel.connect(server.url, TOKEN)


def test_a_server_without_the_token_gets_no_keys(offer):
    honest = Honest(offer)
    with Answers(honest) as server, pytest.raises(WireError, match="tag"):
        RemoteModel.connect(server.url, os.urandom(32))
    assert [path for _, path in honest.asked] == ["/model", "/sessions"]


def test_an_answer_that_is_none_is_not_decrypted(offer):
    class Dishonest(Honest):
        def predict(self):
            return self.how()

    honest = Dishonest(offer)
    other = Line(os.urandom(32), Direction.TO_CLIENT, bytes(16))
    long = bytes(offer.plan.answer_bytes + 1)
    for how, match in (
        (lambda: (200, b""), "shortest"),
        (lambda: (200, bytes(frames.size(0))), "tag"),
        (lambda: (200, other.write(Kind.ANSWER, 2, honest.answer)), "tag"),
        (lambda: (200, honest.line.write(Kind.ANSWER, 1, honest.answer)), "is due"),
        (lambda: (200, honest.line.write(Kind.READY, 2)), "another kind"),
        (lambda: (200, honest.line.write(Kind.ANSWER, 2, long)), "more than"),
        (lambda: (200, honest.line.write(Kind.ANSWER, 2, honest.answer[:-1])), None),
        (
            lambda: (200, honest.line.write(Kind.ANSWER, 2, b"\xff" * len(long[1:]))),
            None,
        ),
    ):
        honest.how = how
        with Answers(honest) as server:
            model = RemoteModel.connect(server.url, TOKEN)
            with pytest.raises(WireError, match=match):
                model.predict(images(1))
            model.close()


@pytest.mark.parametrize(
    ("status", "said", "match"),
    [
        (400, b'{"error": "because."}', r"refused \(400\): because."),
        (500, b"<html>", "without saying why"),
        (404, b'{"error": "\\u001b[31m"}', "without saying why"),
        (429, b'{"error": 5}', "without saying why"),
        (503, b"[" * 10_000, "without saying why"),
        (302, b"", r"refused \(302\)"),
    ],
)
def test_a_refusal_is_told_in_the_servers_words_if_they_can_be_shown(
    status, said, match
):
    server = Answers(lambda *_: (status, said))
    with server, pytest.raises(RefusedError, match=match):
        RemoteModel.connect(server.url, TOKEN)


def test_an_answer_that_trickles_in_is_not_waited_for():
    def trickle():
        for _ in range(100):
            time.sleep(0.1)
            yield b"x"

    with Answers(lambda *_: (200, trickle())) as server:
        start = time.monotonic()
        with pytest.raises(ServiceError, match="takes too long"):
            RemoteModel.connect(server.url, TOKEN, timeout=1.0)
        assert time.monotonic() - start < 5


@pytest.mark.parametrize("url", ["", "x", "ftp://x", "http://", "http://x:99999"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ValueError, match="no URL"):
        RemoteModel.connect(url, TOKEN)


def test_where_nobody_listens(offer):
    with Answers(Honest(offer)) as server:
        url = server.url
        model = RemoteModel.connect(url, TOKEN)
    with pytest.raises(ServiceError, match="is `serve` running there"):
        RemoteModel.connect(url, TOKEN)
    model.close()
    model.close()
    with pytest.raises(ServiceError, match="closed"):
        model.predict(images(1))


def test_images_of_another_kind_are_not_sent(offer):
    honest = Honest(offer)
    with Answers(honest) as server, RemoteModel.connect(server.url, TOKEN) as model:
        before = len(honest.asked)
        for bad in (
            np.zeros(16),
            np.zeros((1, 16)),
            np.zeros((1, 4, 4, 3)),
            np.zeros(()),
        ):
            with pytest.raises(ValueError, match="images must be"):
                model.predict(bad)
        with pytest.raises(ValueError, match="uint8 or floats"):
            model.predict(np.zeros((1, 4, 4, 1), np.int64))
        assert len(honest.asked) == before
