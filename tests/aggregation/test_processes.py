"""Server, clients and decryptors in processes of their own."""

import contextlib
import gc
import itertools
import os
import pickle
import socket
import struct
import subprocess
import sys
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private.aggregation.encrypted import EncryptedAggregation
from fedjax_private.aggregation.processes import ProcessAggregation
from fedjax_private.encryption import (
    AUTHORITY,
    SERVER,
    Kind,
    OpenFHEUnavailable,
    RefusedError,
    Scheme,
    SumRequest,
)
from fedjax_private.encryption.messages.wire import MAGIC, TAG_BYTES, read_sender
from fedjax_private.encryption.openfhe.backend import interpreter
from fedjax_private.encryption.openfhe.contexts import ring_of
from fedjax_private.encryption.parties.sockets import Run
from fedjax_private.trust import Decryptor, Trust

pytestmark = pytest.mark.needs_openfhe

K, VALUES = 4, 5000

# What the tests ask processes for besides: their roles get these methods.
INSPECTED = """
import gc, os, sys
from fedjax_private.encryption.openfhe import backend
from fedjax_private.encryption.parties import processes
from fedjax_private.encryption.math.polynomials import Factor

def private_keys(role):
    private = backend.load().openfhe.PrivateKey, Factor
    found = (r for o in gc.get_objects() for r in gc.get_referents(o))
    return len({id(r) for r in found if type(r) in private})

def identities(role):
    return [p.identity._private.private_bytes_raw() for p in role._parties.values()]

def residues(role):
    if hasattr(role, "_key"):
        return [role._key._secret_key.residues]
    return [
        polynomial
        for holder in role._holders.values()
        for polynomial in (
            holder._secret_key.residues,
            *holder._shares.values(),
        )
    ]

def origin(role):
    return os.getpid(), os.getppid(), backend.load().process, "jax" in sys.modules

for added in (private_keys, identities, residues, origin):
    setattr(processes._Role, added.__name__, added)
processes._Role.run = lambda role: role._run
processes.main(int(sys.argv[-1]))
"""


def arguments(name, **changed):
    scheme = Scheme(name)
    decryptor = Decryptor.HOLDERS if scheme.threshold else Decryptor.KEY_AUTHORITY
    holders = K if scheme.threshold else 1
    return SumRequest(scheme, VALUES, K, holders, **changed), Trust(K, decryptor)


def started(name, *, request=None, **options):
    wanted, trust = arguments(name, **(request or {}))
    chosen = {"quorum": 3, "processes": 2, **options}
    return ProcessAggregation(wanted, trust, **chosen)


def encoded(aggregation, seed=0):
    rows = np.random.default_rng(seed).uniform(-0.3, 0.3, (K, VALUES))
    keys = jax.random.split(jax.random.key(seed), K)
    encode = jax.jit(jax.vmap(aggregation.codec.encode))
    return np.asarray(encode(keys, jnp.asarray(rows, jnp.float32)))


def released(aggregation, slots, number):
    session = aggregation.open(number)
    session.add(np.arange(K), slots)
    return session.release()


def expected(request, slots):
    total = slots.sum(axis=0, dtype=np.float64)
    return total % 2**request.bits if request.scheme.exact else total


def roles(aggregation, method):
    return {child.name: child.call(method) for child in aggregation._children}


def ended(pid):
    """Whether a process has ended: gone, or a zombie that nobody has asked about."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return True


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def inspected(tmp_path_factory):
    script = tmp_path_factory.mktemp("processes") / "inspected.py"
    script.write_text(INSPECTED)
    return [*interpreter(), str(script)]


@pytest.fixture(scope="module")
def running(inspected):
    """Aggregations by name, started when first asked for."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = started(name, python=inspected, capture=True)
        return made[name]

    yield get
    for aggregation in made.values():
        aggregation.close()


@pytest.fixture(scope="module")
def numbers():
    return itertools.count()


@pytest.mark.parametrize("name", [scheme.value for scheme in Scheme])
def test_sums_are_those_of_one_process(running, numbers, name):
    separate = running(name)
    request, trust = arguments(name)
    single = EncryptedAggregation(request, trust, quorum=3)
    assert separate.grid == single.grid
    for seed in range(3):
        number, slots = next(numbers), encoded(single, seed)
        total, report = released(separate, slots, number)
        other, of_other = released(single, slots, number)
        if request.scheme.exact:
            np.testing.assert_array_equal(total, other)
            np.testing.assert_array_equal(total, expected(request, slots))
            assert report.max_error == 0.0
        else:
            within = 8 * separate.parameters.error_std(K)
            np.testing.assert_allclose(total, other, rtol=0, atol=2 * within)
            assert report.max_error < within
        assert report.link_bytes == of_other.link_bytes
        assert report.upload_bytes_per_client == of_other.upload_bytes_per_client
        assert report.saturated == of_other.saturated
        assert (report.seconds_keys > 0) is (seed == 0)
        for seconds in ("encrypt", "add", "decrypt"):
            assert getattr(report, f"seconds_{seconds}") > 0
    assert "run in separate processes" in separate.description


