"""Malformed and hostile requests: each is refused in words, and harms nobody else."""

import contextlib
import os
import socket

import numpy as np
import pytest

from fedjax_private.inference.evaluating.querier import Querier
from fedjax_private.inference.planning.public import HEADER, SEED_BYTES
from fedjax_private.inference.serving import frames
from fedjax_private.inference.serving.frames import Kind
from fedjax_private.inference.serving.remote import RemoteModel
from tests.inference.serving.services import (
    PATIENCE,
    Server,
    Stranger,
    images,
    tiny,
    waited_for,
)

pytestmark = pytest.mark.needs_openfhe

PATHS = (
    ("/keys", "PUT", Kind.KEYS),
    ("/predict", "POST", Kind.REQUEST),
    ("", "DELETE", Kind.CLOSE),
)
START = HEADER.size + SEED_BYTES  # of the residues in keys and requests


@pytest.fixture(scope="module")
def circuit():
    return tiny()


@pytest.fixture(scope="module")
def server(circuit, tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("server"), circuit)
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def material(server):
    """A client's evaluation keys, and one of its requests."""
    querier = Querier(Stranger(server).offer.plan)
    return querier.evaluation_keys(), querier.encrypt(images(1) / np.float32(255))


def assert_served(server, circuit):
    asked = images(1, seed=9)
    with RemoteModel.connect(server.url, server.token) as model:
        expected = circuit.plain(asked / 255)
        np.testing.assert_allclose(model.predict(asked), expected, rtol=0, atol=1e-2)


