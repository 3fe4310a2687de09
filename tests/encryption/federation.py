"""A federation with a joint key, as the tests of holders and their attackers see it.

Its secrets come from messages that the holders exchange, opened by their receivers.
"""

import contextlib
import itertools

import numpy as np
import pytest

from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.math.packing import unpack
from fedjax_private.encryption.math.plaintexts import decode_values
from fedjax_private.encryption.messages.channels import SEAL_BYTES, Party
from fedjax_private.encryption.messages.wire import (
    SERVER,
    TAG_BYTES,
    Kind,
    read,
    write,
)
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.parameters import Scheme, derive
from fedjax_private.encryption.parties.declarations import declare
from fedjax_private.encryption.parties.encryptor import Encryptor
from fedjax_private.encryption.parties.fusion import Fusion
from fedjax_private.encryption.parties.holders import KeyHolder
from fedjax_private.encryption.parties.joint_key import STAGES
from fedjax_private.encryption.parties.server import AggregationServer
from fedjax_private.trust import Decryptor, Trust
from tests.encryption.fixtures import sum_request
from tests.encryption.transforms import at_zero, combine

CKKS, EXACT = Scheme.THRESHOLD_CKKS, Scheme.THRESHOLD_EXACT
CLIENTS = range(6)
HOLDERS = (3, 0, 11, 5, 12)  # 11 and 12 upload nothing; clients 1, 2 and 4 hold nothing
QUORUM = 3
LEAST = 4
LEAST_CLIENTS = (0, 1, 4, 5)
VALUES = 5000
BOUND = 6.0

# Keys and noise come from the operating system, so statistical checks have to hold
# every time: no test fails by chance more than once in about a million runs.
SIGNIFICANCE = 1e-7
SIGMAS = 5.5


def request_of(scheme, **changes):
    fields = {"values": VALUES, "uploads": len(CLIENTS), "holders": len(HOLDERS)}
    return sum_request(scheme, **{**fields, "value_bound": BOUND, **changes})


def vectors_of(request, count, seed):
    rng = np.random.default_rng(seed)
    if request.scheme.exact:
        most = 2 ** (request.bits - 1) - 1
        return rng.integers(-most, most + 1, (count, request.values))
    bound = request.sum_bound / request.uploads
    return rng.uniform(-bound, bound, (count, request.values))


