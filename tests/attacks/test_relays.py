"""Attacks by those who carry uploads of others: edge servers of a tree, and the clients
of a ring, each of whom adds its upload to the sum that it passes on."""

import numpy as np
import pytest

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.math.packing import unpack
from fedjax_private.encryption.math.polynomials import Factor
from fedjax_private.encryption.messages.wire import (
    FIRST_EDGE,
    SERVER,
    Kind,
    write,
)
from fedjax_private.encryption.parties.attendance import Attendance
from fedjax_private.encryption.parties.traffic import Traffic
from tests.attacks.runs import SCHEMES, UPLOADS, run_of

pytestmark = pytest.mark.needs_openfhe

ALL = tuple(range(UPLOADS))
RELAYS = {"tree": FIRST_EDGE + 3, "ring": UPLOADS - 1}
ONE_KEY = [name for name in SCHEMES if not name.startswith("threshold")]

routes = pytest.mark.parametrize("topology", RELAYS)
schemes = pytest.mark.parametrize("name", SCHEMES)


def uploaded(name, topology, least=UPLOADS, verified=True):
    """A run whose clients have uploaded; the server has nothing of it yet."""
    run = run_of(name, values=10, topology=topology, least=least, verified=verified)
    vectors = run.vectors()
    run.begin(7, vectors)
    run.aggregation._key.server.open(7)
    return run, vectors


def relay(run, sender, clients, firsts, seconds, number=7):
    """Has a relay send the server whatever it likes."""
    ring = run.scheme.ring
    verified = run.aggregation.verified
    seconds = b"".join(map(ring.pack, seconds)) if verified else ring.pack(seconds)
    data = write(
        run.party(sender),
        SERVER,
        Kind.UPLOAD,
        number,
        ring.pack(firsts) + seconds,
        key_id=run.aggregation._key.encryptor.material.key_id,
        numbers=clients,
    )
    run.aggregation._key.server.add(data)


def release(run):
    """The sum of what the server has."""
    key = run.aggregation._key
    attendance = Attendance({})
    total, _ = key.decryption.decrypt(
        run.party(SERVER), key.server, Traffic(), attendance
    )
    return total


@routes
@schemes
def test_relays_do_not_name_clients_that_they_do_not_carry(name, topology):
    """Relay: forwards one upload in the name of all clients, so that its sum looks
    large enough -> refused by whoever decrypts."""
    for parts in ("zeros", "copies"):
        run, _ = uploaded(name, topology)
        (own,) = run.parts(0)
        others = [own if parts == "copies" else np.zeros_like(own)] * (UPLOADS - 1)
        relay(run, RELAYS[topology], ALL, run.firsts(0), [own, *others])
        with pytest.raises(RefusedError, match="has declared another upload"):
            release(run)


@routes
@pytest.mark.parametrize("name", ONE_KEY)
def test_relays_name_whom_they_like_where_they_are_believed(name, topology):
    """Relay, of runs with server="semi_honest": forwards one upload in the name of all
    clients -> that upload is released as the sum."""
    run, vectors = uploaded(name, topology, verified=False)
    relay(run, RELAYS[topology], ALL, run.firsts(0), run.seconds(0))
    np.testing.assert_allclose(release(run), vectors[0], rtol=0, atol=1e-3)


@routes
@schemes
def test_relays_that_leave_uploads_out_leave_a_round_void(name, topology):
    """Relay: leaves out an upload that it got -> the round is void if fewer are left
    than agreed; otherwise the sum is that of the others, as if the client had vanished.
    """
    run, vectors = uploaded(name, topology)
    relay(run, RELAYS[topology], ALL[1:], run.firsts(*ALL[1:]), run.parts(*ALL[1:]))
    with pytest.raises(RefusedError, match=f"at least {UPLOADS}"):
        release(run)
    run, vectors = uploaded(name, topology, least=3)
    relay(run, RELAYS[topology], ALL[1:], run.firsts(*ALL[1:]), run.parts(*ALL[1:]))
    expected = vectors[1:].sum(axis=0)
    np.testing.assert_allclose(release(run), expected, rtol=0, atol=1e-3)


