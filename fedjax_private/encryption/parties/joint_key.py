"""Generation of a joint key that exists in shares only.

Every holder (a client, or one of a committee of clients) has a secret key of its own.
The joint secret key is their sum, which nobody ever computes (Asharov et al.,
"Multiparty Computation with Low Communication, Computation and Interaction via
Threshold FHE", EUROCRYPT 2012; Mouchet et al., "Multiparty Homomorphic Encryption from
Ring-Learning-with-Errors", PETS 2021). Each holder deals Shamir shares of its key to
the others, so that any T of them can stand in for a missing one.

    lead -- common polynomial --> every holder
    holder -- commitment --> every holder         so that no contribution can be chosen
    holder -- contribution --> every holder       in view of the others'
    holder -- share, sealed --> every holder
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.math.polynomials import Factor
from fedjax_private.encryption.math.rings import Residues
from fedjax_private.encryption.math.shamir import share
from fedjax_private.encryption.messages.channels import SEAL_BYTES, Party
from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.messages.wire import Kind, Messages, read, write
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.parameters import SumRequest, derive

_HASH_BYTES = 32


class KeyGeneration:
    """One holder's part in the generation of a joint key; see `make_joint_key`.

    `KeyHolder`, which uses the key, states the guarantees, arguments and errors.
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
        self._common: Residues | None = None
        self._contribution: Residues | None = None
        self._secret_key: Factor | None = None
        self._commitments: dict[int, bytes] = {}
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

    def begin(self) -> Messages:
        """Returns the lead's messages with the common polynomial, for every holder.

        Raises:
            RefusedError: if another holder leads, or the key was begun before.
        """
        if self._party.number != self._holders[0] or self._common is not None:
            raise RefusedError("only the first holder begins a key, and only once.")
        public, self._secret_key = self._scheme.generate_keys()
        self._contribution, self._common = public[0], public[1]
        return self._to_all(Kind.COMMON, self._scheme.ring.pack(public[1:]))

    def commit(self, data: bytes) -> Messages:
        """Makes this holder's secret key; returns its commitment, for every holder.

        Args:
            data: the lead's message.

        Raises:
            WireError: if the message holds no common polynomial.
            RefusedError: if the message is not the lead's, or this holder has committed
                before.
        """
        message = read(
            self._party, data, Kind.COMMON, payload=self._scheme.ring.polynomial_bytes
        )
        number = self._party.number
        if message.sender != self._holders[0] or number in self._commitments:
            raise RefusedError(
                "the common polynomial must come from the first holder, once."
            )
        common = self._scheme.ring.unpack(message.payload)[0]
        if self._common is None:
            self._common = common
            self._contribution, self._secret_key = self._scheme.generate_share(common)
        commitment = _hash(self._packed_contribution())
        self._commitments[number] = commitment
        return self._to_all(Kind.COMMITMENT, commitment)

    def accept_commitment(self, data: bytes) -> None:
        """Accepts the commitment of another holder.

        Raises:
            WireError: if the message is no commitment.
            RefusedError: if it is not from a holder, or differs from an earlier one.
        """
        message = read(self._party, data, Kind.COMMITMENT, payload=_HASH_BYTES)
        if message.sender not in self._holders:
            raise RefusedError(f"{message.sender} is not among the holders.")
        digest = bytes(message.payload)
        if self._commitments.setdefault(message.sender, digest) != digest:
            raise RefusedError(f"{message.sender} has committed to something else.")

    def reveal(self) -> bytes:
        """Returns this holder's contribution to the public key, for every holder.

        Raises:
            RefusedError: if a holder has not committed yet.
        """
        missing = set(self._holders) - set(self._commitments)
        if missing:
            raise RefusedError(f"holders {sorted(missing)} have not committed yet.")
        return self._packed_contribution()

    def finish(self, contributions: Mapping[int, bytes]) -> Messages:
        """Makes the joint public key; returns shares of this holder's secret key.

        Args:
            contributions: from every holder. They need no tag, because the commitments
                had one.

        Returns:
            A message with a sealed share, for every holder.

        Raises:
            WireError: if a contribution is missing, malformed, or not what its holder
                committed to.
            RefusedError: if the key was finished before, or not begun.
        """
        ring = self._scheme.ring
        if self._material is not None or self._common is None:
            raise RefusedError("a joint key is finished once, after it was begun.")
        total = np.zeros_like(self._common)
        for holder in self._holders:
            data = contributions.get(holder, b"")
            if _hash(data) != self._commitments.get(holder):
                raise WireError(f"holder {holder} did not commit to its contribution.")
            if len(data) != ring.polynomial_bytes:
                raise WireError(f"holder {holder} contributes no polynomial.")
            total = ring.add(total, ring.unpack(data)[0])
        public = ring.pack(np.stack([total, self._common]))
        self._material = Material.of_key(self._scheme.parameters, public)
        assert self._secret_key is not None  # made together with the contribution
        secret, party = self._secret_key.residues, self._party
        shares = share(secret, ring, self._quorum, len(self._holders))
        messages, key_id = {}, self._material.key_id
        for holder, part in zip(self._holders, shares, strict=True):
            sealed = party.channel_to(holder).seal(ring.pack(part[None]))
            messages[holder] = write(
                party, holder, Kind.SHARE, 0, sealed, key_id=key_id
            )
        return messages

    def accept_share(self, data: bytes) -> None:
        """Accepts a share of another holder's key.

        Raises:
            WireError: if the message is no share, altered, or under another key.
            RefusedError: if it is not from a holder, or a second one.
        """
        ring, key_id = self._scheme.ring, self.material.key_id
        sealed_bytes = ring.polynomial_bytes + SEAL_BYTES
        message = read(
            self._party, data, Kind.SHARE, payload=sealed_bytes, key_id=key_id
        )
        if message.sender not in self._holders or message.sender in self._shares:
            raise RefusedError(f"an unexpected share from {message.sender}.")
        channel = self._party.channel_from(message.sender)
        opened = channel.open(bytes(message.payload))
        self._shares[message.sender] = ring.unpack(opened)[0]

    def _packed_contribution(self) -> bytes:
        if self._contribution is None:
            raise RefusedError("there is no contribution yet.")
        return self._scheme.ring.pack(self._contribution[None])

    def _to_all(self, kind: Kind, payload: bytes) -> Messages:
        return {
            holder: write(self._party, holder, kind, 0, payload)
            for holder in self._holders
        }


def make_joint_key(holders: Mapping[int, KeyGeneration]) -> Material:
    """Makes a joint key by passing messages between all holders.

    Args:
        holders: number -> holder, the lead first.

    Returns:
        The public facts about the key, which are the same at every holder.
    """
    everyone = list(holders.values())
    common = everyone[0].begin()
    for number, holder in holders.items():
        for receiver, data in holder.commit(common[number]).items():
            holders[receiver].accept_commitment(data)
    contributions = {number: holder.reveal() for number, holder in holders.items()}
    shares = [holder.finish(contributions) for holder in everyone]
    for messages in shares:
        for receiver, data in messages.items():
            holders[receiver].accept_share(data)
    return everyone[0].material


def check_quorum(quorum: int, holders: int) -> None:
    """Raises ValueError unless T, the quorum, is a majority of the n holders."""
    if not holders // 2 < quorum <= holders:
        raise ValueError(
            f"the recovery threshold must be more than half of the {holders} holders, "
            f"and at most all of them; got {quorum}."
        )


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
