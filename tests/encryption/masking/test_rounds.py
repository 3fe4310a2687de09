"""Whole rounds: sums, clients that vanish, what the server sees, masks by hand."""

import hashlib
import itertools
import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.masking import seeds
from fedjax_private.encryption.messages.wire import Kind
from tests.encryption.masking.rounds import (
    STAGES,
    Group,
    Parties,
    expected,
    sum_facts,
    vectors,
)

NUMBERS = (3, 5, 8, 13)


@pytest.mark.parametrize("malicious", [True, False])
def test_every_way_to_vanish_gives_the_sum_of_what_arrived_or_none(malicious):
    given_threshold = {True: 2, False: None}[malicious]
    facts = sum_facts(2, malicious=malicious, recovery_threshold=given_threshold)
    group, rounds = Group(facts, NUMBERS), itertools.count()
    given = vectors(facts, NUMBERS)
    need = {True: 3, False: 2}[malicious]  # T of four clients
    outcomes = {True: 0, False: 0}
    stages = [*STAGES, "never"]
    for pattern in itertools.product(stages, repeat=len(NUMBERS)):
        if not malicious and "consent" in pattern:
            continue
        leaving = dict(zip(NUMBERS, pattern, strict=True))
        answering = {
            stage: [n for n in NUMBERS if stages.index(leaving[n]) > i]
            for i, stage in enumerate(STAGES)
        }
        shared, uploaded = answering["share"], answering["upload"]
        enough = (
            len(shared) >= need
            and len(uploaded) >= need
            and len(answering["open"]) >= need
            and (not malicious or len(answering["consent"]) >= need)
        )
        outcomes[enough] += 1
        if enough:
            clients, total = group.run(given, next(rounds), leaving)
            assert clients == tuple(uploaded)
            assert total.tolist() == expected(facts, given, uploaded)
        else:
            with pytest.raises(RefusedError):
                group.run(given, next(rounds), leaving)
    assert outcomes[True] > 16 and outcomes[False] > 100


def test_masks_of_those_that_shared_but_did_not_upload_are_removed():
    facts = sum_facts(4, values=50, recovery_threshold=3)
    group = Group(facts, range(7))
    given = vectors(facts, range(7))
    # T = 3 + 2 of seven.
    for number, gone in enumerate([(), (0,), (6,), (2, 5)]):
        leaving = dict.fromkeys(gone, "upload")
        clients, total = group.run(given, number, leaving)
        left = [n for n in range(7) if n not in gone]
        assert clients == tuple(left)
        assert total.tolist() == expected(facts, given, left)


@pytest.mark.parametrize("bits", [2, 9, 16, 17, 21, 24, 32, 44, 64])
def test_sums_of_every_width(bits):
    facts = sum_facts(3, bits=bits)
    group = Group(facts, range(3))
    given = vectors(facts, range(3))
    _, total = group.run(given)
    assert total.dtype == np.int64
    assert total.tolist() == expected(facts, given, range(3))
    residues = {n: v & ((1 << bits) - 1) for n, v in given.items() if bits < 64}
    if residues:
        assert group.run(residues, 1)[1].tolist() == total.tolist()


def test_sparse_graphs_sum_as_well(monkeypatch):
    # A small one in the place of the derived one: four neighbours, T = 2.
    monkeypatch.setattr(
        "fedjax_private.encryption.masking.rosters.sparse", lambda clients: (4, 2)
    )
    facts = sum_facts(4, malicious=False)
    group = Group(facts, range(12))
    given = vectors(facts, range(12))
    roster = group.server.facts
    assert roster.sparse
    for number in range(12):
        gone = {number: "upload", (number + 5) % 12: "open"}
        clients, total = group.run(given, number, gone)
        left = [n for n in range(12) if n != number]
        assert clients == tuple(left)
        assert total.tolist() == expected(facts, given, left)


