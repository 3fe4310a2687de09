"""Runs of encrypted sums whose parties an attack can look into and replace."""

import dataclasses

import numpy as np
import pytest

from fedjax_private.aggregation.encrypted import EncryptedAggregation
from fedjax_private.encryption.math import polynomials
from fedjax_private.encryption.math.packing import unpack
from fedjax_private.encryption.math.polynomials import Factor
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

    def round(self, number, vectors):
        """The released sum of vectors (K, values), as the scheme takes them."""
        session = self.aggregation.open(number)
        encryptor = self.aggregation._key.encryptor
        with pytest.MonkeyPatch.context() as patch:
            honest = encryptor.ciphertexts
            patch.setattr(encryptor, "ciphertexts", self._seen(honest))
            session.add(np.arange(len(vectors)), vectors)
        total, _ = session.release()
        return total

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


def run_of(name, values=None, uploads=UPLOADS, topology="star", least=None, **settings):
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
        )
    )
