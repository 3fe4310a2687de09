"""Processes: what the server's holds, and what strangers send to their sockets."""

import itertools
import os
import pickle
import socket
import struct
import subprocess
import sys
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client

import numpy as np
import pytest

from fedjax_private.encryption.errors import ProtocolError
from fedjax_private.encryption.messages.wire import (
    AUTHORITY,
    MAGIC,
    SERVER,
    TAG_BYTES,
    Kind,
)
from fedjax_private.encryption.openfhe.backend import interpreter
from fedjax_private.encryption.openfhe.contexts import ring_of
from tests.aggregation import sums
from tests.aggregation.process_sums import (
    VALUES,
    K,
    captured,
    encoded,
    released,
    roles,
)
from tests.encryption.fixtures import altered

pytestmark = pytest.mark.needs_openfhe


def windows(polynomial, ring):
    """Pieces of a key's polynomial, as its words and bit by bit, 32 bytes each."""
    for data in (polynomial.tobytes(), ring.pack(polynomial[None])):
        yield from (data[i : i + 32] for i in range(0, len(data) - 32, 1024))


@pytest.mark.parametrize("name", ["exact", "threshold_exact", "ckks"])
def test_what_the_server_receives_holds_no_secret_key(running, numbers, name):
    """Server, a process: searches all bytes that reached it for keys -> nothing."""
    aggregation = running(name)
    released(aggregation, encoded(aggregation), next(numbers))
    received = b"".join(captured(aggregation))
    ring = ring_of(aggregation.parameters)
    uploads = 2 * K * aggregation.parameters.rows * ring.polynomial_bytes
    assert len(received) > uploads
    others = dict(aggregation.children)
    others.pop("server")
    polynomials = [
        polynomial
        for process, child in others.items()
        if process == "authority" or aggregation.request.scheme.threshold
        for polynomial in child.call("residues")
    ]
    # Each holder has its own key, and a share of everybody's.
    assert len(polynomials) == (K + K * K if "threshold" in name else 1)
    secrets = [p for polynomial in polynomials for p in windows(polynomial, ring)]
    assert len(secrets) > 20
    secrets += [key for child in others.values() for key in child.call("identities")]
    assert not any(secret in received for secret in secrets)
    # What did come would have been found.
    assert ring.pack(ring.unpack(uploads_at(aggregation)[0][0]))[:32] in received


def uploads_at(aggregation):
    """(ciphertexts, client) of each upload that the server has received."""
    p = aggregation.parameters
    length = 2 * p.rows * p.polynomial_bytes
    return [
        (data[-TAG_BYTES - length : -TAG_BYTES], int.from_bytes(data[30:38], "little"))
        for data in captured(aggregation)
        if data.startswith(MAGIC) and data[5] == Kind.UPLOAD and len(data) > length
    ]


@pytest.mark.parametrize("name", ["exact", "threshold_exact", "ckks"])
def test_only_decryptors_hold_private_keys(running, numbers, name):
    """Server, a process: searches its memory for keys -> nothing."""
    aggregation = running(name)
    released(aggregation, encoded(aggregation), next(numbers))
    counts = roles(aggregation, "private_keys")
    holding = {process: count > 0 for process, count in counts.items()}
    assert holding.pop("server") is False
    assert holding.pop("authority", True) is True
    assert set(holding.values()) == {"threshold" in name}


ATTACK = """
import pickle, sys
import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from fedjax_private.encryption import *
from fedjax_private.encryption.messages import wire
from fedjax_private.encryption.messages.channels import Identity, Party
from fedjax_private.encryption.math.packing import unpack
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme

request, trust, key, key_id, uploads, vectors = pickle.load(sys.stdin.buffer)
identity = Identity()
identity._private = X25519PrivateKey.from_private_bytes(key)
scheme = HomomorphicScheme(derive(request))
_, own = scheme.generate_keys()
best = 0
for payload, client in uploads:
    ciphertext = scheme.ring.unpack(payload)
    halves = np.split(ciphertext, 2)
    rows = scheme.decrypt(own, np.stack(halves, axis=1))
    best = max(best, (unpack(rows, scheme.parameters) == vectors[client]).mean())
directory = {SERVER: identity.public}
mine = Party(AUTHORITY, directory)
directory[AUTHORITY] = mine.identity.public
authority = KeyAuthority(mine, request, trust)
server = Party(SERVER, directory)
server.identity = identity
numbers = tuple(range(request.uploads))
half = len(uploads[0][0]) // 2
whole = uploads[0][0][:half] + len(numbers) * uploads[0][0][half:]
asked = wire.write(
    server, AUTHORITY, Kind.SUM, 0, whole, key_id=key_id, numbers=numbers
)
try:
    refusal = authority.decrypt(asked)
except ProtocolError as error:
    refusal = str(error)
sys.stdout.buffer.write(pickle.dumps((len(uploads), best, refusal)))
"""


