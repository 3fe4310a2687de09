"""Declarations: what decryptors accept, and which parts of a sum they then take."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fedjax_private.encryption.errors import ProtocolError, RefusedError, WireError
from fedjax_private.encryption.math.rings import Ring
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.wire import (
    AUTHORITY,
    FIRST_EDGE,
    SERVER,
    Kind,
    write,
)
from fedjax_private.encryption.parties.declarations import (
    Declarations,
    Parts,
    check,
    declare,
    digest,
)

KEY, ROUND = b"the name of key.", 5
RING = Ring(8, (12289, 40961))


def part_of(seed):
    """Packed polynomials (2, L, N), and their residues."""
    rng = np.random.default_rng(seed)
    shape = 2, RING.dimension
    limbs = [rng.integers(0, q, shape).astype(np.uint64) for q in RING.moduli]
    polynomials = np.stack(limbs, axis=1)
    return RING.pack(polynomials), polynomials


PARTS = {client: part_of(client)[0] for client in range(4)}


@pytest.fixture
def parties():
    directory = {}
    numbers = (*PARTS, AUTHORITY, SERVER, FIRST_EDGE)
    made = {number: Party(number, directory) for number in numbers}
    directory.update({n: party.identity.public for n, party in made.items()})
    return made


@pytest.fixture
def declarations(parties):
    """The authority's, with those of all clients."""
    made = Declarations(parties[AUTHORITY], KEY)
    for client, part in PARTS.items():
        made.accept(declaration(parties, client, part))
    return made


def declaration(parties, client, part, number=ROUND, key=KEY, receiver=AUTHORITY):
    return declare(parties[client], [receiver], number, part, key)[receiver]


def total(declarations, clients, parts, number=ROUND):
    return declarations.total(number, clients, Parts(parts, RING))


def test_a_digest_is_that_of_the_packed_polynomials():
    assert digest(PARTS[0]) == hashlib.sha256(PARTS[0]).digest()
    assert digest(memoryview(PARTS[0])) == digest(PARTS[0])


def test_a_declaration_is_a_header_a_digest_and_a_tag(parties):
    message = declaration(parties, 0, PARTS[0])
    assert len(message) == 58 + 32 + 32
    assert message[58:90] == digest(PARTS[0])


@pytest.mark.parametrize("clients", [(0, 1, 2, 3), (3, 1), (2,)])
def test_declared_parts_are_added_up(declarations, clients):
    found = total(declarations, clients, [PARTS[client] for client in clients])
    expected = sum(part_of(client)[1] for client in clients)
    column = np.array(RING.moduli, np.uint64)[:, None]
    np.testing.assert_array_equal(found, expected % column)


@pytest.mark.parametrize(
    ("clients", "parts", "match"),
    [
        pytest.param((0, 1), (1, 0), "another upload", id="in another order"),
        pytest.param((0, 1), (0, 2), "another upload", id="of another client"),
        pytest.param((0, 1, 2), (0, 1), "one part of each", id="one dropped"),
        pytest.param((0, 1), (0, 1, 2), "one part of each", id="one too many"),
        pytest.param((0, 0), (0, 0), "one part of each", id="one client twice"),
        pytest.param((0, 9), (0, 1), "9 has declared no upload", id="not declared"),
        pytest.param((), (0,), "one part of each", id="of nobody"),
    ],
)
def test_other_parts_are_refused(declarations, clients, parts, match):
    with pytest.raises(RefusedError, match=match):
        total(declarations, clients, [PARTS[part] for part in parts])


def test_a_changed_bit_is_another_upload(declarations):
    for position in (0, 7, len(PARTS[0]) - 1):
        changed = bytearray(PARTS[0])
        changed[position] ^= 1
        with pytest.raises(RefusedError, match="client 0 has declared another upload"):
            total(declarations, (0, 1), [bytes(changed), PARTS[1]])


def test_an_echo_of_anothers_upload_is_refused(parties):
    """Client: declares another's upload as its own -> refused with the sum."""
    made = Declarations(parties[AUTHORITY], KEY)
    for client in (0, 1):
        made.accept(declaration(parties, client, PARTS[0]))
    with pytest.raises(RefusedError, match="two clients have declared the same"):
        total(made, (0, 1), [PARTS[0], PARTS[0]])


def test_a_declared_part_that_is_no_polynomial_is_refused(parties):
    """Client: declares and uploads what is no polynomial -> refused."""
    made, part = Declarations(parties[AUTHORITY], KEY), b"\xff" * len(PARTS[0])
    made.accept(declaration(parties, 0, part))
    with pytest.raises(WireError, match="not below the modulus"):
        total(made, (0,), [part])


def test_declarations_are_for_one_round(declarations, parties):
    for number in (ROUND - 1, ROUND + 1, 2**64 - 1):
        with pytest.raises(RefusedError, match="client 0 has declared no upload"):
            total(declarations, (0, 1), [PARTS[0], PARTS[1]], number)
    # A replayed one does not serve a later round.
    old = declaration(parties, 0, PARTS[0], ROUND)
    declarations.accept(declaration(parties, 0, PARTS[2], ROUND + 1))
    with pytest.raises(RefusedError, match="declared an upload of round 6 already"):
        declarations.accept(old)  # nor does it drive out the later round's
    with pytest.raises(RefusedError, match="client 0 has declared another upload"):
        total(declarations, (0,), [PARTS[0]], ROUND + 1)
    total(declarations, (0,), [PARTS[2]], ROUND + 1)


