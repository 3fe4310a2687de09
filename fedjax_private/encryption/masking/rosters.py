"""What the clients of a round agree on: the sum, the list of clients, thresholds."""

import bisect
import dataclasses
import functools
import hashlib
import itertools
import struct

import numpy as np

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.masking import graphs
from fedjax_private.encryption.masking.packing import packed_size
from fedjax_private.encryption.masking.seeds import PRIME, SEED_BYTES
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.wire import FIRST_EDGE, KEY_ID_BYTES

CHECK_BYTES = 16  # of a check value, and of a consent
TAG_BYTES = 16  # that sealing adds
# A sealed pair of shares: of the seed of a client's own mask, and of its deposit's key.
BOX_BYTES = 2 * SEED_BYTES + TAG_BYTES
MOST_CLIENTS = PRIME - 1  # points of shares

_LABEL = b"fedjax_private masks 1"
_FACTS = struct.Struct("<QBQQQB16s")


@dataclasses.dataclass(frozen=True)
class MaskedSum:
    """The public facts about the masked sums of one training run.

    Attributes:
        values: entries of each vector.
        bits: M; sums are taken mod 2^M, up to 64.
        uploads: m, the fewest uploads that a released sum holds; at least 2.
        most_clients: the most clients of a round, of whose vectors 2^M holds the sum.
        recovery_threshold: T, how many clients open masks together in a round of m, or
            None: 2m/3 against a malicious server, otherwise m/2, rounded down, and one
            more. See `Roster.threshold` for rounds of more.
        malicious: whether clients agree on the list of uploads before they open masks,
            which is needed if the server may depart from the protocol.
        session: (16,) bytes that name the run; the server chooses them.

    Raises:
        ValueError: a number outside its range, or a threshold that would let a client
            and the server open uploads.
    """

    values: int
    bits: int
    uploads: int
    most_clients: int
    recovery_threshold: int | None = None
    malicious: bool = True
    session: bytes = bytes(16)

    def __post_init__(self) -> None:
        if self.uploads < 2:
            raise ValueError(
                "masks hide an upload among others: a sum must hold at least 2 "
                f"uploads, got {self.uploads}; take more clients or min_uploads."
            )
        limits = {
            "values": (1, 2**32 - 1),
            "bits": (2, 64),
            "uploads": (2, MOST_CLIENTS),
            "most_clients": (self.uploads, MOST_CLIENTS),
            "recovery_threshold": (2, self.uploads),
        }
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(
                    f"masks: {name} must lie between {least} and {most}, got {value}."
                )
        if self.quorum < 2:
            raise ValueError(
                f"masks: recovery_threshold must be more than half of the "
                f"{self.uploads} uploads of a sum if the server may be malicious, got "
                f"{self.threshold}."
            )

    @property
    def threshold(self) -> int:
        """T, given or derived, for a round of m clients that all mask together."""
        default = 2 * self.uploads // 3 if self.malicious else self.uploads // 2
        return self.recovery_threshold or default + 1

    @property
    def quorum(self) -> int:
        """How many colluding clients open uploads together with the server.

        A semi-honest server needs T of them, who have that many shares of every seed.
        Against a malicious one 2T - m suffice: those among the T clients that agree on
        one list of uploads and also among T that agree on another. In a sparse graph,
        one more than those for which it is made.
        """
        if self.sparse:
            return graphs.fifth(self.uploads) + 1
        return 2 * self.threshold - self.uploads if self.malicious else self.threshold

    @property
    def sparse(self) -> bool:
        """Whether each client masks with some others only: see `graphs`.

        A malicious server could show different lists of uploads to clients that have no
        common neighbours, so against it all mask with all.
        """
        free = not self.malicious and self.recovery_threshold is None
        return free and sparse(self.uploads) is not None

    @functools.cached_property
    def key_id(self) -> bytes:
        """(16,) bytes that name the sum: a hash of these facts."""
        facts = _FACTS.pack(
            self.values,
            self.bits,
            self.uploads,
            self.most_clients,
            self.recovery_threshold or 0,
            self.malicious,
            self.session,
        )
        return hashlib.sha256(_LABEL + facts).digest()[:KEY_ID_BYTES]


def sparse(clients: int) -> tuple[int, int] | None:
    """Returns degree and threshold of a sparse graph; None where all mask with all.

    That is so where a sparse graph would not save half of the work.
    """
    found = graphs.sparse(clients)
    return found if found and found[0] <= clients // 2 else None


