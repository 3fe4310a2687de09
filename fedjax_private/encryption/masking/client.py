"""A client of masked sums: it shares seeds, masks its vector, and opens masks.

    server -- list of clients --> client -- sealed shares, deposit --> server
    server -- sealed shares --> client -- masked vector --> server
    server -- uploads in the sum --> client -- consents --> server
    server -- consents --> client -- shares of seeds --> server

Client i masks its vector x_i mod 2^M as

    y_i = x_i + G(b_i) + sum_(j > i) G(h_ij) - sum_(j < i) G(h_ij)

over its neighbours j, where G expands seeds. h_ij is known to i and j only: they derive
it for the round from their long-term keys. The client draws its own b_i, and shares it
among its neighbours. In the sum over all that upload the h cancel, and the b are opened
with shares. Where a client vanishes before it uploads, its neighbours' h with it are
needed. For these it leaves a deposit with the server, its h_ij encrypted under a fresh
key w_i, and shares w_i as well. A client opens either b_j or w_j of another client,
never both.

In the protocol of Bonawitz et al. w_i is a Diffie-Hellman key of one round. With
long-term keys a round needs no exponentiation, and what is opened for a client that
vanished are keys of one round only.
"""

import dataclasses
import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.masking import seeds
from fedjax_private.encryption.masking.packing import pack, word
from fedjax_private.encryption.masking.rosters import (
    BOX_BYTES,
    CHECK_BYTES,
    MaskedSum,
    PairKeys,
    Roster,
)
from fedjax_private.encryption.masking.seeds import SEED_BYTES, Expander, Words
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.wire import (
    SERVER,
    Kind,
    Message,
    read,
    write,
)

# Every key seals one text, so that the nonce need not differ.
NONCE = bytes(12)
# In the place of a share that a client does not have: no share is as large.
NO_SHARE = b"\xff" * SEED_BYTES


@dataclasses.dataclass
class _Round:
    """What a client knows in a round; `expected` is what it waits for."""

    roster: Roster
    place: int
    keys: dict[int, PairKeys]  # by place
    seed: bytes  # b_i
    own: bytes  # its own shares of b_i and w_i
    expected: Kind
    sharing: set[int] = dataclasses.field(default_factory=set)
    boxes: bytes | memoryview = b""
    survivors: set[int] = dataclasses.field(default_factory=set)
    transcript: bytes = b""