def spoilt(payload, ring, random):
    """Keys or a request of the same length, with what no client would send.

    A header of another kind, version, plan or count; or one residue in one of its
    polynomials that is not below its prime.
    """
    if random.integers(3) == 0:
        place = int(random.integers(HEADER.size))
        changed = payload[place] ^ int(random.integers(1, 256))
        return payload[:place] + bytes([changed]) + payload[place + 1 :]
    size = ring.polynomial_bytes
    start = START + size * int(random.integers((len(payload) - START) // size))
    polynomial = ring.unpack(payload[start : start + size])
    limb = int(random.integers(ring.limbs))
    prime = ring.moduli[limb]
    bad = random.integers(prime, 2 ** prime.bit_length())
    polynomial[0, limb, random.integers(ring.dimension)] = bad
    return payload[:start] + ring.pack(polynomial) + payload[start + size :]


def altered(body, random):
    """The bytes of an authentic body after an accident, or an attack, on their way."""
    kind, place = random.integers(6), int(random.integers(len(body)))
    if kind == 0:  # a flipped bit anywhere, or in the header
        place = place if random.integers(2) else place % frames.PREFIX_BYTES
        flipped = bytes([body[place] ^ 1 << int(random.integers(8))])
        return body[:place] + flipped + body[place + 1 :]
    if kind == 1:
        return body[:place]
    if kind == 2:
        return body + random.bytes(1 + place % 64)
    if kind == 3:
        return random.bytes(len(body))
    if kind == 4:  # two parts in the wrong order
        return body[place:] + body[:place] if place else body[1:]
    return body[:place] + random.bytes(8) + body[place + 8 :]


def misuse(session, material, random):
    """An authentic body with a malformed payload."""
    keys, request = material
    method, path, kind, payload = (
        ("POST", "/predict", Kind.REQUEST, request),
        ("PUT", "/keys", Kind.KEYS, keys),
    )[int(random.integers(2))]
    choice = random.integers(3)
    if choice == 0:
        payload = payload[: int(random.integers(len(payload)))]
    elif choice == 1:
        payload += bytes(1 + int(random.integers(100)))
    else:
        kind = Kind(1 + (kind + int(random.integers(7))) % 8)
    body = session.to_server.write(kind, session.counter, payload)
    return session.stranger.ask(method, session.path + path, body)


def attack(session, material, random):
    """One malformed request; returns the status and the reason."""
    keys, request = material
    if random.integers(3) == 0:
        return misuse(session, material, random)
    if random.integers(8) == 0:
        body = altered(session.stranger.hello(), random)
        return session.stranger.ask("POST", "/sessions", body)
    path, method, kind = PATHS[int(random.integers(3))]
    payload = {"/keys": keys, "/predict": request, "": b""}[path]
    body = session.to_server.write(kind, session.counter, payload)
    return session.stranger.ask(method, session.path + path, altered(body, random))


def attack_many(server, material, count, random):
    """Attacks a session that has keys; it must survive, and the server's memory too."""
    session = Stranger(server).open()
    assert session.keys(material[0])[0] == 200
    warm, reasons = 0, []
    for number in range(count):
        status, reason = attack(session, material, random)
        assert 400 <= status < 500, reason
        reasons.append(reason)
        session.counter = session.due()
        if number == count // 4:
            warm = server.memory()
    assert server.memory() < warm + (32 << 20)
    assert session.predict(material[1])[0] == 200
    assert session.close()[0] == 200
    return reasons


def attack_keys(server, material, count, random):
    """Hostile evaluation keys in authentic bodies: each ends its own session only."""
    stranger = Stranger(server)
    ring = stranger.offer.plan.ring
    keys = material[0]
    for payload in (
        b"\xff" * len(keys),
        bytes(len(keys)),
        keys[:START] + b"\xff" * (len(keys) - START),
        *(spoilt(keys, ring, random) for _ in range(count - 3)),
    ):
        session = stranger.open()
        status, said = session.keys(payload)
        assert (status, "evaluation keys were refused" in said) == (400, True), said
        status, said = session.predict(material[1])
        assert (status, "evaluation keys were refused" in said) == (404, True)


def attack_requests(server, material, count, random):
    """Hostile ciphertexts in authentic bodies: each is refused, the session goes on."""
    session = Stranger(server).open()
    assert session.keys(material[0])[0] == 200
    ring = session.stranger.offer.plan.ring
    for _ in range(count):
        status, said = session.predict(spoilt(material[1], ring, random))
        assert status == 400, said
    assert session.predict(material[1])[0] == 200
    assert session.close()[0] == 200


def test_hundreds_of_malformed_requests_are_refused(server, circuit, material):
    random = np.random.default_rng(0)
    reasons = attack_many(server, material, 300, random)
    assert len({reason[:30] for reason in reasons}) >= 8  # not all for one reason
    attack_requests(server, material, 20, random)
    attack_keys(server, material, 6, random)
    assert_served(server, circuit)
    assert server.process.poll() is None


@pytest.mark.slow
def test_a_thousand_malformed_requests_are_refused(server, circuit, material):
    random = np.random.default_rng(1)
    before = server.memory()
    for _ in range(4):
        attack_many(server, material, 200, random)
        attack_requests(server, material, 25, random)
        attack_keys(server, material, 25, random)
        assert_served(server, circuit)
    assert server.memory() < before + (64 << 20)
    waited_for(lambda: not server.workers())


def test_a_body_is_not_read_beyond_its_bound(server, material):
    session = Stranger(server).open()
    plan = session.stranger.offer.plan
    for path, method, most in (
        ("/keys", "PUT", plan.evaluation_keys_bytes),
        ("/predict", "POST", plan.request_bytes),
        ("", "DELETE", 0),
    ):
        length = frames.size(most) + 1
        status, said = asked_without_body(
            server, method, session.path + path, f"Content-Length: {length}"
        )
        assert status == 413
        assert f"at most {length - 1} bytes are read" in said
    assert asked_without_body(server, "POST", "/sessions", "Content-Length: 2000")[0]
    # Without a length, too: an authentic header that promises too much.
    header = session.to_server.begin(Kind.REQUEST, 1, 2**60).prefix
    status, said = session.stranger.ask(
        "POST", f"{session.path}/predict", iter([header])
    )
    assert (status, f"a payload of {2**60} bytes" in said) == (400, True)
    assert session.close()[0] == 200


def connected(server):
    """A TCP connection to a server."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def asked_without_body(server, method, path, header):
    """The answer to a request whose body never comes."""
    with connected(server) as connection:
        connection.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode()
        )
        said = b""
        while b'"}' not in said and (data := connection.recv(1 << 16)):
            said += data
    return int(said.split()[1]), said.decode()


def test_a_body_that_does_not_come_gives_the_session_back(circuit, tmp_path):
    running = Server(tmp_path, circuit, body_seconds=5.0)
    session = Stranger(running).open()
    length = session.stranger.offer.plan.evaluation_keys_bytes
    with session.unfinished("PUT", "/keys", Kind.KEYS, bytes(length), length // 2) as (
        connection,
        _,
    ):
        assert connection.getresponse().status == 408
    status, said = session.close()
    assert status == 200, said
    assert running.stop() == 0


def test_a_client_that_hangs_up_gives_the_session_back(server, material):
    session = Stranger(server).open()
    body = session.to_server.write(Kind.KEYS, 1, material[0])
    with connected(server) as connection:
        head = f"PUT {session.path}/keys HTTP/1.1\r\nHost: x\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[: len(body) // 2])
    session.counter = 2
    keys = session.to_server.write(Kind.KEYS, 2, material[0])

    def answered():
        status, said = session.stranger.ask("PUT", f"{session.path}/keys", keys)
        return None if status == 409 else (status, said)

    status, said = waited_for(answered)
    assert status == 200, said
    session.counter = 3
    assert session.close()[0] == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"\0" * 4096,
        b"POST /sessions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /sessions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /sessions HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(server, raw):
    with connected(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(raw)
        with contextlib.suppress(ConnectionError):
            said = connection.recv(1 << 16)
            assert not said or b" 400 " in said.split(b"\r\n")[0]
    assert Stranger(server).ask("GET", "/health")[0] == 200


def test_a_process_that_dies_ends_its_session_only(server, circuit, material):
    with RemoteModel.connect(server.url, server.token) as model:
        (survivor,) = server.workers()
        session = Stranger(server).open()
        assert session.keys(material[0])[0] == 200
        (victim,) = set(server.workers()) - {survivor}
        os.kill(victim, 11)
        status, said = session.predict(material[1])
        assert status == 422
        assert "its process was killed by SIGSEGV" in said
        status, said = session.predict(material[1])
        assert (status, "killed by SIGSEGV" in said) == (404, True)
        asked = images(1)
        np.testing.assert_allclose(
            model.predict(asked), circuit.plain(asked / 255), rtol=0, atol=1e-2
        )


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"memory": 400 << 20}, "the session has ended, its process has ended: "),
        ({"work_seconds": 0.01}, "took longer than 0.01 s"),
    ],
)
def test_a_process_that_takes_too_much_is_ended(circuit, tmp_path, limits, reason):
    running = Server(tmp_path, circuit, **limits)
    session = Stranger(running).open()
    keys = Querier(session.stranger.offer.plan).evaluation_keys()
    status, said = session.keys(keys)
    assert status == 422, said
    assert reason in said
    assert Stranger(running).ask("GET", "/health")[0] == 200
    assert running.workers() == []
    assert running.stop() == 0