def test_the_servers_bytes_and_identity_decrypt_nothing(running, numbers):
    """Server, a process: decrypts with all that reached it and its identity, in another
    process -> nothing."""
    aggregation = running("exact")
    slots = encoded(aggregation)
    released(aggregation, slots, next(numbers))
    uploads = uploads_at(aggregation)[-K:]
    (key,) = aggregation.children["server"].call("identities")
    key_id = next(d for d in captured(aggregation) if d.startswith(MAGIC))[6:22]
    known = (aggregation.request, aggregation.trust, key, key_id)
    done = subprocess.run(
        [*interpreter(), "-c", ATTACK],
        input=pickle.dumps((*known, uploads, slots)),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr.decode()
    tried, best, refusal = pickle.loads(done.stdout)
    assert tried == K
    assert best < 0.01  # by chance 2^-16 of the values are right
    assert "another key" in refusal


@pytest.mark.parametrize("name", ["exact", "threshold_exact"])
def test_clients_do_not_upload_under_a_key_that_is_not_vouched_for(
    running, numbers, name, monkeypatch
):
    # The driver plays whoever carries vouchers; these clients have read none yet.
    aggregation = running(name)
    slots = encoded(aggregation)
    ids = np.arange(10, 10 + K)
    honest = aggregation._vouchers
    for change, match in (
        (lambda data: [], "do not vouch for the key"),
        (lambda data: data[:-1], "do not vouch for the key"),
        (lambda data: [*data[1:], altered(data[0], 90)], "its tag is wrong"),
        (lambda data: data + data[:1], "unexpected voucher"),
    ):
        monkeypatch.setattr(
            aggregation,
            "_vouchers",
            lambda new, change=change: {n: change(d) for n, d in honest(new).items()},
        )
        session = aggregation.open(next(numbers))
        with pytest.raises(ProtocolError, match=match):
            session.add(ids, slots)
    monkeypatch.undo()
    total, _ = sums.released(aggregation, slots, ids, next(numbers))
    np.testing.assert_array_equal(total, slots.sum(axis=0))


def test_processes_are_spawned_not_forked(running):
    origins = roles(running("exact"), "origin")
    assert len(origins) == 4
    assert len({pid for pid, *_ in origins.values()}) == 4
    for pid, parent, loader, _ in origins.values():
        assert parent == os.getpid() != pid
        assert loader == pid  # OpenFHE was loaded there, not inherited
    # A new interpreter has not what this one has, and who only adds needs no JAX.
    *_, with_jax = origins["server"]
    assert not with_jax


def test_equal_vectors_of_two_processes_are_encrypted_apart(running, numbers):
    """Stranger: compares uploads of equal vectors by two processes -> nothing; they
    share no randomness."""
    aggregation = running("exact")
    released(aggregation, np.ones((K, VALUES), np.int32), next(numbers))
    ciphertexts = [np.frombuffer(c, np.uint8) for c, _ in uploads_at(aggregation)[-K:]]
    for one, other in itertools.combinations(ciphertexts, 2):
        assert (one == other).mean() < 0.05


class Bomb:
    """Whoever unpickles it is told, by a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_strangers_do_not_stop_a_round(running, numbers, tmp_path):
    """Strangers, at the sockets: stay silent, announce 2^60 bytes, send noise, pickles,
    replays and altered messages -> refused, and the round goes on."""
    aggregation = running("exact")
    slots = encoded(aggregation)
    run = aggregation.children["server"].call("run")
    address = os.path.join(run.folder, str(SERVER))
    number = next(numbers)
    session = aggregation.open(number)
    session.add(np.arange(2), slots[:2])
    upload = next(d for d in reversed(captured(aggregation)) if len(d) > 10_000)
    random = np.random.default_rng(0)

    # Without the key of the run: silence, noise, a length of 2^60, a wrong key.
    strangers = []
    for said in (b"", b"", random.bytes(1000), struct.pack("!iQ", -1, 2**60)):
        stranger = socket.socket(socket.AF_UNIX)
        stranger.connect(address)
        stranger.sendall(said)
        strangers.append(stranger)
    strangers[1].close()
    with pytest.raises(AuthenticationError):
        Client(address, authkey=b"wrong")

    # With it: what is no message is refused in a sentence, or the connection ends.
    bomb = str(tmp_path / "bomb")
    flipped = bytearray(upload)
    flipped[5000] ^= 1
    for said, answer in (
        (b"", "a message of 0 bytes"),
        (random.bytes(300), "a message of 300 bytes"),
        (random.bytes(len(upload)), "another magic number"),
        (pickle.dumps(Bomb(bomb)), "a message of"),
        (upload[:-1], "a message of"),
        (bytes(flipped), "its tag is wrong"),
        (upload, "has uploaded in round"),
        (next(d for d in captured(aggregation) if len(d) == len(upload)), "is open"),
        (bytes(run.longest + 1), None),
    ):
        with Client(address, authkey=run.authkey) as stranger:
            if answer is None:
                with pytest.raises((EOFError, OSError)):
                    stranger.send_bytes(said)
                    stranger.recv_bytes()
                continue
            stranger.send_bytes(said)
            sentence = stranger.recv_bytes(1000).decode()
            assert answer in sentence
            assert sentence.endswith(".")
    with Client(address, authkey=run.authkey):
        pass  # who goes without a word

    # The authority's socket is no other: it answers the server alone.
    authority = os.path.join(run.folder, str(AUTHORITY))
    with Client(authority, authkey=run.authkey) as stranger:
        stranger.send_bytes(upload)
        assert b"a message of" in stranger.recv_bytes(1000)

    session.add(np.arange(2, K), slots[2:])
    total, _ = session.release()
    np.testing.assert_array_equal(total, slots.sum(axis=0))
    assert not os.path.exists(bomb)
    for stranger in strangers:
        stranger.close()
