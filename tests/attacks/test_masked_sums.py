"""Attacks on masked sums: what a server that lies gets, alone and with clients."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedjax_private.encryption import RefusedError
from fedjax_private.encryption.masking import seeds
from fedjax_private.encryption.masking.packing import unpack
from fedjax_private.encryption.masking.rosters import Roster
from fedjax_private.encryption.masking.seeds import Expander
from fedjax_private.encryption.messages.wire import SERVER, Kind, write
from tests.encryption.masking.rounds import Group, sum_facts, vectors

NUMBERS = tuple(range(8))
HEAD, TAIL = 58, 32
VICTIM = 0


class LyingServer:
    """Runs a round up to the uploads, then shows clients lists of its own."""

    def __init__(self, malicious):
        # Rounds of eight clients, whose sums may hold four uploads.
        self.facts = sum_facts(4, malicious=malicious)
        self.group = Group(self.facts, NUMBERS)
        self.given = vectors(self.facts, NUMBERS)
        invitations = self.group.server.invite(0, NUMBERS)
        self.sent = {n: self.group.clients[n].shares(invitations[n]) for n in NUMBERS}
        for message in self.sent.values():
            self.group.server.add_shares(message)
        boxes = self.group.server.boxes()
        self.uploads = {
            n: self.group.clients[n].masked(boxes[n], self.given[n]) for n in NUMBERS
        }
        self.roster = Roster(self.facts, 0, NUMBERS)

    def tell(self, number, kind, payload):
        party, name = self.group.parties(SERVER), self.facts.key_id
        return write(party, number, kind, 0, payload, key_id=name)

    def list_for(self, number, places):
        return self.tell(number, Kind.SURVIVORS, self.roster.marks(set(places)))

    def share(self, opening, holder, place):
        """The share that a holder's message gives of a place's seed."""
        index = 0 if holder == place else 1 + self.roster.index(holder, place)
        first = HEAD + 16 * index
        return seeds.from_bytes(opening[first : first + 16])

    def seed(self, openings, place):
        """The seed that T holders' shares give."""
        some = sorted(openings)[: self.roster.threshold]
        shares = np.stack([self.share(openings[n], n, place) for n in some])
        return seeds.to_bytes(seeds.combine([n + 1 for n in some], shares))

    def upload_of(self, place, own_seed, deposit_key):
        """A client's vector, from both of its seeds."""
        end = HEAD + 16 + self.roster.deposit_bytes
        sealed = self.sent[place][HEAD + 16 : end]
        pairs = AESGCM(deposit_key).decrypt(bytes(12), sealed, None)
        facts = self.facts
        vector = unpack(self.uploads[place][HEAD:-TAIL], facts.values, facts.bits)
        masks = Expander(vector.copy())
        masks.subtract(own_seed)
        for index, other in enumerate(self.roster.neighbours[place]):
            seed = pairs[16 * index : 16 * index + 16]
            (masks.subtract if other > place else masks.add)(seed)
        return masks.vector.astype(np.int16)


def test_a_server_taken_for_honest_reads_an_upload_by_two_lists():
    """Server, of `masks` with server="semi_honest": shows different lists of uploads to
    different clients -> an upload."""
    server = LyingServer(malicious=False)
    assert server.roster.threshold == 3
    clients = server.group.clients
    with_victim = {
        n: clients[n].open_masks(server.list_for(n, NUMBERS)) for n in (1, 2, 3)
    }
    without = {
        n: clients[n].open_masks(server.list_for(n, NUMBERS[1:])) for n in (4, 5, 6)
    }
    seed, key = server.seed(with_victim, VICTIM), server.seed(without, VICTIM)
    found = server.upload_of(VICTIM, seed, key)
    np.testing.assert_array_equal(found, server.given[VICTIM])


def test_a_server_taken_for_malicious_gets_nothing_by_two_lists():
    """Server, of `masks`: shows different lists of uploads to different clients ->
    refused by all of them."""
    server = LyingServer(malicious=True)
    clients = server.group.clients
    lists = {n: NUMBERS if n < 4 else NUMBERS[1:] for n in NUMBERS}
    consents = {n: clients[n].consent(server.list_for(n, lists[n])) for n in NUMBERS}
    for n in NUMBERS:
        parts = []
        for other in server.roster.neighbours[n]:
            first = HEAD + 16 * server.roster.index(other, n)
            parts.append(consents[other][first : first + 16])
        with pytest.raises(RefusedError, match="4 clients consent"):
            clients[n].open_masks(server.tell(n, Kind.CONSENTS, b"".join(parts)))


