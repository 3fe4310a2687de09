"""Attacks by a server that departs from the protocol, alone or with curious clients.

Where sums are verified (`server="malicious"`, the default) it gets one sum a round and
no more. Where they are not (`server="semi_honest"`), tests show what it gets.
"""

import math
import threading

import numpy as np
import pytest

from fedjax_private.encryption.errors import ProtocolError, RefusedError, WireError
from fedjax_private.encryption.math import polynomials
from fedjax_private.encryption.math.packing import pack, unpack
from fedjax_private.encryption.math.plaintexts import decode_values
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.wire import AUTHORITY, SERVER
from fedjax_private.encryption.parties.declarations import declare
from tests.attacks.runs import HOLDERS, SCHEMES, UPLOADS, run_of, small
from tests.encryption.transforms import coefficients

pytestmark = pytest.mark.needs_openfhe

ALL = tuple(range(UPLOADS))
THRESHOLD = [name for name in SCHEMES if name.startswith("threshold")]
ONE_KEY = [name for name in SCHEMES if name not in THRESHOLD]


def open_round(name, number=7, **options):
    """A run whose clients have uploaded in a round, which was not released."""
    run = run_of(name, values=options.pop("values", 10), **options)
    vectors = run.vectors()
    return run, vectors, run.begin(number, vectors)


def zeros(run):
    return np.zeros_like(run.firsts(0))


def constant(run, divisor):
    """Second polynomials that a server chose: q / divisor, without any upload."""
    ring = run.scheme.ring
    chosen = zeros(run)
    for limb, q in enumerate(ring.moduli):
        chosen[:, limb] = math.prod(ring.moduli) // divisor % q
    return chosen


# An upload in the place of a sum


@pytest.mark.parametrize("name", SCHEMES)
def test_an_upload_passes_for_no_sum(name):
    """Server: passes one upload off as the sum of all -> refused by whoever decrypts,
    because the other clients have declared other uploads."""
    run, vectors, session = open_round(name)
    ring = run.scheme.ring
    (victim,) = run.parts(0)
    for parts in (
        [victim, zeros(run), zeros(run), zeros(run)],
        [victim] * UPLOADS,
        [victim, *run.parts(1), ring.reduce(ring.column - run.parts(1)[0]), zeros(run)],
    ):
        for decryptor in run.decryptors:
            with pytest.raises(RefusedError, match="has declared another upload"):
                run.ask(decryptor, 7, ALL, run.firsts(0), parts)
    total, _ = session.release()
    np.testing.assert_allclose(total, vectors.sum(axis=0), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ONE_KEY)
