"""Vouchers for a key: who must say what before anybody uses it."""

import pytest

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.material import (
    EVERY_ROUND,
    FACTS_BYTES,
    Lifetime,
    Material,
)
from fedjax_private.encryption.messages.vouchers import vouch, vouched
from fedjax_private.encryption.messages.wire import AUTHORITY, Kind, size, write
from fedjax_private.encryption.parameters import Scheme, SumRequest, derive
from tests.encryption.fixtures import altered

MAKERS = (4, 0, 7)
CLIENT, OTHER = 1, 2
REQUEST = SumRequest(Scheme.THRESHOLD_EXACT, 10, 3, len(MAKERS))


@pytest.fixture(scope="module")
def parties():
    directory = {}
    made = {n: Party(n, directory) for n in (*MAKERS, CLIENT, OTHER, AUTHORITY)}
    directory |= {number: party.identity.public for number, party in made.items()}
    return made


def material_of(request=REQUEST, fill=b"\1", lifetime=EVERY_ROUND):
    parameters = derive(request)
    public_key = fill * (2 * parameters.polynomial_bytes)
    return Material.of_key(parameters, public_key, lifetime)


def vouchers(parties, material, receiver=CLIENT, makers=MAKERS):
    return [vouch(parties[n], material, [receiver])[receiver] for n in makers]


def test_the_facts_are_those_of_the_key(parties):
    material = material_of()
    messages = vouchers(parties, material)
    assert vouched(parties[CLIENT], MAKERS, messages) == material.without_key()
    assert vouched(parties[CLIENT], MAKERS, messages[::-1]) == material.without_key()
    assert {len(data) for data in messages} == {size(0, FACTS_BYTES)}
    several = vouch(parties[4], material, [CLIENT, OTHER])
    assert list(several) == [CLIENT, OTHER]
    alone = material_of(SumRequest(Scheme.EXACT, 10, 3))
    messages = vouchers(parties, alone, makers=[AUTHORITY])
    assert vouched(parties[CLIENT], [AUTHORITY], messages) == alone.without_key()


@pytest.mark.parametrize("gone", [(4,), (0, 7), MAKERS])
def test_all_makers_must_vouch(parties, gone):
    left = [number for number in MAKERS if number not in gone]
    messages = vouchers(parties, material_of(), makers=left)
    sentence = str(sorted(gone)).replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(RefusedError, match=f"{sentence} do not vouch"):
        vouched(parties[CLIENT], MAKERS, messages)


def test_a_maker_vouches_once_and_nobody_else_does(parties):
    material = material_of()
    messages = vouchers(parties, material)
    for more in (vouchers(parties, material, makers=[0]), messages[:1]):
        with pytest.raises(RefusedError, match="unexpected voucher"):
            vouched(parties[CLIENT], MAKERS, messages + more)
    with pytest.raises(RefusedError, match="unexpected voucher from 2"):
        stranger = vouchers(parties, material, makers=[OTHER])
        vouched(parties[CLIENT], MAKERS, messages[:2] + stranger)


def test_the_makers_must_vouch_for_one_key(parties):
    one, other = material_of(), material_of(fill=b"\2")
    messages = vouchers(parties, one)[:2] + vouchers(parties, other, makers=[7])
    with pytest.raises(WireError, match="different ones"):
        vouched(parties[CLIENT], MAKERS, messages)
    # One key, said to be for other sums.
    request = SumRequest(Scheme.THRESHOLD_EXACT, 10, 4, len(MAKERS))
    stretched = Material(derive(request), one.key_id)
    messages = vouchers(parties, one)[:2] + vouchers(parties, stretched, makers=[7])
    with pytest.raises(WireError, match="different ones"):
        vouched(parties[CLIENT], MAKERS, messages)


@pytest.mark.parametrize("makers", [(4, 0), (4, 0, 7, 2), (4, 0, 0), (AUTHORITY,)])
def test_a_key_has_as_many_makers_as_holders(parties, makers):
    messages = vouchers(parties, material_of(), makers=sorted(set(makers)))
    with pytest.raises(WireError, match="a key that 3 parties made"):
        vouched(parties[CLIENT], makers, messages)


def test_a_voucher_is_for_its_receiver_and_whole(parties):
    material = material_of()
    first, *others = vouchers(parties, material)
    for position in range(len(first)):
        with pytest.raises(WireError):
            vouched(parties[CLIENT], MAKERS, [altered(first, position), *others])
    for data in (b"", first[:-1], first + b"0", others, None):
        with pytest.raises(WireError):
            vouched(parties[CLIENT], MAKERS, [data, *others])
    misdirected = vouchers(parties, material, OTHER)
    with pytest.raises(WireError, match="another receiver"):
        vouched(parties[CLIENT], MAKERS, misdirected)
    # A tag alone is not enough: the facts must be some.
    party, facts = parties[4], material.without_key().to_bytes()
    for kind, payload in ((Kind.SHARE, facts), (Kind.VOUCHER, bytes(FACTS_BYTES))):
        data = write(party, CLIENT, kind, 0, payload)
        with pytest.raises(WireError):
            vouched(parties[CLIENT], MAKERS, [data, *others])
    empty = [
        write(parties[n], CLIENT, Kind.VOUCHER, 0, bytes(FACTS_BYTES)) for n in MAKERS
    ]
    with pytest.raises(WireError, match="format version"):
        vouched(parties[CLIENT], MAKERS, empty)


def test_no_reader_goes_back_to_an_older_key(parties):
    reader = Party(3, {n: parties[n].identity.public for n in MAKERS})
    known = {3: reader.identity.public}
    for number in MAKERS:
        parties[number]._directory.update(known)
    keys = {n: material_of(fill=bytes([n + 1]), lifetime=Lifetime(n)) for n in (0, 4)}
    old, new = (vouchers(parties, key, 3) for key in keys.values())
    for messages, key in ((old, keys[0]), (old, keys[0]), (new, keys[4])):
        assert vouched(reader, MAKERS, messages) == key.without_key()
    with pytest.raises(RefusedError, match="from round 4 on: it does not go back"):
        vouched(reader, MAKERS, old)
    assert vouched(reader, MAKERS, new) == keys[4].without_key()


def test_the_makers_must_agree_on_the_rounds(parties):
    one, other = material_of(), material_of(lifetime=Lifetime(0, 5))
    messages = vouchers(parties, one)[:2] + vouchers(parties, other, makers=[7])
    with pytest.raises(WireError, match="vouch for different ones"):
        vouched(parties[CLIENT], MAKERS, messages)
