"""Generation of a joint key that exists in shares only.

Every holder (a client, or one of a committee of clients) has a secret key of its own.
The joint secret key is their sum, which nobody ever computes (Asharov et al.,
"Multiparty Computation with Low Communication, Computation and Interaction via
Threshold FHE", EUROCRYPT 2012; Mouchet et al., "Multiparty Homomorphic Encryption from
Ring-Learning-with-Errors", PETS 2021). Each holder deals Shamir shares of its key to
the others, so that any T of them can stand in for a missing one.

In each stage every holder sends a message to every holder:

    seed commitment    hashes of two fresh seeds
    seed               from all seeds follow the session and the common polynomial
    commitment         hash of the contribution, so that nobody chooses a contribution
    contribution       in view of the others'
    share              of the secret key, sealed
    challenge          the second seed: from all of them follow random projections
    answers            projections of all shares, which show who dealt wrong ones
"""

import functools
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.math.expansion import uniform_polynomial
from fedjax_private.encryption.math.polynomials import Factor
from fedjax_private.encryption.math.rings import Residues, Ring
from fedjax_private.encryption.messages.channels import SEAL_BYTES, Party
from fedjax_private.encryption.messages.material import (
    EVERY_ROUND,
    Lifetime,
    Material,
    packed_request,
)
from fedjax_private.encryption.messages.vouchers import vouch
from fedjax_private.encryption.messages.wire import (
    KEY_ID_BYTES,
    NO_KEY,
    Kind,
    Messages,
    read,
    write,
)
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.parameters import SumRequest, derive
from fedjax_private.encryption.parties.dealing import Challenge, Dealing

# The stages of a key generation, in order, by the messages that holders exchange.
STAGES = (
    Kind.SEED_COMMITMENT,
    Kind.SEED,
    Kind.COMMITMENT,
    Kind.CONTRIBUTION,
    Kind.SHARE,
    Kind.CHALLENGE,
    Kind.ANSWERS,
)

_HASH_BYTES = _SEED_BYTES = 32


