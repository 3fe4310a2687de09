import dataclasses
import os
import struct

import pytest

from fedjax_private.encryption.errors import WireError
from fedjax_private.inference.serving import frames
from fedjax_private.inference.serving.frames import Direction, Kind

TOKEN, OFFER = os.urandom(32), b"an offer"


@pytest.fixture
def channels():
    return frames.channels(TOKEN, OFFER, os.urandom(64), os.urandom(16))


def test_a_body_is_read_as_it_was_written(channels):
    to_server, _ = channels
    body = to_server.write(Kind.REQUEST, 3, b"payload")
    assert len(body) == frames.size(7)
    assert to_server.read(body, Kind.REQUEST, 3, 7) == b"payload"


def test_the_layout_is_the_documented_one(channels):
    to_server, _ = channels
    body = to_server.write(Kind.REQUEST, 2**40, b"xyz")
    assert struct.unpack_from("<4sBBB16sQQ", body) == (
        b"FJPS",
        1,
        Kind.REQUEST,
        Direction.TO_SERVER,
        to_server.session,
        2**40,
        3,
    )
    assert body[frames.PREFIX_BYTES :][:3] == b"xyz"


def test_every_flipped_bit_and_every_cut_is_refused(channels):
    to_server, _ = channels
    body = to_server.write(Kind.REQUEST, 1, b"payload")
    for position in range(8 * len(body)):
        flipped = bytearray(body)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(WireError):
            to_server.read(bytes(flipped), Kind.REQUEST, 1, 7)
    for length in range(len(body)):
        with pytest.raises(WireError):
            to_server.read(body[:length], Kind.REQUEST, 1, 7)
    with pytest.raises(WireError, match="of 111 bytes, not 110"):
        to_server.read(body + b"\0", Kind.REQUEST, 1, 7)


def test_a_body_is_for_one_kind_number_session_and_direction(channels):
    to_server, to_client = channels
    body = to_server.write(Kind.REQUEST, 5, b"p")
    with pytest.raises(WireError, match="another kind"):
        to_server.read(body, Kind.KEYS, 5, 1)
    for number in (4, 6):
        with pytest.raises(WireError, match="body number 5"):
            to_server.read(body, Kind.REQUEST, number, 1)
    with pytest.raises(WireError, match="tag"):
        to_client.read(body, Kind.REQUEST, 5, 1)
    other = frames.channels(TOKEN, OFFER, os.urandom(64), to_server.session)[0]
    with pytest.raises(WireError, match="tag"):
        other.read(body, Kind.REQUEST, 5, 1)
    # Even with the key of the other direction or session, its header says whose it is.
    turned = dataclasses.replace(to_client, key=to_server.key)
    with pytest.raises(WireError, match="another direction"):
        turned.read(body, Kind.REQUEST, 5, 1)
    moved = dataclasses.replace(to_server, session=bytes(16))
    with pytest.raises(WireError, match="another session"):
        moved.read(body, Kind.REQUEST, 5, 1)


@pytest.mark.parametrize("length", [0, 6, 8])
def test_a_payload_has_the_length_that_is_allowed(channels, length):
    body = channels[0].write(Kind.REQUEST, 1, b"payload")
    with pytest.raises(WireError, match="a payload of 7 bytes"):
        channels[0].read(body, Kind.REQUEST, 1, length)


def test_keys_follow_from_token_offer_nonces_and_session():
    nonces, session = os.urandom(64), os.urandom(16)
    same = frames.channels(TOKEN, OFFER, nonces, session)
    assert same == frames.channels(TOKEN, OFFER, nonces, session)
    others = [
        frames.channels(os.urandom(32), OFFER, nonces, session),
        frames.channels(TOKEN, b"another offer", nonces, session),
        frames.channels(TOKEN, OFFER, os.urandom(64), session),
        frames.channels(TOKEN, OFFER, nonces, os.urandom(16)),
    ]
    keys = {channel.key for pair in (same, *others) for channel in pair}
    keys |= {
        frames.opening_channel(TOKEN, offer).key for offer in (OFFER, b"another offer")
    }
    assert len(keys) == 2 * 5 + 2


def test_a_key_is_not_shown(channels):
    assert channels[0].key.hex() not in repr(channels[0])
    assert repr(channels[0].key) not in repr(channels[0])


def test_a_welcome_is_for_one_hello_and_one_offer():
    client = frames.nonce()
    body, to_server, to_client = frames.write_welcome(TOKEN, OFFER, client)
    assert frames.read_welcome(TOKEN, OFFER, client, body) == (to_server, to_client)
    for token, offer, nonce in (
        (os.urandom(32), OFFER, client),
        (TOKEN, b"another offer", client),
        (TOKEN, OFFER, frames.nonce()),
    ):
        with pytest.raises(WireError, match="tag"):
            frames.read_welcome(token, offer, nonce, body)
    for length in (0, 10, len(body) - 1):
        with pytest.raises(WireError, match="bytes"):
            frames.read_welcome(TOKEN, OFFER, client, body[:length])
