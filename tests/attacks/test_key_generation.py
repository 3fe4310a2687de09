"""Holders and strangers who depart from the protocol while a joint key is made."""

import dataclasses
import math
import os

import numpy as np
import pytest

from fedjax_private.encryption.errors import ProtocolError, RefusedError, WireError
from fedjax_private.encryption.math.plaintexts import centred
from fedjax_private.encryption.math.polynomials import interpolate, multiply
from fedjax_private.encryption.messages.wire import (
    NO_KEY,
    TAG_BYTES,
    Kind,
    size,
    write,
)
from fedjax_private.encryption.parties.joint_key import STAGES
from tests.encryption.federation import CKKS, HOLDERS, QUORUM, Federation, request_of
from tests.encryption.fixtures import altered
from tests.encryption.transforms import at_zero

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
    """Holder or stranger: alters, repeats or redirects a message of a key generation ->
    refused."""
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
    """Holder: replays its messages of a former key generation -> refused."""
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
    """Holder: chooses its seed in view of the others', to choose the common polynomial
    -> refused by name, and no key is made."""
    # Chosen after the others' seeds are known, it would choose the polynomial.
    keyless.exchange(STAGES[0])
    chosen = os.urandom(32)
    keyless.exchange(
        Kind.SEED,
        from_cheat(lambda n: keyless.rewritten(Kind.SEED, CHEAT, n, chosen)),
    )
    no_key(keyless, Kind.SEED, f"holder {CHEAT} did not commit to its seed")


def test_nobody_can_answer_with_the_seed_of_another(keyless):
    """Holder: copies another's commitment and seed -> refused by name."""
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
    """Stranger: replays a holder's seed and its commitment of a former generation ->
    that holder gets another session, and no key is made."""
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
    """Holder: shows different seeds to different holders -> they get different
    sessions, and no key is made."""
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
    """Holder, the first one: takes a common polynomial of its choice, to read every
    share off the contributions -> refused by all others."""
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
    """Holder: contributes something other than it committed to -> refused by name."""
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
    """Holder: cancels the others' contributions, to make the joint key its own ->
    refused by name."""
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


def test_who_shows_different_contributions_of_one_sum_splits_the_holders(keyless):
    """Holders, two of them: show different contributions, with one sum, to different
    holders -> they get different sessions, and no key is made."""
    cheats, ring = (CHEAT, 11), keyless.ring
    keyless.exchange_until(Kind.COMMITMENT)
    one = np.ones((ring.limbs, ring.dimension), np.uint64)

    def shown(cheat, receiver):
        shift = {CHEAT: one, 11: ring.column - one}[cheat] * np.uint64(receiver == 12)
        contribution = keyless.holders[cheat]._contribution
        return ring.pack(ring.add(contribution, shift)[None])

    def committed(cheat, receiver):
        data = shown(cheat, receiver)
        return keyless.holders[cheat]._contribution_hash(cheat, data)

    for stage, payload_of in (
        (Kind.COMMITMENT, committed),
        (Kind.CONTRIBUTION, shown),
    ):
        keyless.exchange(
            stage,
            lambda sender, receiver, data, stage=stage, payload_of=payload_of: (
                keyless.rewritten(stage, sender, receiver, payload_of(sender, receiver))
                if sender in cheats and receiver not in cheats
                else data
            ),
        )
    sent = {n: keyless.holders[n].send(Kind.SHARE) for n in (0, 3, 12)}
    with pytest.raises(WireError, match="another key"):
        keyless.holders[0].accept(Kind.SHARE, [sent[12][0]])
    keyless.holders[0].accept(Kind.SHARE, [sent[3][0]])


def test_nobody_can_commit_to_the_contribution_of_another(keyless):
    """Holder: copies another's commitment and contribution -> refused by name."""
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
    """Holder: commits to numbers beyond the modulus -> refused."""
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
    match = f"holder {CHEAT} sent no polynomials: .* not below the modulus"
    no_key(keyless, Kind.CONTRIBUTION, match)


# Shares


@pytest.mark.parametrize("whose", ["nobody's", "another channel's"])
def test_a_share_that_was_not_sealed_for_its_receiver_makes_no_key(keyless, whose):
    """Holder: sends a share that is not sealed for its receiver -> refused, and no key
    is made."""
    sent, party = keyless.deal(), keyless.parties[CHEAT]
    sealed = party.channel_to(11).seal(bytes(keyless.dealing.dealt.polynomial_bytes))
    if whose == "nobody's":
        sealed = os.urandom(len(sealed))
    deliver(
        keyless,
        Kind.SHARE,
        sent,
        lambda n: keyless.rewritten(Kind.SHARE, CHEAT, n, sealed),
    )
    with pytest.raises(WireError, match=f"holder {CHEAT} dealt no share: .* altered"):
        keyless.holders[0].send(Kind.CHALLENGE)