def windows(polynomial, ring):
    """Pieces of a key's polynomial, as its words and bit by bit, 32 bytes each."""
    for data in (polynomial.tobytes(), ring.pack(polynomial[None])):
        yield from (data[i : i + 32] for i in range(0, len(data) - 32, 1024))


@pytest.mark.parametrize("name", ["exact", "threshold_exact", "ckks"])
def test_what_the_server_receives_holds_no_secret_key(running, numbers, name):
    aggregation = running(name)
    released(aggregation, encoded(aggregation), next(numbers))
    received = b"".join(aggregation.captured())
    ring = ring_of(aggregation.parameters)
    uploads = 2 * K * aggregation.parameters.rows * ring.polynomial_bytes
    assert len(received) > uploads
    others = [child for child in aggregation._children if child.name != "server"]
    polynomials = [
        polynomial
        for child in others
        if child.name == "authority" or aggregation.request.scheme.threshold
        for polynomial in child.call("residues")
    ]
    # Each holder has its own key, and a share of everybody's.
    assert len(polynomials) == (K + K * K if "threshold" in name else 1)
    secrets = [p for polynomial in polynomials for p in windows(polynomial, ring)]
    assert len(secrets) > 20
    secrets += [key for child in others for key in child.call("identities")]
    assert not any(secret in received for secret in secrets)
    # What did come would have been found.
    assert ring.pack(ring.unpack(uploads_at(aggregation)[0][0]))[:32] in received


def uploads_at(aggregation):
    """(ciphertexts, client) of each upload that the server has received."""
    p = aggregation.parameters
    length = 2 * p.rows * p.polynomial_bytes
    return [
        (data[-TAG_BYTES - length : -TAG_BYTES], read_sender(data))
        for data in aggregation.captured()
        if data.startswith(MAGIC) and data[5] == Kind.UPLOAD and len(data) > length
    ]


@pytest.mark.parametrize("name", ["exact", "threshold_exact", "ckks"])
def test_only_decryptors_hold_private_keys(running, numbers, name):
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
    rows = scheme.decrypt(own, ciphertext.reshape(-1, 2, *ciphertext.shape[1:]))
    best = max(best, (unpack(rows, scheme.parameters) == vectors[client]).mean())
directory = {SERVER: identity.public}
mine = Party(AUTHORITY, directory)
directory[AUTHORITY] = mine.identity.public
authority = KeyAuthority(mine, request, trust)
server = Party(SERVER, directory, identity)
numbers = tuple(range(request.uploads))
asked = wire.write(
    server, AUTHORITY, Kind.SUM, 0, uploads[0][0], key_id=key_id, numbers=numbers
)
try:
    refusal = authority.decrypt(asked)
except ProtocolError as error:
    refusal = str(error)
sys.stdout.buffer.write(pickle.dumps((len(uploads), best, refusal)))
"""


def test_the_servers_bytes_and_identity_decrypt_nothing(running, numbers):
    aggregation = running("exact")
    slots = encoded(aggregation)
    released(aggregation, slots, next(numbers))
    uploads = uploads_at(aggregation)[-K:]
    (key,) = aggregation._server.call("identities")
    known = (aggregation.request, aggregation.trust, key, aggregation.key_id)
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
    aggregation = running("exact")
    released(aggregation, np.ones((K, VALUES), np.int32), next(numbers))
    ciphertexts = [np.frombuffer(c, np.uint8) for c, _ in uploads_at(aggregation)[-K:]]
    for one, other in itertools.combinations(ciphertexts, 2):
        assert (one == other).mean() < 0.05


@pytest.mark.parametrize("name", ["ckks", "threshold_exact"])
def test_too_few_uploads_are_never_decrypted(running, numbers, name):
    aggregation = running(name)
    slots = encoded(aggregation)
    session = aggregation.open(next(numbers))
    with pytest.raises(RefusedError, match="no upload"):
        session.release()
    session = aggregation.open(next(numbers))
    session.add(np.arange(K - 1), slots[1:])
    with pytest.raises(RefusedError, match=f"sum of {K - 1} uploads is not decrypted"):
        session.release()
    released(aggregation, slots, next(numbers))


def test_rounds_are_released_once_and_only_while_open(running, numbers):
    aggregation, number = running("exact"), next(numbers)
    slots = encoded(aggregation)
    session = aggregation.open(number)
    session.add(np.arange(K), slots)
    session.release()
    with pytest.raises(RuntimeError, match="released already"):
        session.release()
    with pytest.raises(RefusedError, match="decrypted already"):
        released(aggregation, slots, number)
    old = aggregation.open(next(numbers))
    old.add(np.arange(K), slots)
    new = aggregation.open(next(numbers))
    new.add(np.arange(K), slots)
    with pytest.raises(RefusedError, match="is not open"):
        old.release()
    new.release()


def test_clients_are_enrolled_when_they_come(running, numbers):
    aggregation = running("exact")
    slots = encoded(aggregation)
    session = aggregation.open(next(numbers))
    session.add(np.array([907, 2]), slots[:2])
    session.add(np.array([31, 12]), slots[2:])
    total, _ = session.release()
    np.testing.assert_array_equal(total, expected(aggregation.request, slots))


def test_errors_of_clients_come_back(running, numbers):
    aggregation = running("ckks")
    bad = np.zeros((K, VALUES), np.float32)
    bad[2, 7] = np.nan
    session = aggregation.open(next(numbers))
    with pytest.raises(ValueError, match=r"client 2: .* not finite") as caught:
        session.add(np.arange(K), bad)
    assert type(caught.value) is ValueError
    with pytest.raises(RefusedError, match="twice"):
        session.add(np.array([2]), bad[:1])
    released(aggregation, encoded(aggregation), next(numbers))


class Bomb:
    """Whoever unpickles it is told, by a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_strangers_do_not_stop_a_round(running, numbers, tmp_path):
    aggregation = running("exact")
    slots = encoded(aggregation)
    run = aggregation._server.call("run")
    address = os.path.join(run.folder, str(SERVER))
    number = next(numbers)
    session = aggregation.open(number)
    session.add(np.arange(2), slots[:2])
    upload = next(d for d in reversed(aggregation.captured()) if len(d) > 10_000)
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
        (next(d for d in aggregation.captured() if len(d) == len(upload)), "is open"),
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
    np.testing.assert_array_equal(total, expected(aggregation.request, slots))
    assert not os.path.exists(bomb)
    for stranger in strangers:
        stranger.close()


