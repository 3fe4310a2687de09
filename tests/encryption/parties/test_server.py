"""The aggregation server: sums, rounds, and sums that relays forward."""

import numpy as np
import pytest

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.messages.wire import FIRST_EDGE, SERVER, Kind
from fedjax_private.encryption.parameters import Scheme
from fedjax_private.encryption.parties.server import AggregationServer
from fedjax_private.encryption.workers import Workers
from tests.encryption.fixtures import REQUESTS, VALUES, sum_request

pytestmark = pytest.mark.needs_openfhe


def test_sums_equal_the_plain_ones(net):
    vectors = net.vectors()
    assert net.parameters.rows >= 2
    net.assert_sum(net.sum(vectors), vectors)


@pytest.mark.parametrize("uploads", [2, 3])
def test_sums_of_fewer_uploads_than_there_could_be(net, uploads):
    vectors = net.vectors(uploads, seed=uploads)
    total = net.sum(vectors)
    assert total.shape == (VALUES,)
    net.assert_sum(total, vectors)


def test_rounds_follow_one_another_in_any_order(net):
    for number in (10**9, 10**6, 2**64 - 1, 10**6 + 1):
        vectors = net.vectors(seed=number % 100)
        net.server.open(number)
        net.add(number, vectors)
        total = net.release()
        net.assert_sum(total, vectors)


def test_order_of_uploads_does_not_matter(exact):
    vectors = exact.vectors()
    number = exact.open()
    for client in (2, 0, 3, 1):
        exact.server.add(exact.upload(client, number, vectors[client]))
    assert exact.server.clients == (2, 0, 3, 1)
    exact.assert_sum(exact.release(), vectors)


@pytest.mark.parametrize("kind", ["complex", "exact"])
def test_threads_give_the_same_sum(network, kind):
    net = network(REQUESTS[kind], workers=Workers.start(3))
    vectors = net.vectors()
    net.assert_sum(net.sum(vectors), vectors)


def test_as_many_uploads_as_words_cannot_hold_at_once(network):
    # Sixteen residues below 2^60 fill 64 bits; these are as large as they get.
    net = network(sum_request(Scheme.EXACT, 5000, 40, quantization_bits=15), least=1)
    (q,) = net.ring.moduli
    assert net.ring.additions == 16
    largest = np.full((2, 1, net.ring.dimension), q - 1, np.uint64)
    number = net.open()
    for client in range(40):
        message = net.forge(net.clients[client], number, net.ring.pack(largest))
        net.server.add(message)
    total = net.server.take_total()
    assert (total.round_number, total.clients) == (number, tuple(range(40)))
    np.testing.assert_array_equal(total.firsts, q - 40)
    np.testing.assert_array_equal(total.parts.total, q - 40)
    vectors = net.vectors(40)
    net.assert_sum(net.sum(vectors), vectors)


# Rounds


def test_a_client_is_added_once(net):
    vectors = net.vectors()
    number = net.open()
    upload = net.upload(1, number, vectors[1])
    net.server.add(upload)
    for again in (upload, net.upload(1, number, vectors[2])):
        with pytest.raises(RefusedError, match="client 1 has uploaded"):
            net.server.add(again)
    # What was refused left no trace.
    for client in (0, 2, 3):
        net.server.add(net.upload(client, number, vectors[client]))
    net.assert_sum(net.release(), vectors)


def test_other_rounds_are_refused(exact):
    vector = exact.vectors()[0]
    number = exact.open()
    upload = exact.upload(0, number, vector)
    exact.server.add(upload)
    later = exact.open()
    with pytest.raises(RefusedError, match=f"round {number}, but {later} is open"):
        exact.server.add(upload)
    with pytest.raises(RefusedError, match=f"round {2**63}, but {later} is open"):
        exact.server.add(exact.upload(0, 2**63, vector))
    assert exact.server.clients == ()


def test_no_round_is_open_before_and_after(small):
    upload = small.upload(0, 0, np.zeros(10, int))
    with pytest.raises(RefusedError, match="round 0, but none is open"):
        small.server.add(upload)
    assert small.open() == 0
    small.sum(np.zeros((2, 10), int))
    with pytest.raises(RefusedError, match="round 0, but none is open"):
        small.server.add(upload)


def test_opening_discards_what_was_unfinished(exact):
    vectors = exact.vectors()
    number = exact.open()
    exact.server.add(exact.upload(0, number, vectors[0]))
    exact.assert_sum(exact.sum(vectors), vectors)


def test_a_full_sum_takes_no_more(exact):
    number = exact.open()
    exact.add(number, exact.vectors())
    with pytest.raises(RefusedError, match="full: the parameters hold at most 4"):
        exact.server.add(exact.upload(4, number, exact.vectors()[0]))
    exact.assert_sum(exact.release(), exact.vectors())


def test_there_is_no_sum_of_nothing(small):
    for _ in range(2):
        for end in (
            small.server.sum_message,
            small.server.take_total,
            lambda: small.server.forward(SERVER),
        ):
            with pytest.raises(RefusedError, match="no sum"):
                end()
        small.server.open(0)
    small.add(0, [np.ones(10, int)])
    small.server.sum_message()
    with pytest.raises(RefusedError, match="no sum"):
        small.server.sum_message()


