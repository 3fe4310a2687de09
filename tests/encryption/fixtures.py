"""Parties of an encrypted sum, and a way to run code in a process of its own."""

import contextlib
import itertools
import pickle
import struct
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedjax_private.encryption.errors import ProtocolError
from fedjax_private.encryption.math.rings import Residues
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.messages.wire import (
    AUTHORITY,
    SERVER,
    TAG_BYTES,
    Kind,
    write,
)
from fedjax_private.encryption.openfhe.backend import interpreter
from fedjax_private.encryption.openfhe.contexts import ring_of
from fedjax_private.encryption.parameters import Scheme, SumRequest
from fedjax_private.encryption.parties.authority import KeyAuthority
from fedjax_private.encryption.parties.declarations import declare
from fedjax_private.encryption.parties.encryptor import Encryptor
from fedjax_private.encryption.parties.server import AggregationServer
from fedjax_private.encryption.settings import CipherSettings
from fedjax_private.encryption.workers import Workers
from fedjax_private.trust import Decryptor, Trust

UPLOADS, VALUES = 4, 9000  # two to five ciphertexts a vector


def sum_request(
    scheme: Scheme, values: int, uploads: int, holders: int = 1, **settings: Any
) -> SumRequest:
    """A request with some settings that do not have their defaults."""
    return SumRequest(scheme, values, uploads, holders, CipherSettings(**settings))


REQUESTS = {
    "complex": sum_request(Scheme.CKKS, VALUES, UPLOADS, value_bound=2.0),
    "real": sum_request(Scheme.CKKS, VALUES, UPLOADS, packing="real"),
    "unprotected": sum_request(Scheme.CKKS, VALUES, UPLOADS, protect=False),
    "two limbs": sum_request(Scheme.CKKS, VALUES, UPLOADS, precision=1e-9),
    "exact": SumRequest(Scheme.EXACT, VALUES, UPLOADS),
}


def altered(data: bytes, position: int) -> bytes:
    """The bytes with one bit flipped."""
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


