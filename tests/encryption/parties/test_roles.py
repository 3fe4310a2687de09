import dataclasses
import math

import numpy as np
import pytest

from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.messages.wire import (
    AUTHORITY,
    EDGES,
    SERVER,
    Kind,
    RefusedError,
    WireError,
    write,
)
from fedjax_private.encryption.parameters import Scheme, SumRequest
from fedjax_private.encryption.parties.roles import (
    DecryptionLog,
    Encryptor,
    KeyAuthority,
)
from fedjax_private.encryption.parties.server import AggregationServer
from fedjax_private.encryption.workers import Workers
from fedjax_private.trust import Decryptor, Trust

pytestmark = pytest.mark.needs_openfhe

UPLOADS, VALUES = 4, 9000  # two to five ciphertexts a vector
REQUESTS = {
    "complex": SumRequest(Scheme.CKKS, VALUES, UPLOADS, sum_bound=2.0),
    "real": SumRequest(Scheme.CKKS, VALUES, UPLOADS, complex_packing=False),
    "unprotected": SumRequest(Scheme.CKKS, VALUES, UPLOADS, protect=False),
    "two limbs": SumRequest(Scheme.CKKS, VALUES, UPLOADS, precision=1e-9),
    "exact": SumRequest(Scheme.EXACT, VALUES, UPLOADS),
}


@pytest.fixture(scope="module", params=REQUESTS)
def net(request, network):
    return network(REQUESTS[request.param], least=2)


@pytest.fixture(scope="module")
def exact(network):
    return network(REQUESTS["exact"], least=2)


@pytest.fixture(scope="module")
def reals(network):
    return network(REQUESTS["complex"], least=2)


@pytest.fixture
def small(network):
    """A pair of uploads, in one ciphertext each; of the test's own."""
    return network(SumRequest(Scheme.EXACT, 10, 2, bits=8))


# Sums.


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
        released, total = net.release()
        assert released == number
        net.assert_sum(total, vectors)


def test_order_of_uploads_does_not_matter(exact):
    vectors = exact.vectors()
    number = exact.open()
    for client in (2, 0, 3, 1):
        exact.server.add(exact.upload(client, number, vectors[client]))
    assert exact.server.clients == (2, 0, 3, 1)
    exact.assert_sum(exact.release()[1], vectors)


@pytest.mark.parametrize("kind", ["complex", "exact"])
def test_threads_give_the_same_sum(network, kind):
    net = network(REQUESTS[kind], workers=Workers.start(3))
    vectors = net.vectors()
    net.assert_sum(net.sum(vectors), vectors)


def test_as_many_uploads_as_words_cannot_hold_at_once(network):
    # Sixteen residues below 2^60 fill 64 bits; these are as large as they get.
    net = network(SumRequest(Scheme.EXACT, 5000, 40, bits=15), least=1)
    (q,) = net.ring.moduli
    assert net.ring.additions == 16
    largest = np.full((2, 1, net.ring.dimension), q - 1, np.uint64)
    number = net.open()
    for client in range(40):
        message = net.forge(net.clients[client], number, net.ring.pack(largest))
        net.server.add(message)
        assert net.server._total.max() >= net.server._added * (q - 2**33)
    taken, clients, total = net.server.take_total()
    assert (taken, clients) == (number, tuple(range(40)))
    np.testing.assert_array_equal(total, q - 40)
    vectors = net.vectors(40)
    net.assert_sum(net.sum(vectors), vectors)


# Clients.


def test_value_bound_is_enforced_at_its_edge(reals):
    vector = np.zeros(VALUES)
    bound = reals.request.sum_bound
    for edge in (bound, -bound):
        vector[-1] = edge
        reals.upload(0, 0, vector)
        vector[-1] = np.nextafter(edge, 2 * edge)
        with pytest.raises(ValueError, match=r"client 3: .*declared bound of 2;"):
            reals.upload(3, 0, vector)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_finite_is_refused(reals, value, dtype):
    vector = np.zeros(VALUES, dtype)
    vector[3] = value
    with pytest.raises(ValueError, match=r"client 3: .*not finite"):
        reals.upload(3, 0, vector)


