"""Generation of a joint key that exists in shares only.

Every holder (a client, or one of a committee of clients) has a secret key of its own.
The joint secret key is their sum, which nobody ever computes (Asharov et al.,
"Multiparty Computation with Low Communication, Computation and Interaction via
Threshold FHE", EUROCRYPT 2012; Mouchet et al., "Multiparty Homomorphic Encryption from
Ring-Learning-with-Errors", PETS 2021). Each holder deals Shamir shares of its key to
the others, so that any T of them can stand in for a missing one.

In each stage every holder sends a message to every holder:

    seed commitment    hash of a fresh seed
    seed               from all seeds follow the session and the common polynomial
    commitment         hash of the contribution, so that nobody chooses a contribution
    contribution       in view of the others'
    share              of the secret key, sealed
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.math.expansion import uniform_polynomial
from fedjax_private.encryption.math.polynomials import Factor
from fedjax_private.encryption.math.rings import Residues
from fedjax_private.encryption.math.shamir import share
from fedjax_private.encryption.messages.channels import SEAL_BYTES, Party
from fedjax_private.encryption.messages.material import Material, packed_request
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

# The stages of a key generation, in order, by the messages that holders exchange.
STAGES = (
    Kind.SEED_COMMITMENT,
    Kind.SEED,
    Kind.COMMITMENT,
    Kind.CONTRIBUTION,
    Kind.SHARE,
)

_HASH_BYTES = _SEED_BYTES = 32


class KeyGeneration:
    """One holder's part in the generation of a joint key; see `make_joint_key`.

    `KeyHolder`, which uses the key, states the arguments and errors.

    Formal guarantees, against any number of holders that depart from the protocol and
    whoever controls the network, as long as one holder follows it, with SHA-256 and
    ChaCha20 as random oracles: nobody chooses the common polynomial or the session.
    Each holder commits to a seed before it sees any other, so the hash of all seeds is
    unpredictable until the last seed is shown. Whoever shows it can only end the
    generation, which is visible. Every later message names the session, or the key that
    comes of it, and is authenticated by its sender. So messages of another generation
    are refused. Holders who were told different seeds, commitments or contributions
    have different sessions or keys, and none of them accepts the others' messages. No
    holder can choose its contribution in view of the others' contributions.
    """

    def __init__(
        self, party: Party, request: SumRequest, holders: Sequence[int], quorum: int
    ) -> None:
        check_quorum(quorum, len(holders))
        if request.holders != len(holders) or len(set(holders)) != len(holders):
            raise ValueError(
                f"{request.holders} holders were declared, but {list(holders)} named."
            )
        if party.number not in holders:
            raise ValueError(f"{party.number} is not among the holders.")
        self._party, self._holders, self._quorum = party, tuple(holders), quorum
        self._scheme = HomomorphicScheme(derive(request))
        self._seed = os.urandom(_SEED_BYTES)
        # Stage -> holder -> what it has sent; only stages in which this holder has.
        self._received: dict[Kind, dict[int, bytes]] = {}
        # The session; from the stage of shares on, the key's id.
        self._session = NO_KEY
        self._common: Residues | None = None
        self._contribution: Residues | None = None
        self._secret_key: Factor | None = None
        self._joint: Material | None = None
        self._shares: dict[int, Residues] = {}
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
        polynomial = self._scheme.ring.polynomial_bytes
        payload = {
            Kind.SEED_COMMITMENT: _HASH_BYTES,
            Kind.SEED: _SEED_BYTES,
            Kind.COMMITMENT: _HASH_BYTES,
            Kind.CONTRIBUTION: polynomial,
            Kind.SHARE: polynomial + SEAL_BYTES,
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
        """Ends the generation: this holder has the shares of all holders' keys.

        Raises:
            WireError: if a share was altered or is malformed.
            RefusedError: if a holder has sent no share, or the key was finished before.
        """
        self._check_turn(None)
        ring = self._scheme.ring
        for holder, sealed in self._received[Kind.SHARE].items():
            opened = self._party.channel_from(holder).open(sealed)
            self._shares[holder] = ring.unpack(opened)[0]
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
        return _hash(b"seed", self._party.number, self._seed)

    def _commitment(self) -> bytes:
        """Begins the session; returns the hash of this holder's contribution."""
        commitments = self._received[Kind.SEED_COMMITMENT]
        seeds = self._received[Kind.SEED]
        for holder in self._holders:
            if _hash(b"seed", holder, seeds[holder]) != commitments[holder]:
                raise WireError(f"holder {holder} did not commit to its seed.")
        transcript = (
            packed_request(self._scheme.parameters.request),
            *(
                number.to_bytes(8, "little")
                for number in (self._quorum, *self._holders)
            ),
            *(seeds[holder] for holder in self._holders),
        )
        self._session = _tagged(b"session", *transcript)[:KEY_ID_BYTES]
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
        total = np.zeros_like(self._common)
        for holder in self._holders:
            packed = contributions[holder]
            committed = self._received[Kind.COMMITMENT][holder]
            if self._contribution_hash(holder, packed) != committed:
                raise WireError(f"holder {holder} did not commit to its contribution.")
            total = ring.add(total, ring.unpack(packed)[0])
        public = ring.pack(np.stack([total, self._common]))
        self._joint = Material.of_key(self._scheme.parameters, public)
        self._session = self._joint.key_id
        secret, party = self._secret_key.residues, self._party
        shares = share(secret, ring, self._quorum, len(self._holders))
        return {
            holder: party.channel_to(holder).seal(ring.pack(part[None]))
            for holder, part in zip(self._holders, shares, strict=True)
        }


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
            f"the recovery threshold must be more than half of the {holders} holders, "
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


def _name(stage: Kind) -> str:
    return stage.name.lower().replace("_", " ")
