"""Public keys of anybody but the makers, on their way to clients and to the server."""

import numpy as np
import pytest

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.messages.vouchers import vouch
from fedjax_private.encryption.messages.wire import AUTHORITY, SERVER
from fedjax_private.encryption.parties.encryptor import Encryptor
from tests.encryption.federation import CKKS, HOLDERS, Federation, request_of
from tests.encryption.fixtures import VALUES

pytestmark = pytest.mark.needs_openfhe


def with_key(material, public_key):
    """Material as it would be, were that the public key."""
    made = Material.of_key(material.parameters, public_key)
    return Material.from_bytes(made.to_bytes())


def vouchers(federation, receiver, makers=HOLDERS):
    return [federation.holders[n].vouch([receiver])[receiver] for n in makers]


# A key that nobody made


def test_a_public_key_of_zeros_is_refused(net):
    """Stranger: hands clients an all-zero public key, under which uploads lie open ->
    refused."""
    # Its uploads would be the plaintexts, in the clear.
    size = len(net.material.public_key)
    with pytest.raises(WireError, match="degenerate"):
        Encryptor(with_key(net.material, bytes(size)))


@pytest.mark.parametrize("polynomial", [0, 1])
def test_a_public_key_with_a_zero_is_refused(net, polynomial):
    """Stranger: hands clients a public key with one zero -> refused."""
    polynomials = net.ring.unpack(net.material.public_key)
    polynomials[polynomial, -1, 77] = 0
    altered = with_key(net.material, net.ring.pack(polynomials))
    with pytest.raises(WireError, match="degenerate"):
        Encryptor(altered)


def test_nobody_uploads_under_a_key_that_the_server_made(net):
    """Server: hands clients a key of its own -> refused, because the authority does not
    vouch for it."""
    # The server carries the material, and exchanges it for a key of its own.
    theirs = type(net)(net.request)
    encryptor = Encryptor(theirs.material)
    client, vector = net.clients[0], np.zeros(VALUES, int)
    honest = net.authority.vouch([0])[0]
    own = vouch(net.server_party, theirs.material, [0])[0]
    for messages, match in (
        ([honest], "vouch for another one"),
        ([own], f"unexpected voucher from {SERVER}"),
        ([], rf"\[{AUTHORITY}\] do not vouch"),
        ([honest, own], "unexpected voucher"),
        ([honest[:-32] + own[-32:]], "its tag is wrong"),
        ([net.authority.vouch([1])[1]], "another receiver"),
    ):
        with pytest.raises((WireError, RefusedError), match=match):
            encryptor.admit(client, messages)
        with pytest.raises(RefusedError, match="not vouched"):
            encryptor.encrypt(client, SERVER, 0, vector)
    (ciphertexts,) = encryptor.ciphertexts([0], [vector])
    with pytest.raises(RefusedError, match="not vouched"):
        encryptor.upload(client, SERVER, 0, ciphertexts)
    # Nor does an admission by number hold for another identity.
    net.encryptor.admit(client, [honest])
    impostor = type(client)(0, net.directory)
    assert net.encryptor.admits(client)
    assert not net.encryptor.admits(impostor)


# A joint key


def test_every_holder_must_vouch_for_a_joint_key(federation):
    """Server: hands clients a key for which some holders vouch -> refused."""
    client = federation.parties[1]
    encryptor = Encryptor(federation.material, HOLDERS)
    for gone in HOLDERS:
        others = [number for number in HOLDERS if number != gone]
        with pytest.raises(RefusedError, match=rf"\[{gone}\] do not vouch"):
            encryptor.admit(client, vouchers(federation, 1, others))
    assert not encryptor.admits(client)
    encryptor.admit(client, vouchers(federation, 1))
    assert encryptor.admits(client)


def test_all_holders_but_one_cannot_make_a_client_use_another_key(federation):
    """Server and all holders but one: hand a client a key of their own -> refused."""
    # They make a key among themselves, of which they know all shares.
    theirs = Federation(request_of(CKKS)).with_key().material
    client, honest = federation.parties[1], HOLDERS[2]
    encryptor = Encryptor(theirs, HOLDERS)
    messages = [
        vouch(federation.parties[n], theirs, [1])[1] for n in HOLDERS if n != honest
    ]
    said = federation.holders[honest].vouch([1])[1]
    with pytest.raises(WireError, match="different ones"):
        encryptor.admit(client, [*messages, said])
    with pytest.raises(RefusedError, match=rf"\[{honest}\] do not vouch"):
        encryptor.admit(client, messages)
    assert not encryptor.admits(client)


def test_vouchers_of_another_session_do_not_admit_to_this_one():
    """Server: replays vouchers for a key of another session -> refused."""
    federation = Federation(request_of(CKKS)).with_key()
    old = vouchers(federation, 1)
    federation.begin()
    federation.with_key()
    encryptor = Encryptor(federation.material, HOLDERS)
    with pytest.raises(WireError, match="vouch for another one"):
        encryptor.admit(federation.parties[1], old)
    with pytest.raises(WireError, match="different ones"):
        mixed = vouchers(federation, 1, HOLDERS[1:]) + old[:1]
        encryptor.admit(federation.parties[1], mixed)


def test_nobody_vouches_for_a_key_that_is_not_made(keyless):
    keyless.deal()
    with pytest.raises(RefusedError, match="not been made"):
        keyless.holders[0].vouch([1])


def test_one_party_does_not_pass_for_all_holders(federation):
    """Server: passes a key of one maker off as a joint key -> refused."""
    with pytest.raises(WireError, match="a key that 5 parties made"):
        Encryptor(federation.material, (3,))
    with pytest.raises(WireError, match="a key that 5 parties made"):
        Encryptor(federation.material)