def test_a_second_declaration_of_a_round_is_refused(declarations, parties):
    """Client: declares two uploads in a round -> the second is refused."""
    for part in (PARTS[0], PARTS[1]):
        with pytest.raises(RefusedError, match=r"client 0 has declared .* 5 already"):
            declarations.accept(declaration(parties, 0, part))
    total(declarations, (0, 1), [PARTS[0], PARTS[1]])


def test_a_round_is_not_declared_again_by_way_of_another(declarations, parties):
    """Client: declares an upload, one of the next round, and the first round's anew ->
    the third is refused."""
    declarations.accept(declaration(parties, 1, PARTS[1], ROUND + 1))
    with pytest.raises(RefusedError, match="declared an upload of round 6 already"):
        declarations.accept(declaration(parties, 1, PARTS[2], ROUND))


def test_a_declaration_after_the_decryption_is_refused(declarations, parties):
    """Client: declares an upload when the sum has been decrypted -> refused."""
    parties[AUTHORITY].once("decrypted", 6)
    with pytest.raises(RefusedError, match="has decrypted in round 6 already"):
        declarations.accept(declaration(parties, 0, PARTS[0], 6))


@pytest.mark.parametrize("changes", [{"key": bytes(16)}, {"receiver": SERVER}])
def test_declarations_under_another_key_or_for_another_are_refused(parties, changes):
    """Client: replays a declaration of another key or for another -> refused."""
    made = Declarations(parties[AUTHORITY], KEY)
    with pytest.raises(WireError, match="another"):
        made.accept(declaration(parties, 0, PARTS[0], **changes))


@pytest.mark.parametrize("sender", [SERVER, FIRST_EDGE, AUTHORITY])
def test_only_clients_declare(parties, sender):
    made = Declarations(parties[AUTHORITY], KEY)
    with pytest.raises(RefusedError, match="is no client"):
        made.accept(declaration(parties, sender, PARTS[0]))


def test_nobody_declares_for_another(parties):
    """Client: declares an upload in another's name -> refused."""
    made = Declarations(parties[AUTHORITY], KEY)
    data = declaration(parties, 1, PARTS[0])
    # Client 1 writes that client 0 sent it.
    renamed = data[:30] + (0).to_bytes(8, "little") + data[38:]
    with pytest.raises(WireError, match="its tag is wrong"):
        made.accept(renamed)
    named = write(
        parties[1],
        AUTHORITY,
        Kind.DECLARATION,
        ROUND,
        digest(PARTS[0]),
        key_id=KEY,
        numbers=(0,),
    )
    with pytest.raises(WireError):
        made.accept(named)


def test_every_changed_byte_of_a_declaration_is_refused(parties):
    """Stranger: alters a declaration on its way -> refused."""
    made, data = Declarations(parties[AUTHORITY], KEY), None
    data = declaration(parties, 0, PARTS[0])
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        with pytest.raises(ProtocolError):
            made.accept(bytes(changed))
    for changed in (b"", data[:-1], data + b"\0", None):
        with pytest.raises(WireError):
            made.accept(changed)
    made.accept(data)


def test_memory_is_bounded_by_the_number_of_clients(parties):
    """Client: declares rounds without end, to fill the memory of those who decrypt ->
    one declaration a client is kept."""
    made = Declarations(parties[AUTHORITY], KEY)
    for number in range(50):
        for client, part in PARTS.items():
            made.accept(declaration(parties, client, part, number))
    assert len(made._last) == len(PARTS)
    made.accept(declaration(parties, 0, PARTS[0], 50))
    made.forget(49)
    assert made._last.keys() == {0}
    total(made, (0,), [PARTS[0]], 50)
    made.forget(50)
    with pytest.raises(RefusedError, match="client 0 has declared no upload"):
        total(made, (0,), [PARTS[0]], 50)


def test_of_threads_that_declare_one_round_one_succeeds(parties):
    made, barrier = Declarations(parties[AUTHORITY], KEY), threading.Barrier(4)

    def accept(number):
        barrier.wait()
        try:
            made.accept(declaration(parties, 0, PARTS[0], number))
        except RefusedError:
            return 0
        return 1

    with ThreadPoolExecutor(4) as pool:
        for number in range(50):
            assert sum(pool.map(accept, [number] * 4)) == 1


def test_checks_are_each_decryptors_own():
    # One object of parts serves all holders; only what each was told counts.
    parts = Parts([PARTS[0], PARTS[1]], RING)
    told = {client: digest(part) for client, part in PARTS.items()}
    check(told, (0, 1), parts)
    misled = {**told, 1: digest(PARTS[2])}
    with pytest.raises(RefusedError, match="client 1 has declared another"):
        check(misled, (0, 1), parts)
    check(told, (0, 1), parts)


def test_parts_are_split_evenly_or_not_at_all():
    data = b"".join(PARTS.values())
    parts = Parts.from_bytes(data, len(PARTS), RING)
    assert [bytes(part) for part in parts.each] == list(PARTS.values())
    assert (parts.to_bytes(), len(parts)) == (data, len(data))
    for data, count in (
        (b"", 0),
        (b"", 1),
        (b"abc", 0),
        (b"abc", 2),
        (b"abc", 4),
        (b"abc", 2**32),
    ):
        with pytest.raises(WireError, match="no parts of"):
            Parts.from_bytes(data, count, RING)