# Relays


@pytest.fixture(scope="module")
def tree(network):
    """A network, two edge servers that it knows, and who they are."""
    net = network(REQUESTS["exact"], least=2)
    parties = [net.party(FIRST_EDGE + number) for number in (0, 2**31)]
    edges = [AggregationServer(party, net.material) for party in parties]
    return net, edges, parties


def to_edge(tree, edge, client, number):
    net, edges, parties = tree
    vector = net.vectors()[client]
    receiver = parties[edge].number
    edges[edge].add(net.upload(client, number, vector, receiver=receiver))


def test_edges_forward_sums(tree):
    net, edges, _ = tree
    number = net.open()
    for edge in edges:
        edge.open(number)
    for client in range(4):
        to_edge(tree, client % 2, client, number)
    for edge in edges:
        net.server.add(edge.forward(SERVER))
    assert net.server.clients == (0, 2, 1, 3)
    net.assert_sum(net.release(), net.vectors())


def test_edges_and_clients_in_one_sum(tree):
    net, edges, parties = tree
    number = net.open()
    for edge in edges:
        edge.open(number)
    to_edge(tree, 0, 0, number)
    to_edge(tree, 0, 1, number)
    # One edge after another.
    edges[1].add(edges[0].forward(parties[1].number))
    to_edge(tree, 1, 2, number)
    net.server.add(net.upload(3, number, net.vectors()[3]))
    net.server.add(edges[1].forward(SERVER))
    assert net.server.clients == (3, 0, 1, 2)
    net.assert_sum(net.release(), net.vectors())


def test_nobody_is_counted_twice_through_edges(tree):
    net, edges, _ = tree
    number = net.open()
    for index, edge in enumerate(edges):
        edge.open(number)
        to_edge(tree, index, 0, number)
    to_edge(tree, 1, 1, number)
    net.server.add(edges[0].forward(SERVER))
    with pytest.raises(RefusedError, match="client 0 has uploaded"):
        net.server.add(edges[1].forward(SERVER))
    with pytest.raises(RefusedError, match="client 0 has uploaded"):
        net.server.add(net.upload(0, number, net.vectors()[0]))
    assert net.server.clients == (0,)
    for client in (2, 3):
        net.server.add(net.upload(client, number, net.vectors()[client]))
    net.assert_sum(net.release(), net.vectors()[[0, 2, 3]])


def test_relays_are_those_that_were_named(tree):
    net, _, parties = tree
    number = net.open()
    for relays, refused in ((range(0), parties[0]), ({1}, parties[1])):
        server = AggregationServer(net.server_party, net.material, relays)
        server.open(number)
        with pytest.raises(RefusedError, match="in the name of"):
            server.add(net.forge(refused, number, numbers=(0, 1)))
    # A ring, where clients pass sums on.
    server.add(net.forge(net.clients[1], number, numbers=(0, 1)))
    assert server.clients == (0, 1)
    with pytest.raises(RefusedError, match="2 sent an upload in the name of"):
        server.add(net.forge(net.clients[2], number, numbers=(2, 3)))


def test_a_relay_that_forwards_other_parts_than_it_names_is_refused(network):
    net = network(REQUESTS["exact"])
    server = AggregationServer(net.server_party, net.material, relays=range(4))
    vectors, number = net.vectors(), net.open()
    net.add(number, vectors)
    total = net.server.take_total()
    parts = [bytes(part) for part in total.parts.each]

    def forwarded(parts):
        payload = net.ring.pack(total.firsts) + b"".join(parts)
        return net.forge(net.clients[3], number, payload, numbers=range(4))

    server.open(number)
    for wrong in (parts[:3], [*parts, parts[0]]):
        with pytest.raises(WireError, match="bytes where"):
            server.add(forwarded(wrong))
    for wrong in ([*parts[:3], parts[0]], parts[::-1]):
        server.open(number)
        server.add(forwarded(wrong))
        with pytest.raises(RefusedError, match="has declared another upload"):
            net.authority.decrypt(server.sum_message())
    server.open(number)
    server.add(forwarded(parts))
    total = server.read_release(net.authority.decrypt(server.sum_message()))
    net.assert_sum(total, vectors)


# Releases


def test_a_release_answers_what_was_asked(network):
    net = network(REQUESTS["exact"], least=2)
    vectors, first = net.vectors(), net.open()
    net.add(first, vectors)
    old = net.authority.decrypt(net.server.sum_message())
    number = net.open()
    net.add(number, vectors[:2])
    message = net.server.sum_message()
    with pytest.raises(WireError, match=rf"of round {first} .* but that of round"):
        net.server.read_release(old)
    payload = bytes(net.request.released.itemsize * VALUES)
    other = net.forge(
        net.authority_party, number, payload, kind=Kind.RELEASED, numbers=(0, 2)
    )
    with pytest.raises(WireError, match=r"clients \[0, 2\]"):
        net.server.read_release(other)
    release = net.authority.decrypt(message)
    net.assert_sum(net.server.read_release(release), vectors[:2])
    with pytest.raises(RefusedError, match="not asked for"):
        net.server.read_release(release)
