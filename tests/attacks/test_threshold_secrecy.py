"""What holders of a joint key and the server can decrypt, and what they keep."""

import gc
import math
import types

import numpy as np
import pytest
from scipy import stats

from fedjax_private.encryption.messages.wire import Kind
from tests.encryption.federation import (
    BOUND,
    HOLDERS,
    QUORUM,
    SIGMAS,
    SIGNIFICANCE,
    VALUES,
)
from tests.encryption.transforms import at_zero, inverse_transform, product

pytestmark = pytest.mark.needs_openfhe


def uniformity(values, end):
    """How probable it is that values as uneven as these are uniform in [0, end)."""
    return stats.kstest((values / end).astype(np.float64), "uniform").pvalue


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


def test_all_parts_but_one_decrypt_to_nothing(federation):
    """Server: adds up the parts of all holders but one -> nothing."""
    fusion, total = federation.fusion()
    values = federation.decoded(federation.answer(fusion, HOLDERS[:-1]))
    assert abs(np.corrcoef(values, total)[0, 1]) < SIGMAS / math.sqrt(VALUES)
    if federation.request.scheme.exact:
        assert uniformity(values % 2**16 + 0.5, 2**16) > SIGNIFICANCE
    else:
        assert (values - total).std() > BOUND


def test_a_quorum_less_one_standing_in_decrypts_to_nothing(federation):
    """Server: has T - 1 holders stand in for a missing one -> nothing."""
    fusion, total = federation.fusion()
    parts = federation.answer(fusion, HOLDERS[1:])
    parts += federation.stand_in(fusion, absent=(HOLDERS[1],))
    values = federation.decoded(parts)
    assert abs(np.corrcoef(values, total)[0, 1]) < SIGMAS / math.sqrt(VALUES)


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


def shares_of(federation, owner, points):
    """The shares of one holder's key that the holders at those points have."""
    return {p: federation.shares[owner][HOLDERS[p - 1]] for p in points}


def test_fewer_shares_say_nothing_about_the_key(federation):
    """Holders, T - 1 of them: interpolate their shares of another's key -> uniform
    numbers."""
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


def test_recovery_hands_nobody_a_key(federation):
    """Server: searches the messages of a recovery for keys and shares -> nothing."""
    fusion, _ = federation.fusion()
    federation.answer(fusion, HOLDERS[2:])
    requests = fusion.recovery_requests()
    parts = {n: federation.holders[n].stand_in(data) for n, data in requests.items()}
    for data in parts.values():
        fusion.add_recovery(data)

    secrets = [federation.secret(number) for number in HOLDERS]
    held = [shares[HOLDERS[2]] for shares in federation.shares.values()]
    dealt = [share for of in federation.shares.values() for share in of.values()]
    hidden = [*secrets, *dealt]
    for data in (*requests.values(), *parts.values()):
        for polynomial in hidden:
            for whole in (federation.ring.pack(polynomial[None]), polynomial.tobytes()):
                starts = (0, len(whole) // 2, len(whole) - 16)
                pieces = [whole[i : i + 16] for i in starts]
                assert not any(piece in data for piece in pieces if any(piece))
    for data in parts.values():
        for part in federation.polynomials(data, Kind.RECOVERY):
            assert not any((part == polynomial).any() for polynomial in hidden)
    # Nor does anyone keep the key of a missing holder.
    kept = arrays_within(fusion, *(federation.holders[n] for n in HOLDERS[2:]))
    kept = [array for array in kept if array.shape[-2:] == secrets[0].shape]
    assert all(any(np.array_equal(array, share) for array in kept) for share in held)
    for secret in secrets[:2]:
        assert not any((array == secret).all((-2, -1)).any() for array in kept)


def test_a_part_over_what_it_decrypts_is_no_share(federation):
    """Server: divides a helper's answer by what it decrypted, to get its share ->
    nothing, because of its noise."""
    # As it would be if a helper added no noise.
    fusion, _ = federation.fusion()
    federation.answer(fusion, HOLDERS[1:])
    number, data = next(iter(fusion.recovery_requests().items()))
    reply = federation.holders[number].stand_in(data)
    part = federation.polynomials(reply, Kind.RECOVERY)[0]
    key = federation.helping_key(number, HOLDERS[1 : 1 + QUORUM], HOLDERS[0])
    assert not (product(federation.seconds[0], key, federation.ring) == part).any()


def test_shares_are_sealed_on_their_way(keyless):
    """Stranger: reads shares of keys on their way -> nothing; they are sealed."""
    for receiver, data in keyless.deal()[5].items():
        keyless.holders[receiver].accept(Kind.SHARE, [data])
        packed = keyless.ring.pack(keyless.shares[5][receiver][None])
        assert len(data) > len(packed)
        pieces = [packed[i : i + 16] for i in range(0, len(packed) - 16, 999)]
        assert not any(piece in data for piece in pieces if any(piece))