@pytest.mark.parametrize("value", [-1, 2**16, 2**40])
def test_whole_numbers_out_of_range_are_refused(exact, value):
    vector = np.zeros(VALUES, np.int64)
    vector[3] = value
    with pytest.raises(ValueError, match=r"lie in \[0, 2\^16\)"):
        exact.upload(0, 0, vector)


@pytest.mark.parametrize("shape", [(VALUES - 1,), (VALUES + 1,), (1, VALUES), (), (0,)])
def test_vectors_of_other_shapes_are_refused(net, shape):
    with pytest.raises(ValueError, match="was declared"):
        net.upload(0, 0, np.zeros(shape))


def test_impossible_numbers_are_refused(exact):
    vector = np.zeros(VALUES, np.int64)
    for number in (-1, 2**64):
        with pytest.raises(WireError, match="do not fit"):
            exact.upload(0, number, vector)
    for client in (-1, 2**64):
        with pytest.raises(WireError, match="do not fit"):
            exact.encryptor.encrypt(exact.party(client), SERVER, 0, vector)


def test_length_does_not_depend_on_the_values(net):
    lengths = {
        len(net.upload(0, 0, 0 * net.vectors()[0])),
        len(net.upload(1, 2**63, net.vectors()[0])),
    }
    assert len(lengths) == 1


def test_encryptors_need_a_public_key(exact):
    with pytest.raises(WireError, match="without a public key"):
        Encryptor(exact.material.without_key())


def test_public_keys_that_are_none_are_refused(net):
    ring, parameters = net.ring, net.parameters
    polynomials = ring.unpack(net.material.public_key)
    for limb, q in enumerate(ring.moduli):
        polynomials[1, limb, 5] = q
        altered = Material.of_key(parameters, ring.pack(polynomials))
        with pytest.raises(WireError, match="not below the modulus"):
            Encryptor(Material.from_bytes(altered.to_bytes()))
        polynomials[1, limb, 5] = q - 1
    Encryptor(Material.of_key(parameters, ring.pack(polynomials)))


# The server.


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
    net.assert_sum(net.release()[1], vectors)


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
    exact.assert_sum(exact.release()[1], exact.vectors())


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


def test_malformed_messages_are_refused(net):
    number = net.open()
    upload = net.upload(0, number, net.vectors()[0])
    middle = len(upload) // 2
    for altered in (
        b"",
        upload[:10],
        upload[:-1],
        upload[:middle],
        upload + b"\0",
        upload + upload,
        upload[:middle] + upload[middle + 1 :],
        net.material.to_bytes(),
        bytearray(upload),
        None,
    ):
        with pytest.raises(WireError):
            net.server.add(altered)
    assert net.server.clients == ()
    net.server.add(upload)


def test_coefficients_beyond_the_modulus_are_refused(net):
    number = net.open()
    client = net.clients[0]
    polynomials = net.residues(net.upload(0, number, net.vectors()[0]))
    last = (len(polynomials) - 1, net.ring.limbs - 1, net.ring.dimension - 1)
    q = net.ring.moduli[-1]
    for value in (q, q + 1, 2 ** q.bit_length() - 1):
        polynomials[last] = value
        with pytest.raises(WireError, match="not below the modulus"):
            net.server.add(net.forge(client, number, net.ring.pack(polynomials)))
    assert net.server.clients == ()
    with pytest.raises(RefusedError, match="no sum"):
        net.server.sum_message()


def test_uploads_of_another_size_are_refused(exact, network):
    number = exact.open()
    assert exact.parameters.rows == 3
    for rows in (0, 1, 2, 4, 6):
        payload = bytes(2 * rows * exact.ring.polynomial_bytes)
        with pytest.raises(WireError, match="bytes where"):
            exact.server.add(exact.forge(exact.clients[0], number, payload))
    # As many ciphertexts, but another number of values in them, is another key's.
    other = network(dataclasses.replace(exact.request, values=VALUES - 1))
    assert other.payload == exact.payload
    assert other.material.key_id != exact.material.key_id


