"""Attacks by clients: on the server, on the sum, and on the key.

No client proves that its upload is an encryption. So one that departs from the protocol
can spoil a sum, and can even read the key from a sum that everybody sees.
"""

import math

import numpy as np
import pytest

from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.math import plaintexts
from fedjax_private.encryption.math.packing import pack
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.parameters import Scheme, derive
from fedjax_private.encryption.settings import FLOODINGS
from tests.attacks.runs import SCHEMES, UPLOADS, run_of
from tests.encryption.fixtures import sum_request
from tests.encryption.transforms import coefficients, product

pytestmark = [
    pytest.mark.needs_openfhe,
    # The attack does not go unseen: sums are far beyond their range.
    pytest.mark.filterwarnings("ignore:entries of a released sum"),
]

MALICIOUS = UPLOADS - 1
HONEST = range(MALICIOUS)


def unit_of(parameters, ring):
    """(K, what K s becomes in a released sum, over s) for uploads (0, K)."""
    request, q = parameters.request, math.prod(ring.moduli)
    if not request.scheme.exact:
        return q // 32, q // 32
    unit = 1 << request.bits - 4
    if request.scheme.threshold:  # BFV: messages stand above the noise
        return round(q * unit / parameters.plaintext_modulus), unit
    return unit, unit