class KeyGeneration:
    """One holder's part in the generation of a joint key; see `make_joint_key`.

    `KeyHolder`, which uses the key, states the arguments and errors.

    Formal guarantees, against any number of holders that depart from the protocol and
    whoever controls the network, as long as one holder follows it, with SHA-256 and
    ChaCha20 as random oracles: nobody chooses the common polynomial, the session or the
    challenge. Each holder commits to its seeds before it sees any other, so the hashes
    of all seeds are unpredictable until the last seed is shown. Whoever shows it can
    only end the generation, which is visible. Every later message names the session,
    which from the stage of shares on depends on all contributions, too, and is
    authenticated by its sender. So messages of another generation are refused. Holders
    who were told different seeds, commitments to them or contributions have different
    sessions, and none of them accepts the others' messages. No holder can choose its
    contribution in view of the others'.

    As long as T holders follow the protocol, shares of another key than the one that
    its dealer contributed end the generation, with the dealer's name: `Dealing` says
    which deviations are found, and what the check reveals. With fewer, holders that
    follow it may be blamed.
    """

    def __init__(
        self,
        party: Party,
        request: SumRequest,
        holders: Sequence[int],
        quorum: int,
        lifetime: Lifetime = EVERY_ROUND,
    ) -> None:
        check_quorum(quorum, len(holders))
        if request.holders != len(holders) or len(set(holders)) != len(holders):
            raise ValueError(
                f"{request.holders} holders were declared, but {list(holders)} named."
            )
        if party.number not in holders:
            raise ValueError(f"{party.number} is not among the holders.")
        self._party, self._holders, self._quorum = party, tuple(holders), quorum
        self._lifetime = lifetime
        self._scheme = HomomorphicScheme(derive(request))
        self._dealing = Dealing(
            self._scheme.ring,
            quorum,
            self._holders,
            request.settings.statistical_bits,
        )
        self._seed = os.urandom(_SEED_BYTES)
        self._challenge_seed = os.urandom(_SEED_BYTES)
        # Stage -> holder -> what it has sent; only stages in which this holder has.
        self._received: dict[Kind, dict[int, bytes]] = {}
        # The session; from the stage of shares on, one of all contributions, too.
        self._session = NO_KEY
        self._common: Residues | None = None
        self._contribution: Residues | None = None
        self._secret_key: Factor | None = None
        self._joint: Material | None = None
        self._challenge: Challenge | None = None
        self._shares: dict[int, Residues] = {}
        # Of every holder, in their order: contributions, and shares of masks.
        self._contributions: list[Residues] = []
        self._masks: list[Residues] = []
        self._material: Material | None = None

    @property
    def material(self) -> Material:
        """The public facts about the joint key.

        Raises:
            RefusedError: before the key is made.
        """
        if self._material is None:
            raise RefusedError("the joint key has not been made yet.")
        return self._material

    def vouch(self, receivers: Iterable[int]) -> Messages:
        """Returns vouchers for the key, one for each receiver.

        Raises:
            RefusedError: before the key is made.
        """
        return vouch(self._party, self.material, receivers)

    def send(self, stage: Kind) -> Messages:
        """Returns this holder's messages of a stage, one for every holder.

        Raises:
            WireError: if what a holder sent in the stage before is malformed, or not
                what it had committed to.
            RefusedError: if the stage is not the next, or a holder has not sent its
                message of the stage before.
        """
        payloads = {
            Kind.SEED_COMMITMENT: self._seed_commitment,
            Kind.SEED: lambda: self._seed,
            Kind.COMMITMENT: self._commitment,
            Kind.CONTRIBUTION: self._packed_contribution,
            Kind.SHARE: self._sealed_shares,
            Kind.CHALLENGE: self._open_shares,
            Kind.ANSWERS: self._answers,
        }
        self._check_turn(stage)
        payload = payloads[stage]()
        self._received[stage] = {}
        each = payload if isinstance(payload, dict) else {}
        return {
            holder: write(
                self._party,
                holder,
                stage,
                0,
                each.get(holder, payload),
                key_id=self._session,
            )
            for holder in self._holders
        }

    def accept(self, stage: Kind, messages: Sequence[bytes]) -> None:
        """Accepts messages of other holders, of the stage of this holder's last own.

        Raises:
            WireError: if a message is not one of this stage and session, or altered.
            RefusedError: if this holder has not sent its own message of the stage, or
                if a sender is no holder, or has sent one before.
        """
        payload = {
            Kind.SEED_COMMITMENT: 2 * _HASH_BYTES,
            Kind.SEED: _SEED_BYTES,
            Kind.COMMITMENT: _HASH_BYTES,
            Kind.CONTRIBUTION: self._scheme.ring.polynomial_bytes,
            Kind.SHARE: self._dealing.dealt.polynomial_bytes + SEAL_BYTES,
            Kind.CHALLENGE: _SEED_BYTES,
            Kind.ANSWERS: self._dealing.answer_bytes,
        }[stage]
        if stage not in self._received:
            raise RefusedError("this holder has not sent its own message yet.")
        received = self._received[stage]
        for data in messages:
            message = read(
                self._party, data, stage, payload=payload, key_id=self._session
            )
            if message.sender not in self._holders or message.sender in received:
                raise RefusedError(
                    f"an unexpected {_name(stage)} from {message.sender}."
                )
            received[message.sender] = bytes(message.payload)

    def finish(self) -> None:
        """Ends the generation: all holders have shares of the keys that they use.

        Raises:
            WireError: if a holder's answers are malformed.
            RefusedError: if a holder dealt wrong shares (see `Dealing.check`), or has
                not answered, or if the key was finished before.
        """
        self._check_turn(None)
        answers = self._received[Kind.ANSWERS]
        assert self._challenge is not None  # made for this holder's own answers
        self._dealing.check(
            self._party.number,
            _polynomials(self._holders, answers, self._dealing.scalars),
            self._contributions,
            self._challenge,
        )
        self._contributions, self._masks = [], []
        self._material = self._joint

    def _check_turn(self, stage: Kind | None) -> None:
        """Raises RefusedError unless the stage, None for the end, is the next one."""
        done = len(self._received)
        following = STAGES[done] if done < len(STAGES) else None
        if stage is not following or self._material is not None:
            raise RefusedError(
                "the stages of a key generation follow one another, once each."
            )
        if done:
            last = STAGES[done - 1]
            missing = set(self._holders) - set(self._received[last])
            if missing:
                raise RefusedError(
                    f"holders {sorted(missing)} have not sent a {_name(last)} yet."
                )

    def _seed_commitment(self) -> bytes:
        number = self._party.number
        challenge = _hash(b"challenge seed", number, self._challenge_seed)
        return _hash(b"seed", number, self._seed) + challenge

    def _commitment(self) -> bytes:
        """Begins the session; returns the hash of this holder's contribution."""
        commitments = self._received[Kind.SEED_COMMITMENT]
        seeds = self._received[Kind.SEED]
        for holder in self._holders:
            committed = commitments[holder][:_HASH_BYTES]
            if _hash(b"seed", holder, seeds[holder]) != committed:
                raise WireError(f"holder {holder} did not commit to its seed.")
        transcript = (
            packed_request(self._scheme.parameters.request),
            *(
                number.to_bytes(8, "little")
                for number in (self._quorum, *self._holders)
            ),
            *(commitments[holder] + seeds[holder] for holder in self._holders),
        )
        self._session = _session(b"session", *transcript)
        common = _tagged(b"common polynomial", *transcript)
        self._common = uniform_polynomial(common, self._scheme.ring)
        self._contribution, self._secret_key = self._scheme.generate_share(self._common)
        return self._contribution_hash(self._party.number, self._packed_contribution())

    def _packed_contribution(self) -> bytes:
        assert self._contribution is not None  # made in an earlier stage
        return self._scheme.ring.pack(self._contribution[None])

    def _contribution_hash(self, holder: int, packed: bytes) -> bytes:
        return _hash(b"contribution" + self._session, holder, packed)

    def _sealed_shares(self) -> dict[int, bytes]:
        """Makes the joint public key; returns sealed shares of this holder's key."""
        ring, contributions = self._scheme.ring, self._received[Kind.CONTRIBUTION]
        assert self._common is not None and self._secret_key is not None
        for holder in self._holders:
            packed = contributions[holder]
            committed = self._received[Kind.COMMITMENT][holder]
            if self._contribution_hash(holder, packed) != committed:
                raise WireError(f"holder {holder} did not commit to its contribution.")
        self._contributions = [
            of_one[0] for of_one in _polynomials(self._holders, contributions, ring)
        ]
        total = functools.reduce(ring.add, self._contributions)
        public = ring.pack(np.stack([total, self._common]))
        self._joint = Material.of_key(self._scheme.parameters, public, self._lifetime)
        # Not the key's id: different contributions may have one sum.
        parts = (contributions[holder] for holder in self._holders)
        self._session = _session(
            b"contributions", self._session, self._joint.key_id, *parts
        )
        dealt = self._dealing.deal(self._secret_key.residues)
        return {
            holder: self._party.channel_to(holder).seal(part)
            for holder, part in zip(self._holders, dealt, strict=True)
        }

    def _open_shares(self) -> bytes:
        """Opens the shares of all dealers; returns this holder's challenge seed."""
        for holder in self._holders:
            sealed = self._received[Kind.SHARE].pop(holder)
            try:
                opened = self._party.channel_from(holder).open(sealed)
                self._shares[holder], masks = self._dealing.read(opened)
            except WireError as error:
                raise WireError(f"holder {holder} dealt no share: {error}") from error
            self._masks.append(masks)
        return self._challenge_seed

    def _answers(self) -> bytes:
        commitments = self._received[Kind.SEED_COMMITMENT]
        seeds = self._received[Kind.CHALLENGE]
        for holder in self._holders:
            committed = commitments[holder][_HASH_BYTES:]
            if _hash(b"challenge seed", holder, seeds[holder]) != committed:
                raise WireError(f"holder {holder} did not commit to its challenge.")
        parts = (seeds[holder] for holder in self._holders)
        seed = _tagged(b"challenge", self._session, *parts)
        self._challenge = self._dealing.challenge(seed)
        assert self._common is not None
        shares = np.stack([self._shares[holder] for holder in self._holders])
        masks = np.stack(self._masks)
        return self._dealing.answers(shares, masks, self._common, self._challenge)