class Network:
    """An authority, a server and clients, who know each other.

    Args:
        request: what is to be summed.
        least: the fewest uploads in a decrypted sum; as many as it holds by default.
        workers: of the authority and the clients.
        verified: whether the authority checks which uploads a sum holds.
    """

    def __init__(
        self,
        request: SumRequest,
        least: int | None = None,
        workers: Workers = Workers(),  # noqa: B008
        verified: bool = True,
    ) -> None:
        self.verified = verified
        self.request = request
        self.trust = Trust(least or request.uploads, Decryptor.KEY_AUTHORITY)
        self.directory: dict[int, bytes] = {}
        self.workers = workers
        self.authority_party = self.party(AUTHORITY)
        self.server_party = self.party(SERVER)
        self.clients = [self.party(i) for i in range(min(request.uploads, 64) + 1)]
        self._rounds = itertools.count()
        self.rotate()

    def party(self, number: int) -> Party:
        """A new party that everybody knows."""
        party = Party(number, self.directory)
        self.directory[number] = party.identity.public
        return party

    def rotate(self) -> None:
        """Makes a key, and tells everybody."""
        self.authority = KeyAuthority(
            self.authority_party,
            self.request,
            self.trust,
            self.workers,
            self.verified,
        )
        self.material = self.authority.material
        self.parameters = self.material.parameters
        self.server = AggregationServer(
            self.server_party, self.material, verified=self.verified
        )
        sent = Material.from_bytes(self.material.to_bytes())
        self.encryptor = Encryptor(sent, workers=self.workers)
        self.admit(*self.clients)
        self.ring = ring_of(self.parameters)
        self.payload = 2 * self.parameters.rows * self.ring.polynomial_bytes

    def admit(self, *clients: Party) -> None:
        """Has the authority vouch for the key to clients."""
        vouchers = self.authority.vouch([client.number for client in clients])
        for client in clients:
            self.encryptor.admit(client, [vouchers[client.number]])

    def open(self) -> int:
        """Opens a round that has not been before."""
        number = next(self._rounds)
        self.server.open(number)
        return number

    def upload(
        self, client: int, number: int, vector: Any, receiver: int = SERVER
    ) -> bytes:
        """An upload of a client that may have made another one in the round."""
        party, vectors = self.clients[client], [np.asarray(vector)]
        (ciphertexts,) = self.encryptor.ciphertexts([client], vectors)
        return self.forge(party, number, ciphertexts, receiver=receiver)

    def add(self, number: int, vectors: Iterable[Any]) -> None:
        """Uploads a vector of each client, the first of the first."""
        for client, vector in enumerate(vectors):
            self.server.add(self.upload(client, number, vector))

    def release(self) -> Any:
        """Ends the round; returns its sum, as the server gets it."""
        return self.server.read_release(
            self.authority.decrypt(self.server.sum_message())
        )

    def sum(self, vectors: Iterable[Any]) -> Any:
        """The released sum of the vectors, in a round of its own."""
        number = self.open()
        self.add(number, vectors)
        return self.release()

    def forge(
        self,
        party: Party,
        number: int,
        payload: bytes | memoryview | None = None,
        *,
        kind: Kind = Kind.UPLOAD,
        numbers: Sequence[int] | None = None,
        receiver: int = SERVER,
        key_id: bytes | None = None,
    ) -> bytes:
        """A message that its sender did tag, with whatever else; zeros by default.

        A client that uploads whatever it likes declares that, if the round is open.
        """
        numbers = (party.number,) if numbers is None else tuple(numbers)
        if payload is None:
            # An upload or a sum: the first polynomials, and each one's second ones.
            payload = bytes(self.payload // 2 * (1 + len(numbers)))
        if kind is Kind.UPLOAD and number == self.server.round_number:
            with contextlib.suppress(ProtocolError):
                self.authority.declare(self.declaration(party, number, payload))
        return write(
            party,
            receiver,
            kind,
            number,
            payload,
            key_id=self.material.key_id if key_id is None else key_id,
            numbers=numbers,
        )

    def declaration(
        self,
        party: Party,
        number: int,
        ciphertexts: bytes | memoryview,
        receiver: int = AUTHORITY,
    ) -> bytes:
        """A client's declaration of packed ciphertexts."""
        part = ciphertexts[len(ciphertexts) // 2 :]
        key_id = self.material.key_id
        return declare(party, [receiver], number, part, key_id)[receiver]

    def residues(self, message: bytes) -> Residues:
        """The polynomials (M, L, N) in an upload or a sum."""
        (count,) = struct.unpack_from("<I", message, 46)
        return self.ring.unpack(message[58 + 8 * count : -TAG_BYTES])

    def vectors(self, count: int | None = None, seed: int = 0) -> Any:
        """Vectors over the whole range that the request allows, (count, values)."""
        request = self.request
        shape = (request.uploads if count is None else count, request.values)
        random = np.random.default_rng(seed)
        if request.scheme.exact:
            most = 2 ** (request.bits - 1) - 1
            return random.integers(-most, most + 1, shape)
        return random.uniform(-1, 1, shape) * request.sum_bound / request.uploads

    def assert_sum(self, total: Any, vectors: Any) -> None:
        """Asserts that a released sum is that of the vectors."""
        expected = np.sum(vectors, axis=0)
        if self.request.scheme.exact:
            assert total.dtype == np.int64
            np.testing.assert_array_equal(total, expected)
            return
        assert total.dtype == np.float64
        # Unprotected errors are sums of products of Gaussians: their tails are heavier.
        widest = 8 if self.request.settings.protect else 16
        deviation = self.parameters.error_std(len(vectors))
        np.testing.assert_allclose(total, expected, rtol=0, atol=widest * deviation)


@pytest.fixture(scope="session")
def network() -> type[Network]:
    return Network


@pytest.fixture(scope="module", params=REQUESTS)
def net(request: pytest.FixtureRequest) -> Network:
    return Network(REQUESTS[request.param], least=2)


@pytest.fixture(scope="module")
def exact() -> Network:
    return Network(REQUESTS["exact"], least=2)


@pytest.fixture(scope="module")
def reals() -> Network:
    return Network(REQUESTS["complex"], least=2)


@pytest.fixture
def small() -> Network:
    """A pair of uploads, in one ciphertext each; of the test's own."""
    return Network(sum_request(Scheme.EXACT, 10, 2, quantization_bits=8))


@pytest.fixture(scope="session")
def in_new_process() -> Callable[..., Any]:
    """Runs `script` in a process of its own; it reads `data` and leaves `result`."""

    def run(script: str, data: Any = None) -> Any:
        wrapped = (
            "import pickle, sys\n"
            "data = pickle.load(sys.stdin.buffer)\n"
            f"{script}\n"
            "sys.stdout.buffer.write(b'RESULT' + pickle.dumps(result))\n"
        )
        done = subprocess.run(
            [*interpreter(), "-c", wrapped],
            input=pickle.dumps(data),
            capture_output=True,
            timeout=120,
            cwd=Path(__file__).parents[2],
        )
        assert done.returncode == 0, done.stderr.decode()
        return pickle.loads(done.stdout.split(b"RESULT", 1)[1])

    return run