def test_keys_are_rotated_when_the_budget_is_used_up():
    with started("threshold_ckks", request={"query_budget": 4}) as aggregation:
        names, slots = [], encoded(aggregation)
        assert aggregation.parameters.sums_per_key == 2
        for number in range(4):
            _, report = released(aggregation, slots, number)
            names.append(aggregation.key_id)
            assert (report.seconds_keys > 0) is (number % 2 == 0)
        assert names[0] == names[1] != names[2] == names[3]


def test_dead_processes_are_named_and_none_is_left():
    aggregation = started("exact")
    slots = encoded(aggregation)
    children = aggregation._children
    clients, authority = aggregation._clients[1], aggregation._authority
    with aggregation:
        session = aggregation.open(0)
        clients.process.kill()
        with pytest.raises(RuntimeError, match="'clients 1' has ended, with status -9"):
            session.add(np.arange(K), slots)
        session = aggregation.open(1)
        session.add(np.array([0, 2, 4, 6]), slots)
        authority.process.kill()
        with pytest.raises(RuntimeError, match="the key authority does not answer"):
            session.release()
        with pytest.raises(RuntimeError, match="'authority' has ended"):
            aggregation.open(2)
    assert all(child.process.poll() is not None for child in children)
    aggregation.close()
    with pytest.raises(RuntimeError, match="has ended, with status"):
        aggregation.open(3)


def test_forgotten_processes_end():
    aggregation = started("exact", processes=1)
    session = aggregation.open(0)
    pids = [child.process.pid for child in aggregation._children]
    del aggregation, session
    gc.collect()
    assert all(map(ended, pids))


DRIVER = """
import os, pickle, sys
from fedjax_private.encryption.parties.processes import Child
from fedjax_private.encryption.parties.sockets import Run

run, python = pickle.load(sys.stdin.buffer)
os.mkdir(run.folder)
children = [Child(run, role, role, python) for role in ("server", "clients")]
for child in children:
    child.call("enrol", 1)
    child.call("listen", 1 + children.index(child))
print(*(child.process.pid for child in children), flush=True)
os.kill(os.getpid(), 9)
"""


def test_processes_end_with_their_driver(tmp_path):
    folder = tmp_path / "sockets"
    run = Run(str(folder), b"key", *arguments("exact"), 1, 1, False)
    done = subprocess.run(
        [*interpreter(), "-c", DRIVER],
        input=pickle.dumps((run, interpreter())),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2, done.stderr.decode()
    wait_until(lambda: all(map(ended, pids)) and not folder.exists())


def test_impossible_arguments_are_refused(tmp_path):
    request, trust = arguments("exact")
    for sentence, options in (
        ("as a star, not as a ring", {"topology": "ring"}),
        ("at least one process", {"processes": 0}),
        ("at least one worker", {"workers": 0}),
    ):
        with pytest.raises(ValueError, match=sentence):
            ProcessAggregation(request, trust, **options)
    holders = Trust(K, Decryptor.HOLDERS)
    with pytest.raises(ValueError, match="one of the two is wrong") as caught:
        ProcessAggregation(request, holders, processes=1, python=interpreter())
    assert type(caught.value) is ValueError
    with pytest.raises(FileNotFoundError):
        ProcessAggregation(request, trust, python=[str(tmp_path / "none")])
    script = tmp_path / "without.py"
    script.write_text(
        "import sys\nsys.modules['openfhe'] = None\n"
        "from fedjax_private.encryption import processes\n"
        "processes.main(int(sys.argv[-1]))\n"
    )
    with pytest.raises(OpenFHEUnavailable, match="plain arms run without it"):
        ProcessAggregation(
            request, trust, processes=1, python=[*interpreter(), str(script)]
        )
