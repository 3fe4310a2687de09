"""Holders and strangers who depart from the protocol while a joint key is made."""

import os

import numpy as np
import pytest

from fedjax_private.encryption.errors import ProtocolError, RefusedError, WireError
from fedjax_private.encryption.messages.wire import (
    NO_KEY,
    TAG_BYTES,
    Kind,
    size,
    write,
)
from fedjax_private.encryption.parties.joint_key import STAGES
from tests.encryption.federation import HOLDERS
from tests.encryption.fixtures import altered

pytestmark = pytest.mark.needs_openfhe

CHEAT, HONEST = 5, tuple(number for number in HOLDERS if number != 5)


def from_cheat(message):
    """Replaces the messages of the cheat to others by `message(receiver)`."""
    return lambda sender, receiver, data: (
        message(receiver) if sender == CHEAT != receiver else data
    )


def deliver(federation, stage, sent, forged):
    """Delivers what was sent in a stage, and `forged(receiver)` for the cheat's."""
    replace = from_cheat(forged)
    for receiver, holder in federation.holders.items():
        for sender, messages in sent.items():
            holder.accept(stage, [replace(sender, receiver, messages[receiver])])


def payload(data):
    """The payload of a message that names no clients."""
    return data[size(0, 0) - TAG_BYTES : -TAG_BYTES]


def no_key(federation, stage, match):
    """No honest holder goes on after the stage, and none has a key."""
    following = STAGES[STAGES.index(stage) + 1 :]
    for number in HONEST:
        holder = federation.holders[number]
        with pytest.raises(ProtocolError, match=match):
            holder.send(following[0]) if following else holder.finish()
        with pytest.raises(RefusedError, match="not been made"):
            _ = holder.material


# Messages


