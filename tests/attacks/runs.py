"""Runs of encrypted sums whose parties an attack can look into and replace."""

import dataclasses

import numpy as np
import pytest

from fedjax_private.aggregation.encrypted import EncryptedAggregation
from fedjax_private.encryption.math import polynomials
from fedjax_private.encryption.math.packing import unpack
from fedjax_private.encryption.math.polynomials import Factor
from fedjax_private.encryption.messages.wire import (
    AUTHORITY,
    MISSING_COUNT,
    SERVER,
    TAG_BYTES,
    Kind,
    write,
)
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.parameters import Scheme, derive
from fedjax_private.trust import Decryptor, Trust
from tests.encryption.fixtures import sum_request

UPLOADS, HOLDERS, QUORUM = 4, 3, 2
SCHEMES = [scheme.value for scheme in Scheme]


@dataclasses.dataclass
class Run:
    """An aggregation, and what only some of its parties may see.

    Attributes:
        aggregation: set up, with a key.
        ciphertexts: client -> the polynomials (2 R, L, N) of its last upload.
        replaced: client -> a function of its honest polynomials that returns others.
    """

    aggregation: EncryptedAggregation
    ciphertexts: dict = dataclasses.field(default_factory=dict)
    replaced: dict = dataclasses.field(default_factory=dict)

    @property
    def parameters(self):
        return self.aggregation.parameters

    @property
    def scheme(self):
        return HomomorphicScheme(self.parameters)

    def secret_key(self):
        """The coefficients (N,) of the key, which no test's attacker is given."""
        decryptors = self.aggregation._key.decryption.decryptors.values()
        keys = [decryptor._secret_key.residues for decryptor in decryptors]
        return sum(small(key, self.scheme.ring) for key in keys)

    def vectors(self, seed=0, uploads=UPLOADS):
        """Vectors (K, values) that fit the scheme, of small numbers."""
        rng = np.random.default_rng(seed)
        shape = uploads, self.parameters.request.values
        if self.parameters.request.scheme.exact:
            return rng.integers(1, 9, shape)
        return rng.uniform(-0.05, 0.05, shape)

    def decrypted(self, coefficients, client):
        """The vector in a client's upload, decrypted with a key's coefficients."""
        scheme = self.scheme
        halves = np.split(self.ciphertexts[client], 2)
        ciphertexts = np.stack(halves, axis=1)
        rows = scheme.decrypt(self.factor(coefficients), ciphertexts)
        return unpack(rows, self.parameters)

    def factor(self, coefficients):
        """A key with those coefficients, ready to multiply with."""
        ring = self.scheme.ring
        limbs = [(coefficients % q).astype(np.uint64) for q in ring.moduli]
        return Factor.of(polynomials.evaluate(np.stack(limbs)[None], ring)[0], ring)

    @property
    def decryptors(self):
        """Number -> the authority, or a holder of a key share."""
        return self.aggregation._key.decryption.decryptors

    def party(self, number):
        """The party with that number, whose channels an attacker that is it may use."""
        return self.aggregation._parties(number)

    def firsts(self, *clients):
        """The sum (R, L, N) of the first polynomials of clients' last uploads."""
        return self._sums(clients, 0)

    def seconds(self, *clients):
        """The sum (R, L, N) of the second polynomials of clients' last uploads."""
        return self._sums(clients, 1)

    def parts(self, *clients):
        """The second polynomials (R, L, N) of each client's last upload."""
        return [np.split(self.ciphertexts[client], 2)[1] for client in clients]

    def _sums(self, clients, half):
        halves = [np.split(self.ciphertexts[client], 2)[half] for client in clients]
        return self.scheme.ring.reduce(sum(halves))

    def ask(self, decryptor, number, clients, firsts, seconds, sender=SERVER, key=None):
        """What a decryptor answers to a server that asks for whatever it likes.

        Args:
            decryptor: number of the authority or of a holder.
            number: the round.
            clients: whose uploads the sum is said to hold.
            firsts: (R, L, N); unused for holders.
            seconds: if sums are verified, (R, L, N) for each client; else (R, L, N).
            sender: who asks.
            key: id of the key; that of the run by default.
        """
        ring, verified = self.scheme.ring, self.aggregation.verified
        parts = b"".join(map(ring.pack, seconds)) if verified else ring.pack(seconds)
        head = ring.pack(firsts) if decryptor == AUTHORITY else b""
        inside = not verified or decryptor == AUTHORITY
        data = write(
            self.party(sender),
            decryptor,
            Kind.SUM,
            number,
            head + parts if inside else b"",
            key_id=key or self.aggregation._key.encryptor.material.key_id,
            numbers=tuple(clients),
        )
        role = self.decryptors[decryptor]
        if decryptor == AUTHORITY:
            return role.decrypt(data)
        return role.partially_decrypt(data if inside else data + parts)

    def stand_in(self, holder, number, missing, present):
        """What a holder answers to a server that wants others' keys applied."""
        data = write(
            self.party(SERVER),
            holder,
            Kind.RECOVERY_REQUEST,
            number,
            MISSING_COUNT.pack(len(missing)),
            key_id=self.aggregation._key.encryptor.material.key_id,
            numbers=(*missing, *present),
        )
        return self.decryptors[holder].stand_in(data)

    def answered(self, data):
        """What an answer to the server holds: a sum, or a holder's polynomials."""
        request, ring = self.parameters.request, self.scheme.ring
        if request.scheme.threshold:
            payload = data[-TAG_BYTES - self.parameters.rows * ring.polynomial_bytes :]
            return ring.unpack(payload[:-TAG_BYTES])
        size = request.released.itemsize * request.values
        return np.frombuffer(data[-TAG_BYTES - size : -TAG_BYTES], request.released)

    def round(self, number, vectors):
        """The released sum of vectors (K, values), as the scheme takes them."""
        total, _ = self.begin(number, vectors).release()
        return total

    def begin(self, number, vectors):
        """The session of a round in which clients 0, 1, ... have uploaded vectors."""
        session = self.aggregation.open(number)
        encryptor = self.aggregation._key.encryptor
        with pytest.MonkeyPatch.context() as patch:
            honest = encryptor.ciphertexts
            patch.setattr(encryptor, "ciphertexts", self._seen(honest))
            session.add(np.arange(len(vectors)), vectors)
        return session

    def _seen(self, honest):
        ring = self.scheme.ring

        def ciphertexts(clients, vectors):
            made = []
            for client, data in zip(clients, honest(clients, vectors), strict=True):
                given = ring.unpack(data)
                given = self.replaced.get(client, lambda same: same)(given)
                self.ciphertexts[client] = given
                made.append(memoryview(ring.pack(given)))
            return made

        return ciphertexts


def small(polynomial, ring):
    """The coefficients (N,) of a polynomial (L, N) that are small integers."""
    q = ring.moduli[0]
    first = polynomials.interpolate(polynomial[None], ring)[0, 0].astype(np.int64)
    return np.where(first > q // 2, first - q, first)


def run_of(
    name,
    values=None,
    uploads=UPLOADS,
    topology="star",
    least=None,
    verified=True,
    key_rounds=None,
    **settings,
):
    """A run of a scheme; by default a vector fills one ciphertext."""
    scheme = Scheme(name)
    holders = HOLDERS if scheme.threshold else 1

    def request(values):
        return sum_request(scheme, values, uploads, holders, **settings)

    decryptor = Decryptor.HOLDERS if scheme.threshold else Decryptor.KEY_AUTHORITY
    if values is None:
        values = derive(request(2000)).values_per_ciphertext
    return Run(
        EncryptedAggregation(
            request(values),
            Trust(least or uploads, decryptor),
            quorum=QUORUM,
            topology=topology,
            fan_out=2,
            verified=verified,
            key_rounds=key_rounds,
        )
    )