def test_an_upload_passes_for_a_sum_where_the_server_is_believed(name):
    """Server, of runs with server="semi_honest": passes one upload off as the sum of
    all -> that upload."""
    run, vectors, _ = open_round(name, verified=False)
    answer = run.ask(AUTHORITY, 7, ALL, run.firsts(0), run.seconds(0))
    np.testing.assert_allclose(run.answered(answer), vectors[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", THRESHOLD)
def test_chosen_polynomials_are_refused(name):
    """Server: sends holders polynomials of its choice in place of uploads', to read
    their shares of the key -> refused."""
    run, _, session = open_round(name)
    for holder in run.decryptors:
        for parts in (
            [constant(run, 8)] * UPLOADS,
            [constant(run, 8), *run.parts(1, 2, 3)],
        ):
            with pytest.raises(RefusedError, match="has declared another upload"):
                run.ask(holder, 7, ALL, None, parts)
    session.release()


@pytest.mark.parametrize("name", THRESHOLD)
def test_chosen_polynomials_read_every_share_where_the_server_is_believed(name):
    """Server, of runs with server="semi_honest": sends every holder one polynomial of
    its choice -> every share of the key from one query, and so every upload."""
    run, vectors, _ = open_round(name, verified=False)
    key, q = 0, math.prod(run.scheme.ring.moduli)
    for holder in run.decryptors:
        answer = run.answered(run.ask(holder, 7, ALL, None, constant(run, 8)))
        found = coefficients(answer[0], run.scheme.ring)
        share = np.array([round(int(x) * 8 / q) for x in found])
        secret = run.decryptors[holder]._secret_key.residues
        np.testing.assert_array_equal(share, small(secret, run.scheme.ring))
        key = key + share
    for client in ALL:
        read = run.decrypted(key, client)
        np.testing.assert_allclose(read, vectors[client], rtol=0, atol=1e-3)


# Other sums than that of the round


@pytest.mark.parametrize("name", SCHEMES)
def test_a_round_has_one_sum(name):
    """Server: asks for the sum of a round again, of the same clients or of one fewer ->
    refused; the difference would be one upload."""
    run, _, session = open_round(name, least=2)
    session.release()
    for clients in (ALL, ALL[1:], (0, 1)):
        for decryptor in run.decryptors:
            with pytest.raises(RefusedError, match="has decrypted in round 7 already"):
                parts = run.parts(*clients)
                run.ask(decryptor, 7, clients, run.firsts(*clients), parts)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_round_has_one_sum_after_a_rotation_of_keys(name):
    """Server: has the key rotate and asks for the round again, of fresh uploads ->
    refused by clients, who upload once a round, and by whoever decrypts."""
    run, vectors, session = open_round(name, least=2)
    session.release()
    aggregation = run.aggregation
    aggregation._key = aggregation._make_key()
    aggregation._opened.clear()
    with pytest.raises(
        RefusedError, match=r"has (declared|uploaded) in round 7 already"
    ):
        run.begin(7, vectors)
    # By clients that forgot.
    for client in ALL:
        for act in ("declared", "uploaded"):
            run.party(client)._done.pop(act, None)
    aggregation._opened.clear()
    with pytest.raises(RefusedError, match="has decrypted in round 7 already"):
        run.begin(7, vectors).release()


@pytest.mark.parametrize("name", SCHEMES)
def test_sums_of_too_few_uploads_are_refused(name):
    """Server: asks for a sum of fewer uploads than agreed, or names a client twice ->
    refused."""
    run, _, session = open_round(name, least=3)
    for decryptor in run.decryptors:
        for clients in ((0,), (0, 1)):
            with pytest.raises(RefusedError, match="at least 3"):
                parts = run.parts(*clients)
                run.ask(decryptor, 7, clients, run.firsts(*clients), parts)
        with pytest.raises(WireError, match="names a client twice"):
            run.ask(decryptor, 7, (0, 0, 1), run.firsts(0, 0, 1), run.parts(0, 0, 1))
    session.release()


@pytest.mark.parametrize("name", SCHEMES)
def test_clients_that_did_not_upload_do_not_fill_a_sum(name):
    """Server: fills a sum up with clients that have uploaded nothing in this round ->
    refused."""
    run = run_of(name, values=10, least=3)
    vectors = run.vectors()
    run.round(6, vectors)
    old = dict(run.ciphertexts)
    session = run.begin(7, vectors[:2])
    for client in (2, 3):
        run.ciphertexts[client] = old[client]  # of round 6, which it did declare
    for decryptor in run.decryptors:
        for clients in ((0, 1, 2), ALL, (0, 1, 9)):
            parts = run.parts(*(client % UPLOADS for client in clients))
            with pytest.raises(RefusedError, match="has declared no upload"):
                run.ask(decryptor, 7, clients, run.firsts(0, 1), parts)
    with pytest.raises(RefusedError, match="at least 3"):
        session.release()


@pytest.mark.parametrize("name", SCHEMES)
def test_an_upload_of_an_earlier_round_is_in_no_later_sum(name):
    """Server: replays an upload of an earlier round in a later one -> refused."""
    run = run_of(name, values=10)
    run.round(6, run.vectors())
    old = dict(run.ciphertexts)
    session = run.begin(7, run.vectors(1))
    new = dict(run.ciphertexts)
    run.ciphertexts[0] = old[0]
    for decryptor in run.decryptors:
        with pytest.raises(RefusedError, match="client 0 has declared another upload"):
            run.ask(decryptor, 7, ALL, run.firsts(*ALL), run.parts(*ALL))
    run.ciphertexts.update(new)
    session.release()


@pytest.mark.parametrize("name", SCHEMES)
def test_uploads_exchanged_between_clients_are_refused(name):
    """Server: sends the right parts in the name of the wrong clients -> refused."""
    run, _, session = open_round(name)
    for decryptor in run.decryptors:
        with pytest.raises(RefusedError, match="has declared another upload"):
            run.ask(decryptor, 7, ALL, run.firsts(*ALL), run.parts(1, 0, 2, 3))
    session.release()


@pytest.mark.parametrize("name", SCHEMES)
def test_former_keys_decrypt_nothing(name):
    """Server: asks for a sum under a key that has been replaced -> refused."""
    run, _, session = open_round(name)
    former = run.aggregation._key.encryptor.material.key_id
    ask = (7, ALL, run.firsts(*ALL), run.parts(*ALL))
    run.aggregation._key = run.aggregation._make_key()
    for decryptor in run.decryptors:
        with pytest.raises(WireError, match="another key"):
            run.ask(decryptor, *ask, key=former)
        with pytest.raises(RefusedError, match="has declared no upload"):
            run.ask(decryptor, *ask)
    del session


@pytest.mark.parametrize("name", ["ckks", "threshold_ckks", "threshold_exact"])
def test_a_key_decrypts_no_more_than_its_noise_protects(name):
    """Server: goes on asking when the key's budget is used up -> refused."""
    run = run_of(name, values=10, query_budget=1)
    run.round(0, run.vectors())
    key = run.aggregation._key
    run.aggregation._make_key = lambda: key
    session = run.begin(1, run.vectors(1))
    assert run.aggregation._key is key
    with pytest.raises(RefusedError, match="as many sums as its noise protects"):
        session.release()


@pytest.mark.parametrize("name", ["exact", "threshold_ckks"])
def test_of_many_threads_that_ask_for_a_round_one_is_answered(name):
    """Server: asks for different sums of one round from many threads at once -> one
    answer, as if they had come in turn."""
    run, _, _ = open_round(name, least=2, number=7)
    decryptor = next(iter(run.decryptors))
    barrier, answers = threading.Barrier(8), []

    def ask(index):
        clients = (ALL, ALL[1:], ALL[:3], (0, 1))[index % 4]
        arguments = (7, clients, run.firsts(*clients), run.parts(*clients))
        barrier.wait()
        try:
            answers.append(run.ask(decryptor, *arguments))
        except RefusedError as error:
            answers.append(str(error))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert sum(isinstance(answer, bytes) for answer in answers) == 1


# Sums that are not what they should be


@pytest.mark.parametrize("name", SCHEMES)
def test_a_server_adds_what_it_likes(name):
    """Server: adds a message of its own to the sum -> the sum is wrong by that;
    verified sums are secret, not correct."""
    run, vectors, _ = open_round(name)
    scheme = run.scheme
    shift = np.zeros_like(vectors[0])
    shift[3] = 5 if run.parameters.request.scheme.exact else 0.05
    firsts = scheme.ring.add(
        run.firsts(*ALL), scheme.encode(pack(shift, run.parameters))
    )
    total = firsts
    for decryptor in run.decryptors:
        answer = run.answered(run.ask(decryptor, 7, ALL, firsts, run.parts(*ALL)))
        if decryptor != AUTHORITY:
            total = scheme.ring.add(total, answer)
    if AUTHORITY not in run.decryptors:
        rows = decode_values(total, run.parameters, scheme.ring)
        answer = unpack(rows, run.parameters)
    expected = vectors.sum(axis=0) + shift
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", THRESHOLD)
def test_holders_that_were_asked_for_different_sums_decrypt_nothing(name):
    """Server: asks some holders for one sum and the others for another -> nothing that
    depends on the uploads, and no other sum in this round."""
    run, vectors, _ = open_round(name, least=3)
    views = [ALL, ALL, ALL[1:]]
    parts = [
        run.answered(run.ask(holder, 7, view, None, run.parts(*view)))
        for holder, view in zip(range(HOLDERS), views, strict=True)
    ]
    ring = run.scheme.ring
    for clients in (ALL, ALL[1:]):
        total = run.firsts(*clients)
        for part in parts:
            total = ring.add(total, part)
        found = unpack(decode_values(total, run.parameters, ring), run.parameters)
        wrong = np.abs(found - vectors[list(clients)].sum(axis=0))
        assert np.median(wrong) > (100 if "exact" in name else 0.1)


# Errors of exact sums


def test_the_error_of_an_exact_sum_stays_hidden():
    """Server and a curious client: shift the first polynomials to half the modulus, so
    that the error's sign shows in every known slot, from which the client's own error
    polynomial gives the key -> refused, and the key ends."""
    run, _, session = open_round("exact")
    ring = run.scheme.ring
    (q,) = ring.moduli
    half = np.full((len(zeros(run)), 1, ring.dimension), q // 2, np.uint64)
    firsts = ring.add(run.firsts(*ALL), polynomials.evaluate(half, ring))
    with pytest.raises(RefusedError, match="more noise than honest uploads"):
        run.ask(AUTHORITY, 7, ALL, firsts, run.parts(*ALL))
    assert run.decryptors[AUTHORITY].used_up
    with pytest.raises(RefusedError):
        session.release()
    # The next round has a new key.
    vectors = run.vectors(1)
    total = run.round(8, vectors)
    np.testing.assert_array_equal(total, vectors.sum(axis=0))


# In the place of others


@pytest.mark.parametrize("name", SCHEMES)
def test_only_the_server_asks(name):
    """Strangers, clients and edge servers: ask for a decryption -> refused."""
    run, _, session = open_round(name)
    for sender in (0, 77, 2**64 - 2**32):
        for decryptor in run.decryptors:
            with pytest.raises(ProtocolError, match="another sender"):
                run.ask(
                    decryptor, 7, ALL, run.firsts(*ALL), run.parts(*ALL), sender=sender
                )
    session.release()


def test_the_server_declares_nothing_for_clients():
    """Server: declares an upload in the name of a client -> refused."""
    run, _, session = open_round("exact")
    key_id = run.aggregation._key.encryptor.material.key_id
    part = run.scheme.ring.pack(zeros(run))
    known = {AUTHORITY: run.party(AUTHORITY).identity.public}
    for party, match in (
        (Party(0, known), "its tag is wrong"),
        (run.party(SERVER), "is no client"),
    ):
        declared = declare(party, (AUTHORITY,), 8, part, key_id)
        with pytest.raises(ProtocolError, match=match):
            run.decryptors[AUTHORITY].declare(declared[AUTHORITY])
    session.release()
