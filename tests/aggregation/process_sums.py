"""Aggregations whose parties are processes, for tests here and of attacks."""

import contextlib
import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from fedjax_private.aggregation import processes
from fedjax_private.aggregation.processes import ProcessAggregation
from fedjax_private.encryption.openfhe.backend import interpreter
from fedjax_private.encryption.parameters import Scheme, SumRequest
from fedjax_private.encryption.parties import children
from fedjax_private.encryption.settings import CipherSettings
from fedjax_private.trust import Decryptor, Trust
from tests.aggregation import sums

K, VALUES = 4, 5000

# What the tests ask processes for besides: their roles get these methods.
INSPECTED = """
import gc, os, pickle, sys
from multiprocessing.connection import Connection
from fedjax_private.encryption.openfhe import backend
from fedjax_private.encryption.parties import processes
from fedjax_private.encryption.math.polynomials import Factor

captured, read = [], Connection.recv_bytes

def recv_bytes(connection, *most):
    captured.append(read(connection, *most))
    return captured[-1]

Connection.recv_bytes = recv_bytes
Connection.recv = lambda connection: pickle.loads(connection.recv_bytes())

def received(role):
    return list(captured)

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

for added in (received, private_keys, identities, residues, origin):
    setattr(processes._Role, added.__name__, added)
processes._Role.run = lambda role: role._run
processes.main(int(sys.argv[-1]))
"""


def arguments(name, **changed):
    """What `ProcessAggregation` takes, with some settings changed."""
    scheme = Scheme(name)
    decryptor = Decryptor.HOLDERS if scheme.threshold else Decryptor.KEY_AUTHORITY
    holders = K if scheme.threshold else 1
    request = SumRequest(scheme, VALUES, K, holders, CipherSettings(**changed))
    return request, Trust(K, decryptor)


def started(name, **settings):
    """An aggregation whose clients live in two processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "MOST_PROCESSES", 2)
        return ProcessAggregation(*arguments(name, **settings), quorum=3)


def encoded(aggregation, seed=0):
    """Slots of clients' vectors (K, VALUES)."""
    rows = np.random.default_rng(seed).uniform(-0.3, 0.3, (K, VALUES))
    return sums.encoded(aggregation, rows, seed)


def released(aggregation, slots, number):
    """The sum of a round, and its report."""
    return sums.released(aggregation, slots, round_number=number)


def roles(aggregation, method):
    """What a method says in each process."""
    return {name: child.call(method) for name, child in aggregation.children.items()}


def captured(aggregation):
    """All bytes that the server has received, if its interpreter is `inspected`."""
    return aggregation.children["server"].call("received")


def ended(pid):
    """Whether a process has ended: gone, or a zombie that nobody has asked about."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return True


def wait_until(condition):
    """Returns once the condition holds; fails after two minutes."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Aggregations by name, whose roles can be looked into; started when asked for."""
    script = tmp_path_factory.mktemp("processes") / "inspected.py"
    script.write_text(INSPECTED)
    inspected = [*interpreter(), str(script)]
    made = {}

    def get(name):
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(children, "interpreter", lambda: inspected)
                made[name] = started(name)
        return made[name]

    yield get
    for aggregation in made.values():
        aggregation.close()


@pytest.fixture(scope="module")
def numbers():
    """Rounds that no test has used."""
    return itertools.count()