# Dealers


def not_made(federation, match, numbers=HONEST):
    """None of those holders ends the generation with a key, and all say why."""
    for number in numbers:
        with pytest.raises(ProtocolError, match=match):
            federation.holders[number].finish()
        with pytest.raises(RefusedError, match="not been made"):
            federation.holders[number].vouch([1])


def exchange_rest(federation):
    federation.exchange(Kind.CHALLENGE)
    federation.exchange(Kind.ANSWERS)


def shares_of_cheat(federation, sent, change):
    """The messages with shares of the cheat's key, altered.

    Args:
        federation: when shares are on their way.
        sent: the cheat's messages, by receiver.
        change: (receiver, share of the key, shares of the masks) -> what it gets.
    """
    dealing, party = federation.dealing, federation.parties[CHEAT]

    def changed(receiver):
        channel = party.channel_to(receiver)
        share = dealing.read(channel.open(payload(sent[receiver])))
        both = np.concatenate(change(receiver, *share), axis=1)
        sealed = channel.seal(dealing.dealt.pack(both[None]))
        return federation.rewritten(Kind.SHARE, CHEAT, receiver, sealed)

    return {receiver: changed(receiver) for receiver in HOLDERS}


def dealt_by_cheat(federation, change):
    """Carries all stages, with shares of the cheat's key that `change` alters."""
    sent = federation.deal()
    sent[CHEAT] = shares_of_cheat(federation, sent[CHEAT], change)
    deliver(federation, Kind.SHARE, sent, sent[CHEAT].get)
    exchange_rest(federation)


def test_a_dealer_of_another_key_is_named(keyless):
    # Whoever stood in for it would spoil the sum, and nobody would know why.
    keyless.exchange_until(Kind.SHARE)
    cheat = keyless.holders[CHEAT]
    _, cheat._secret_key = keyless.scheme.generate_share(cheat._common)
    keyless.exchange(Kind.SHARE)
    exchange_rest(keyless)
    match = f"holder {CHEAT} dealt are not of the key .*: it dealt wrong ones; no key"
    not_made(keyless, match)


def test_a_larger_error_within_the_bound_of_dealing_outgrows_the_noise(keyless):
    """Holder: contributes a larger error than the protocol says, as small as dealing
    lets pass -> a key whose sums have a larger error than their noise covers; it is
    one of the uploads' random polynomials, and depends on no other holder's key."""
    large, cheat, scheme = 2**27, keyless.holders[CHEAT], keyless.scheme
    honest = cheat._scheme.generate_share

    def generate_share(common):
        contribution, key = honest(common)  # a constant is the same at every point
        return keyless.ring.add(contribution, np.full_like(common, large)), key

    cheat._scheme.generate_share = generate_share
    keyless.with_key()
    public = scheme.public_key(keyless.ring.unpack(keyless.material.public_key))
    nothing = np.zeros((1, keyless.ring.limbs, keyless.ring.dimension), np.uint64)
    first, second = scheme.encrypt(public, nothing)[0]
    for holder in keyless.holders.values():
        part = multiply(second[None], holder._secret_key, keyless.ring)[0]
        first = keyless.ring.add(first, part)
    error = centred(interpolate(first[None], keyless.ring), keyless.ring)[0]
    random = error / large  # v, up to a little
    assert set(np.rint(random)) == {-1, 0, 1}
    assert abs(random - np.rint(random)).max() < 0.01
    queries = 2 * keyless.request.settings.query_budget
    distance = math.sqrt(queries) * np.linalg.norm(error)
    assert distance / (2 * keyless.parameters.flooding_std) > 0.5  # not 2^-15.5


def test_a_dealer_of_the_shares_of_another_session_is_named(keyless):
    old = keyless.deal()
    shares = {n: keyless.opened(CHEAT, n, data) for n, data in old[CHEAT].items()}
    keyless.begin()
    dealt_by_cheat(keyless, lambda n, key, masks: (shares[n], masks))
    not_made(keyless, f"holder {CHEAT} dealt are not of the key")