@routes
@pytest.mark.parametrize("name", ["ckks", "threshold_ckks", "threshold_exact"])
def test_relays_can_spoil_a_sum(name, topology):
    """Relay: forwards the first polynomials of some uploads and the second ones of all
    -> the sum is garbage, and depends on no upload."""
    run, vectors = uploaded(name, topology)
    relay(run, RELAYS[topology], ALL, run.firsts(0), run.parts(*ALL))
    wrong = np.abs(release(run) - vectors[0])
    assert np.median(wrong) > (100 if "exact" in name else 0.1)


@routes
def test_relays_that_spoil_an_exact_sum_are_found_out(topology):
    """Relay, of `exact` sums: forwards the first polynomials of some uploads and the
    second ones of all -> refused, and the key ends."""
    run, _ = uploaded("exact", topology)
    relay(run, RELAYS[topology], ALL, run.firsts(0), run.parts(*ALL))
    with pytest.raises(RefusedError, match="more noise than honest uploads"):
        release(run)


@routes
@schemes
def test_relays_add_no_upload_twice(name, topology):
    """Relays: two of them forward the upload of one client -> the second is refused."""
    run, vectors = uploaded(name, topology)
    relay(run, RELAYS[topology], (0, 1), run.firsts(0, 1), run.parts(0, 1))
    other = {"tree": FIRST_EDGE + 4, "ring": 2}[topology]
    for clients in ((0, 2), (2, 3, 1)):
        with pytest.raises(RefusedError, match="has uploaded in round 7 already"):
            relay(run, other, clients, run.firsts(*clients), run.parts(*clients))
    relay(run, other, (2, 3), run.firsts(2, 3), run.parts(2, 3))
    expected = vectors.sum(axis=0)
    np.testing.assert_allclose(release(run), expected, rtol=0, atol=1e-3)


@routes
def test_relays_carry_nothing_into_another_round(topology):
    """Relay: forwards its sum in a round to which it does not belong -> refused."""
    run, _ = uploaded("threshold_exact", topology)
    sent = (RELAYS[topology], ALL, run.firsts(*ALL), run.parts(*ALL))
    with pytest.raises(RefusedError, match="an upload of round 6, but 7 is open"):
        relay(run, *sent, number=6)
    run.aggregation._key.server.open(8)
    relay(run, *sent, number=8)
    with pytest.raises(RefusedError, match="has declared no upload"):
        release(run)


def test_clients_of_a_star_and_edges_of_a_ring_relay_nothing():
    """Client, of a star or a tree: sends the sum of several uploads -> refused."""
    for topology in ("star", "tree"):
        run, _ = uploaded("exact", topology)
        with pytest.raises(RefusedError, match="3 sent an upload in the name of"):
            relay(run, 3, ALL, run.firsts(*ALL), run.parts(*ALL))
    run, _ = uploaded("exact", "star")
    with pytest.raises((RefusedError, WireError)):
        relay(run, FIRST_EDGE, ALL, run.firsts(*ALL), run.parts(*ALL))


@routes
@schemes
def test_relays_read_nothing_of_what_they_carry(name, topology):
    """Relay: decrypts what it carries with keys that it can make, such as polynomials
    of other uploads -> nothing."""
    run, vectors = uploaded(name, topology)
    scheme, ring = run.scheme, run.scheme.ring
    zero = np.zeros((ring.limbs, ring.dimension), np.uint64)
    guesses = [zero, run.firsts(1)[0], run.parts(1)[0][0], scheme.generate_keys()[1]]
    ciphertexts = np.stack([run.firsts(0), run.parts(0)[0]], axis=1)
    for guess in guesses:
        key = guess if isinstance(guess, Factor) else Factor.of(guess, ring)
        found = unpack(scheme.decrypt(key, ciphertexts), run.parameters)
        wrong = np.abs(found - vectors[0])
        assert np.median(wrong) > (100 if "exact" in name else 0.1)