def test_a_server_that_invites_clients_in_groups_gets_a_sum_of_each():
    """Server, of `masks`: invites the clients of one round in groups, as if each were a
    round -> the sum of each group, as long as any sum; no upload is in two."""
    facts = sum_facts(4)
    given, whole = vectors(facts, NUMBERS), Group(facts, NUMBERS)
    for numbers in (NUMBERS[:4], NUMBERS[4:]):
        clients, total = Group(facts, numbers, whole.parties).run(given)
        assert clients == numbers
        np.testing.assert_array_equal(
            total.astype(np.int16), sum(given[n] for n in numbers).astype(np.int16)
        )
    with pytest.raises(RefusedError, match="has shared masks in round 0 already"):
        whole.run(given)
    with pytest.raises(RefusedError, match="a round of 3 clients"):
        Group(facts, NUMBERS[:3], whole.parties).run(given, round_number=1)


@pytest.mark.parametrize("malicious", [True, False])
def test_threshold_many_clients_and_the_server_read_every_upload(malicious):
    """Server and T clients, of `masks`: put their shares together -> every upload."""
    server = LyingServer(malicious)
    coalition = range(1, 1 + server.roster.threshold)
    for place in set(NUMBERS) - set(coalition):
        shares = []
        for n in coalition:
            state = server.group.clients[n]._round
            index = server.roster.index(n, place)
            sealed = state.boxes[48 * index : 48 * index + 48]
            key = state.keys[place].box(place, n)
            shares.append(
                seeds.from_bytes(AESGCM(key).decrypt(bytes(12), sealed, None))
            )
        points = [n + 1 for n in coalition]
        seed, key = map(seeds.to_bytes, seeds.combine(points, np.stack(shares)))
        found = server.upload_of(place, seed, key)
        np.testing.assert_array_equal(found, server.given[place])
        # One client fewer: another seed comes out.
        few = seeds.combine(points[1:], np.stack(shares[1:]))
        assert seeds.to_bytes(few[0]) != seed


def test_a_client_that_shares_wrongly_spoils_the_round_and_reads_nothing():
    """Client, of `masks`: masks with another seed than it shares -> the sum is garbage;
    nothing is learned."""
    facts = sum_facts(4, recovery_threshold=3)
    group = Group(facts, NUMBERS)
    given = vectors(facts, NUMBERS)
    boxes = group.run(given, until="upload")
    group.clients[2]._round.seed = seeds.to_bytes(seeds.draw(1))  # masks with another
    for n in NUMBERS:
        group.server.add_masked(group.clients[n].masked(boxes[n], given[n]))
    lists = group.server.survivors()
    for n in NUMBERS:
        group.server.add_consent(group.clients[n].consent(lists[n]))
    consents = group.server.consents()
    for n in NUMBERS:
        group.server.add_opening(group.clients[n].open_masks(consents[n]))
    _, total = group.server.release()
    plain = sum(given.values())
    # The shares fit the check value; the mask did not: nobody can tell, or gains.
    assert ((total - plain) % 2**16 != 0).mean() > 0.9


def test_an_edge_of_clients_around_a_victim_needs_the_quorum():
    """Clients, all but two of a sum, of `masks`: take away the masks that they have
    with one of the two -> nothing."""
    facts = sum_facts(8)
    group = Group(facts, NUMBERS)
    given = vectors(facts, NUMBERS)
    boxes = group.run(given, until="upload")
    uploads = {n: group.clients[n].masked(boxes[n], given[n]) for n in NUMBERS}
    vector = unpack(uploads[0][HEAD:-TAIL], facts.values, facts.bits)
    masks = Expander(vector.copy())
    for n in range(2, 8):  # all but the victim and one honest client
        masks.subtract(group.clients[n]._round.keys[0].seed)
    masks.subtract(group.clients[0]._round.seed)  # even with b opened, as in a sum
    assert (masks.vector.astype(np.int16) != given[0]).mean() > 0.9
    masks.subtract(group.clients[1]._round.keys[0].seed)
    np.testing.assert_array_equal(masks.vector.astype(np.int16), given[0])
