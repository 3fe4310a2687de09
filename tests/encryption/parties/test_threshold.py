import contextlib
import functools
import gc
import itertools
import math
import os
import types
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fedjax_private.encryption.math.packing import unpack
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.wire import (
    SERVER,
    Kind,
    ProtocolError,
    RefusedError,
    WireError,
    read,
    write,
)
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.parameters import Scheme, SumRequest, derive
from fedjax_private.encryption.parties.roles import Encryptor
from fedjax_private.encryption.parties.server import AggregationServer, Fusion
from fedjax_private.encryption.parties.threshold import (
    KeyHolder,
    check_quorum,
    make_joint_key,
)
from fedjax_private.trust import Decryptor, Trust

pytestmark = pytest.mark.needs_openfhe

CKKS, EXACT = Scheme.THRESHOLD_CKKS, Scheme.THRESHOLD_EXACT
CLIENTS = range(6)
HOLDERS = (3, 0, 11, 5, 12)  # 11 and 12 upload nothing; clients 1, 2 and 4 hold nothing
QUORUM = 3
LEAST = 4
LEAST_CLIENTS = (0, 1, 4, 5)
VALUES = 5000
BOUND = 6.0

# Keys and noise come from the operating system, so statistical checks have to hold
# every time: no test fails by chance more than once in about a million runs.
SIGNIFICANCE = 1e-7
SIGMAS = 5.5


class Federation:
    """Clients, some of whom hold shares, holders who upload nothing, and a server."""

    def __init__(self, request, holders=HOLDERS, quorum=QUORUM):
        self.request, self.names, self.quorum = request, holders, quorum
        self.directory = {}
        self.server_party = self.party(SERVER)
        self.parties = {n: self.party(n) for n in sorted({*CLIENTS, *holders})}
        self.begin()
        self._rounds = itertools.count()

    def party(self, number):
        party = Party(number, self.directory)
        self.directory[number] = party.identity.public
        return party

    def begin(self):
        trust, common = Trust(LEAST, Decryptor.HOLDERS), (self.names, self.quorum)
        self.holders = {
            n: KeyHolder(self.parties[n], self.request, trust, *common)
            for n in self.names
        }
        self.scheme = self.holders[self.names[0]]._scheme
        self.ring, self.parameters = self.scheme.ring, self.scheme.parameters

    def with_key(self):
        self.use(make_joint_key(self.holders))
        return self

    def use(self, material):
        self.material = material
        self.server = AggregationServer(self.server_party, material)
        self.encryptor = Encryptor(material)

    def fusion(self, clients=CLIENTS, round_number=None):
        """The server's side of a new round, and the plain sum of its uploads."""
        number = next(self._rounds) if round_number is None else round_number
        vectors = vectors_of(self.request, len(clients), number)
        self.server.open(number)
        for client, vector in zip(clients, vectors, strict=True):
            party = self.parties[client]
            self.server.add(self.encryptor.encrypt(party, SERVER, number, vector))
        fusion = Fusion(self.server_party, self.server, self.names, self.quorum)
        total = vectors.sum(axis=0)
        if self.request.scheme.exact:
            total %= 2**self.request.bits
        return fusion, total

    def answer(self, fusion, present):
        requests = fusion.requests()
        for number in present:
            fusion.add(self.holders[number].partial(requests[number]))

    def stand_in(self, fusion, absent=()):
        for number, data in fusion.recovery_requests().items():
            if number not in absent:
                fusion.add_recovery(self.holders[number].stand_in(data))

    def check(self, released, total):
        if self.request.scheme.exact:
            assert released.dtype == np.int64
            np.testing.assert_array_equal(released, total)
        else:
            assert released.dtype == np.float64
            tolerance = 10 * self.parameters.error_std(self.request.uploads)
            np.testing.assert_allclose(released, total, rtol=0, atol=tolerance)

    def works(self):
        """Checks that a round goes through."""
        fusion, total = self.fusion()
        self.answer(fusion, self.names)
        self.check(fusion.release(), total)

    def secret(self, number):
        """One holder's secret key (L, N), which no protocol message gives."""
        return self.holders[number]._secret_key.residues

    def polynomials(self, data, kind):
        """The polynomials in a message to the server."""
        size = self.parameters.rows * self.ring.polynomial_bytes
        message = read(
            self.server_party, data, kind, payload=size, key_id=self.material.key_id
        )
        return self.ring.unpack(message.payload)


def request_of(scheme, **changes):
    fields = {"values": VALUES, "uploads": len(CLIENTS), "holders": len(HOLDERS)}
    return SumRequest(scheme, **{**fields, "sum_bound": BOUND, **changes})


def vectors_of(request, count, seed):
    rng = np.random.default_rng(seed)
    if request.scheme.exact:
        return rng.integers(0, 2**request.bits, (count, request.values))
    bound = request.sum_bound / request.uploads
    return rng.uniform(-bound, bound, (count, request.values))


@pytest.fixture(scope="module", params=(CKKS, EXACT), ids=lambda scheme: scheme.value)
def federation(request):
    return Federation(request_of(request.param)).with_key()


@pytest.fixture
def keyless():
    return Federation(request_of(CKKS))


def committed(federation):
    """Carries the first messages of a key generation."""
    common = federation.holders[federation.names[0]].begin()
    for number, holder in federation.holders.items():
        for receiver, data in holder.commit(common[number]).items():
            federation.holders[receiver].accept_commitment(data)


def contributions_of(federation):
    return {number: holder.reveal() for number, holder in federation.holders.items()}


def dealt(federation):
    """Makes a key; its shares are not handed out yet."""
    committed(federation)
    contributions = contributions_of(federation)
    return {n: h.finish(contributions) for n, h in federation.holders.items()}


def recovery_request(federation, receiver, round_number, gone, present, **changes):
    """A request that the server may not make, with a valid tag."""
    fields = {
        "payload": len(gone).to_bytes(4, "little"),
        "key_id": federation.material.key_id,
        "numbers": (*gone, *present),
        **changes,
    }
    sender = fields.pop("sender", federation.server_party)
    return write(sender, receiver, Kind.RECOVERY_REQUEST, round_number, **fields)


