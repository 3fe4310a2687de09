"""Making a joint key, when all holders follow the protocol or drop out."""

import hashlib
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.math.expansion import uniform_polynomial
from fedjax_private.encryption.messages.material import packed_request
from fedjax_private.encryption.messages.wire import Kind
from fedjax_private.encryption.parties.joint_key import (
    STAGES,
    check_quorum,
    make_joint_key,
)
from tests.encryption.federation import (
    CKKS,
    HOLDERS,
    QUORUM,
    SIGMAS,
    SIGNIFICANCE,
    Federation,
    request_of,
)
from tests.encryption.transforms import coefficients, combine, product

pytestmark = pytest.mark.needs_openfhe


@pytest.mark.parametrize("changes", [{}, {"holders": 2}], ids=str)
def test_holders_that_exchange_messages_get_a_key_that_works(changes):
    names = HOLDERS[: changes.get("holders", len(HOLDERS))]
    federation = Federation(request_of(CKKS, **changes), names, len(names) // 2 + 1)
    federation.use(make_joint_key(federation.holders))
    federation.works()


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
    keyless.deal()
    ring = keyless.ring
    _, common = ring.unpack(keyless.material.public_key)
    for number in HOLDERS:
        data = keyless.holders[0]._received[Kind.CONTRIBUTION][number]
        (term,) = ring.unpack(data)
        shifted = ring.reduce(term + product(common, keyless.secret(number), ring))
        error = coefficients(shifted, ring).astype(float)
        assert error.std() == pytest.approx(3.19, rel=0.07)


def test_the_common_polynomial_follows_from_all_seeds(keyless):
    # An independent computation: SHA-256 of lengths and parts, then ChaCha20.
    keyless.deal()
    ring, request = keyless.ring, keyless.request
    seeds = keyless.holders[0]._received[Kind.SEED]
    numbers = [n.to_bytes(8, "little") for n in (QUORUM, *HOLDERS)]
    commitments = keyless.holders[0]._received[Kind.SEED_COMMITMENT]
    shown = [commitments[n] + seeds[n] for n in HOLDERS]
    parts = [packed_request(request), *numbers, *shown]
    data = b"fedjax_private joint key 1"
    for part in (b"common polynomial", *parts):
        data += len(part).to_bytes(8, "little") + part
    found = uniform_polynomial(hashlib.sha256(data).digest(), ring)
    _, common = ring.unpack(keyless.material.public_key)
    np.testing.assert_array_equal(common, found)
    assert len({bytes(seed) for seed in seeds.values()}) == len(HOLDERS)


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_is_sent_before_everyone_has_sent_the_message_before(keyless, stage):
    keyless.exchange_until(stage)
    sent = {n: keyless.holders[n].send(stage) for n in HOLDERS}
    following = STAGES[STAGES.index(stage) + 1 :]
    for number, holder in keyless.holders.items():
        holder.accept(stage, [sent[n][number] for n in HOLDERS[:-1]])
        with pytest.raises(RefusedError, match=r"holders \[12\] have not sent"):
            holder.send(following[0]) if following else holder.finish()
        with pytest.raises(RefusedError, match="not been made"):
            _ = holder.material


def test_stages_follow_one_another_once_each(keyless):
    holder = keyless.holders[0]
    for stage in STAGES:
        for other in STAGES:
            if other is not stage:
                with pytest.raises(RefusedError, match="follow one another"):
                    holder.send(other)
        with pytest.raises(RefusedError, match="not sent its own"):
            holder.accept(stage, [])
        keyless.exchange(stage)
    holder.finish()
    # A second time would forget which sums have been decrypted.
    with pytest.raises(RefusedError, match="follow one another"):
        holder.finish()
    with pytest.raises(RefusedError, match="follow one another"):
        holder.send(STAGES[0])


def test_a_quorum_of_shares_gives_the_key_of_their_owner(federation):
    for owner in HOLDERS:
        secret = federation.secret(owner)
        for points in itertools.combinations(range(1, 6), QUORUM):
            shares = {p: federation.shares[owner][HOLDERS[p - 1]] for p in points}
            found = combine(shares, federation.ring.moduli, QUORUM)
            np.testing.assert_array_equal(found, secret)


# Quorums


@pytest.mark.parametrize(
    ("quorum", "holders"), [(2, 2), (2, 3), (3, 3), (3, 4), (3, 5), (5, 5)]
)
def test_a_majority_is_a_quorum(quorum, holders):
    check_quorum(quorum, holders)


@pytest.mark.parametrize(
    ("quorum", "holders"), [(1, 2), (3, 2), (2, 4), (6, 5), (0, 0)]
)
def test_anything_else_is_no_quorum(quorum, holders):
    with pytest.raises(ValueError, match="more than half"):
        check_quorum(quorum, holders)