def test_a_dealer_of_one_wrong_share_is_named(keyless):
    def one_number_off(receiver, key, masks):
        key[0, 17] ^= np.uint64(receiver == 0)
        return key, masks

    dealt_by_cheat(keyless, one_number_off)
    match = f"holder {CHEAT} dealt do not fit together: it dealt wrong ones, or "
    others = "2 others who hold them did not answer truthfully; no key"
    not_made(keyless, f"{match}holder 0, or {others}", (3, 11, 12))
    not_made(keyless, f"{match}{others}", (0,))  # which knows what it answered


def test_a_dealer_of_wrong_shares_of_masks_is_named(keyless):
    def off(receiver, key, masks):
        masks[0, 3] ^= np.uint64(receiver == 12)
        return key, masks

    dealt_by_cheat(keyless, off)
    not_made(keyless, f"holder {CHEAT} dealt do not fit together", (3, 0, 11))


def test_a_dealer_of_twice_its_key_is_named(keyless):
    column = keyless.ring.column
    dealt_by_cheat(
        keyless, lambda receiver, key, masks: (key * np.uint64(2) % column, masks)
    )
    not_made(keyless, f"holder {CHEAT} dealt are not of the key")


def test_a_dealer_whose_shares_need_more_holders_is_named(keyless):
    # T holders that stand in for it would get nothing.
    keyless.exchange_until(Kind.SHARE)
    cheat = keyless.holders[CHEAT]
    honest = cheat._dealing
    cheat._dealing = dataclasses.replace(honest, quorum=QUORUM + 1)
    sent = {n: holder.send(Kind.SHARE) for n, holder in keyless.holders.items()}
    cheat._dealing = honest
    for receiver, holder in keyless.holders.items():
        holder.accept(Kind.SHARE, [messages[receiver] for messages in sent.values()])
    exchange_rest(keyless)
    match = f"holder {CHEAT} dealt do not fit together: it dealt wrong ones, or some"
    not_made(keyless, match)


def test_shares_beyond_the_modulus_name_their_dealer(keyless):
    sent = keyless.deal()
    data = b"\xff" * keyless.dealing.dealt.polynomial_bytes
    party = keyless.parties[CHEAT]
    deliver(
        keyless,
        Kind.SHARE,
        sent,
        lambda n: keyless.rewritten(
            Kind.SHARE, CHEAT, n, party.channel_to(n).seal(data)
        ),
    )
    for number in HONEST:
        with pytest.raises(WireError, match=f"holder {CHEAT} dealt no share"):
            keyless.holders[number].send(Kind.CHALLENGE)


# Receivers


def test_a_liar_in_the_check_is_named_beside_the_dealer(keyless):
    for stage in STAGES[:-1]:
        keyless.exchange(stage)
    scalars = keyless.dealing.scalars
    dealer = HOLDERS.index(0)

    def lie(sender, receiver, data):
        if sender != CHEAT or receiver == CHEAT:
            return data
        numbers = scalars.unpack(payload(data))
        numbers[dealer, 0, 5] ^= np.uint64(1)
        return keyless.rewritten(Kind.ANSWERS, CHEAT, receiver, scalars.pack(numbers))

    keyless.exchange(Kind.ANSWERS, lie)
    others = "2 others who hold them did not answer truthfully; no key"
    lied = f"holder {CHEAT}, or {others}"
    match = f"holder 0 dealt do not fit together: it dealt wrong ones, or {lied}"
    not_made(keyless, match, (3, 11, 12))
    # The dealer knows that its shares were right.
    not_made(keyless, f"holder 0 dealt do not fit together: {lied}", (0,))


def test_answers_beyond_the_modulus_make_no_key(keyless):
    for stage in STAGES[:-1]:
        keyless.exchange(stage)
    data = b"\xff" * keyless.dealing.answer_bytes
    keyless.exchange(
        Kind.ANSWERS,
        from_cheat(lambda n: keyless.rewritten(Kind.ANSWERS, CHEAT, n, data)),
    )
    match = f"holder {CHEAT} sent no polynomials: .* not below the modulus"
    no_key(keyless, Kind.ANSWERS, match)


def test_the_challenge_is_the_one_that_was_committed_to(keyless):
    # Chosen last, it would be one that wrong shares pass.
    keyless.exchange_until(Kind.CHALLENGE)
    chosen = os.urandom(32)
    keyless.exchange(
        Kind.CHALLENGE,
        from_cheat(lambda n: keyless.rewritten(Kind.CHALLENGE, CHEAT, n, chosen)),
    )
    no_key(keyless, Kind.CHALLENGE, f"holder {CHEAT} did not commit to its challenge")