def altered(data, position):
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


# Polynomials, from residues of their values back to coefficients. Independent of the
# package: OpenFHE's number-theoretic transform takes the least primitive 2N-th root of
# unity psi of each prime, and gives the values at psi^(2 i + 1) in bit-reversed order.


@functools.cache
def inverse_powers(dimension, modulus):
    base = 2
    while pow(base, (modulus - 1) // 2, modulus) != modulus - 1:
        base += 1
    root = pow(base, (modulus - 1) // (2 * dimension), modulus)
    odd = [root]
    for _ in range(dimension - 1):
        odd.append(odd[-1] * root * root % modulus)
    inverse = pow(min(odd), -1, modulus)
    powers = [1]
    for _ in range(dimension - 1):
        powers.append(powers[-1] * inverse % modulus)
    bits = dimension.bit_length() - 1
    order = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(dimension)]
    return np.array([powers[i] for i in order], object)


def inverse_transform(values, modulus):
    """Coefficients (N,) of the polynomial with those values (N,), modulo the prime."""
    dimension = values.size
    powers, half, values = inverse_powers(dimension, modulus), 1, values.astype(object)
    while half < dimension:
        count = dimension // (2 * half)
        pairs = values.reshape(count, 2, half)
        left, right = pairs[:, 0], pairs[:, 1]
        turned = (left - right) * powers[count : 2 * count, None] % modulus
        values = np.stack([(left + right) % modulus, turned], axis=1).reshape(-1)
        half *= 2
    return values * pow(dimension, -1, modulus) % modulus


def coefficients(polynomial, ring):
    """Coefficients (N,) of a polynomial (L, N), integers around zero."""
    whole, total = math.prod(ring.moduli), 0
    for row, q in zip(polynomial, ring.moduli, strict=True):
        cofactor = whole // q
        total += inverse_transform(row, q) * (cofactor * pow(cofactor, -1, q))
    total %= whole
    return np.where(total > whole // 2, total - whole, total)


def product(left, right, ring):
    column = np.array(ring.moduli, object)[:, None]
    return (left.astype(object) * right % column).astype(np.uint64)


def noise_of(parts, seconds, key, ring):
    """The noise (R, N) in partial decryptions (R, L, N) of `seconds` with a key."""
    moduli = np.array(ring.moduli, np.uint64)[:, None]
    return np.stack(
        [
            coefficients(
                ring.reduce(part + moduli - product(second, key, ring)), ring
            ).astype(np.float64)
            for part, second in zip(parts, seconds, strict=True)
        ]
    )


def at_zero(points, own, modulus):
    """What the share at `own` counts in an interpolation at zero from all points."""
    value = 1
    for other in points:
        if other != own:
            value = value * other * pow(other - own, -1, modulus) % modulus
    return value


def helping_key(federation, helper, present, gone):
    """What one of those present holds of the key of who has gone, times its factor."""
    places = {number: federation.names.index(number) + 1 for number in present}
    share = federation.holders[helper]._shares[gone]
    rows = [
        row.astype(object) * at_zero(places.values(), places[helper], q) % q
        for row, q in zip(share, federation.ring.moduli, strict=True)
    ]
    return np.stack(rows).astype(np.uint64)


def shares_of(federation, owner, points):
    """The shares of one holder's key that the holders at those points have."""
    return {p: federation.holders[HOLDERS[p - 1]]._shares[owner] for p in points}


def interpolated(shares, ring):
    """What the constant term would be, were there as many shares as it takes."""
    rows = []
    for limb, q in enumerate(ring.moduli):
        terms = [
            values[limb].astype(object) * at_zero(shares, point, q)
            for point, values in shares.items()
        ]
        rows.append(sum(terms) % q)
    return np.stack(rows).astype(np.uint64)


def uniformity(values, end):
    """How probable it is that values as uneven as these are uniform in [0, end)."""
    return stats.kstest((values / end).astype(np.float64), "uniform").pvalue


def decoded(federation, fusion):
    """The vector that the parts which have come so far would give."""
    return unpack(federation.scheme.decode(fusion._total), federation.parameters)


def arrays_within(*objects):
    """All arrays of residues that objects lead to."""
    seen, waiting, found = set(), list(objects), []
    opaque = (type, types.ModuleType, types.FunctionType)
    while waiting:
        current = waiting.pop()
        if id(current) in seen or isinstance(current, opaque):
            continue
        seen.add(id(current))
        if isinstance(current, np.ndarray) and current.dtype == np.uint64:
            found.append(current)
        waiting += gc.get_referents(current)
    return found


# Sums


def test_sums_of_several_rounds_equal_the_plain_ones(federation):
    for clients, number in (
        (CLIENTS, None),
        ((5, 3, 0, 1), 2**63),
        ((1, 2, 4, 0, 5), 10**6),
    ):
        fusion, total = federation.fusion(clients, number)
        assert fusion.clients == tuple(clients)
        federation.answer(fusion, HOLDERS)
        federation.check(fusion.release(), total)


def test_exact_sums_wrap_around_and_leave_their_neighbours_alone():
    federation = Federation(request_of(EXACT)).with_key()
    largest, vector = 2**16 - 1, np.zeros(VALUES, np.int64)
    vector[::3], vector[1::3] = largest, 2**15
    federation.server.open(0)
    for client in CLIENTS:
        party = federation.parties[client]
        data = federation.encryptor.encrypt(party, SERVER, 0, vector)
        federation.server.add(data)
    fusion = Fusion(federation.server_party, federation.server, HOLDERS, QUORUM)
    federation.answer(fusion, HOLDERS)
    released = fusion.release()
    assert set(released[::3]) == {largest + 1 - len(CLIENTS)}
    assert set(released[1::3]) == set(released[2::3]) == {0}


def test_clients_without_a_share_are_added_like_any_others(federation):
    outsiders = [n for n in federation.parties if n not in HOLDERS]
    assert outsiders == [1, 2, 4]
    fusion, total = federation.fusion((*outsiders, 0))
    federation.answer(fusion, HOLDERS)
    federation.check(fusion.release(), total)


@pytest.mark.parametrize("changes", [{}, {"precision": 1e-9}])
def test_the_error_of_a_sum_is_as_large_as_the_parameters_say(changes):
    federation = Federation(request_of(CKKS, **changes)).with_key()
    fusion, total = federation.fusion()
    federation.answer(fusion, HOLDERS)
    expected = federation.parameters.error_std(len(CLIENTS))
    assert (fusion.release() - total).std() == pytest.approx(expected, rel=0.06)


def test_two_holders_decrypt_together_and_neither_alone():
    federation = Federation(request_of(EXACT, holders=2), (1, 4), 2).with_key()
    federation.works()
    fusion, _ = federation.fusion()
    federation.answer(fusion, (4,))
    with pytest.raises(RefusedError, match="1 of 2 holders are left"):
        fusion.recovery_requests()


@pytest.mark.parametrize("scheme", [CKKS, EXACT])
@pytest.mark.parametrize("bits", [40, 60, 70, 80, 100, 128])
def test_every_request_that_has_parameters_can_be_decrypted(scheme, bits):
    request = request_of(scheme, values=9, statistical_bits=bits, precision=1e-2)
    try:
        derive(request)
    except ValueError:
        return  # refused in time
    Federation(request).with_key().works()


# Who goes missing, and when


def test_clients_that_never_upload_are_missed_only_below_the_least_number(federation):
    fusion, total = federation.fusion(tuple(CLIENTS)[:LEAST])
    federation.answer(fusion, HOLDERS)
    federation.check(fusion.release(), total)
    fusion, _ = federation.fusion(tuple(CLIENTS)[: LEAST - 1])
    for number, data in fusion.requests().items():
        with pytest.raises(RefusedError, match=f"at least {LEAST}"):
            federation.holders[number].partial(data)
    federation.works()


def test_any_quorum_stands_in_for_the_others(federation):
    for gone in itertools.combinations(HOLDERS, len(HOLDERS) - QUORUM):
        fusion, total = federation.fusion(LEAST_CLIENTS)
        present = [number for number in HOLDERS if number not in gone]
        federation.answer(fusion, present[::-1])
        assert fusion.missing == gone
        federation.stand_in(fusion)
        federation.check(fusion.release(), total)


def test_a_quorum_of_those_left_is_enough(federation):
    for gone in HOLDERS:
        fusion, total = federation.fusion(LEAST_CLIENTS)
        federation.answer(fusion, [number for number in HOLDERS if number != gone])
        federation.stand_in(fusion)
        federation.check(fusion.release(), total)


def test_fewer_than_a_quorum_void_the_round_and_not_the_next_one(federation):
    fusion, _ = federation.fusion()
    federation.answer(fusion, HOLDERS[: QUORUM - 1])
    with pytest.raises(RefusedError, match=r"void: 2 of 5 holders are left .* 3 are"):
        fusion.recovery_requests()
    with pytest.raises(RefusedError, match="void"):
        fusion.release()
    federation.works()


def test_a_helper_that_vanishes_voids_the_round_and_not_the_next_one(federation):
    fusion, _ = federation.fusion()
    federation.answer(fusion, HOLDERS[1:])
    vanished = HOLDERS[2]
    federation.stand_in(fusion, absent=(vanished,))
    message = rf"round {fusion.round_number} is void: .*\[{vanished}\] are missing"
    with pytest.raises(RefusedError, match=message):
        fusion.release()
    federation.works()


def test_a_sum_is_not_released_before_the_last_part_has_come(federation):
    fusion, total = federation.fusion()
    requests = fusion.requests()
    for count, number in enumerate(HOLDERS):
        assert fusion.missing == HOLDERS[count:]
        with pytest.raises(RefusedError, match="void"):
            fusion.release()
        fusion.add(federation.holders[number].partial(requests[number]))
    federation.check(fusion.release(), total)


def test_a_part_that_comes_after_others_stood_in_is_not_counted_twice(federation):
    fusion, total = federation.fusion()
    late = federation.holders[HOLDERS[0]].partial(fusion.requests()[HOLDERS[0]])
    federation.answer(fusion, HOLDERS[1:])
    federation.stand_in(fusion)
    with pytest.raises(RefusedError, match="unasked for"):
        fusion.add(late)
    federation.check(fusion.release(), total)


def test_a_recovery_without_anybody_missing_does_not_void_the_round(federation):
    fusion, total = federation.fusion()
    federation.answer(fusion, HOLDERS)
    with contextlib.suppress(RefusedError):
        fusion.recovery_requests()
    federation.check(fusion.release(), total)


def test_the_server_counts_parts_of_this_sums_holders_and_each_once(federation):
    first, _ = federation.fusion()
    number = HOLDERS[1]
    holder, party = federation.holders[number], federation.parties[number]
    old = holder.partial(first.requests()[number])
    fusion, total = federation.fusion()
    part = holder.partial(fusion.requests()[number])
    size = federation.parameters.rows * federation.ring.polynomial_bytes
    key = federation.material.key_id

    def forged(payload, sender=party, key_id=key):
        number = fusion.round_number
        return write(sender, SERVER, Kind.PARTIAL, number, payload, key_id=key_id)

    for data in (
        old,
        forged(b""),
        forged(bytes(size - 1)),
        forged(b"\xff" * size),
        forged(bytes(size), key_id=os.urandom(16)),
        *(altered(part, position) for position in (0, 30, 200, len(part) // 2, -1)),
    ):
        with pytest.raises(WireError):
            fusion.add(data)
    with pytest.raises(RefusedError, match="unasked for"):
        fusion.add(forged(bytes(size), federation.parties[1]))
    fusion.add(part)
    with pytest.raises(RefusedError, match="unasked for"):
        fusion.add(part)
    federation.answer(fusion, [n for n in HOLDERS if n != number])
    federation.check(fusion.release(), total)


def test_the_server_counts_recoveries_that_it_asked_for_and_each_once(federation):
    fusion, total = federation.fusion()
    federation.answer(fusion, HOLDERS[:4])
    requests = fusion.recovery_requests()
    assert len(requests) == QUORUM
    for number, request in requests.items():
        data = federation.holders[number].stand_in(request)
        for bad in (altered(data, 300), altered(data, -1)):
            with pytest.raises(WireError):
                fusion.add_recovery(bad)
        with pytest.raises(WireError):
            fusion.add(data)
        fusion.add_recovery(data)
        with pytest.raises(RefusedError, match=f"{number} stands in, unasked for"):
            fusion.add_recovery(data)
    federation.check(fusion.release(), total)


# What it takes to decrypt


def test_all_parts_but_one_decrypt_to_nothing(federation):
    fusion, total = federation.fusion()
    federation.answer(fusion, HOLDERS[:-1])
    values = decoded(federation, fusion)
    assert abs(np.corrcoef(values, total)[0, 1]) < SIGMAS / math.sqrt(VALUES)
    if federation.request.scheme.exact:
        assert uniformity(values + 0.5, 2**16) > SIGNIFICANCE
    else:
        assert (values - total).std() > BOUND


def test_a_quorum_less_one_standing_in_decrypts_to_nothing(federation):
    fusion, total = federation.fusion()
    federation.answer(fusion, HOLDERS[1:])
    federation.stand_in(fusion, absent=(HOLDERS[1],))
    values = decoded(federation, fusion)
    assert abs(np.corrcoef(values, total)[0, 1]) < SIGMAS / math.sqrt(VALUES)


def test_a_quorum_of_shares_gives_the_key_of_their_owner(federation):
    for owner in HOLDERS:
        secret = federation.secret(owner)
        for points in itertools.combinations(range(1, 6), QUORUM):
            found = interpolated(shares_of(federation, owner, points), federation.ring)
            np.testing.assert_array_equal(found, secret)


def test_fewer_shares_say_nothing_about_the_key(federation):
    ring, owner = federation.ring, HOLDERS[3]
    secret = federation.secret(owner)
    for points in ((1, 2), (2, 5), (4, 3)):
        guess = interpolated(shares_of(federation, owner, points), ring)
        assert not (guess == secret).any()
        for row, true, q in zip(guess, secret, ring.moduli, strict=True):
            assert uniformity(row, q) > SIGNIFICANCE
            found = inverse_transform(row, q)
            assert uniformity(found, q) > SIGNIFICANCE
            counts = np.bincount((found * 16 // q).astype(int), minlength=16)
            assert stats.chisquare(counts).pvalue > SIGNIFICANCE
            # The test would tell: a key's coefficients are far from uniform.
            assert uniformity(inverse_transform(true, q), q) < 1e-100
    (share,) = shares_of(federation, owner, (1,)).values()
    for row, q in zip(share, ring.moduli, strict=True):
        assert uniformity(inverse_transform(row, q), q) > SIGNIFICANCE


# Recovery


def test_recovery_hands_nobody_a_key(federation):
    fusion, _ = federation.fusion()
    federation.answer(fusion, HOLDERS[2:])
    requests = fusion.recovery_requests()
    parts = {n: federation.holders[n].stand_in(data) for n, data in requests.items()}
    for data in parts.values():
        fusion.add_recovery(data)

    secrets = [federation.secret(number) for number in HOLDERS]
    held = federation.holders[HOLDERS[2]]._shares.values()
    hidden = [
        *secrets,
        *(share for h in federation.holders.values() for share in h._shares.values()),
    ]
    for data in (*requests.values(), *parts.values()):
        for polynomial in hidden:
            for whole in (federation.ring.pack(polynomial[None]), polynomial.tobytes()):
                starts = (0, len(whole) // 2, len(whole) - 16)
                assert not any(whole[i : i + 16] in data for i in starts)
    for data in parts.values():
        for part in federation.polynomials(data, Kind.RECOVERY):
            assert not any((part == polynomial).any() for polynomial in hidden)
    # Nor does anyone keep what would be the key of those who have gone.
    kept = arrays_within(fusion, *(federation.holders[n] for n in HOLDERS[2:]))
    kept = [array for array in kept if array.shape[-2:] == secrets[0].shape]
    assert all(any(np.array_equal(array, share) for array in kept) for share in held)
    for secret in secrets[:2]:
        assert not any((array == secret).all((-2, -1)).any() for array in kept)


def test_a_part_over_what_it_decrypts_is_no_share(federation):
    # As it would be if a helper added no noise.
    fusion, _ = federation.fusion()
    federation.answer(fusion, HOLDERS[1:])
    number, data = next(iter(fusion.recovery_requests().items()))
    reply = federation.holders[number].stand_in(data)
    part = federation.polynomials(reply, Kind.RECOVERY)[0]
    key = helping_key(federation, number, HOLDERS[1 : 1 + QUORUM], HOLDERS[0])
    assert not (product(fusion._second[0], key, federation.ring) == part).any()


@pytest.mark.parametrize(
    ("gone", "present"),
    [
        pytest.param((3,), (0, 11), id="too few"),
        pytest.param((3,), (0, 11, 5, 12), id="too many"),
        pytest.param((), (0, 11, 5), id="for nobody"),
        pytest.param((3,), (), id="by nobody"),
        pytest.param((3,), (11, 5, 12), id="without itself"),
        pytest.param((0,), (11, 5, 12), id="for itself"),
        pytest.param((0,), (0, 11, 5), id="for and by itself"),
        pytest.param((3, 1), (0, 11, 5), id="for a client without shares"),
        pytest.param((3,), (0, 11, 4), id="with a client without shares"),
        pytest.param((3,), (0, 11, SERVER), id="with the server"),
        pytest.param((3, 3), (0, 11, 5), id="twice for one"),
        pytest.param((3,), (0, 0, 11), id="by itself twice"),
        pytest.param((3,), (0, 11, 3), id="with whom it stands in for"),
    ],
)
def test_a_holder_stands_in_within_a_quorum_of_holders_only(federation, gone, present):
    fusion, _ = federation.fusion(LEAST_CLIENTS)
    federation.answer(fusion, (0,))
    helper, number = federation.holders[0], fusion.round_number
    with pytest.raises(ProtocolError):
        helper.stand_in(recovery_request(federation, 0, number, gone, present))
    # What was refused has not been done.
    helper.stand_in(recovery_request(federation, 0, number, (3,), (0, 11, 5)))


def test_a_holder_stands_in_once_in_a_sum(federation):
    fusion, _ = federation.fusion()
    federation.answer(fusion, HOLDERS)
    helper, number = federation.holders[0], fusion.round_number
    helper.stand_in(recovery_request(federation, 0, number, (3,), (0, 11, 5)))
    for gone, present in (
        ((3,), (0, 11, 5)),
        ((3,), (0, 11, 12)),
        ((12,), (0, 11, 5)),
        ((3, 12), (5, 0, 11)),
    ):
        with pytest.raises(RefusedError, match="has stood in"):
            helper.stand_in(recovery_request(federation, 0, number, gone, present))


def test_a_holder_stands_in_for_the_sum_that_it_decrypted_last(federation):
    fresh = Federation(request_of(CKKS)).with_key()
    with pytest.raises(RefusedError, match="not the one decrypted last"):
        fresh.holders[0].stand_in(recovery_request(fresh, 0, 0, (3,), (0, 11, 5)))
    first, _ = federation.fusion()
    federation.answer(first, (0,))
    second, _ = federation.fusion()
    federation.answer(second, (0,))
    for number in (first.round_number, second.round_number + 1):
        data = recovery_request(federation, 0, number, (3,), (0, 11, 5))
        with pytest.raises(RefusedError, match="not the one decrypted last"):
            federation.holders[0].stand_in(data)


def test_a_request_to_stand_in_is_the_servers_and_whole(federation):
    fusion, total = federation.fusion()
    federation.answer(fusion, HOLDERS[1:])
    helper = federation.holders[0]
    request = functools.partial(
        recovery_request, federation, 0, fusion.round_number, (3,), (0, 11, 5)
    )
    for changes in (
        {"sender": federation.parties[11]},
        {"key_id": os.urandom(16)},
        {"payload": b""},
        {"payload": b"\xff\xff\xff\xff"},
        {"payload": bytes(4)},
    ):
        with pytest.raises(ProtocolError):
            helper.stand_in(request(**changes))
    for position in range(0, len(request()), 7):
        with pytest.raises(WireError):
            helper.stand_in(altered(request(), position))
    with pytest.raises(WireError):
        federation.holders[11].stand_in(request())
    federation.stand_in(fusion)
    federation.check(fusion.release(), total)


# What holders refuse to decrypt


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"key_id": b"another key's id"}, id="under another key"),
        pytest.param({"sender": 2}, id="from a client"),
        pytest.param({"sender": 11}, id="from a holder"),
        pytest.param({"receiver": 11}, id="for another holder"),
        pytest.param({"kind": Kind.UPLOAD}, id="of another kind"),
        pytest.param({"numbers": tuple(range(7))}, id="of too many uploads"),
        pytest.param({"numbers": (0, 1, 2)}, id="of too few uploads"),
        pytest.param({"numbers": ()}, id="of no upload"),
        pytest.param({"numbers": (0, 1, 2, 3, 3)}, id="of one client twice"),
        pytest.param({"payload": lambda whole: whole[:-1]}, id="truncated"),
        pytest.param({"payload": lambda whole: whole + whole}, id="too long"),
        pytest.param(
            {"payload": lambda whole: b"\xff" * len(whole)}, id="beyond the modulus"
        ),
    ],
)
def test_a_holder_refuses_what_is_no_sum_of_the_servers(federation, changes):
    fusion, _ = federation.fusion(LEAST_CLIENTS)
    whole = federation.ring.pack(fusion._second)
    fields = {"kind": Kind.SUM, "receiver": 0, "round_number": fusion.round_number}
    fields |= {"key_id": federation.material.key_id, "numbers": fusion.clients}
    fields |= {"payload": lambda whole: whole, "sender": SERVER, **changes}
    sender = fields.pop("sender")
    party = federation.parties.get(sender, federation.server_party)
    fields["payload"] = fields["payload"](whole)
    with pytest.raises(ProtocolError):
        federation.holders[0].partial(write(party, **fields))
    # What was refused has not been counted.
    federation.answer(fusion, (0,))


def test_a_sum_that_was_altered_on_its_way_is_refused(federation):
    fusion, _ = federation.fusion(LEAST_CLIENTS)
    data = fusion.requests()[0]
    for position in (*range(0, 140, 3), len(data) // 2, len(data) - 33, len(data) - 1):
        with pytest.raises(WireError):
            federation.holders[0].partial(altered(data, position))
    federation.answer(fusion, (0,))


def test_a_holder_decrypts_one_sum_a_round(federation):
    fusion, _ = federation.fusion()
    replayed, number = fusion.requests()[0], fusion.round_number
    federation.answer(fusion, (0,))
    smaller, _ = federation.fusion(LEAST_CLIENTS, number)
    other, _ = federation.fusion(round_number=number)
    for data in (replayed, smaller.requests()[0], other.requests()[0]):
        with pytest.raises(RefusedError, match="decrypted already"):
            federation.holders[0].partial(data)


def test_a_sum_under_a_former_key_is_refused():
    federation = Federation(request_of(CKKS)).with_key()
    former, _ = federation.fusion()
    federation.begin()
    federation.with_key()
    with pytest.raises(WireError, match="another key"):
        federation.holders[0].partial(former.requests()[0])
    federation.works()


@pytest.mark.parametrize("scheme", [CKKS, EXACT])
def test_a_key_decrypts_no_more_than_its_noise_protects(scheme):
    request = request_of(scheme, holders=2, query_budget=5)
    federation = Federation(request, (0, 1), 2).with_key()
    sums = 5 // federation.parameters.rows
    assert sums >= 2
    sent = []
    for _ in range(sums):
        assert not any(holder.used_up for holder in federation.holders.values())
        fusion, total = federation.fusion()
        sent.append(fusion.requests()[0])
        federation.answer(fusion, (0, 1))
        federation.check(fusion.release(), total)
    assert all(holder.used_up for holder in federation.holders.values())
    for data in sent:
        with pytest.raises(RefusedError):
            federation.holders[0].partial(data)
    fusion, _ = federation.fusion()
    with pytest.raises(RefusedError, match="fresh one"):
        federation.holders[0].partial(fusion.requests()[0])


def test_a_budget_below_one_sum_decrypts_that_one():
    request = request_of(CKKS, holders=2, query_budget=1)
    federation = Federation(request, (0, 1), 2).with_key()
    assert federation.parameters.rows > 1
    federation.works()
    assert federation.holders[0].used_up


# Noise in partial decryptions


def check_noise(noise, parameters, terms=1):
    """Fails unless noise (R, N) is Gaussian, as wide as it should be, everywhere."""
    std = math.sqrt(terms) * parameters.flooding_std
    scaled, size = noise / std, noise.size
    assert scaled.std() == pytest.approx(1, abs=SIGMAS / math.sqrt(2 * size))
    assert abs(scaled.mean()) < SIGMAS / math.sqrt(size)
    assert stats.kstest(scaled.ravel(), "norm").pvalue > SIGNIFICANCE
    # In the canonical embedding too no direction goes without.
    dimension = noise.shape[1]
    turns = np.exp(1j * np.pi * np.arange(dimension) / dimension)
    embedded = np.fft.fft(scaled * turns, axis=1) / math.sqrt(dimension / 2)
    for part in (embedded.real, embedded.imag):
        assert part.std() == pytest.approx(1, abs=SIGMAS / math.sqrt(size))


LITTLE = {"statistical_bits": 1, "query_budget": 99}
SMUDGED = {
    "ckks": (CKKS, {}),
    "ckks of two primes": (CKKS, {"precision": 1e-9}),
    "ckks with little noise": (CKKS, LITTLE),
    "exact": (EXACT, {}),
    "exact with wide lanes": (EXACT, {"bits": 24}),
    "exact with little noise": (EXACT, LITTLE),
}


@pytest.fixture(scope="module", params=SMUDGED.values(), ids=SMUDGED.keys())
def smudged(request):
    scheme, changes = request.param
    fields = {"holders": 3, **changes}
    one_row = derive(request_of(scheme, **fields)).values_per_ciphertext
    fields["values"] = 2 * one_row
    return Federation(request_of(scheme, **fields), (0, 1, 2), 2).with_key()


def test_partial_decryptions_carry_the_noise_that_the_parameters_say(smudged):
    fusion, _ = smudged.fusion(LEAST_CLIENTS)
    requests, noises = fusion.requests(), []
    for number in (0, 1):
        data = smudged.holders[number].partial(requests[number])
        parts = smudged.polynomials(data, Kind.PARTIAL)
        secret = smudged.secret(number)
        noise = noise_of(parts, fusion._second, secret, smudged.ring)
        check_noise(noise, smudged.parameters)
        noises += list(noise)
    # No two of them have anything in common: neither rows nor holders.
    correlations = np.corrcoef(noises) - np.eye(len(noises))
    assert np.abs(correlations).max() < SIGMAS / math.sqrt(smudged.ring.dimension)


def test_recoveries_carry_the_noise_that_the_parameters_say(smudged):
    fusion, _ = smudged.fusion(LEAST_CLIENTS)
    smudged.answer(fusion, (1, 2))
    total = np.zeros_like(fusion._second)
    for number, data in fusion.recovery_requests().items():
        reply = smudged.holders[number].stand_in(data)
        parts = smudged.polynomials(reply, Kind.RECOVERY)
        key = helping_key(smudged, number, (1, 2), 0)
        noise = noise_of(parts, fusion._second, key, smudged.ring)
        check_noise(noise, smudged.parameters)
        total += parts
    total = smudged.ring.reduce(total)
    noise = noise_of(total, fusion._second, smudged.secret(0), smudged.ring)
    check_noise(noise, smudged.parameters, terms=2)


def test_the_noise_hides_the_error_that_sums_have(federation):
    # The divergence of all that one key decrypts, recoveries included, by the error
    # measured: tau |e|^2 / (2 sigma^2) is at most 2^-s.
    ring, parameters = federation.ring, federation.parameters
    joint = ring.reduce(sum(federation.secret(number) for number in HOLDERS))
    norms, encryptor = [], federation.encryptor
    for _ in range(4):
        total = 0
        for _ in CLIENTS:
            nothing = np.zeros((1, ring.limbs, ring.dimension), np.uint64)
            (made,) = encryptor._scheme.encrypt(encryptor._public_key, nothing)
            total = ring.reduce(total + made)
        error = ring.reduce(total[0] + product(total[1], joint, ring))
        norms.append((coefficients(error, ring).astype(float) ** 2).sum())
    request, variance = federation.request, parameters.flooding_std**2
    divergence = 2 * request.query_budget * max(norms) / (2 * variance)
    assert divergence < 2.0**-request.statistical_bits
    # Nor is there much more than it takes: 1.4 times, and what a key varies by.
    assert divergence > 2.0**-request.statistical_bits / 1.6


@pytest.mark.parametrize("scheme", [CKKS, EXACT])
@pytest.mark.parametrize("fraction", [0.0, 0.9, 1.1])
def test_less_or_more_noise_would_be_noticed(scheme, fraction):
    request = request_of(scheme, values=16000, holders=3)
    federation = Federation(request, (0, 1, 2), 2).with_key()
    intended, scheme = federation.parameters, federation.scheme
    if fraction:
        std = fraction * intended.flooding_std
        scheme.parameters = replace(intended, flooding_std=std)
    else:
        scheme.noise = lambda count: np.uint64(0)
    fusion, _ = federation.fusion(LEAST_CLIENTS)
    data = federation.holders[0].partial(fusion.requests()[0])
    parts = federation.polynomials(data, Kind.PARTIAL)[:2]
    secret = federation.secret(0)
    noise = noise_of(parts, fusion._second[:2], secret, federation.ring)
    if fraction:
        check_noise(noise, scheme.parameters)
    else:
        assert not noise.any()
    with pytest.raises(AssertionError):
        check_noise(noise, intended)


def test_answers_to_one_sum_differ_by_the_noise_of_both():
    # What a server can see by itself, in the slots that it decodes.
    scheme = HomomorphicScheme(derive(request_of(CKKS)))
    parameters, ring = scheme.parameters, scheme.ring
    _, key = scheme.generate_keys()
    moduli = np.array(ring.moduli, np.uint64)[:, None]
    words = np.random.default_rng(0).integers(0, 2**62, (4, 1, 4096), np.uint64)
    seconds = ring.reduce(words)
    first, again = scheme.partial(key, seconds), scheme.partial(key, seconds)
    assert not (first == again).any()
    slots = scheme.decode(ring.reduce(first + moduli - again))
    values = slots.view(np.float64).ravel()
    variance = 2 * parameters.flooding_std**2
    std = math.sqrt(parameters.ring_dimension / 2 * variance) / parameters.scale
    assert values.std() == pytest.approx(std, rel=SIGMAS / math.sqrt(2 * values.size))
    assert stats.kstest(values / std, "norm").pvalue > SIGNIFICANCE


# Making a key


def test_every_holder_derives_the_same_material(federation):
    materials = [holder.material for holder in federation.holders.values()]
    assert all(material == materials[0] for material in materials)


def test_the_joint_key_differs_each_time():
    made = [Federation(request_of(CKKS)).with_key().material for _ in range(3)]
    half = len(made[0].public_key) // 2
    assert len({material.key_id for material in made}) == 3
    assert len({material.public_key[:half] for material in made}) == 3
    assert len({material.public_key[half:] for material in made}) == 3


def test_the_joint_key_is_that_of_the_sum_of_ternary_secrets(federation):
    ring = federation.ring
    first, common = ring.unpack(federation.material.public_key)
    secrets = [federation.secret(number) for number in HOLDERS]
    found = [coefficients(secret, ring).astype(int) for secret in secrets]
    for secret in found:
        counts = [np.count_nonzero(secret == value) for value in (-1, 0, 1)]
        assert sum(counts) == ring.dimension
        assert stats.chisquare(counts).pvalue > SIGNIFICANCE
    correlations = np.corrcoef(found) - np.eye(len(found))
    assert np.abs(correlations).max() < SIGMAS / math.sqrt(ring.dimension)
    joint = ring.reduce(sum(secrets))
    error = coefficients(ring.reduce(first + product(common, joint, ring)), ring)
    expected = 3.19 * math.sqrt(len(HOLDERS))
    assert error.astype(float).std() == pytest.approx(expected, rel=0.07)
    assert abs(error).max() < 8 * expected


def test_each_contribution_is_a_key_of_its_own(keyless):
    committed(keyless)
    ring, common = keyless.ring, keyless.holders[0]._common
    for number, data in contributions_of(keyless).items():
        (term,) = ring.unpack(data)
        shifted = ring.reduce(term + product(common, keyless.secret(number), ring))
        error = coefficients(shifted, ring).astype(float)
        assert error.std() == pytest.approx(3.19, rel=0.07)


def test_nothing_is_revealed_before_everyone_has_committed(keyless):
    common = keyless.holders[HOLDERS[0]].begin()
    for number in HOLDERS[:-1]:
        for receiver, data in keyless.holders[number].commit(common[number]).items():
            keyless.holders[receiver].accept_commitment(data)
    for holder in list(keyless.holders.values())[:-1]:
        with pytest.raises(RefusedError, match=r"holders \[12\] have not committed"):
            holder.reveal()


def test_a_missing_contribution_makes_no_key(keyless):
    committed(keyless)
    contributions = contributions_of(keyless)
    del contributions[11]
    for holder in keyless.holders.values():
        with pytest.raises(WireError, match="holder 11 did not commit"):
            holder.finish(contributions)
        with pytest.raises(RefusedError, match="not been made"):
            _ = holder.material


@pytest.mark.parametrize("position", [0, 1000, -1])
def test_an_altered_contribution_makes_no_key(keyless, position):
    committed(keyless)
    contributions = contributions_of(keyless)
    contributions[5] = altered(contributions[5], position)
    for holder in keyless.holders.values():
        with pytest.raises(WireError, match="holder 5 did not commit"):
            holder.finish(contributions)


def test_who_chooses_a_contribution_in_view_of_the_others_is_found_out(keyless):
    # It would cancel the others, and make the joint key one of its own.
    committed(keyless)
    contributions, ring = contributions_of(keyless), keyless.ring
    own, _ = keyless.scheme.generate_share(keyless.holders[0]._common)
    moduli = np.array(ring.moduli, np.uint64)[:, None]
    others = [ring.unpack(contributions[n])[0] for n in HOLDERS[:-1]]
    chosen = ring.reduce(own + moduli - ring.reduce(sum(others)))
    contributions[HOLDERS[-1]] = ring.pack(chosen[None])
    for number in HOLDERS[:-1]:
        with pytest.raises(WireError, match="holder 12 did not commit"):
            keyless.holders[number].finish(contributions)


@pytest.mark.parametrize("make", [lambda n: b"", bytes, lambda n: b"\xff" * n])
def test_what_was_committed_to_must_be_a_polynomial(keyless, monkeypatch, make):
    data = make(keyless.ring.polynomial_bytes - (make is bytes))
    monkeypatch.setattr(keyless.holders[5], "_own_contribution", lambda: data)
    committed(keyless)
    contributions = contributions_of(keyless)
    with pytest.raises(WireError):
        keyless.holders[0].finish(contributions)


def test_a_commitment_is_a_holders_and_cannot_be_taken_back(keyless):
    committed(keyless)
    holder = keyless.holders[0]
    other = write(keyless.parties[5], 0, Kind.COMMITMENT, 0, os.urandom(32))
    with pytest.raises(RefusedError, match="5 has committed to something else"):
        holder.accept_commitment(other)
    stranger = write(keyless.parties[1], 0, Kind.COMMITMENT, 0, os.urandom(32))
    with pytest.raises(RefusedError, match="not among the holders"):
        holder.accept_commitment(stranger)


def test_a_commitment_that_was_altered_or_misdirected_is_refused(keyless):
    common = keyless.holders[3].begin()
    data = keyless.holders[5].commit(common[5])[0]
    for position in (0, 20, 70, -1):
        with pytest.raises(WireError):
            keyless.holders[0].accept_commitment(altered(data, position))
    with pytest.raises(WireError):
        keyless.holders[11].accept_commitment(data)


def test_the_first_holder_begins_and_once(keyless):
    with pytest.raises(RefusedError, match="first holder"):
        keyless.holders[0].begin()
    common = keyless.holders[3].begin()
    with pytest.raises(RefusedError, match="once"):
        keyless.holders[3].begin()
    for data in (altered(common[0], 1000), common[5]):
        with pytest.raises(WireError):
            keyless.holders[0].commit(data)
    usurped = bytes(keyless.ring.polynomial_bytes)
    with pytest.raises(ProtocolError):
        keyless.holders[0].commit(
            write(keyless.parties[11], 0, Kind.COMMON, 0, usurped)
        )
    keyless.holders[0].commit(common[0])
    with pytest.raises(RefusedError, match="once"):
        keyless.holders[0].commit(common[0])


def test_a_share_is_taken_whole_once_and_from_a_holder(keyless):
    shares = dealt(keyless)
    holder, data = keyless.holders[0], shares[5][0]
    for position in (0, 20, 70, 100, len(data) // 2, -40, -1):
        with pytest.raises(WireError):
            holder.accept_share(altered(data, position))
    with pytest.raises(WireError):
        holder.accept_share(shares[5][11])
    holder.accept_share(data)
    with pytest.raises(RefusedError, match="unasked for"):
        holder.accept_share(data)
    key_id, size = holder.material.key_id, keyless.ring.polynomial_bytes
    stranger, other = keyless.parties[1], keyless.parties[11]
    sealed = stranger.to(0).seal(bytes(size))
    with pytest.raises(RefusedError, match="unasked for"):
        holder.accept_share(write(stranger, 0, Kind.SHARE, 0, sealed, key_id=key_id))
    for unsealed in (os.urandom(len(sealed)), other.to(5).seal(bytes(size))):
        with pytest.raises(WireError):
            holder.accept_share(write(other, 0, Kind.SHARE, 0, unsealed, key_id=key_id))


def test_shares_are_sealed_on_their_way(keyless):
    for receiver, data in dealt(keyless)[5].items():
        keyless.holders[receiver].accept_share(data)
        packed = keyless.ring.pack(keyless.holders[receiver]._shares[5][None])
        assert len(data) > len(packed)
        assert not any(packed[i : i + 16] in data for i in range(0, len(packed), 999))


def test_who_never_got_a_share_does_not_stand_in_for_its_owner(keyless):
    for owner, messages in dealt(keyless).items():
        for receiver, data in messages.items():
            if (owner, receiver) != (5, 0):
                keyless.holders[receiver].accept_share(data)
    keyless.use(keyless.holders[0].material)
    keyless.works()
    fusion, _ = keyless.fusion()
    keyless.answer(fusion, (0, 3, 11, 12))
    with pytest.raises(RefusedError):
        keyless.holders[0].stand_in(fusion.recovery_requests()[0])


def test_a_key_is_finished_once(keyless):
    # A second time would forget which sums have been decrypted.
    committed(keyless)
    contributions = contributions_of(keyless)
    keyless.holders[0].finish(contributions)
    with pytest.raises(RefusedError):
        keyless.holders[0].finish(contributions)


def test_without_a_key_nothing_is_decrypted(keyless):
    holder = keyless.holders[0]
    for call in (holder.partial, holder.stand_in, holder.accept_share):
        with pytest.raises(RefusedError):
            call(b"")
    with pytest.raises(RefusedError):
        holder.reveal()
    assert not holder.used_up


# Arguments


@pytest.mark.parametrize(
    ("quorum", "holders", "colluders"),
    [(2, 2, 0), (2, 2, 1), (2, 3, 1), (3, 3, 2), (3, 4, 2), (3, 5, 2), (5, 5, 4)],
)
def test_a_majority_of_more_than_the_colluders_is_a_quorum(quorum, holders, colluders):
    check_quorum(quorum, holders, colluders)


@pytest.mark.parametrize(
    ("quorum", "holders", "colluders"),
    [(1, 2, 0), (3, 2, 0), (2, 4, 0), (6, 5, 0), (3, 5, 3), (5, 5, 5), (0, 0, 0)],
)
def test_anything_else_is_no_quorum(quorum, holders, colluders):
    with pytest.raises(ValueError, match="more than half"):
        check_quorum(quorum, holders, colluders)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"quorum": 2}, "more than half"),
        ({"quorum": 6}, "at most all"),
        ({"trust": Trust(4, Decryptor.KEY_AUTHORITY)}, "one of the two is wrong"),
        ({"request": SumRequest(Scheme.CKKS, 100, 6)}, "one of the two is wrong"),
        ({"request": request_of(CKKS, holders=4)}, "4 holders were declared"),
        ({"holders": (0, 1, 2, 3, 3)}, "5 holders were declared"),
        ({"party": Party(1, {})}, "1 is not among the holders"),
        ({"trust": Trust(7, Decryptor.HOLDERS)}, "at least 7 uploads"),
    ],
)
def test_arguments_that_disagree_are_refused_at_once(changes, match):
    arguments = {"party": Party(0, {}), "request": request_of(CKKS)}
    arguments |= {"trust": Trust(LEAST, Decryptor.HOLDERS), "holders": HOLDERS}
    with pytest.raises(ValueError, match=match):
        KeyHolder(**{**arguments, "quorum": QUORUM, **changes})