def test_other_kinds_and_keys_are_refused(exact):
    number = exact.open()
    for kind in set(Kind) - {Kind.UPLOAD}:
        with pytest.raises(WireError, match="another kind"):
            exact.server.add(exact.forge(exact.clients[0], number, kind=kind))
    with pytest.raises(WireError, match="another key"):
        exact.server.add(exact.forge(exact.clients[0], number, key_id=bytes(16)))


def test_what_was_sent_to_another_is_refused(exact):
    number = exact.open()
    vector = exact.vectors()[0]
    with pytest.raises(WireError, match="another receiver"):
        exact.server.add(exact.upload(0, number, vector, receiver=AUTHORITY))


def test_nobody_uploads_in_anothers_name(exact):
    number = exact.open()
    for numbers in ((0,), (), (0, 1), (1, 0), (1, 2, 3), (EDGES,), (SERVER,)):
        with pytest.raises(RefusedError, match="1 sent an upload in the name of"):
            exact.server.add(exact.forge(exact.clients[1], number, numbers=numbers))
    assert exact.server.clients == ()


def test_strangers_and_impostors_are_refused(exact):
    from fedjax_private.encryption.messages.channels import Party

    number = exact.open()
    for client, message in ((77, "nobody is known"), (0, "its tag is wrong")):
        stranger = Party(client, exact.directory)
        with pytest.raises(WireError, match=message):
            exact.server.add(exact.forge(stranger, number))


def test_only_clients_upload(small):
    number = small.open()
    for party in (small.party(EDGES), small.party(EDGES + 5), small.authority_party):
        with pytest.raises(RefusedError, match="of no client"):
            small.server.add(small.forge(party, number))
    last = small.party(EDGES - 1)
    small.server.add(small.forge(last, number))
    assert small.server.clients == (EDGES - 1,)


# Relays.


@pytest.fixture(scope="module")
def tree(network):
    """A network, and two edge servers that it knows."""
    net = network(REQUESTS["exact"], least=2)
    edges = [
        AggregationServer(net.party(EDGES + number), net.material)
        for number in (0, 2**31)
    ]
    return net, edges


def to_edge(net, edges, edge, client, number):
    vector = net.vectors()[client]
    receiver = edges[edge]._party.number
    edges[edge].add(net.upload(client, number, vector, receiver=receiver))


def test_edges_forward_sums(tree):
    net, edges = tree
    number = net.open()
    for edge in edges:
        edge.open(number)
    for client in range(4):
        to_edge(net, edges, client % 2, client, number)
    for edge in edges:
        net.server.add(edge.forward(SERVER))
    assert net.server.clients == (0, 2, 1, 3)
    net.assert_sum(net.release()[1], net.vectors())


def test_edges_and_clients_in_one_sum(tree):
    net, edges = tree
    number = net.open()
    for edge in edges:
        edge.open(number)
    to_edge(net, edges, 0, 0, number)
    to_edge(net, edges, 0, 1, number)
    # One edge after another.
    edges[1].add(edges[0].forward(edges[1]._party.number))
    to_edge(net, edges, 1, 2, number)
    net.server.add(net.upload(3, number, net.vectors()[3]))
    net.server.add(edges[1].forward(SERVER))
    assert net.server.clients == (3, 0, 1, 2)
    net.assert_sum(net.release()[1], net.vectors())


def test_nobody_is_counted_twice_through_edges(tree):
    net, edges = tree
    number = net.open()
    for edge in edges:
        edge.open(number)
        edge_number = edge._party.number
        vector = net.vectors()[0]
        edge.add(net.upload(0, number, vector, receiver=edge_number))
    to_edge(net, edges, 1, 1, number)
    net.server.add(edges[0].forward(SERVER))
    with pytest.raises(RefusedError, match="client 0 has uploaded"):
        net.server.add(edges[1].forward(SERVER))
    with pytest.raises(RefusedError, match="client 0 has uploaded"):
        net.server.add(net.upload(0, number, net.vectors()[0]))
    assert net.server.clients == (0,)
    for client in (1, 2, 3):
        net.server.add(net.upload(client, number, net.vectors()[client]))
    net.assert_sum(net.release()[1], net.vectors())