class MaskingClient:
    """One client of the masked sums of a run; one round at a time.

    Formal guarantees: let fewer than `facts.quorum` clients collude with each other and
    the server. Who colludes is fixed before the keys are made. Then all that they learn
    in a round about the vectors of the other, honest clients is sums over lists of at
    least `facts.uploads` uploads each. A client's vector is in one of them at most, in
    that over all honest clients of its list. A round of fewer than 2 m - c clients, m
    being `facts.uploads` and c those that collude, has one such sum. In a larger round
    a server that departs from the protocol can invite clients in groups, as if each
    were a round, and gets the sum of every group of m or more, where the ones that
    collude count in each. This holds for a server that departs from the protocol,
    unless `facts.malicious` is False; then for one that follows it. Colluding clients
    may depart from it in both cases. It assumes that the public keys are right,
    Diffie-Hellman on Curve25519 is hard, HMAC-SHA-256, BLAKE2b and AES-128 are
    pseudo-random, and, in a sparse graph, that collusion and vanishing do not depend on
    the graph and are within the shares of `graphs` (up to a probability of 2^-40 a
    round).

    Why, for n clients of whom c collude, by hybrids as in Bonawitz et al. (section 6):

    1. The keys of pairs of honest clients become uniform. Then the boxes between them
       can hold zeros, and no consent between them is forged. Clients that were shown
       different lists of the round's clients have different keys, and so neither open
       each other's boxes nor accept each other's consents.
    2. An honest client consents once a round. It opens masks only if T clients consent
       to its own two lists, of those that shared and of those that uploaded, and that
       were shown its list of the round's clients. T consents to each of two pairs of
       lists would take 2T <= n + c, because only colluding clients consent twice. T is
       larger, so all honest clients of that list that open masks agree on both lists.
       Let U be that of uploads.
    3. The colluding clients hold c < T shares of each honest client's seeds. Honest
       clients add shares of b_j for j in U, and of w_j for other j. So b_j can become
       uniform for j outside U, and hides x_j. For j in U, w_j can become uniform, the
       deposit of j can hold zeros, and h_ij is uniform for honest i and j in U.
    4. An honest client j in U was shown the same list of the round's clients, or nobody
       opens its b_j, and the sum stays uniform. It masks with at least T - c honest
       clients, itself counted, even if the server has shown it another list of those
       that shared. At least T - c honest clients consent; as 2 (T - c) > n - c, one of
       them, o, is among those that j masks with. And o masks with all of U, so that
       uniform h connect all honest clients in U. If each of the other h is used by both
       of its clients, all but the sum of the x_j over honest j in U is uniform; if not,
       that sum is, too.

    A semi-honest server shows one list to all, so that T > c and the connected graph of
    honest clients that upload suffice.

    Two things differ from Bonawitz et al. A deposit holds seeds under AES-GCM with the
    key w_i, where their client shares a Diffie-Hellman key: step 3 rests on AES instead
    of the decisional Diffie-Hellman assumption. Consents are authenticated for their
    receivers and not signed, so that third parties cannot verify them; nobody has to.

    Not guaranteed: a client can spoil a sum, by its vector, by wrong shares or by a
    wrong deposit, as in Bonawitz et al. Released sums are not differentially private.
    The server can end a round without a result.

    Args:
        party: the client, and the parties that it knows.
        facts: about the sum; the client's own copy, from before training.
    """

    def __init__(self, party: Party, facts: MaskedSum) -> None:
        self.number, self.facts, self._party = party.number, facts, party
        self._round: _Round | None = None

    def shares(self, invitation: bytes) -> bytes:
        """Joins a round; returns shares of fresh seeds for its neighbours, sealed.

        An earlier round is forgotten.

        Args:
            invitation: the server's list of the clients of the round.

        Raises:
            WireError: if the message is no invitation from the server.
            RefusedError: if the clients are too few, or do not include this one, or if
                it has joined the round before.
        """
        message = read(
            self._party,
            invitation,
            Kind.INVITATION,
            payload=0,
            most_numbers=self.facts.most_clients,
            key_id=self.facts.key_id,
            sender=SERVER,
        )
        roster = Roster.of(self.facts, message.round_number, message.numbers)
        place = roster.place(self.number)
        self._party.once("shared masks", message.round_number)
        neighbours, clients = roster.neighbours[place], roster.clients
        keys = {
            other: PairKeys.of(self._party, clients[other], roster)
            for other in neighbours
        }
        secrets = seeds.draw(2)
        seed, key = seeds.to_bytes(secrets[0]), seeds.to_bytes(secrets[1])
        holders = roster.holders(place)
        points = [holder + 1 for holder in holders]
        shares = seeds.split(secrets, roster.threshold, points)
        held = {h: seeds.to_bytes(s) for h, s in zip(holders, shares, strict=True)}
        pairs = b"".join(keys[other].seed for other in neighbours)
        boxes = (
            AESGCM(keys[other].box(place, other)).encrypt(NONCE, held[other], None)
            for other in neighbours
        )
        payload = b"".join(
            (
                seeds.check_value(seed),
                AESGCM(key).encrypt(NONCE, pairs, None),
                *boxes,
            )
        )
        self._round = _Round(roster, place, keys, seed, held[place], Kind.BOXES)
        return self._write(Kind.SHARES, payload)

    def masked(self, boxes: bytes, vector: Words) -> bytes:
        """Returns the client's vector under masks.

        Args:
            boxes: the server's message with the shares for this client.
            vector: (values,), integers, reduced mod 2^M or signed.

        Raises:
            WireError: if the message is not the expected one from the server.
            RefusedError: if too few clients have shared seeds, or if the client has
                uploaded in this round before.
            ValueError: if the vector has another shape, or no integers.
        """
        facts = self.facts
        if vector.shape != (facts.values,) or vector.dtype.kind not in "iu":
            raise ValueError(
                f"masks hide vectors of {facts.values} integers, got {vector.dtype} of "
                f"shape {vector.shape}."
            )
        state = self._awaiting(Kind.BOXES)
        roster = state.roster
        size = roster.marks_bytes + BOX_BYTES * roster.degree
        message = self._read(boxes, state, size)
        marks = message.payload[: roster.marks_bytes]
        sharing = roster.places(marks)
        holders = sharing.intersection(roster.holders(state.place))
        if (
            state.place not in sharing
            or len(sharing) < facts.uploads
            or len(holders) < roster.threshold
        ):
            raise RefusedError(
                f"round {roster.round_number}: {len(sharing)} clients have shared "
                "seeds, too few to open a sum, or without this one."
            )
        self._party.once("uploaded", roster.round_number)
        state.sharing, state.boxes = sharing, message.payload[roster.marks_bytes :]
        total = Expander(vector.astype(word(facts.bits)))
        total.add(state.seed)
        for other, keys in state.keys.items():
            if other not in sharing:
                continue
            if other > state.place:
                total.add(keys.seed)
            else:
                total.subtract(keys.seed)
        state.expected = Kind.SURVIVORS
        return self._write(Kind.MASKED, pack(total.vector, facts.bits))

    def consent(self, survivors: bytes) -> bytes:
        """Returns the client's consent to the list of uploads, for each neighbour.

        Raises:
            WireError: if the message is not the expected one from the server.
            RefusedError: if the list is too short or lacks this client, names clients
                without seeds, or if the sum needs no consents.
        """
        if not self.facts.malicious:
            raise RefusedError("these sums are opened without consents.")
        state = self._survivors(survivors)
        clients = state.roster.clients
        consents = (
            keys.consent_to(self.number, clients[other], state.transcript)
            if other in state.survivors
            else bytes(CHECK_BYTES)
            for other, keys in state.keys.items()
        )
        state.expected = Kind.CONSENTS
        return self._write(Kind.CONSENT, b"".join(consents))

    def open_masks(self, data: bytes) -> bytes:
        """Returns the client's shares of the seeds that open the sum; once a round.

        Of each client that shared seeds, the share of b if it is in the sum, and of w
        otherwise.

        Args:
            data: the server's message: the consents of neighbours, or, if the server is
                semi-honest, the list of uploads.

        Raises:
            WireError: if the message is not the expected one from the server.
            RefusedError: if fewer than T clients consent to the list that this client
                consented to, itself included, or as `consent` does.
        """
        if self.facts.malicious:
            state = self._check_consents(data)
        else:
            state = self._survivors(data)
        roster = state.roster
        self._party.once("opened masks", roster.round_number)
        parts = [state.own[:SEED_BYTES]]
        for index, (other, keys) in enumerate(state.keys.items()):
            share = NO_SHARE
            if other in state.sharing:
                sealed = state.boxes[BOX_BYTES * index : BOX_BYTES * (index + 1)]
                share = _opened(keys.box(other, state.place), sealed)
                half = 0 if other in state.survivors else SEED_BYTES
                share = share[half : half + SEED_BYTES]
            parts.append(share)
        message = self._write(Kind.UNMASKING, b"".join(parts))
        self._round = None
        return message

    def _survivors(self, data: bytes) -> _Round:
        """Reads and checks the list of uploads."""
        state = self._awaiting(Kind.SURVIVORS)
        roster = state.roster
        message = self._read(data, state, roster.marks_bytes)
        survivors = roster.places(message.payload)
        holders = survivors.intersection(roster.holders(state.place))
        if len(survivors) < self.facts.uploads:
            raise RefusedError(
                f"a sum of {len(survivors)} uploads in round {roster.round_number}: it "
                f"must hold at least {self.facts.uploads}."
            )
        if (
            state.place not in survivors
            or not survivors <= state.sharing
            or len(holders) < roster.threshold
        ):
            raise RefusedError(
                f"round {roster.round_number}: the sum lacks this client's vector, has "
                "a vector of a client without seeds, or leaves too few to open it."
            )
        state.survivors = survivors
        lists = roster.marks(state.sharing) + roster.marks(survivors)
        state.transcript = hashlib.sha256(roster.context + lists).digest()
        return state

    def _check_consents(self, data: bytes) -> _Round:
        state = self._awaiting(Kind.CONSENTS)
        roster = state.roster
        message = self._read(data, state, roster.consent_bytes)
        consenting = 1  # itself
        for index, (other, keys) in enumerate(state.keys.items()):
            got = message.payload[CHECK_BYTES * index : CHECK_BYTES * (index + 1)]
            expected = keys.consent_to(
                roster.clients[other], self.number, state.transcript
            )
            if other in state.survivors and hmac.compare_digest(got, expected):
                consenting += 1
        if consenting < roster.threshold:
            raise RefusedError(
                f"{consenting} clients consent to the uploads of round "
                f"{roster.round_number}, and {roster.threshold} must: the server may "
                "have shown others another list."
            )
        return state

    def _awaiting(self, kind: Kind) -> _Round:
        """Returns the state of the round, in which a message of that kind is next."""
        state = self._round
        if state is None or state.expected is not kind:
            raise RefusedError(
                f"client {self.number} expects no {kind.name.lower()} now."
            )
        return state

    def _read(self, data: bytes, state: _Round, payload: int) -> Message:
        """Returns the server's next message of the round."""
        message = read(
            self._party,
            data,
            state.expected,
            payload=payload,
            key_id=self.facts.key_id,
            sender=SERVER,
        )
        if message.round_number != state.roster.round_number:
            raise WireError(
                f"a message of round {message.round_number}, not of "
                f"{state.roster.round_number}."
            )
        return message

    def _write(self, kind: Kind, payload: bytes) -> bytes:
        assert self._round is not None
        return write(
            self._party,
            SERVER,
            kind,
            self._round.roster.round_number,
            payload,
            key_id=self.facts.key_id,
        )


def _opened(key: bytes, sealed: bytes | memoryview) -> bytes:
    """Opens a box; a client that sealed it wrongly has given no shares."""
    try:
        return AESGCM(key).decrypt(NONCE, sealed, None)
    except InvalidTag:
        return 2 * NO_SHARE