class Federation:
    """Clients, some of whom hold shares, holders who upload nothing, and a server."""

    def __init__(self, request, holders=HOLDERS, quorum=QUORUM, verified=True):
        self.verified = verified
        self.request, self.names, self.quorum = request, holders, quorum
        self.parameters = derive(request)
        self.scheme = HomomorphicScheme(self.parameters)
        self.ring = self.scheme.ring
        self.directory = {}
        self.server_party = self.party(SERVER)
        self.parties = {n: self.party(n) for n in sorted({*CLIENTS, *holders})}
        self.begin()
        self._rounds = itertools.count()

    def party(self, number):
        party = Party(number, self.directory)
        self.directory[number] = party.identity.public
        return party

    @property
    def dealing(self):
        return self.holders[self.names[0]]._dealing

    def begin(self):
        """Gives every holder a fresh start."""
        trust = Trust(LEAST, Decryptor.HOLDERS)
        self.holders = {
            n: KeyHolder(
                self.parties[n],
                self.request,
                trust,
                self.names,
                self.quorum,
                self.verified,
            )
            for n in self.names
        }

    # Making a key

    def exchange(self, stage, alter=None):
        """Carries the messages of a stage between all holders; returns them.

        Args:
            stage: the next stage of the key generation.
            alter: (sender, receiver, message) -> what is delivered instead.
        """
        sent = {number: holder.send(stage) for number, holder in self.holders.items()}
        alter = alter or (lambda sender, receiver, data: data)
        for receiver, holder in self.holders.items():
            for sender, messages in sent.items():
                holder.accept(stage, [alter(sender, receiver, messages[receiver])])
        return sent

    def exchange_until(self, stage):
        """Carries the messages of all stages before one."""
        for each in STAGES[: STAGES.index(stage)]:
            self.exchange(each)

    def deal(self):
        """Makes a key; its shares are not handed out yet."""
        self.exchange_until(Kind.SHARE)
        dealt = {n: holder.send(Kind.SHARE) for n, holder in self.holders.items()}
        self.material = self.holders[self.names[0]]._joint
        self.shares = {
            owner: {n: self.opened(owner, n, data) for n, data in messages.items()}
            for owner, messages in dealt.items()
        }
        return dealt

    def rewritten(self, stage, sender, receiver, payload, **fields):
        """A message of a stage with a payload that its sender does not owe."""
        fields = {"key_id": self.holders[sender]._session, **fields}
        return write(self.parties[sender], receiver, stage, 0, payload, **fields)

    def opened(self, owner, receiver, data):
        """The share (L, N) in a message, as its receiver opens it."""
        party, size = (
            self.parties[receiver],
            self.dealing.dealt.polynomial_bytes + SEAL_BYTES,
        )
        session = self.holders[owner]._session
        message = read(party, data, Kind.SHARE, payload=size, key_id=session)
        sealed = party.channel_from(owner).open(bytes(message.payload))
        return self.dealing.read(sealed)[0]

    def with_key(self):
        for messages in self.deal().values():
            for receiver, data in messages.items():
                self.holders[receiver].accept(Kind.SHARE, [data])
        self.exchange(Kind.CHALLENGE)
        self.exchange(Kind.ANSWERS)
        for holder in self.holders.values():
            holder.finish()
        self.use(self.material)
        return self

    def use(self, material):
        self.material = material
        self.server = AggregationServer(
            self.server_party, material, verified=self.verified
        )
        self.encryptor = Encryptor(material, self.names)
        for number in CLIENTS:
            vouchers = [
                holder.vouch([number])[number] for holder in self.holders.values()
            ]
            self.encryptor.admit(self.parties[number], vouchers)

    # Rounds

    def fusion(self, clients=CLIENTS, round_number=None):
        """The server's side of a new round, and the plain sum of its uploads."""
        number = next(self._rounds) if round_number is None else round_number
        vectors = vectors_of(self.request, len(clients), number)
        size = 2 * self.parameters.rows * self.ring.polynomial_bytes
        ciphertexts = 0
        self.server.open(number)
        for client, vector in zip(clients, vectors, strict=True):
            upload = self.upload(client, number, vector)
            payload = upload[-TAG_BYTES - size : -TAG_BYTES]
            ciphertexts = self.ring.reduce(ciphertexts + self.ring.unpack(payload))
        # The polynomials of the encrypted sum, which the server can see.
        self.firsts, self.seconds = np.split(ciphertexts, 2)
        fusion = Fusion(self.server_party, self.server, self.names, self.quorum)
        return fusion, vectors.sum(axis=0)

    def upload(self, client, number, vector):
        """A client's upload, declared and added; it may have made another one."""
        party, key_id = self.parties[client], self.material.key_id
        (encrypted,) = self.encryptor.ciphertexts([client], [vector])
        part, numbers = encrypted[len(encrypted) // 2 :], (client,)
        messages = declare(party, self.names, number, part, key_id)
        for holder, message in messages.items():
            with contextlib.suppress(RefusedError):
                self.holders[holder].declare(message)
        kind = Kind.UPLOAD
        upload = write(
            party, SERVER, kind, number, encrypted, key_id=key_id, numbers=numbers
        )
        self.server.add(upload)
        return upload

    def answer(self, fusion, present):
        """Adds partial decryptions; returns their polynomials."""
        requests, parts = fusion.requests(), []
        for number in present:
            data = self.holders[number].partially_decrypt(requests[number])
            fusion.add(data)
            parts.append(self.polynomials(data, Kind.PARTIAL))
        return parts

    def stand_in(self, fusion, absent=()):
        """Adds partial decryptions by those that stand in; returns the polynomials."""
        parts = []
        for number, request in fusion.recovery_requests().items():
            if number not in absent:
                data = self.holders[number].stand_in(request)
                fusion.add_recovery(data)
                parts.append(self.polynomials(data, Kind.RECOVERY))
        return parts

    def polynomials(self, data, kind):
        """The polynomials in a message to the server."""
        size = self.parameters.rows * self.ring.polynomial_bytes
        message = read(
            self.server_party,
            data,
            kind,
            payload=size,
            most_numbers=2 * len(self.names),
            key_id=self.material.key_id,
        )
        return self.ring.unpack(message.payload)

    def decoded(self, parts):
        """The vector that the last sum and those partial decryptions give."""
        total = self.firsts
        for part in parts:
            total = self.ring.add(total, part)
        return unpack(decode_values(total, self.parameters, self.ring), self.parameters)

    def check(self, released, total):
        if self.request.scheme.exact:
            assert released.dtype == np.int64
            np.testing.assert_array_equal(released, total)
        else:
            assert released.dtype == np.float64
            tolerance = 10 * self.parameters.error_std(self.request.uploads)
            np.testing.assert_allclose(released, total, rtol=0, atol=tolerance)

    def works(self):
        """Checks that a round goes through."""
        fusion, total = self.fusion()
        self.answer(fusion, self.names)
        self.check(fusion.release(), total)

    # Secrets

    def secret(self, owner):
        """A holder's secret key (L, N), from the shares that it dealt."""
        shares = {
            point: self.shares[owner][name]
            for point, name in enumerate(self.names[: self.quorum], 1)
        }
        return combine(shares, self.ring.moduli, self.quorum)

    def helping_key(self, helper, present, missing):
        """A helper's share of a missing holder's key, times its coefficient."""
        points = {number: self.names.index(number) + 1 for number in present}
        rows = [
            row.astype(object) * at_zero(points.values(), points[helper], q) % q
            for row, q in zip(
                self.shares[missing][helper], self.ring.moduli, strict=True
            )
        ]
        return np.stack(rows).astype(np.uint64)

    def recovery_request(self, receiver, round_number, missing, present, **changes):
        """A request that the server may not make, with a valid tag."""
        fields = {
            "payload": len(missing).to_bytes(4, "little"),
            "key_id": self.material.key_id,
            "numbers": (*missing, *present),
            **changes,
        }
        sender = fields.pop("sender", self.server_party)
        return write(sender, receiver, Kind.RECOVERY_REQUEST, round_number, **fields)


@pytest.fixture(scope="module", params=(CKKS, EXACT), ids=lambda scheme: scheme.value)
def federation(request):
    return Federation(request_of(request.param)).with_key()


@pytest.fixture
def keyless():
    return Federation(request_of(CKKS))