def test_edges_that_name_nobody_or_no_clients_are_refused(tree):
    net, edges = tree
    number = net.open()
    edge = edges[0]._party
    for numbers in ((), (EDGES,), (0, EDGES), (0, SERVER), (edge.number,)):
        with pytest.raises(RefusedError, match="of no client"):
            net.server.add(net.forge(edge, number, numbers=numbers))
    with pytest.raises(WireError, match="twice"):
        net.server.add(net.forge(edge, number, numbers=(1, 1)))
    with pytest.raises(WireError, match="bytes where"):
        net.server.add(net.forge(edge, number, numbers=(0, 1, 2, 3, 4)))
    net.server.add(net.upload(4, number, net.vectors()[0]))
    with pytest.raises(RefusedError, match="full"):
        net.server.add(net.forge(edge, number, numbers=(0, 1, 2, 3)))
    assert net.server.clients == (4,)
    # The last number of a client's.
    net.server.add(net.forge(edge, number, numbers=(EDGES - 1,)))


def test_relays_are_those_that_were_named(tree):
    net, edges = tree
    number = net.open()
    for relays, refused in ((range(0), edges[0]._party), ({1}, edges[1]._party)):
        server = AggregationServer(net.server_party, net.material, relays)
        server.open(number)
        with pytest.raises(RefusedError, match="in the name of"):
            server.add(net.forge(refused, number, numbers=(0, 1)))
    # A ring, where clients pass sums on.
    server.add(net.forge(net.clients[1], number, numbers=(0, 1)))
    assert server.clients == (0, 1)
    with pytest.raises(RefusedError, match="2 sent an upload in the name of"):
        server.add(net.forge(net.clients[2], number, numbers=(2, 3)))


def test_edges_release_nothing(tree):
    net, edges = tree
    number = net.open()
    edges[0].open(number)
    for client in (0, 1):
        to_edge(net, edges, 0, client, number)
    with pytest.raises(WireError, match="who is not the server"):
        net.authority.decrypt(edges[0].sum_message())
    message = net.forge(
        edges[0]._party,
        number,
        bytes(net.request.released.itemsize * VALUES),
        kind=Kind.RELEASED,
        numbers=(0, 1),
    )
    with pytest.raises(WireError, match="a released sum from"):
        net.server.released(message)


# The authority.


def test_sums_of_too_few_are_refused(net):
    number = net.open()
    net.add(number, net.vectors(1))
    with pytest.raises(RefusedError, match=r"sum of 1 uploads .* at least 2"):
        net.authority.decrypt(net.server.sum_message())
    # The refusal does not use the round up.
    net.server.open(number)
    net.add(number, net.vectors())
    net.assert_sum(net.release()[1], net.vectors())


def test_a_second_sum_of_a_round_is_refused(exact):
    vectors = exact.vectors()
    number = exact.open()
    exact.add(number, vectors)
    message = exact.server.sum_message()
    exact.authority.decrypt(message)
    again = [message]
    # The same but one: the difference would be a single upload.
    for clients in ((0, 1, 2, 3), (0, 1, 2), (3, 2)):
        exact.server.open(number)
        for client in clients:
            exact.server.add(exact.upload(client, number, vectors[client]))
        again.append(exact.server.sum_message())
    for data in again:
        with pytest.raises(RefusedError, match=f"round {number} has been decrypted"):
            exact.authority.decrypt(data)


def test_single_uploads_are_not_decrypted(exact):
    number = exact.open()
    upload = exact.upload(0, number, exact.vectors()[0])
    with pytest.raises(WireError, match="another kind"):
        exact.authority.decrypt(upload)
    upload = exact.upload(0, number, exact.vectors()[0], receiver=AUTHORITY)
    with pytest.raises(WireError, match="another kind"):
        exact.authority.decrypt(upload)


