"""Public keys of anybody but the makers, on their way to clients and to the server."""

import numpy as np
import pytest

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.messages.material import Lifetime, Material
from fedjax_private.encryption.messages.vouchers import vouch
from fedjax_private.encryption.messages.wire import AUTHORITY, SERVER
from fedjax_private.encryption.parties.encryptor import Encryptor
from tests.aggregation.sums import encoded, made, released
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


def test_holders_who_disagree_on_the_rounds_make_no_key(keyless):
    """Holder: has its key serve more rounds than the others agreed on -> no key is
    made."""
    keyless.holders[HOLDERS[1]]._lifetime = Lifetime(0, 5)
    with pytest.raises(WireError, match="another key"):
        keyless.with_key()


# An old key, which a client that departs from the protocol has told the server


class Rotated:
    """Three rounds with clients 0 and 1, after which the key has rotated once or more.

    Attributes:
        old: the roles of the first key, which the server replays.
    """

    def __init__(self, name, **settings):
        self.sums = made(name, 2, 10, settings=settings)
        self.slots = encoded(self.sums, np.zeros((2, 10)))
        self.old = self.sums._key
        for number in range(3):
            released(self.sums, self.slots, round_number=number)
        assert self.sums._key.encryptor.material != self.old.encryptor.material

    def replayed(self, client):
        """A client, an encryptor of the old key, and the old vouchers."""
        makers, party = self.old.decryption.decryptors, self.sums._parties(client)
        vouchers = [maker.vouch([client])[client] for maker in makers.values()]
        material = self.old.encryptor.material
        encryptor = Encryptor(material, tuple(makers))
        return party, encryptor, vouchers

    def uploads(self, encryptor, client, number):
        return encryptor.encrypt(client, SERVER, number, self.slots[0])


REPLAYED = [
    ("exact", {"key_rounds": 1}),
    ("threshold_exact", {"key_rounds": 2}),
    ("threshold_exact", {"query_budget": 1}),
]


@pytest.mark.parametrize(("name", "settings"), REPLAYED)
def test_clients_do_not_go_back_to_an_old_key(name, settings):
    """Server and a client that learned the old key: hand clients that key, with the old
    vouchers, after a rotation -> refused."""
    run = Rotated(name, **settings)
    for number in (0, 1):
        client, encryptor, vouchers = run.replayed(number)
        with pytest.raises(RefusedError, match="does not go back"):
            encryptor.admit(client, vouchers)
        # Nor do they if told to use it who have it still, in any round.
        assert run.old.encryptor.admits(client)
        for round_number in (0, 1, 3):
            with pytest.raises(RefusedError, match=r"go back|does not upload|already"):
                run.uploads(run.old.encryptor, client, round_number)
    released(run.sums, run.slots, round_number=3)


@pytest.mark.parametrize("name", ["exact", "threshold_exact"])
def test_withheld_keys_do_not_keep_clients_on_the_old_one(name):
    """Server and a client that learned the key: withhold the next key from clients ->
    refused, once the key has served its rounds."""
    sums = made(name, 2, 10, settings={"key_rounds": 2})
    slots = encoded(sums, np.zeros((2, 10)))
    released(sums, slots, round_number=0)
    client = sums._parties(0)
    sums._key.encryptor.encrypt(client, SERVER, 1, slots[0])
    for number in (2, 3, 2**40):
        with pytest.raises(RefusedError, match="that serves rounds 0 to 1: admit"):
            sums._key.encryptor.encrypt(client, SERVER, number, slots[0])


@pytest.mark.parametrize("name", ["exact", "threshold_exact"])
def test_clients_that_join_late_are_held_to_the_rounds_of_an_old_key(name):
    """Server and a client that learned the old key: hand a client that joins late that
    key, with the old vouchers -> refused in later rounds; if it is told that the round
    is an old one, it uploads, once for each round of the key (documented)."""
    run = Rotated(name, key_rounds=2)
    client, encryptor, vouchers = run.replayed(7)
    encryptor.admit(client, vouchers)
    with pytest.raises(RefusedError, match="does not upload in round 3"):
        run.uploads(encryptor, client, 3)
    for number in (0, 1):
        _, declarations = run.uploads(encryptor, client, number)
        with pytest.raises(RefusedError, match="already"):
            run.uploads(encryptor, client, number)
    # The decryptors refuse it; the server may carry their answers, and keep them back.
    for number, message in declarations.items():
        with pytest.raises(WireError, match="another key"):
            run.sums._key.decryption.decryptors[number].declare(message)


def test_keys_without_a_number_of_rounds_stay_open_to_clients_that_join_late():
    """Server and a client that learned the old key: hand that key to a client that
    joins late, where keys have no number of rounds -> it uploads (documented)."""
    run = Rotated("threshold_exact", query_budget=1)
    client, encryptor, vouchers = run.replayed(7)
    encryptor.admit(client, vouchers)
    for number in (3, 4):
        run.uploads(encryptor, client, number)
