"""A joint key that exists in shares only: its making, its use, and who may go missing.

Every holder (a client, or one of a committee of clients) has a secret key of its own;
the joint secret key is their sum, which nobody ever computes. A sum of uploads is
decrypted by all holders together, each contributing `c1 s_i` with noise (Asharov et
al., "Multiparty Computation with Low Communication, Computation and Interaction via
Threshold FHE", EUROCRYPT 2012; Mouchet et al., "Multiparty Homomorphic Encryption from
Ring-Learning-with-Errors", PETS 2021). Each has also dealt Shamir shares of its key to
the others, so that any T of them can stand in for who has gone; because shares are
linear, they do it with partial decryptions and never with the key.

    lead -- common polynomial --> every holder
    holder -- commitment --> every holder         so that no contribution can be chosen
    holder -- contribution --> every holder       in view of the others'
    holder -- share, sealed --> every holder
    server -- sum --> every holder -- partial decryption --> server
    server -- who has gone --> T holders -- partial decryptions with shares --> server
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from fedjax_private.encryption.math.polynomials import Factor
from fedjax_private.encryption.math.rings import Residues
from fedjax_private.encryption.math.shamir import lagrange_at_zero, scale, share
from fedjax_private.encryption.messages.channels import SEAL_BYTES, Party
from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.messages.wire import (
    GONE,
    SERVER,
    Kind,
    Messages,
    RefusedError,
    WireError,
    read,
    write,
)
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.parameters import SumRequest, derive
from fedjax_private.encryption.parties.roles import DecryptionLog
from fedjax_private.trust import Decryptor, Trust

_HASH_BYTES = 32


class KeyHolder:
    """One holder of a share of the joint key.

    Formal guarantees: as long as one holder keeps its key and fewer than T collude,
    uploads are IND-CPA secure against the server and all other holders together, under
    ring learning with errors at 128 bits as in `roles.KeyAuthority`: the joint key is a
    sum with a term that they do not know, and of whose shares they hold fewer than T,
    which are uniform (Shamir 1979). A holder helps to decrypt one sum a round, of at
    least `trust.uploads` uploads, and stands in for the missing in the same sum only;
    nobody's key is ever put together. Its partial decryptions carry Gaussian noise that
    hides the error that they contain: over the query budget of one key their
    distribution is within 2^-s in Kullback-Leibler divergence of one that depends on
    the released sums alone (Asharov et al. 2012, with the noise sized as in
    `Parameters.flooding_std`; a recovery counts as a second decryption).

    Not guaranteed: holders follow the protocol. A server that departs from it and T - 1
    holders can have up to n - T + 1 others stand in for one holder in one sum, each
    with fresh noise, where the budget counts two. A server that sends different sums to
    different holders gets nothing meaningful, but is not found out; a holder can spoil
    a sum. That contributions are committed to before any is shown keeps holders from
    choosing the joint key, not the lead from choosing a weak common polynomial.

    Args:
        party: the holder, and whom it knows.
        request: what is to be summed; `request.holders` holders.
        trust: who decrypts, and the fewest uploads that a decrypted sum holds.
        holders: all holders' numbers, in an order that all agree on; the first leads.
        quorum: T, how many can stand in for who has gone: more than half.

    Raises:
        ValueError: if no parameters serve the request, or the arguments disagree.
        OpenFHEUnavailable: where OpenFHE cannot be imported.
    """

    def __init__(
        self,
        party: Party,
        request: SumRequest,
        trust: Trust,
        holders: Sequence[int],
        quorum: int,
    ) -> None:
        check_quorum(quorum, len(holders))
        if trust.decryptor is not Decryptor.HOLDERS or not request.scheme.threshold:
            raise ValueError(
                f"holders decrypt {request.scheme.value} for a trust model that names "
                f"{trust.decryptor.value!r}: one of the two is wrong."
            )
        if request.holders != len(holders) or len(set(holders)) != len(holders):
            raise ValueError(
                f"{request.holders} holders were declared, and {list(holders)} named."
            )
        if trust.uploads > request.uploads:
            raise ValueError(
                f"a sum must hold at least {trust.uploads} uploads, but the parameters "
                f"hold at most {request.uploads}."
            )
        if party.number not in holders:
            raise ValueError(f"{party.number} is not among the holders.")
        self._party, self._trust, self._quorum = party, trust, quorum
        self._holders = tuple(holders)
        self._scheme = HomomorphicScheme(derive(request))
        self._common: Residues | None = None
        self._contribution: Residues | None = None
        self._secret_key: Factor | None = None
        self._committed: dict[int, bytes] = {}
        self._shares: dict[int, Residues] = {}
        self._material: Material | None = None
        self._log: DecryptionLog | None = None
        # The sum last decrypted: its round, its second polynomials, and for whom this
        # holder has stood in.
        self._last: tuple[int, Residues] | None = None
        self._replaced: set[int] = set()

    @property
    def used_up(self) -> bool:
        """Whether the key has decrypted all that it may: time for another."""
        return self._log is not None and self._log.used_up

    @property
    def material(self) -> Material:
        """The joint key's public facts.

        Raises:
            RefusedError: before the key is made.
        """
        if self._material is None:
            raise RefusedError("the joint key has not been made yet.")
        return self._material

    def begin(self) -> Messages:
        """The lead's first step: the common polynomial, for every holder.

        Raises:
            RefusedError: if another one leads, or the key was begun before.
        """
        if self._party.number != self._holders[0] or self._common is not None:
            raise RefusedError("the first holder begins a key, once.")
        public, self._secret_key = self._scheme.generate_keys()
        self._contribution, self._common = public[0], public[1]
        return self._to_all(Kind.COMMON, self._scheme.ring.pack(public[1:]))

    def commit(self, data: bytes) -> Messages:
        """Makes this holder's share; returns its commitment, for every holder.

        Args:
            data: the lead's message.

        Raises:
            WireError: if it is no common polynomial.
            RefusedError: if it is not the lead's, or this holder has made its share
                already.
        """
        message = read(
            self._party, data, Kind.COMMON, payload=self._scheme.ring.polynomial_bytes
        )
        own = self._party.number
        if message.sender != self._holders[0] or own in self._committed:
            raise RefusedError("the first holder's polynomial is taken, once.")
        common = self._scheme.ring.unpack(message.payload)[0]
        if self._common is None:
            self._common = common
            made = self._scheme.generate_share(common)
            self._contribution, self._secret_key = made
        contribution = self._own_contribution()
        self._committed[own] = _hash(contribution)
        return self._to_all(Kind.COMMITMENT, _hash(contribution))

    def accept_commitment(self, data: bytes) -> None:
        """Takes another holder's commitment.

        Raises:
            WireError: if it is none.
            RefusedError: if it is not from a holder, or a second one.
        """
        message = read(self._party, data, Kind.COMMITMENT, payload=_HASH_BYTES)
        if message.sender not in self._holders:
            raise RefusedError(f"{message.sender} is not among the holders.")
        digest = bytes(message.payload)
        if self._committed.setdefault(message.sender, digest) != digest:
            raise RefusedError(f"{message.sender} has committed to something else.")

    def _own_contribution(self) -> bytes:
        """This holder's term of the public key; shown only once all have committed."""
        if self._contribution is None:
            raise RefusedError("there is no contribution yet.")
        return self._scheme.ring.pack(self._contribution[None])

    def reveal(self) -> bytes:
        """The contribution, for every holder.

        Raises:
            RefusedError: if a holder has not committed yet.
        """
        missing = set(self._holders) - set(self._committed)
        if missing:
            raise RefusedError(f"holders {sorted(missing)} have not committed yet.")
        return self._own_contribution()

    def finish(self, contributions: Mapping[int, bytes]) -> Messages:
        """Makes the joint public key; returns shares of the own key, for every holder.

        Args:
            contributions: from every holder. They need no tag: their hashes came with
                one.

        Raises:
            WireError: if one is missing, malformed, or not what was committed to.
        """
        ring = self._scheme.ring
        if self._material is not None or self._common is None:
            raise RefusedError("a joint key is finished once, after it was begun.")
        total = np.zeros_like(self._common)
        for holder in self._holders:
            data = contributions.get(holder, b"")
            if _hash(data) != self._committed.get(holder):
                raise WireError(f"holder {holder} did not commit to its contribution.")
            if len(data) != ring.polynomial_bytes:
                raise WireError(f"holder {holder} contributes no polynomial.")
            total = ring.add(total, ring.unpack(data)[0])
        public = ring.pack(np.stack([total, self._common]))
        self._material = Material.of_key(self._scheme.parameters, public)
        self._log = DecryptionLog(self._material, self._trust)
        assert self._secret_key is not None  # made with the contribution
        secret = self._secret_key.residues
        dealt = share(secret, ring.moduli, self._quorum, len(self._holders))
        return {
            holder: write(
                self._party,
                holder,
                Kind.SHARE,
                0,
                self._party.to(holder).seal(ring.pack(dealt[index][None])),
                key_id=self._material.key_id,
            )
            for index, holder in enumerate(self._holders)
        }

    def accept_share(self, data: bytes) -> None:
        """Takes a share of another holder's key.

        Raises:
            WireError: if it is none, altered, or of another key.
            RefusedError: if it is not from a holder, or a second one.
        """
        ring = self._scheme.ring
        sealed = ring.polynomial_bytes + SEAL_BYTES
        key_id = self.material.key_id
        message = read(self._party, data, Kind.SHARE, payload=sealed, key_id=key_id)
        if message.sender not in self._holders or message.sender in self._shares:
            raise RefusedError(f"a share from {message.sender}, unasked for.")
        opened = self._party.by(message.sender).open(bytes(message.payload))
        self._shares[message.sender] = ring.unpack(opened)[0]

    def partial(self, data: bytes) -> bytes:
        """Returns this holder's part of a decryption, for the server.

        Args:
            data: the server's sum: the second polynomials of its ciphertexts.

        Raises:
            WireError: if it is not a sum of the server's under the joint key.
            RefusedError: see `DecryptionLog.enter`.
        """
        parameters, ring = self._scheme.parameters, self._scheme.ring
        material = self.material
        message = read(
            self._party,
            data,
            Kind.SUM,
            payload=parameters.rows * ring.polynomial_bytes,
            most_numbers=parameters.request.uploads,
            key_id=material.key_id,
        )
        if message.sender != SERVER:
            raise WireError(f"a sum from {message.sender}, who is not the server.")
        second = ring.unpack(message.payload)
        # Both made with the material.
        assert self._log is not None and self._secret_key is not None
        self._log.enter(message.round_number, message.numbers)
        self._last, self._replaced = (message.round_number, second), set()
        return self._answer(Kind.PARTIAL, self._secret_key)

    def stand_in(self, data: bytes) -> bytes:
        """Returns partial decryptions, added up, in place of holders that have gone.

        Args:
            data: the server's request: who has gone, and which T holders stand in.

        Raises:
            WireError: if it is not a request of the server's under the joint key.
            RefusedError: if it is about another sum than the last, too few stand in, or
                this holder has stood in for one of them in this sum already.
        """
        material, ring = self.material, self._scheme.ring
        message = read(
            self._party,
            data,
            Kind.RECOVERY_REQUEST,
            payload=GONE.size,
            most_numbers=2 * len(self._holders),
            key_id=material.key_id,
        )
        (count,) = GONE.unpack(message.payload)
        gone, present = message.numbers[:count], message.numbers[count:]
        if message.sender != SERVER:
            raise WireError(f"a request from {message.sender}, not the server.")
        if self._last is None or message.round_number != self._last[0]:
            raise RefusedError(
                f"round {message.round_number} is not the one decrypted last."
            )
        named = set(gone) | set(present)
        if (
            not gone
            or len(present) != self._quorum
            or self._party.number not in present
            or not named <= self._shares.keys()
        ):
            raise RefusedError(
                f"{self._quorum} holders stand in for others, got {list(present)} for "
                f"{list(gone)}."
            )
        if self._replaced:
            raise RefusedError("this holder has stood in for others in this sum.")
        self._replaced.update(gone)
        points = [self._holders.index(holder) + 1 for holder in present]
        mine = present.index(self._party.number)
        factors = [lagrange_at_zero(points, q)[mine] for q in ring.moduli]
        total = np.zeros_like(self._shares[gone[0]])
        for holder in gone:
            total = ring.add(total, self._shares[holder])
        key = self._scheme.secret_key(scale(total, factors, ring.moduli))
        return self._answer(Kind.RECOVERY, key)

    def _answer(self, kind: Kind, key: Factor) -> bytes:
        assert self._last is not None
        round_number, second = self._last
        parts = self._scheme.partial(key, second)
        return write(
            self._party,
            SERVER,
            kind,
            round_number,
            self._scheme.ring.pack(parts),
            key_id=self.material.key_id,
        )

    def _to_all(self, kind: Kind, payload: bytes) -> Messages:
        return {
            holder: write(self._party, holder, kind, 0, payload)
            for holder in self._holders
        }


def make_joint_key(holders: Mapping[int, KeyHolder]) -> Material:
    """Carries the messages of a key generation between holders; all must be present.

    Returns:
        The joint key's public facts, which every holder found alike.
    """
    everyone = list(holders.values())
    common = everyone[0].begin()
    for number, holder in holders.items():
        for receiver, data in holder.commit(common[number]).items():
            holders[receiver].accept_commitment(data)
    contributions = {number: holder.reveal() for number, holder in holders.items()}
    dealt = [holder.finish(contributions) for holder in everyone]
    for messages in dealt:
        for receiver, data in messages.items():
            holders[receiver].accept_share(data)
    return everyone[0].material


def check_quorum(quorum: int, holders: int, colluders: int = 0) -> None:
    """Raises ValueError unless quorum holders are a majority, and not all can collude.

    Args:
        quorum: T.
        holders: n.
        colluders: how many holders may collude; with T of them they could decrypt.
    """
    if not holders // 2 < quorum <= holders or quorum <= colluders:
        raise ValueError(
            f"the recovery threshold must be more than half of the {holders} holders, "
            f"more than the {colluders} that may collude, and at most all of them; got "
            f"{quorum}."
        )


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
