"""A client that meets broken and hostile servers: it believes none of them."""

import itertools
import json
import os
import time

import pytest

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.inference.serving import frames
from fedjax_private.inference.serving.frames import Channel, Direction, Kind
from fedjax_private.inference.serving.offer import OFFER_BYTES, Offer
from fedjax_private.inference.serving.remote import RemoteModel, ServiceError
from tests.inference.serving.answers import TOKEN, Answers, Honest, tiny_offer
from tests.inference.serving.services import images

pytestmark = pytest.mark.needs_openfhe


@pytest.fixture(scope="module")
def offer():
    return tiny_offer()


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
    other = Channel(os.urandom(32), Direction.TO_CLIENT, bytes(16))
    long = bytes(offer.plan.answer_bytes + 1)
    ones = b"\xff" * offer.plan.answer_bytes
    for how, match in (
        (lambda: (200, b""), "shortest"),
        (lambda: (200, bytes(frames.size(0))), "tag"),
        (lambda: (200, other.write(Kind.ANSWER, 2, honest.answer)), "tag"),
        (lambda: (200, honest.channel.write(Kind.ANSWER, 1, honest.answer)), "is due"),
        (lambda: (200, honest.channel.write(Kind.READY, 2)), "another kind"),
        (lambda: (200, honest.channel.write(Kind.ANSWER, 2, long)), "more than"),
        (lambda: (200, honest.channel.write(Kind.ANSWER, 2, long[:-2])), None),
        (lambda: (200, honest.channel.write(Kind.ANSWER, 2, ones)), None),
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
        (500, b"<html>", "without a reason"),
        (404, b'{"error": "\\u001b[31m"}', "without a reason"),
        (429, b'{"error": 5}', "without a reason"),
        (503, b"[" * 10_000, "without a reason"),
        (302, b"", r"refused \(302\)"),
    ],
)
def test_a_refusal_is_told_in_the_servers_words_if_they_can_be_shown(
    status, said, match
):
    server = Answers(lambda *_: (status, said))
    with server, pytest.raises(RefusedError, match=match):
        RemoteModel.connect(server.url, TOKEN)


def test_an_answer_that_never_ends_is_given_up():
    def trickle():
        for _ in itertools.count():
            time.sleep(0.05)
            yield b"x"

    server = Answers(lambda *_: (200, trickle()))
    with server, pytest.raises(ServiceError, match="no answer from"):
        RemoteModel.connect(server.url, TOKEN, timeout=2.0)
