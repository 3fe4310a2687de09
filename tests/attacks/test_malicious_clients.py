"""What one client that departs from the protocol learns, and who reads it then.

Uploads are not proven to be encryptions. These tests show exactly what that yields: the
limit that `AggregationServer` documents and that `key_rounds` bounds.
"""

import math

import numpy as np
import pytest

from fedjax_private.encryption.math import plaintexts, polynomials
from fedjax_private.encryption.math.packing import pack, unpack
from fedjax_private.encryption.math.polynomials import Factor
from fedjax_private.encryption.openfhe.contexts import ring_of
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.parameters import Scheme, derive
from fedjax_private.encryption.settings import FLOODINGS
from tests.aggregation.sums import ENCRYPTED, encoded, made
from tests.encryption.fixtures import sum_request
from tests.encryption.transforms import coefficients, product

pytestmark = [
    pytest.mark.needs_openfhe,
    # The attack does not go unseen: sums are far beyond their range.
    pytest.mark.filterwarnings("ignore:entries of a released sum"),
]

CLIENTS, SIZE, DEPARTING = 3, 4096, 2
STEP = 2**12  # of the attack on exact schemes, beyond what honest clients add up to


class Attacked:
    """Sums in which client 2 uploads (m, K) in place of an encryption.

    Attributes:
        uploads: round -> client -> ciphertexts (R, 2, L, N), as on the server.
    """

    def __init__(self, name, **settings):
        self.sums = made(name, CLIENTS, SIZE, settings=settings)
        self.parameters = self.sums.parameters
        self.ring = ring_of(self.parameters)
        self.exact = self.parameters.request.scheme.exact
        self.uploads, self.slots = {}, {}

    @property
    def factor(self):
        """K, so large that K s stands above what honest clients add up to."""
        q, t = math.prod(self.ring.moduli), self.parameters.plaintext_modulus
        if self.parameters.request.scheme is Scheme.EXACT:
            return STEP
        if self.exact:
            return STEP * round(q / t)
        return min(q // 8, 2**91)

    def forged(self):
        """The upload: the first polynomial keeps exact sums positive, no more."""
        parameters, ring = self.parameters, self.ring
        shape = parameters.rows, 2, ring.limbs, ring.dimension
        forged = np.zeros(shape, np.uint64)
        if self.exact:
            rows = np.full((parameters.rows, parameters.slots), 4 * STEP)
            message = plaintexts.encode(rows, parameters, ring)
            forged[:, 0] = polynomials.evaluate(message, ring)
        for limb, prime in enumerate(ring.moduli):
            forged[:, 1, limb] = self.factor % prime  # a constant, by its values
        return forged

    def round(self, number):
        """Returns what everybody sees: the released sum of a round."""
        session = self.sums.open(number)
        encryptor, sent = self.sums._key.encryptor, {}
        honest = encryptor.ciphertexts
        forged = memoryview(self.ring.pack(self.forged().reshape(-1, *self.shape)))

        def ciphertexts(clients, vectors):
            made = honest(clients, vectors)
            made = [
                forged if client == DEPARTING else each
                for client, each in zip(clients, made, strict=True)
            ]
            for client, each in zip(clients, made, strict=True):
                residues = self.ring.unpack(each)
                sent[client] = residues.reshape(-1, 2, *self.shape)
            return made

        encryptor.ciphertexts = ciphertexts
        rows = np.random.default_rng(number).uniform(-0.02, 0.02, (CLIENTS, SIZE))
        slots = self.slots[number] = encoded(self.sums, rows, number)
        session.add(np.arange(CLIENTS), slots)
        encryptor.ciphertexts = honest
        self.uploads[number] = sent
        total, _ = session.release()
        return total

    @property
    def shape(self):
        return self.ring.limbs, self.ring.dimension

    def read_key(self, total):
        """The secret key (N,) in a released sum; no secret takes part."""
        if self.exact:
            # The first lane: entry i of the vector is coefficient i.
            lane = np.rint(total[: self.ring.dimension]).astype(np.int64) - 4 * STEP
            half = 1 << self.parameters.request.bits - 1
            centred = (lane + half) % (2 * half) - half
            return np.rint(centred / STEP).astype(np.int64)
        rows = pack(total, self.parameters)
        polynomial = plaintexts.encode(rows, self.parameters, self.ring)[:1]
        values = plaintexts.centred(polynomial, self.ring)[0]
        return np.rint(values / self.factor).astype(np.int64)

    def decrypted(self, key, number, client):
        """An upload as whoever holds that key reads it."""
        scheme = HomomorphicScheme(self.parameters)
        residues = np.stack([key % q for q in self.ring.moduli]).astype(np.uint64)
        secret = Factor.of(
            polynomials.evaluate(residues[None], self.ring)[0], self.ring
        )
        rows = scheme.decrypt(secret, self.uploads[number][client])
        return unpack(rows, self.parameters)

    def reads(self, key, number, client):
        """Whether that key opens the upload."""
        found, sent = self.decrypted(key, number, client), self.slots[number][client]
        difference = found - sent.astype(np.float64)
        if self.exact:
            return not (difference % (1 << self.parameters.request.bits)).any()
        return np.abs(difference).max() < 1e-4


@pytest.mark.parametrize("scheme", [Scheme.CKKS, Scheme.EXACT])
@pytest.mark.parametrize("flooding", FLOODINGS)
def test_an_upload_that_all_send_again_is_covered_by_the_worst_case(scheme, flooding):
    # The error of K copies of one ciphertext is K times its own, that of K independent
    # ones only sqrt(K) times: the noise is sized for the latter on average.
    copies, settings = 32, {"precision": 1e-2, "quantization_bits": 13}
    request = sum_request(scheme, 100, copies, flooding=flooding, **settings)
    parameters = derive(request)
    scheme = HomomorphicScheme(parameters)
    ring, (public, secret) = scheme.ring, scheme.generate_keys()
    nothing = np.zeros((1, ring.limbs, ring.dimension), np.uint64)
    (upload,) = scheme.encrypt(scheme.public_key(public), nothing)
    total = ring.reduce(upload * np.uint64(1))
    for _ in range(copies - 1):
        total = ring.reduce(total + upload)
    decrypted = ring.reduce(total[0] + product(total[1], secret.residues, ring))
    error = coefficients(decrypted, ring).astype(np.float64)
    covered = flooding == "worst_case"
    if parameters.flooding_std:
        budget = request.settings.query_budget
        distance = math.sqrt(budget) * np.linalg.norm(error)
        distance /= 2 * parameters.flooding_std
        assert (distance < 2.0**-15.5) == covered
        # As much more as the documentation says: a root of K / 1.4.
        if not covered:
            assert 4 < distance / 2.0**-15.5 < math.sqrt(copies)
        return
    # Exact sums: decryption fails where an error, a multiple of t, exceeds q / 2.
    assert (math.prod(ring.moduli) / 2 / error.std() > 14) == covered


@pytest.mark.parametrize("name", ENCRYPTED)
def test_one_client_learns_the_key_and_the_server_every_upload_under_it(name):
    attacked = Attacked(name)
    attacked.round(0)
    key = attacked.read_key(attacked.round(1))
    holders = attacked.parameters.request.holders
    assert np.abs(key).max() <= holders  # ternary, or a sum of ternary ones
    assert len(np.unique(key)) == 2 * holders + 1
    # Of this round and of those before, all of which the server has.
    for number in (0, 1):
        for client in (0, 1):
            assert attacked.reads(key, number, client)
    # Every later round too, until the key changes.
    attacked.round(2)
    assert attacked.reads(key, 2, 0)


@pytest.mark.parametrize("name", ENCRYPTED)
def test_a_key_for_every_round_bounds_that_to_the_uploads_of_one_round(name):
    attacked = Attacked(name, key_rounds=1)
    attacked.round(0)
    key = attacked.read_key(attacked.round(1))
    attacked.round(2)
    read = [attacked.reads(key, number, 0) for number in range(3)]
    assert read == [False, True, False]
