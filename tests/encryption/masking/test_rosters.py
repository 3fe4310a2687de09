import dataclasses
import os

import pytest

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.masking import graphs, rosters
from fedjax_private.encryption.masking.rosters import PairKeys, Roster
from fedjax_private.encryption.messages.wire import FIRST_EDGE
from tests.encryption.masking.rounds import Parties, sum_facts


@pytest.mark.parametrize(
    ("uploads", "malicious", "given", "threshold", "quorum"),
    [
        (2, True, None, 2, 2),
        (3, True, None, 3, 3),
        (8, True, None, 6, 4),
        (32, True, None, 22, 12),
        (32, True, 30, 30, 28),
        (2, False, None, 2, 2),
        (8, False, None, 5, 5),
        (32, False, 20, 20, 20),
    ],
)
def test_thresholds_and_who_opens_uploads(uploads, malicious, given, threshold, quorum):
    facts = sum_facts(uploads, recovery_threshold=given, malicious=malicious)
    assert (facts.threshold, facts.quorum) == (threshold, quorum)
    assert not facts.sparse
    colluding = quorum - 1
    for count in range(uploads, 3 * uploads):
        roster = Roster(facts, 0, tuple(range(count)))
        assert 1 < roster.threshold <= count
        assert roster.threshold > colluding
        if malicious:  # two lists cannot both get that many consents
            assert 2 * roster.threshold > count + colluding


def test_many_clients_of_an_honest_server_mask_with_some():
    facts = sum_facts(200, malicious=False)
    assert facts.sparse and facts.quorum == 41
    roster = Roster(facts, 0, tuple(range(300)))
    assert (roster.degree, roster.threshold) == graphs.sparse(300)
    assert roster.neighbours == graphs.circle(roster.context, 300, roster.degree)
    assert not sum_facts(200).sparse
    assert not sum_facts(200, malicious=False, recovery_threshold=101).sparse
    assert rosters.sparse(50) is None  # it would save little


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"uploads": 1}, "at least 2 uploads, got 1; take more clients or min_uploads"),
        ({"uploads": 2**16}, "uploads must lie between 2 and 65520"),
        ({"bits": 65}, "bits must lie between 2 and 64"),
        ({"values": 0}, "values must lie between"),
        ({"most_clients": 7}, "most_clients must lie between 8 and"),
        ({"recovery_threshold": 9}, "recovery_threshold must lie between 2 and 8"),
        ({"recovery_threshold": 1, "malicious": False}, "must lie between 2 and 8"),
        ({"recovery_threshold": 4}, "more than half of the 8 uploads"),
    ],
)
def test_impossible_sums_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        sum_facts(**{"uploads": 8} | changes)


def test_every_fact_is_in_the_name_and_everything_in_the_context():
    facts = sum_facts(4, session=os.urandom(16))
    others = [
        {"values": 21},
        {"bits": 17},
        {"uploads": 5},
        {"most_clients": 999},
        {"recovery_threshold": 3},
        {"malicious": False},
        {"session": os.urandom(16)},
    ]
    names = {facts.key_id}
    names |= {dataclasses.replace(facts, **other).key_id for other in others}
    assert len(names) == 8 and all(len(name) == 16 for name in names)
    clients = (1, 2, 3, 4, 9)
    contexts = {
        Roster(facts, 0, clients).context,
        Roster(facts, 1, clients).context,
        Roster(facts, 0, (1, 2, 3, 4, 8)).context,
        Roster(sum_facts(4), 0, clients).context,
    }
    assert len(contexts) == 4


@pytest.mark.parametrize(
    "clients",
    [(1, 2), (1, 2, 3, 4, 5, 6), (1, 3, 2), (1, 1, 2), (-1, 1, 2), (1, 2, FIRST_EDGE)],
)
def test_lists_that_are_none_of_a_round_are_refused(clients):
    with pytest.raises(RefusedError):
        Roster(sum_facts(3, most_clients=5), 0, clients)


def test_places_and_marks():
    roster = Roster(sum_facts(3), 7, (5, 6, 70, 80, 90, 91, 92, 93, 94))
    assert roster.place(70) == 2
    with pytest.raises(RefusedError, match="client 7 does not take part in round 7"):
        roster.place(7)
    assert roster.marks({0, 3, 8}) == bytes([0b1001, 1])
    assert roster.places(bytes([0b1001, 1])) == {0, 3, 8}
    with pytest.raises(WireError, match="more than the round has"):
        roster.places(bytes([0b1001, 2]))
    assert roster.holders(1) == tuple(range(9))
    assert [roster.index(4, other) for other in (0, 3, 5)] == [0, 3, 4]


def test_pairs_agree_on_keys_that_nobody_else_has():
    parties = Parties()
    for number in range(4):
        parties(number)
    facts = sum_facts(3)
    roster, later = (Roster(facts, number, (0, 1, 2, 3)) for number in (0, 1))
    keys = {
        (a, b, of.round_number): PairKeys.of(parties(a), b, of)
        for of in (roster, later)
        for a in range(4)
        for b in range(4)
        if a != b
    }
    for (a, b, number), found in keys.items():
        assert found == keys[b, a, number]
    parts = {
        found.keys[i : i + 16] for found in keys.values() for i in range(0, 64, 16)
    }
    assert len(parts) == 6 * 2 * 4
    pair = keys[1, 2, 0]
    assert repr(pair) == "PairKeys()"
    assert pair.box(1, 2) != pair.box(2, 1)
    consents = {
        pair.consent_to(1, 2, b"a"),
        pair.consent_to(2, 1, b"a"),
        pair.consent_to(1, 2, b"b"),
    }
    assert len(consents) == 3


def test_a_semi_honest_server_has_a_sparse_graph_from_118_clients_on():
    facts = {n: sum_facts(n, malicious=False) for n in range(100, 122)}
    assert [n for n in facts if facts[n].sparse] == [118, 119, 120, 121]
    # A fifth of the clients may collude, far fewer than T.
    assert (facts[118].quorum, facts[118].threshold) == (25, 60)
