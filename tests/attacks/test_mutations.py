"""Ten thousand hostile messages in whole runs: of every kind, scheme and topology.

Before a party gets a message it gets hostile ones in its place: altered on the way,
replayed, or tagged by parties that may not send them. All are refused, and the run goes
on to the right sum, as if they had not come.
"""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from fedjax_private.aggregation.encrypted import EncryptedAggregation
from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.messages.channels import Channel
from fedjax_private.encryption.messages.wire import Kind
from fedjax_private.encryption.parameters import Scheme
from fedjax_private.trust import Decryptor, Trust
from tests.attacks.hostility import Hostility, receivers
from tests.encryption.federation import HOLDERS, Federation, request_of
from tests.encryption.fixtures import sum_request
from tests.encryption.masking.rounds import Group, expected, sum_facts, vectors

pytestmark = pytest.mark.needs_openfhe

MESSAGES = 10_000
UPLOADS, HOLDING, VALUES = 4, 3, 10


@dataclasses.dataclass
class Campaign:
    """What all runs together have tried, and what was accepted."""

    kinds: Counter
    ways: Counter
    accepted: list
    schemes: set


def run(hostility, scheme, topology):
    """Two rounds; each gives the sum of its uploads."""
    holders = HOLDING if scheme.threshold else 1
    decryptor = Decryptor.HOLDERS if scheme.threshold else Decryptor.KEY_AUTHORITY
    given = np.arange(UPLOADS * VALUES).reshape(UPLOADS, VALUES)
    if not scheme.exact:
        given = given / 100
    with hostility.everywhere():
        aggregation = EncryptedAggregation(
            sum_request(scheme, VALUES, UPLOADS, holders),
            Trust(UPLOADS, decryptor),
            quorum=2,
            topology=topology,
            fan_out=2,
        )
        for number in range(2):
            session = aggregation.open(number)
            session.add(np.arange(UPLOADS), given)
            total, _ = session.release()
            np.testing.assert_allclose(total, given.sum(axis=0), rtol=0, atol=1e-3)


def recover(hostility, scheme):
    """A round in which a holder is missing and others stand in for it."""
    with hostility.everywhere():
        federation = Federation(request_of(scheme, values=VALUES)).with_key()
        fusion, total = federation.fusion()
        federation.answer(fusion, HOLDERS[1:])
        federation.stand_in(fusion)
        federation.check(fusion.release(), total)


def mask(hostility, malicious):
    """Two rounds under masks: a client vanishes before its upload, or after it."""
    with hostility.everywhere():
        group = Group(sum_facts(4, malicious=malicious), range(5))
        for number, stage in enumerate(("upload", "open")):
            given = vectors(group.facts, group.numbers, number)
            clients, total = group.run(given, number, leaving={4: stage})
            assert total.tolist() == expected(group.facts, given, clients)


@pytest.fixture(scope="module")
def campaign():
    found = Campaign(Counter(), Counter(), [], set())
    runs = [(run, scheme, topology) for scheme in Scheme for topology in TOPOLOGIES]
    runs += [(recover, scheme) for scheme in Scheme if scheme.threshold]
    runs += [(mask, True), (mask, False)]
    for seed, (act, *arguments) in enumerate(runs):
        relays = arguments[-1] != "star"  # others may then send sums of uploads
        hostility = Hostility(7, seed, relays)
        act(hostility, *arguments)
        found.kinds += hostility.tried
        found.ways += hostility.ways
        found.accepted += hostility.accepted
        found.schemes.add("masks" if act is mask else arguments[0].value)
    return found


TOPOLOGIES = ("star", "tree", "ring")


def test_of_ten_thousand_hostile_messages_none_is_accepted(campaign):
    """Strangers, and all parties: alter, replay, splice, forge and redirect messages of
    every kind, in runs of every scheme and topology, by the thousand -> refused."""
    assert campaign.accepted == []
    assert campaign.kinds.total() > MESSAGES
    assert campaign.schemes == {"masks", *(scheme.value for scheme in Scheme)}


def test_messages_of_every_kind_were_among_them(campaign):
    assert campaign.kinds.keys() == {kind.name for kind in Kind}
    assert min(campaign.kinds.values()) > 50
    assert len(campaign.ways) == 13 and min(campaign.ways.values()) > 100


def test_every_receiver_was_attacked():
    """A party that takes bytes under another name would not be found: none does."""
    names = {f"{owner.__name__}.{name}" for owner, name, _ in receivers()}
    assert {
        "AggregationServer.add",
        "KeyAuthority.decrypt",
        "KeyGeneration.accept",
    } <= names


def test_a_receiver_that_believes_anything_would_be_found_out(monkeypatch):
    monkeypatch.setattr(Channel, "verify", lambda channel, tag, *parts: True)
    hostility = Hostility(20)
    # The first that is accepted takes the place of the true one.
    with pytest.raises(RefusedError, match=r"has (declared|uploaded)"):
        run(hostility, Scheme.EXACT, "star")
    assert hostility.accepted