def _polynomials(
    holders: Sequence[int], sent: Mapping[int, bytes], ring: Ring
) -> list[Residues]:
    """Returns the polynomials (M, L, N) in what each holder sent, M from each.

    Raises:
        WireError: if a number is not below its prime, with the name of the holder.
    """
    data = b"".join(sent[holder] for holder in holders)
    try:
        # All at once, which takes half as long as one by one.
        return np.split(ring.unpack(data), len(holders))
    except WireError:
        return [_polynomials_of(holder, sent[holder], ring) for holder in holders]


def _polynomials_of(holder: int, data: bytes, ring: Ring) -> Residues:
    """Returns the polynomials in what a holder sent; an error names the holder."""
    try:
        return ring.unpack(data)
    except WireError as error:
        raise WireError(f"holder {holder} sent no polynomials: {error}") from error


def make_joint_key(holders: Mapping[int, KeyGeneration]) -> Material:
    """Makes a joint key by passing messages between all holders.

    Args:
        holders: number -> holder.

    Returns:
        The public facts about the key, which are the same at every holder.
    """
    everyone = holders.values()
    for stage in STAGES:
        sent = [holder.send(stage) for holder in everyone]
        for number, holder in holders.items():
            holder.accept(stage, [messages[number] for messages in sent])
    for holder in everyone:
        holder.finish()
    return next(iter(everyone)).material


def check_quorum(quorum: int, holders: int) -> None:
    """Raises ValueError unless T, the quorum, is a majority of the n holders."""
    if not holders // 2 < quorum <= holders:
        raise ValueError(
            f"recovery_threshold must be more than half of the {holders} holders, "
            f"and at most all of them; got {quorum}."
        )


def _hash(what: bytes, holder: int, data: bytes) -> bytes:
    """Returns what a holder commits itself to some data with."""
    return _tagged(what, holder.to_bytes(8, "little"), data)


def _tagged(what: bytes, *parts: bytes) -> bytes:
    """Returns a hash, 32 bytes, that belongs to one use and to these parts only."""
    digest = hashlib.sha256(b"fedjax_private joint key 1")
    for part in (what, *parts):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _session(what: bytes, *parts: bytes) -> bytes:
    return _tagged(what, *parts)[:KEY_ID_BYTES]


def _name(stage: Kind) -> str:
    return stage.name.lower().replace("_", " ")