class Roster:
    """The clients of one round, in ascending order; places are positions in it.

    Attributes:
        facts: about the sum.
        round_number: the round.
        clients: their numbers.
        threshold: T, how many of a client and its neighbours open its masks together.
            With n clients in place of the m of `MaskedSum`: T(m), and against a
            malicious server ceil((n - m) / 2) more, so that as many must collude. In a
            sparse graph, that of `graphs.sparse`.
        neighbours: place -> the places of the clients that it masks with, ascending.
        degree: how many these are, the same for all.
        context: (32,) bytes, a hash of all this.

    Raises:
        RefusedError: if the clients are too few or too many, not in order, or no
            clients.
    """

    def __init__(
        self, facts: MaskedSum, round_number: int, clients: tuple[int, ...]
    ) -> None:
        least = facts.uploads
        if not least <= len(clients) <= facts.most_clients:
            raise RefusedError(
                f"a round of {len(clients)} clients: a masked sum holds at least "
                f"{least} uploads, and a round at most {facts.most_clients} clients."
            )
        ascending = all(a < b for a, b in itertools.pairwise(clients))
        if not ascending or clients[0] < 0 or clients[-1] >= FIRST_EDGE:
            raise RefusedError(
                "a list of clients that is out of order, or not of clients."
            )
        self.facts, self.round_number, self.clients = facts, round_number, clients
        self._places = {client: place for place, client in enumerate(clients)}
        count = len(clients)
        numbers = struct.pack(f"<Q{count}Q", round_number, *clients)
        self.context = hashlib.sha256(_LABEL + facts.key_id + numbers).digest()
        self.neighbours: dict[int, tuple[int, ...]]
        found = sparse(count) if facts.sparse else None
        if found:
            degree, self.threshold = found
            self.neighbours = graphs.circle(self.context, count, degree)
        else:
            more = -(-(count - least) // 2) if facts.malicious else 0
            self.threshold = facts.threshold + more
            self.neighbours = graphs.Complete(count)
        self.degree = len(self.neighbours[0])

    @classmethod
    @functools.lru_cache(maxsize=4)
    def of(
        cls, facts: MaskedSum, round_number: int, clients: tuple[int, ...]
    ) -> "Roster":
        """Returns the roster, which is public: parties of a process can share it."""
        return cls(facts, round_number, clients)

    def __len__(self) -> int:
        return len(self.clients)

    def place(self, client: int) -> int:
        """Returns a client's place. Raises RefusedError if it is not in the round."""
        if client not in self._places:
            raise RefusedError(
                f"client {client} does not take part in round {self.round_number}."
            )
        return self._places[client]

    def holders(self, place: int) -> tuple[int, ...]:
        """The places that hold shares of a client's seeds: its own, its neighbours'."""
        return tuple(sorted((place, *self.neighbours[place])))

    def index(self, place: int, neighbour: int) -> int:
        """Returns the index of a client's neighbour among all its neighbours."""
        return bisect.bisect_left(self.neighbours[place], neighbour)

    def marks(self, places: set[int]) -> bytes:
        """Returns places as one bit each."""
        flags = np.zeros(len(self), bool)
        flags[list(places)] = True
        return np.packbits(flags, bitorder="little").tobytes()

    def places(self, marks: bytes | memoryview) -> set[int]:
        """Returns the places that `marks` wrote.

        Raises:
            WireError: if bits beyond the last place are set.
        """
        flags = np.unpackbits(np.frombuffer(marks, np.uint8), bitorder="little")
        if flags[len(self) :].any():
            raise WireError("a list of clients with more than the round has.")
        return {int(place) for place in np.flatnonzero(flags)}

    # The bytes of payloads.

    @property
    def marks_bytes(self) -> int:
        """Of a list of places."""
        return -(-len(self) // 8)

    @property
    def deposit_bytes(self) -> int:
        """Of the seeds of the masks that a client has with its neighbours, sealed."""
        return SEED_BYTES * self.degree + TAG_BYTES

    @property
    def shares_bytes(self) -> int:
        """Of what a client sends first: check value, deposit, boxes for neighbours."""
        return CHECK_BYTES + self.deposit_bytes + BOX_BYTES * self.degree

    @property
    def masked_bytes(self) -> int:
        """Of a masked vector."""
        return packed_size(self.facts.values, self.facts.bits)

    @property
    def consent_bytes(self) -> int:
        """Of consents of one client, or for one client."""
        return CHECK_BYTES * self.degree

    @property
    def opening_bytes(self) -> int:
        """Of the shares by which a client opens masks."""
        return SEED_BYTES * (self.degree + 1)


@dataclasses.dataclass(frozen=True)
class PairKeys:
    """The keys of two clients in one round, which both derive and never send.

    Attributes:
        keys: (64,) bytes: four keys one after another.
    """

    keys: bytes = dataclasses.field(repr=False)

    @property
    def seed(self) -> bytes:
        """Of their common mask, 16 bytes."""
        return self.keys[:16]

    @classmethod
    def of(cls, party: Party, other: int, roster: Roster) -> "PairKeys":
        """Returns the keys of a party and another client.

        Formal guarantees: keyed BLAKE2b (RFC 7693) under a key of the pair alone, of
        the roster's context: if it is a pseudo-random function, the keys of all rounds
        and rosters are independent and uniform to everybody else. It takes a third of
        the time of HMAC.

        Raises:
            WireError: if the directory does not list the other.
        """
        channel = party.pair_channel(other)
        message = _LABEL + roster.context
        return cls(hashlib.blake2b(message, key=channel.derivation).digest())

    def box(self, sender: int, receiver: int) -> bytes:
        """Returns the key of the one box from one of the two to the other, 16 bytes."""
        return self.keys[16:32] if sender < receiver else self.keys[32:48]

    def consent_to(self, sender: int, receiver: int, transcript: bytes) -> bytes:
        """Returns 16 bytes by which one client consents, to the other, to a list."""
        direction = b"\1" if sender < receiver else b"\0"
        key, message = self.keys[48:], direction + transcript
        return hashlib.blake2b(message, key=key, digest_size=CHECK_BYTES).digest()