def stream(seed, size):
    cipher = Cipher(algorithms.AES(seed), modes.CTR(bytes(16)))
    return cipher.encryptor().update(bytes(16 + size))[16:]


def test_masks_by_hand():
    """One client's upload, from its long-term channels and its own seed alone."""
    facts = sum_facts(3, session=os.urandom(16))
    group = Group(facts, NUMBERS)
    given = vectors(facts, NUMBERS)
    boxes = group.run(given, 9, until="upload")
    client = group.clients[8]
    upload = client.masked(boxes[8], given[8])
    context = hashlib.sha256(
        b"fedjax_private masks 1"
        + facts.key_id
        + (9).to_bytes(8, "little")
        + b"".join(n.to_bytes(8, "little") for n in NUMBERS)
    ).digest()
    value = given[8].copy()
    for other, sign in ((3, -1), (5, -1), (13, 1)):
        low, high = sorted((8, other))
        channel = group.parties(other).identity.channel(
            group.parties(low).identity.public, group.parties(high).identity.public
        )
        message = b"fedjax_private masks 1" + context
        pair = hashlib.blake2b(message, key=channel.derivation).digest()[:16]
        value += sign * np.frombuffer(stream(pair, 40), "<u2").astype(np.int64)
    own = client._round.seed
    value += np.frombuffer(stream(own, 40), "<u2")
    assert upload[58:-32] == (value % 2**16).astype("<u2").tobytes()


def test_an_independent_server_opens_the_sum():
    """Unmasks from the messages alone, with Python's integers."""
    group = Group(sum_facts(3, bits=13, values=11, malicious=False), NUMBERS)
    facts, given = group.facts, vectors(group.facts, NUMBERS)
    head, tail = 58, 32
    invitations = group.server.invite(0, NUMBERS)
    sent = {n: group.clients[n].shares(invitations[n]) for n in NUMBERS}
    for message in sent.values():
        group.server.add_shares(message)
    boxes = group.server.boxes()
    masked = {n: group.clients[n].masked(boxes[n], given[n]) for n in (3, 8, 13)}
    for message in masked.values():
        group.server.add_masked(message)
    lists = group.server.survivors()
    # Two of the three open, which is T.
    opened = {n: group.clients[n].open_masks(lists[n]) for n in (3, 13)}
    prime, total = 65_521, [0] * 11

    def secret(place):
        """A line through two shares, at zero; limb by limb."""
        points, limbs = [], []
        for n in (3, 13):
            holder = NUMBERS.index(n)
            order = [holder, *(p for p in range(4) if p != holder)]
            at = head + 16 * order.index(place)
            points.append(holder + 1)
            limbs.append(np.frombuffer(opened[n][at : at + 16], "<u2").tolist())
        (x, y), (f, g) = points, limbs
        inverse = pow(y - x, -1, prime)
        found = [(a * y - b * x) * inverse % prime for a, b in zip(f, g, strict=True)]
        return np.array(found, "<u2").tobytes()

    for place, n in enumerate(NUMBERS):
        if n == 5:  # vanished: its deposit has the masks of the others with it
            key = secret(place)
            deposit = sent[n][head + 16 : head + 16 + 48 + 16]
            pairs = AESGCM(key).decrypt(bytes(12), deposit, None)
            for i, other in enumerate((0, 2, 3)):
                seed = pairs[16 * i : 16 * i + 16]
                mask = np.frombuffer(stream(seed, 22), "<u2").tolist()
                sign = 1 if other < place else -1  # the sign of the other's mask
                total = [t - sign * m for t, m in zip(total, mask, strict=True)]
            continue
        packed = masked[n][head:-tail]
        bits = "".join(f"{byte:08b}"[::-1] for byte in packed[11:])
        values = [
            packed[i] + 256 * int(bits[5 * i : 5 * i + 5][::-1], 2) for i in range(11)
        ]
        mask = np.frombuffer(stream(secret(place), 22), "<u2").tolist()
        total = [t + v - m for t, v, m in zip(total, values, mask, strict=True)]
    found = [(t + 2**12) % 2**13 - 2**12 for t in total]
    assert found == expected(facts, given, (3, 8, 13))
    for message in opened.values():
        group.server.add_opening(message)
    assert group.server.release()[1].tolist() == found