def test_only_the_server_asks_for_decryptions(exact):
    number = exact.open()
    for party in (exact.clients[0], exact.authority_party):
        forged = exact.forge(
            party, number, kind=Kind.SUM, receiver=AUTHORITY, numbers=(0, 1)
        )
        with pytest.raises(WireError, match="who is not the server"):
            exact.authority.decrypt(forged)


def test_more_uploads_than_a_sum_holds_are_refused(exact):
    number = exact.open()
    forged = exact.forge(
        exact.server_party,
        number,
        kind=Kind.SUM,
        receiver=AUTHORITY,
        numbers=range(5),
    )
    with pytest.raises(WireError, match="bytes where"):
        exact.authority.decrypt(forged)
    log = DecryptionLog(exact.material, exact.trust)
    with pytest.raises(RefusedError, match=r"may wrap around: .* at most 4"):
        log.enter(0, tuple(range(5)))


def test_malformed_sums_are_refused_and_do_not_use_the_round_up(net):
    number = net.open()
    net.add(number, net.vectors())
    message = net.server.sum_message()
    for altered in (b"", message[:-1], message + b"\0", message[:100], None):
        with pytest.raises(WireError):
            net.authority.decrypt(altered)
    flipped = bytearray(message)
    flipped[len(message) // 2] ^= 1
    with pytest.raises(WireError, match="its tag is wrong"):
        net.authority.decrypt(bytes(flipped))
    polynomials = net.residues(message)
    polynomials[0, -1, 0] = net.ring.moduli[-1]
    forged = net.forge(
        net.server_party,
        number,
        net.ring.pack(polynomials),
        kind=Kind.SUM,
        receiver=AUTHORITY,
        numbers=range(4),
    )
    with pytest.raises(WireError, match="not below the modulus"):
        net.authority.decrypt(forged)
    _, total = net.server.released(net.authority.decrypt(message))
    net.assert_sum(total, net.vectors())


def test_a_key_that_is_used_up_decrypts_no_more(network):
    # 3 ciphertexts a sum, and 8 may be decrypted: two sums.
    request = SumRequest(Scheme.CKKS, 5000, 2, query_budget=8)
    net = network(request)
    assert net.parameters.rows == 3
    assert net.parameters.sums_per_key == 2
    for _ in range(2):
        assert not net.authority.used_up
        net.assert_sum(net.sum(net.vectors()), net.vectors())
        # What is refused costs nothing.
        number = net.open()
        net.add(number, net.vectors(1))
        with pytest.raises(RefusedError, match="at least 2"):
            net.authority.decrypt(net.server.sum_message())
    assert net.authority.used_up
    number = net.open()
    net.add(number, net.vectors())
    with pytest.raises(RefusedError, match="as many sums as its noise protects"):
        net.authority.decrypt(net.server.sum_message())
    net.rotate()
    assert not net.authority.used_up
    net.assert_sum(net.sum(net.vectors()), net.vectors())


@pytest.mark.parametrize("kind", ["unprotected", "exact"])
def test_keys_that_need_no_noise_are_never_used_up(network, kind):
    net = network(dataclasses.replace(REQUESTS[kind], query_budget=1))
    for _ in range(3):
        net.assert_sum(net.sum(net.vectors()), net.vectors())
        assert not net.authority.used_up


def test_a_sum_larger_than_the_budget_is_decrypted_once(network):
    net = network(SumRequest(Scheme.CKKS, VALUES, 2, query_budget=1))
    net.assert_sum(net.sum(net.vectors()), net.vectors())
    assert net.authority.used_up


def test_keys_do_not_mix(small):
    vectors = small.vectors()
    old, number = small.encryptor, small.open()
    small.add(number, vectors)
    old_sum, old_authority = small.server.sum_message(), small.authority
    small.rotate()
    number = small.open()
    upload = old.encrypt(small.clients[0], SERVER, number, vectors[0])
    with pytest.raises(WireError, match="another key"):
        small.server.add(upload)
    with pytest.raises(WireError, match="another key"):
        small.authority.decrypt(old_sum)
    with pytest.raises(WireError, match="another key"):
        small.server.released(old_authority.decrypt(old_sum))
    small.add(number, vectors)
    new_sum = small.server.sum_message()
    with pytest.raises(WireError, match="another key"):
        old_authority.decrypt(new_sum)
    _, total = small.server.released(small.authority.decrypt(new_sum))
    small.assert_sum(total, vectors)


def test_what_was_encrypted_under_another_key_stays_secret(small):
    # A client that lies about its key spoils the sum, and learns nothing from it.
    vectors = small.vectors()
    old = small.encryptor
    small.rotate()
    number = small.open()
    upload = old.encrypt(small.clients[0], SERVER, number, vectors[0])
    renamed = small.forge(
        small.clients[0], number, small.ring.pack(small.residues(upload))
    )
    small.server.add(renamed)
    small.server.add(small.upload(1, number, vectors[1]))
    _, total = small.release()
    assert (total != vectors.sum(axis=0) % 256).sum() >= 5


def test_the_trust_model_has_to_fit(network):
    net = network(SumRequest(Scheme.EXACT, 10, 4))
    party, request = net.authority_party, net.request
    for decryptor in (Decryptor.NOBODY_NEEDED, Decryptor.HOLDERS):
        with pytest.raises(ValueError, match=repr(decryptor.value)):
            KeyAuthority(party, request, Trust(4, decryptor))
    with pytest.raises(ValueError, match=r"at least 5 uploads, but .* at most 4"):
        KeyAuthority(party, request, Trust(5, Decryptor.KEY_AUTHORITY))
    threshold = SumRequest(Scheme.THRESHOLD_EXACT, 10, 4, holders=2)
    with pytest.raises(ValueError, match="a key authority decrypts threshold_exact"):
        KeyAuthority(party, threshold, Trust(4, Decryptor.KEY_AUTHORITY))


# What is released.


def test_only_the_authority_releases(net):
    number = net.open()
    payload = np.ones(VALUES, net.request.released).tobytes()
    for party in (net.clients[0], net.server_party):
        forged = net.forge(party, number, payload, kind=Kind.RELEASED)
        with pytest.raises(WireError, match=f"a released sum from {party.number}"):
            net.server.released(forged)


def test_altered_releases_are_refused(net):
    number = net.open()
    net.add(number, net.vectors())
    message = net.authority.decrypt(net.server.sum_message())
    assert len(message) == 58 + 8 * 4 + net.request.released.itemsize * VALUES + 32
    for position in (0, 5, 20, 30, 60, 100, 5000, len(message) - 1):
        altered = bytearray(message)
        altered[position] ^= 1
        with pytest.raises(WireError):
            net.server.released(bytes(altered))
    for altered in (message[:-1], message + b"\0", b"", None):
        with pytest.raises(WireError):
            net.server.released(altered)
    released, total = net.server.released(message)
    assert released == number
    assert total.flags.writeable
    net.assert_sum(total, net.vectors())


def test_releases_name_their_clients(exact):
    from fedjax_private.encryption.messages.wire import read

    number = exact.open()
    for client in (2, 0):
        exact.server.add(exact.upload(client, number, exact.vectors()[client]))
    message = read(
        exact.server_party,
        exact.authority.decrypt(exact.server.sum_message()),
        Kind.RELEASED,
        payload=4 * VALUES,
        most_numbers=4,
        key_id=exact.material.key_id,
    )
    assert (message.sender, message.numbers) == (AUTHORITY, (2, 0))


def test_releases_are_for_the_server(exact):
    number = exact.open()
    data = write(
        exact.authority_party,
        0,
        Kind.RELEASED,
        number,
        bytes(4 * VALUES),
        key_id=exact.material.key_id,
    )
    with pytest.raises(WireError, match="another receiver"):
        exact.server.released(data)


def test_sums_show_the_noise_that_was_added(reals):
    vectors = reals.vectors()
    errors = [reals.sum(vectors) - vectors.sum(axis=0) for _ in range(2)]
    std = reals.parameters.error_std(UPLOADS)
    # Independent from round to round, and in every entry.
    assert np.std(errors[0] - errors[1]) == pytest.approx(math.sqrt(2) * std, rel=0.05)
    assert min(np.abs(errors[0])) < std / 100