def constant(number, ring):
    """Replaces an upload by (0, number), without knowing any key."""

    def replace(honest):
        polynomials = np.zeros_like(honest)
        for limb, q in enumerate(ring.moduli):
            polynomials[len(honest) // 2 :, limb] = number % q
        return polynomials

    return replace


def key_in(total, known, parameters, unit):
    """The key's coefficients, as anybody reads them in a released sum.

    Args:
        total: the released sum.
        known: what the reader expects without the attack, up to a sixteenth of 2^b.
        parameters: of the sums.
        unit: what one in a coefficient of the key becomes.
    """
    if not parameters.request.scheme.exact:
        (coefficients,) = plaintexts._to_coefficients(
            pack(total, parameters), parameters.scale
        )
        return np.rint(coefficients / unit).astype(int)
    modulus, first = 1 << parameters.request.bits, parameters.ring_dimension
    rest = (total - known)[:first] + modulus // 2
    return np.rint((rest % modulus - modulus // 2) / unit).astype(int)


def opened(run, attacked=1, rounds=3):
    """Rounds whose uploads the key opens that a client reads in one of them."""
    number, unit = unit_of(run.parameters, run.scheme.ring)
    sent = []
    for index in range(rounds):
        attack = {MALICIOUS: constant(number, run.scheme.ring)}
        run.replaced = attack if index == attacked else {}
        vectors = run.vectors(index)
        total = run.round(index, vectors)
        sent.append((vectors, dict(run.ciphertexts)))
        if index == attacked:
            # Its reader expects sums of small numbers, and knows no more than that.
            key = key_in(total, UPLOADS * 4, run.parameters, unit)
            np.testing.assert_array_equal(key, run.secret_key())
    found = []
    for index, (vectors, ciphertexts) in enumerate(sent):
        run.ciphertexts = ciphertexts
        wrong = [np.abs(run.decrypted(key, n) - vectors[n]).max() for n in HONEST]
        found += [index] if max(wrong) < 1e-9 else []
        assert max(wrong) < 1e-9 or min(wrong) > 1
    return found


@pytest.mark.parametrize("name", SCHEMES)
def test_one_client_reads_the_key_from_a_released_sum(name):
    """Client: uploads (0, K) instead of an encryption -> the sum shows the secret key
    to everybody; who has ciphertexts, as the server, reads uploads of all rounds."""
    assert opened(run_of(name)) == [0, 1, 2]


@pytest.mark.parametrize("name", SCHEMES)
def test_a_key_that_a_client_read_opens_no_round_of_another_key(name):
    """Client: uploads (0, K) where a key serves one round (key_rounds=1) -> the key of
    that round, and no upload of another."""
    assert opened(run_of(name, key_rounds=1)) == [1]


@pytest.mark.parametrize("name", SCHEMES)
def test_one_client_spoils_a_sum(name):
    """Client: uploads random numbers instead of a ciphertext -> the sum is garbage, for
    all, or refused by an authority that sees its noise; nothing is learned."""
    run = run_of(name)
    ring, rng = run.scheme.ring, np.random.default_rng(0)

    def garbage(honest):
        return np.stack(
            [rng.integers(0, q, honest[:, 0].shape, np.uint64) for q in ring.moduli], 1
        )

    run.replaced[MALICIOUS] = garbage
    vectors = run.vectors()
    if name == "exact":
        with pytest.raises(RefusedError, match="more noise than honest uploads"):
            run.round(0, vectors)
    else:
        total = run.round(0, vectors)
        honest = vectors[:MALICIOUS].sum(axis=0)
        assert abs(np.corrcoef(total, honest)[0, 1]) < 0.1
    # The next round is not concerned.
    run.replaced.clear()
    total = run.round(1, vectors)
    np.testing.assert_allclose(total, vectors.sum(axis=0), rtol=0, atol=1e-2)


@pytest.mark.parametrize("name", ["ckks", "threshold_exact"])
def test_a_client_adds_what_it_likes(name):
    """Client: shifts its upload by a message of its own, beyond any bound -> the sum is
    wrong by exactly that: nothing checks an upload's size."""
    run = run_of(name)
    scheme = run.scheme
    vectors = run.vectors()
    shift = np.zeros_like(vectors[0])
    shift[5] = run.parameters.request.sum_bound if name == "ckks" else 2**12
    (message,) = scheme.encode(pack(shift, run.parameters))

    def shifted(honest):
        changed = honest.copy()
        changed[0] = scheme.ring.add(changed[0], message)
        return changed

    run.replaced[MALICIOUS] = shifted
    total = run.round(0, vectors)
    expected = vectors.sum(axis=0) + shift
    np.testing.assert_allclose(total, expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize("topology", ["star", "tree", "ring"])
def test_copies_of_one_upload_add_up_in_the_errors_deviation(topology):
    """Clients: send another's ciphertext, less its message, as their own -> the error
    of U copies is U times one upload's, where independent ones give its root.
    Decryptors refuse equal ones, but not ones that were changed a little."""
    uploads = 16
    run = run_of("ckks", uploads=uploads, topology=topology)
    scheme = run.scheme
    zeros = np.zeros((uploads, run.parameters.request.values))

    def error():
        halves = np.split(scheme.ring.reduce(sum(run.ciphertexts.values())), 2)
        sums = np.stack(halves, axis=1)
        values = scheme._decrypted(run.factor(run.secret_key()), sums)
        return np.square(plaintexts.centred(values, scheme.ring)).mean()

    run.round(0, zeros)
    honest = error()
    for client in range(1, uploads):
        run.replaced[client] = lambda own: run.ciphertexts[0]
    with pytest.raises(RefusedError, match="have declared the same upload"):
        run.round(1, zeros)

    def changed(client):
        # A constant k is k at every point: k s is added to the error, which is larger.
        polynomials = run.ciphertexts[0].copy()
        polynomials[-1] = scheme.ring.reduce(polynomials[-1] + np.uint64(client))
        return polynomials

    for client in range(1, uploads):
        run.replaced[client] = lambda own, client=client: changed(client)
    run.round(2, zeros)
    assert 0.6 * uploads < error() / honest < 1.5 * uploads


def sent_again(request):
    """The parameters and ring of a request, a key, and the sum of as many copies of one
    upload as it may hold."""
    scheme = HomomorphicScheme(derive(request))
    ring, (public, secret) = scheme.ring, scheme.generate_keys()
    nothing = np.zeros((1, ring.limbs, ring.dimension), np.uint64)
    (upload,) = scheme.encrypt(scheme.public_key(public), nothing)
    total = ring.reduce(upload * np.uint64(1))
    for _ in range(request.uploads - 1):
        total = ring.reduce(total + upload)
    return scheme, secret, total


@pytest.mark.parametrize("flooding", FLOODINGS)
def test_an_upload_that_all_send_again_is_covered_by_the_worst_case(flooding):
    """Clients: all send one ciphertext again -> the noise is too small with
    flooding="average", by up to the root of their number; "worst_case" covers it."""
    copies, settings = 32, {"precision": 1e-2, "flooding": flooding}
    request = sum_request(Scheme.CKKS, 100, copies, **settings)
    scheme, secret, total = sent_again(request)
    ring = scheme.ring
    decrypted = ring.reduce(total[0] + product(total[1], secret.residues, ring))
    error = coefficients(decrypted, ring).astype(np.float64)
    distance = math.sqrt(request.settings.query_budget) * np.linalg.norm(error)
    distance /= 2 * scheme.parameters.flooding_std
    covered = flooding == "worst_case"
    assert (distance < 2.0**-15.5) == covered
    # As much more as the documentation says: a root of K / 1.4.
    if not covered:
        assert 4 < distance / 2.0**-15.5 < math.sqrt(copies)


def test_an_upload_that_very_many_send_again_ends_an_exact_key():
    """Clients, of `exact` sums: very many send one ciphertext again -> the sum is
    refused, and the key ends; nothing is learned."""
    copies = 200
    request = sum_request(Scheme.EXACT, 100, copies, quantization_bits=8)
    scheme, secret, total = sent_again(request)
    with pytest.raises(RefusedError, match="more noise than honest uploads"):
        scheme.decrypt(secret, total[None], uploads=copies)
