import pickle

import pytest

from fedjax_private.encryption.errors import ProtocolError, RefusedError, WireError
from fedjax_private.encryption.messages.channels import (
    SEAL_BYTES,
    Channel,
    Identity,
    Party,
)

# Points of small order on Curve25519 and its twist, and other encodings of them: what
# is shared with them is zero whoever shares it.
LOW_ORDER = [
    (0).to_bytes(32, "little"),
    (1).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (2**255 - 20).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 18).to_bytes(32, "little"),
]


@pytest.fixture
def directory():
    return {}


@pytest.fixture
def parties(directory):
    made = {number: Party(number, directory) for number in (1, 2, 3)}
    directory.update({n: party.identity.public for n, party in made.items()})
    return made


def test_either_side_derives_the_same_keys(parties):
    assert parties[1].channel_to(2) == parties[2].channel_from(1)
    assert parties[2].channel_to(1) == parties[1].channel_from(2)


def test_every_pair_and_direction_has_keys_of_its_own(parties):
    pairs = [(i, j) for i in parties for j in parties if i != j]
    channels = [parties[i].channel_to(j) for i, j in pairs]
    keys = [c.authentication for c in channels] + [c.secrecy for c in channels]
    assert len(set(keys)) == 2 * len(pairs)
    assert {len(key) for key in keys} == {32}


def test_tags_verify_at_their_receiver_only(parties):
    tag = parties[1].channel_to(2).tag(b"mess", b"age")
    assert len(tag) == 32
    assert parties[2].channel_from(1).verify(tag, b"message")
    assert parties[2].channel_from(1).verify(tag, memoryview(b"messa"), b"ge")
    for other in (
        parties[1].channel_from(2),  # the way back
        parties[2].channel_to(1),
        parties[3].channel_from(1),
        parties[3].channel_from(2),
        parties[2].channel_from(3),
        parties[1].channel_to(3),
    ):
        assert not other.verify(tag, b"message")


def test_altered_messages_and_tags_do_not_verify(parties):
    tag, channel = parties[1].channel_to(2).tag(b"message"), parties[2].channel_from(1)
    for altered in (b"", b"messagf", b"message\0", b"messag"):
        assert not channel.verify(tag, altered)
    for position in range(32):
        altered = bytearray(tag)
        altered[position] ^= 1
        assert not channel.verify(bytes(altered), b"message")
    for altered in (b"", tag[:16], tag + b"\0", bytes(32)):
        assert not channel.verify(altered, b"message")


def test_secrets_are_sealed_for_their_receiver_only(parties):
    secret = b"a share of a key"
    sealed = parties[1].channel_to(2).seal(secret)
    assert len(sealed) == len(secret) + SEAL_BYTES == len(secret) + 28
    assert secret not in sealed
    assert parties[2].channel_from(1).open(sealed) == secret
    for other in (
        parties[1].channel_from(2),
        parties[3].channel_from(1),
        parties[3].channel_from(2),
    ):
        with pytest.raises(WireError, match="altered or misdirected"):
            other.open(sealed)


def test_equal_secrets_are_sealed_differently(parties):
    sealed = {parties[1].channel_to(2).seal(b"secret") for _ in range(20)}
    assert len({s[:12] for s in sealed}) == len({s[12:] for s in sealed}) == 20


def test_every_altered_bit_of_a_sealed_secret_is_refused(parties):
    sealed, channel = (
        parties[1].channel_to(2).seal(b"secret"),
        parties[2].channel_from(1),
    )
    for bit in range(8 * len(sealed)):
        altered = bytearray(sealed)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WireError, match="altered"):
            channel.open(bytes(altered))
    for size in range(len(sealed)):
        with pytest.raises(WireError, match=r"truncated|altered"):
            channel.open(sealed[:size])
    with pytest.raises(WireError, match="altered"):
        channel.open(sealed + b"\0")


def test_nobody_speaks_to_strangers(parties):
    for way in (parties[1].channel_to, parties[1].channel_from):
        with pytest.raises(WireError, match="no party with number 9"):
            way(9)


def test_who_joins_later_is_known_then(directory, parties):
    with pytest.raises(WireError):
        parties[1].channel_to(9)
    late = Party(9, directory)
    directory[9] = late.identity.public
    assert late.channel_from(1).verify(
        parties[1].channel_to(9).tag(b"welcome"), b"welcome"
    )


@pytest.mark.parametrize("key", LOW_ORDER, ids=lambda key: key.hex()[:8])
def test_keys_that_share_nothing_are_refused(key):
    identity = Identity()
    for pair in ((identity.public, key), (key, identity.public)):
        with pytest.raises(WireError, match="not the public key of a party"):
            identity.channel(*pair)
    # A directory that lists it makes no difference.
    with pytest.raises(ProtocolError):
        Party(0, {1: key}).channel_to(1)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_keys_of_another_length_are_refused(size):
    with pytest.raises(WireError, match="not the public key of a party"):
        Identity().channel(b"\x09" * size, bytes(32))


def test_identities_are_their_own():
    assert len({Identity().public for _ in range(10)}) == 10


def test_keys_are_neither_shown_nor_pickled(parties):
    channel = Channel(b"A" * 32, b"S" * 32, b"D" * 32)
    assert repr(channel) == "Channel()"
    for holder in (parties[1], parties[1].identity):
        with pytest.raises(TypeError):
            pickle.dumps(holder)


def test_a_party_records_what_it_did_in_which_round(parties):
    one, other = parties[1], parties[2]
    one.once("uploaded", 3)
    with pytest.raises(RefusedError, match="1 has uploaded in round 3 already"):
        one.once("uploaded", 3)
    one.once("uploaded", 2)
    one.once("decrypted", 3)
    other.once("uploaded", 3)


def test_a_party_does_not_go_back_to_an_older_key(parties):
    one, other = parties[1], parties[2]
    for first in (0, 3, 3, 7):
        one.take_key(first)
    with pytest.raises(RefusedError, match=r"1 has taken a key .* round 7 on: .* 6 on"):
        one.take_key(6)
    one.take_key(7)
    other.take_key(6)