def test_different_challenges_for_different_holders_blame_nobody(keyless):
    # With two challenges, honest answers would disagree about honest dealers.
    holder = keyless.holders[CHEAT]

    def commitment(receiver):
        holder._challenge_seed = bytes([receiver % 2]) * 32
        data = holder._seed_commitment()
        return keyless.rewritten(STAGES[0], CHEAT, receiver, data, key_id=NO_KEY)

    keyless.exchange(STAGES[0], from_cheat(commitment))
    keyless.exchange(Kind.SEED)
    sent = {n: keyless.holders[n].send(Kind.COMMITMENT) for n in HONEST}
    with pytest.raises(WireError, match="another key"):
        keyless.holders[0].accept(Kind.COMMITMENT, [sent[3][0]])
    keyless.holders[0].accept(Kind.COMMITMENT, [sent[12][0]])


def test_of_two_holders_one_cannot_deal_wrong_shares():
    federation = Federation(request_of(CKKS, holders=2), (0, CHEAT), 2)
    federation.exchange_until(Kind.SHARE)
    cheat = federation.holders[CHEAT]
    _, cheat._secret_key = federation.scheme.generate_share(cheat._common)
    federation.exchange(Kind.SHARE)
    exchange_rest(federation)
    # With as many holders as it takes, a false answer looks like a wrong share.
    match = f"holder {CHEAT} dealt are not .*: it dealt wrong ones, or some who hold"
    not_made(federation, match, (0,))


def answers_that_fit(federation, dealer, fitted):
    """Carries the answers, of which the cheat's and 11's on a dealer's shares lie on a
    polynomial through those of `fitted`, holders that follow the protocol."""
    colluding, honest = (CHEAT, 11), (3, 0, 12)
    scalars, place = federation.dealing.scalars, HOLDERS.index
    answers = {n: h.send(Kind.ANSWERS) for n, h in federation.holders.items()}
    seen = {n: scalars.unpack(payload(answers[n][CHEAT])) for n in HOLDERS}
    points = {n: seen[n][place(dealer)] for n in fitted}
    for number in colluding:
        if len(points) < QUORUM:
            seen[number][place(dealer), 0, 5] ^= np.uint64(1)
            points[number] = seen[number][place(dealer)]
            continue
        near = {place(n) - place(number): values for n, values in points.items()}
        for limb, q in enumerate(scalars.moduli):
            terms = (
                int(at_zero(near, point, q)) * values[limb].astype(object)
                for point, values in near.items()
            )
            seen[number][place(dealer), limb] = sum(terms) % q
    forged = {n: scalars.pack(seen[n]) for n in colluding}
    for receiver in honest:
        messages = [answers[number][receiver] for number in honest] + [
            federation.rewritten(Kind.ANSWERS, number, receiver, data)
            for number, data in forged.items()
        ]
        federation.holders[receiver].accept(Kind.ANSWERS, messages)


@pytest.mark.parametrize("beside", [0, 12])
def test_two_liars_do_not_frame_an_honest_dealer(keyless, beside):
    """Holders, n - T of them: answer falsely about an honest dealer's shares, so that
    only another honest answer does not fit -> no key is made, and the sentence says
    that n - T others may have lied."""
    # Their answers fit those of all honest holders but one: the dealer, or another.
    for stage in STAGES[:-1]:
        keyless.exchange(stage)
    answers_that_fit(keyless, 0, {3, 0, 12} - {beside})
    match = "holder 0 dealt do not fit together: it dealt wrong ones, or .*2 others"
    not_made(keyless, match, (3, 12))


def test_answers_that_are_made_to_fit_do_not_hide_a_wrong_share(keyless):
    # Dealer and one receiver wait for the others' answers, and put theirs on the
    # polynomial through them; its value at 0 is then beyond their control.
    def one_number_off(receiver, key, masks):
        key[0, 17] ^= np.uint64(receiver == 0)
        return key, masks

    sent = keyless.deal()
    sent[CHEAT] = shares_of_cheat(keyless, sent[CHEAT], one_number_off)
    deliver(keyless, Kind.SHARE, sent, sent[CHEAT].get)
    keyless.exchange(Kind.CHALLENGE)
    answers_that_fit(keyless, CHEAT, (3, 0, 12))
    match = f"holder {CHEAT} dealt are not of the key .*: it dealt wrong ones; no key"
    not_made(keyless, match, (3, 0, 12))