@pytest.mark.parametrize("stage", STAGES)
def test_a_message_is_taken_whole_once_and_from_a_holder(keyless, stage):
    keyless.exchange_until(stage)
    sent = {number: holder.send(stage) for number, holder in keyless.holders.items()}
    holder, data = keyless.holders[0], sent[CHEAT][0]
    for position in (*range(0, 60, 7), len(data) // 2, -40, -1):
        with pytest.raises(WireError):
            holder.accept(stage, [altered(data, position)])
    for wrong in (data[:-1], data + b"0", b"", sent[CHEAT][11]):
        with pytest.raises(WireError):
            holder.accept(stage, [wrong])
    holder.accept(stage, [data])
    empty = bytes(len(data) - size(0, 0))
    session = holder._session
    for again in (data, keyless.rewritten(stage, CHEAT, 0, empty)):
        with pytest.raises(RefusedError, match=f"unexpected .* from {CHEAT}"):
            holder.accept(stage, [again])
    stranger = write(keyless.parties[1], 0, stage, 0, empty, key_id=session)
    with pytest.raises(RefusedError, match=r"unexpected .* from 1"):
        holder.accept(stage, [stranger])
    for other in STAGES:
        if other is not stage:
            with pytest.raises(ProtocolError):
                holder.accept(other, [data])


@pytest.mark.parametrize("stage", STAGES[2:])
def test_messages_of_another_generation_are_refused(keyless, stage):
    keyless.exchange_until(stage)
    old = {number: holder.send(stage) for number, holder in keyless.holders.items()}
    keyless.begin()
    keyless.exchange_until(stage)
    keyless.holders[0].send(stage)
    for number in HONEST:
        with pytest.raises(WireError, match="another key"):
            keyless.holders[0].accept(stage, [old[number][0]])


# Seeds


def test_a_seed_is_the_one_that_was_committed_to(keyless):
    # Chosen after the others' seeds are known, it would choose the polynomial.
    keyless.exchange(STAGES[0])
    chosen = os.urandom(32)
    keyless.exchange(
        Kind.SEED,
        from_cheat(lambda n: keyless.rewritten(Kind.SEED, CHEAT, n, chosen)),
    )
    no_key(keyless, Kind.SEED, f"holder {CHEAT} did not commit to its seed")


def test_nobody_can_answer_with_the_seed_of_another(keyless):
    first = {n: holder.send(STAGES[0]) for n, holder in keyless.holders.items()}
    deliver(
        keyless,
        STAGES[0],
        first,
        lambda n: keyless.rewritten(STAGES[0], CHEAT, n, payload(first[3][n])),
    )
    theirs = keyless.holders[3]._seed
    keyless.exchange(
        Kind.SEED,
        from_cheat(lambda n: keyless.rewritten(Kind.SEED, CHEAT, n, theirs)),
    )
    no_key(keyless, Kind.SEED, f"holder {CHEAT} did not commit to its seed")


def test_seeds_of_another_generation_join_nothing(keyless):
    # Replayed with their commitments they are accepted; but the one whose they are
    # knows better, and so does not get the session of the others.
    old = [keyless.exchange(stage) for stage in STAGES[:2]]
    keyless.begin()
    for stage, messages in zip(STAGES[:2], old, strict=True):
        keyless.exchange(stage, from_cheat(lambda n, m=messages: m[CHEAT][n]))
    sent = {n: holder.send(Kind.COMMITMENT) for n, holder in keyless.holders.items()}
    for number in HONEST:
        with pytest.raises(WireError, match="another key"):
            keyless.holders[CHEAT].accept(Kind.COMMITMENT, [sent[number][CHEAT]])
        with pytest.raises(WireError, match="another key"):
            keyless.holders[number].accept(Kind.COMMITMENT, [sent[CHEAT][number]])
    assert keyless.holders[CHEAT]._session != keyless.holders[0]._session


def test_who_shows_different_seeds_to_different_holders_splits_them(keyless):
    # Two seeds, each with its commitment.
    seeds = {number: os.urandom(32) for number in HOLDERS}
    seeds[11] = seeds[0]

    def commitment(receiver):
        holder = keyless.holders[CHEAT]
        holder._seed = seeds[receiver]
        payload = holder._seed_commitment()
        return keyless.rewritten(STAGES[0], CHEAT, receiver, payload, key_id=NO_KEY)

    keyless.exchange(STAGES[0], from_cheat(commitment))
    keyless.exchange(
        Kind.SEED,
        from_cheat(lambda n: keyless.rewritten(Kind.SEED, CHEAT, n, seeds[n])),
    )
    sent = {n: keyless.holders[n].send(Kind.COMMITMENT) for n in HONEST}
    keyless.holders[0].accept(Kind.COMMITMENT, [sent[11][0]])
    for number in (3, 12):
        with pytest.raises(WireError, match="another key"):
            keyless.holders[0].accept(Kind.COMMITMENT, [sent[number][0]])
    with pytest.raises(RefusedError, match="have not sent a commitment"):
        keyless.holders[0].send(Kind.CONTRIBUTION)


def test_the_first_holder_does_not_choose_the_common_polynomial(keyless):
    # With a = q / 8, or any other that it chose, it would read every share off the
    # contributions. Its own polynomial is not that of the session: no message of its
    # own choice can carry one.
    lead = HOLDERS[0]
    keyless.exchange_until(Kind.COMMITMENT)
    keyless.exchange(Kind.COMMITMENT)
    chosen = np.full_like(keyless.holders[lead]._common, 8)
    keyless.holders[lead]._common = chosen
    keyless.exchange(Kind.CONTRIBUTION)
    dealt = {n: holder.send(Kind.SHARE) for n, holder in keyless.holders.items()}
    for number in HOLDERS[1:]:
        assert not (keyless.holders[number]._common == chosen).any()
        with pytest.raises(WireError, match="another key"):
            keyless.holders[number].accept(Kind.SHARE, [dealt[lead][number]])


# Contributions


@pytest.mark.parametrize("position", [62, 1000, -33])
def test_an_altered_contribution_makes_no_key(keyless, position):
    keyless.exchange_until(Kind.CONTRIBUTION)
    keyless.exchange(
        Kind.CONTRIBUTION,
        lambda sender, receiver, data: (
            data
            if sender != CHEAT
            else keyless.rewritten(
                Kind.CONTRIBUTION, CHEAT, receiver, payload(altered(data, position))
            )
        ),
    )
    match = f"holder {CHEAT} did not commit to its contribution"
    no_key(keyless, Kind.CONTRIBUTION, match)


def test_who_chooses_a_contribution_in_view_of_the_others_is_found_out(keyless):
    # It would cancel the others, and make the joint key one of its own.
    keyless.exchange_until(Kind.CONTRIBUTION)
    ring, moduli = keyless.ring, keyless.ring.column
    parts = {n: holder._contribution for n, holder in keyless.holders.items()}
    others = ring.reduce(sum(parts[number] for number in HONEST))
    chosen = ring.pack(ring.reduce(parts[CHEAT] + moduli - others)[None])
    keyless.exchange(
        Kind.CONTRIBUTION,
        from_cheat(lambda n: keyless.rewritten(Kind.CONTRIBUTION, CHEAT, n, chosen)),
    )
    match = f"holder {CHEAT} did not commit to its contribution"
    no_key(keyless, Kind.CONTRIBUTION, match)


def test_nobody_can_commit_to_the_contribution_of_another(keyless):
    stage = Kind.COMMITMENT
    keyless.exchange_until(stage)
    first = {n: holder.send(stage) for n, holder in keyless.holders.items()}
    deliver(
        keyless,
        stage,
        first,
        lambda n: keyless.rewritten(stage, CHEAT, n, payload(first[3][n])),
    )
    theirs = keyless.holders[3]._packed_contribution()
    keyless.exchange(
        Kind.CONTRIBUTION,
        from_cheat(lambda n: keyless.rewritten(Kind.CONTRIBUTION, CHEAT, n, theirs)),
    )
    match = f"holder {CHEAT} did not commit to its contribution"
    no_key(keyless, Kind.CONTRIBUTION, match)


def test_what_was_committed_to_must_be_a_polynomial(keyless):
    beyond = b"\xff" * keyless.ring.polynomial_bytes
    keyless.exchange_until(Kind.COMMITMENT)

    def commitment(receiver):
        digest = keyless.holders[CHEAT]._contribution_hash(CHEAT, beyond)
        return keyless.rewritten(Kind.COMMITMENT, CHEAT, receiver, digest)

    keyless.exchange(Kind.COMMITMENT, from_cheat(commitment))
    keyless.exchange(
        Kind.CONTRIBUTION,
        from_cheat(lambda n: keyless.rewritten(Kind.CONTRIBUTION, CHEAT, n, beyond)),
    )
    no_key(keyless, Kind.CONTRIBUTION, "not below the modulus")


# Shares


@pytest.mark.parametrize("whose", ["nobody's", "another channel's"])
def test_a_share_that_was_not_sealed_for_its_receiver_makes_no_key(keyless, whose):
    sent, party = keyless.deal(), keyless.parties[CHEAT]
    sealed = party.channel_to(11).seal(bytes(keyless.ring.polynomial_bytes))
    if whose == "nobody's":
        sealed = os.urandom(len(sealed))
    deliver(
        keyless,
        Kind.SHARE,
        sent,
        lambda n: keyless.rewritten(Kind.SHARE, CHEAT, n, sealed),
    )
    with pytest.raises(WireError, match="altered or misdirected"):
        keyless.holders[0].finish()
