"""Attacks by several parties together: what each coalition reads, and what it does not.

Each line of the table of coalitions in `encryption/README.md` has a test here.
"""

import itertools

import numpy as np
import pytest

from fedjax_private.aggregation.encrypted import EncryptedAggregation
from fedjax_private.encryption.math.packing import unpack
from fedjax_private.encryption.math.plaintexts import decode_values
from fedjax_private.encryption.math.polynomials import Factor
from fedjax_private.encryption.math.shamir import lagrange_at_zero, scale
from fedjax_private.encryption.parties.recovery import Recovery, masks
from fedjax_private.trust import Decryptor, Trust
from tests.attacks.runs import HOLDERS, QUORUM, SCHEMES, UPLOADS, Run, run_of, small

pytestmark = pytest.mark.needs_openfhe

ALL = tuple(range(UPLOADS))
THRESHOLD = [name for name in SCHEMES if name.startswith("threshold")]
ONE_KEY = [name for name in SCHEMES if name not in THRESHOLD]


def assert_read(run, key, vectors):
    for client, vector in enumerate(vectors):
        read = run.decrypted(key, client)
        np.testing.assert_allclose(read, vector, rtol=0, atol=1e-9)


def assert_not_read(run, key, vectors):
    """The decryptions have nothing to do with the vectors."""
    for client, vector in enumerate(vectors):
        read = run.decrypted(key, client)
        assert abs(np.corrcoef(read, vector)[0, 1]) < 0.1
        assert np.mean(np.abs(read - vector) < 0.1) < 0.1


def holders_of(run):
    return list(run.decryptors.values())


@pytest.mark.parametrize("name", ONE_KEY)
def test_server_and_authority_read_every_upload(name):
    """Server and authority: put ciphertexts and the key together -> every upload."""
    run = run_of(name)
    vectors = run.vectors()
    run.round(0, vectors)
    assert_read(run, run.secret_key(), vectors)


def test_server_and_one_client_read_every_upload_where_each_holds_the_key():
    """Server and a client, of the baseline key_holder="clients": put ciphertexts and
    the key together -> every upload."""
    run = run_of("ckks")
    request = run.parameters.request
    trust = Trust(UPLOADS, Decryptor.EVERY_CLIENT)
    run = Run(EncryptedAggregation(request, trust))
    assert "BASELINE" in run.aggregation.description
    vectors = run.vectors()
    run.round(0, vectors)
    assert_read(run, run.secret_key(), vectors)


@pytest.mark.parametrize("name", THRESHOLD)
def test_server_and_a_quorum_of_holders_read_every_upload(name):
    """Server and T holders: recover the others' keys from their shares -> every
    upload."""
    run = run_of(name)
    vectors = run.vectors()
    run.round(0, vectors)
    ring = run.scheme.ring
    for colluding in itertools.combinations(range(HOLDERS), QUORUM):
        holders = holders_of(run)
        points = [holder + 1 for holder in colluding]
        key = 0
        for owner in range(HOLDERS):
            if owner in colluding:
                secret = holders[owner]._secret_key.residues
            else:
                coefficients = [lagrange_at_zero(points, q) for q in ring.moduli]
                secret = np.zeros_like(holders[0]._secret_key.residues)
                for index, holder in enumerate(colluding):
                    share = holders[holder]._shares[owner]
                    factors = [of_limb[index] for of_limb in coefficients]
                    secret = ring.add(secret, scale(share, factors, ring))
            key = key + small(secret, ring)
        assert_read(run, key, vectors)


@pytest.mark.parametrize("name", THRESHOLD)
def test_server_and_fewer_holders_read_no_upload(name):
    """Server and T - 1 holders: decrypt with all that they hold -> nothing."""
    run = run_of(name)
    vectors = run.vectors()
    run.round(0, vectors)
    holders, ring = holders_of(run), run.scheme.ring
    own = small(holders[0]._secret_key.residues, ring)
    shares = [small(holders[0]._shares[owner], ring) for owner in (1, 2)]
    for key in (own, own + sum(shares), own + 2 * sum(shares), sum(shares)):
        assert_not_read(run, key, vectors)


@pytest.mark.parametrize("name", THRESHOLD)
def test_all_holders_but_one_read_no_upload_without_its_shares(name):
    """Server and all holders but one, without shares of its key: decrypt with the sum
    of their keys -> nothing."""
    run = run_of(name)
    vectors = run.vectors()
    run.round(0, vectors)
    ring = run.scheme.ring
    keys = [small(holder._secret_key.residues, ring) for holder in holders_of(run)]
    assert_read(run, sum(keys), vectors)
    for absent in range(HOLDERS):
        assert_not_read(run, sum(keys) - keys[absent], vectors)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("topology", ["star", "tree", "ring"])
def test_all_clients_but_one_know_its_vector(name, topology):
    """Clients, all of a sum but one: subtract their vectors from the released sum ->
    the vector of the last one, as any sum allows; only noise of its own hides it."""
    run = run_of(name, values=10, topology=topology)
    vectors = run.vectors()
    total = run.round(0, vectors)
    rest = total - vectors[1:].sum(axis=0)
    np.testing.assert_allclose(rest, vectors[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", THRESHOLD)
def test_server_and_2t_minus_n_holders_get_two_sums_of_one_round(name):
    """Server and 2T - n holders: ask some of the honest holders for one sum and the
    others for another, and have each group stand in for the other -> two sums of one
    round, whose difference may be one upload."""
    run = run_of(name, values=10, least=UPLOADS - 1)
    vectors = run.vectors()
    run.begin(7, vectors)
    assert 2 * QUORUM - HOLDERS == 1
    colluding = HOLDERS - 1
    views = {0: ALL, 1: ALL[1:]}
    sums = {
        holder: decrypted_by(run, holder, 1 - holder, colluding, view)
        for holder, view in views.items()
    }
    read = sums[0] - sums[1]
    np.testing.assert_allclose(read, vectors[0], rtol=0, atol=1e-3)


def decrypted_by(run, honest, other, colluding, clients):
    """The sum of some uploads, by one honest holder and one that colludes."""
    ring, scheme, seconds = run.scheme.ring, run.scheme, run.seconds(*clients)
    present = (honest, colluding)
    colluder = run.decryptors[colluding]
    parts = [
        run.answered(run.ask(honest, 7, clients, None, run.parts(*clients))),
        run.answered(run.stand_in(honest, 7, (other,), present)),
        # What the colluder has: its key, and its share of the other's.
        scheme.partially_decrypt(colluder._secret_key, seconds),
    ]
    points = [number + 1 for number in present]
    factors = [lagrange_at_zero(points, q)[1] for q in ring.moduli]
    share = scale(colluder._shares[other], factors, ring)
    parts.append(scheme.partially_decrypt(Factor.of(share, ring), seconds))
    # And the mask that it has with the honest one.
    recovery, key_id = Recovery((other,), present), colluder.material.key_id
    party = run.party(colluding)
    parts.append(masks(party, recovery, ring, len(seconds), key_id, 7))
    total = run.firsts(*clients)
    for part in parts:
        total = ring.add(total, part)
    return unpack(decode_values(total, run.parameters, ring), run.parameters)