def uploads_of(group, given, round_number):
    """The payloads of the masked vectors of a round, as the server sees them."""
    boxes = group.run(given, round_number, until="upload")
    return {n: group.clients[n].masked(boxes[n], given[n])[58:-32] for n in boxes}


def test_what_the_server_sees_is_uniform_whatever_the_vectors():
    """Server, of `masks`: looks for vectors in what it receives -> uniform numbers."""
    facts = sum_facts(3, bits=8, values=20_000)
    group = Group(facts, range(3))
    given = dict.fromkeys(range(3), np.full(20_000, 5))
    for payload in uploads_of(group, given, 0).values():
        counts = np.bincount(np.frombuffer(payload, np.uint8), minlength=256)
        chi = ((counts - 78.125) ** 2 / 78.125).sum()
        assert chi < 360  # 255 degrees of freedom: beyond with probability 1e-5


def test_no_mask_is_used_twice():
    facts = sum_facts(3, values=4)
    group = Group(facts, range(3))
    given = dict.fromkeys(range(3), np.zeros(4, np.int64))
    seen = set()
    for number in range(20):
        seen |= set(uploads_of(group, given, number).values())
    assert len(seen) == 60
    # The same clients, another run: other keys, from another session.
    again = Group(sum_facts(3, values=4, session=b"x" * 16), range(3), Parties())
    assert not seen & set(uploads_of(again, given, 0).values())


def test_colluders_below_the_quorum_learn_no_seed():
    """T - 1 shares fit every seed equally: here for each value of one limb."""
    secret = seeds.draw(1)
    shares = seeds.split(secret, 3, (1, 2, 3, 4))
    for guess in (0, 1, 65_520):
        # The one polynomial of degree 2 through two shares and the guess at zero.
        x, y = shares[0, 0, 0].astype(int), shares[1, 0, 0].astype(int)
        third = (guess - 3 * int(x) + 3 * int(y)) % 65_521
        points = np.array([x, y, third], np.uint16).repeat(8).reshape(3, 1, 8)
        assert seeds.combine((1, 2, 3), points)[0, 0] == guess


def test_bytes_of_a_round():
    facts = sum_facts(32, values=26_011)
    group = Group(facts, range(32))
    given = dict.fromkeys(range(32), np.zeros(26_011, np.int64))
    sent = dict.fromkeys(Kind, 0)
    invitations = group.server.invite(0, range(32))
    for n in range(32):
        message = group.clients[n].shares(invitations[n])
        sent[Kind.SHARES] += len(message) if n == 0 else 0
        group.server.add_shares(message)
    boxes = group.server.boxes()
    for n in range(32):
        message = group.clients[n].masked(boxes[n], given[n])
        sent[Kind.MASKED] += len(message) if n == 0 else 0
        group.server.add_masked(message)
    lists = group.server.survivors()
    for n in range(32):
        message = group.clients[n].consent(lists[n])
        sent[Kind.CONSENT] += len(message) if n == 0 else 0
        group.server.add_consent(message)
    consents = group.server.consents()
    message = group.clients[0].open_masks(consents[0])
    sent[Kind.UNMASKING] = len(message)
    frame = 58 + 32
    assert sent[Kind.SHARES] == frame + 16 + 31 * 16 + 16 + 31 * 48
    assert sent[Kind.MASKED] == frame + 2 * 26_011
    assert sent[Kind.CONSENT] == frame + 31 * 16
    assert sent[Kind.UNMASKING] == frame + 32 * 16
    assert sum(sent.values()) == 55_406  # 2.13 a value
    assert sum(sent.values()) < 2.2 * 26_011
