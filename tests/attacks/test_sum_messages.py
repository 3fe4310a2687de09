"""Hostile messages to the server, to the key authority and to encryptors."""

import dataclasses

import numpy as np
import pytest

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.messages.wire import (
    AUTHORITY,
    FIRST_EDGE,
    SERVER,
    Kind,
    write,
)
from fedjax_private.encryption.parties.encryptor import Encryptor
from fedjax_private.encryption.parties.server import AggregationServer
from tests.encryption.fixtures import REQUESTS, VALUES

pytestmark = pytest.mark.needs_openfhe


# To the server


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


def test_malformed_messages_are_refused(net):
    """Stranger: truncates, extends or repeats an upload -> refused, and the true one is
    taken afterwards."""
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
    """Client: uploads numbers beyond the modulus -> refused."""
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
    """Client: uploads more or fewer ciphertexts than agreed -> refused."""
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
    """Client: sends messages of other kinds or under another key -> refused."""
    number = exact.open()
    for kind in set(Kind) - {Kind.UPLOAD}:
        with pytest.raises(WireError, match="another kind"):
            exact.server.add(exact.forge(exact.clients[0], number, kind=kind))
    with pytest.raises(WireError, match="another key"):
        exact.server.add(exact.forge(exact.clients[0], number, key_id=bytes(16)))


def test_what_was_sent_to_another_is_refused(exact):
    """Client: redirects an upload that was for another receiver -> refused."""
    number = exact.open()
    vector = exact.vectors()[0]
    with pytest.raises(WireError, match="another receiver"):
        exact.server.add(exact.upload(0, number, vector, receiver=AUTHORITY))


def test_nobody_uploads_in_anothers_name(exact):
    """Client: uploads in the name of others, of several or of none -> refused."""
    number = exact.open()
    for numbers in ((0,), (), (0, 1), (1, 0), (1, 2, 3), (FIRST_EDGE,), (SERVER,)):
        with pytest.raises(RefusedError, match="1 sent an upload in the name of"):
            exact.server.add(exact.forge(exact.clients[1], number, numbers=numbers))
    assert exact.server.clients == ()


def test_strangers_and_impostors_are_refused(exact):
    """Stranger: uploads as a client that nobody knows, or as another -> refused."""
    number = exact.open()
    for client, message in ((77, "no party with number"), (0, "its tag is wrong")):
        stranger = Party(client, exact.directory)
        with pytest.raises(WireError, match=message):
            exact.server.add(exact.forge(stranger, number))


def test_only_clients_upload(small):
    """Edge server or authority: uploads as if it were a client -> refused."""
    number = small.open()
    for party in (
        small.party(FIRST_EDGE),
        small.party(FIRST_EDGE + 5),
        small.authority_party,
    ):
        with pytest.raises(RefusedError, match="to no client"):
            small.server.add(small.forge(party, number))
    last = small.party(FIRST_EDGE - 1)
    small.server.add(small.forge(last, number))
    assert small.server.clients == (FIRST_EDGE - 1,)


# By relays


def test_edges_that_name_nobody_or_no_clients_are_refused(network):
    """Edge server: names nobody, parties that are no clients, one client twice or too
    many -> refused."""
    net = network(REQUESTS["exact"])
    number = net.open()
    edge = net.party(FIRST_EDGE)
    for numbers in ((), (FIRST_EDGE,), (0, FIRST_EDGE), (0, SERVER), (edge.number,)):
        with pytest.raises(RefusedError, match="to no client"):
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
    net.server.add(net.forge(edge, number, numbers=(FIRST_EDGE - 1,)))


def test_edges_release_nothing(network):
    """Edge server: asks the authority for its own sum, or releases one -> refused."""
    net = network(REQUESTS["exact"])
    party = net.party(FIRST_EDGE)
    edge = AggregationServer(party, net.material)
    number = net.open()
    edge.open(number)
    for client in (0, 1):
        vector = net.vectors()[client]
        edge.add(net.upload(client, number, vector, receiver=FIRST_EDGE))
    with pytest.raises(WireError, match="another sender"):
        net.authority.decrypt(edge.sum_message())
    message = net.forge(
        party,
        number,
        bytes(net.request.released.itemsize * VALUES),
        kind=Kind.RELEASED,
        numbers=(0, 1),
    )
    with pytest.raises(WireError, match="another sender"):
        net.server.read_release(message)


# To the authority


def test_a_second_sum_of_a_round_is_refused(exact):
    """Server: asks the authority for a round again, with fresh ciphertexts or with
    fewer clients -> refused."""
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
        with pytest.raises(RefusedError, match=f"has decrypted in round {number}"):
            exact.authority.decrypt(data)


def test_single_uploads_are_not_decrypted(exact):
    """Client or server: sends the authority an upload -> refused."""
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
        with pytest.raises(WireError, match="another sender"):
            exact.authority.decrypt(forged)


def test_more_uploads_than_a_sum_holds_are_refused(exact):
    """Server: asks for a sum of more uploads than its parameters hold -> refused."""
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


def test_malformed_sums_are_refused_and_do_not_use_the_round_up(net):
    """Stranger: alters or truncates a sum on its way to the authority -> refused, and
    the true one is decrypted afterwards."""
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
    total = net.server.read_release(net.authority.decrypt(message))
    net.assert_sum(total, net.vectors())


def test_what_was_encrypted_under_another_key_stays_secret(small):
    """Client: uploads under a former key as if it were the current one -> the round is
    void; nothing is learned."""
    # A client that lies about its key voids the round, and learns nothing from it.
    vectors = small.vectors()
    old = small.encryptor
    small.rotate()
    number = small.open()
    upload, _ = old.encrypt(small.clients[0], SERVER, number, vectors[0])
    renamed = small.forge(
        small.clients[0], number, small.ring.pack(small.residues(upload))
    )
    small.server.add(renamed)
    small.server.add(small.upload(1, number, vectors[1]))
    with pytest.raises(RefusedError, match="more noise than honest uploads"):
        small.release()
    assert small.authority.used_up


# Releases


def test_only_the_authority_releases(net):
    """Client or server: releases a sum in place of the authority -> refused."""
    number = net.open()
    payload = np.ones(VALUES, net.request.released).tobytes()
    for party in (net.clients[0], net.server_party):
        forged = net.forge(party, number, payload, kind=Kind.RELEASED)
        with pytest.raises(WireError, match=f"another sender: {party.number}"):
            net.server.read_release(forged)


def test_altered_releases_are_refused(net):
    """Stranger: alters a released sum on its way -> refused."""
    number = net.open()
    net.add(number, net.vectors())
    message = net.authority.decrypt(net.server.sum_message())
    assert len(message) == 58 + 8 * 4 + net.request.released.itemsize * VALUES + 32
    for position in (0, 5, 20, 30, 60, 100, 5000, len(message) - 1):
        altered = bytearray(message)
        altered[position] ^= 1
        with pytest.raises(WireError):
            net.server.read_release(bytes(altered))
    for altered in (message[:-1], message + b"\0", b"", None):
        with pytest.raises(WireError):
            net.server.read_release(altered)
    total = net.server.read_release(message)
    assert total.flags.writeable
    net.assert_sum(total, net.vectors())


def test_releases_are_for_the_server(exact):
    """Stranger: redirects a released sum -> refused."""
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
        exact.server.read_release(data)
