"""Which holders stand in for which, and the masks on what they answer.

A holder that stands in multiplies its shares of the missing holders' keys by Lagrange
coefficients, and these depend on who else stands in. So two sets of holders get two
multiples of one unknown product from a holder that is in both. With noise on each, two
or three such multiples would tell the product, and with it the share: their noise can
be found, because it is small and the coefficients are known. Therefore all that stand
in add pairwise masks, which cancel in the sum over the whole set (as in Bonawitz et
al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017).
An unfinished set then reveals nothing, and a finished one a partial decryption with the
missing holders' own keys, whatever the set.
"""

import dataclasses
import hashlib
import hmac
import struct

import numpy as np

from fedjax_private.encryption.errors import WireError
from fedjax_private.encryption.math.expansion import below, stream
from fedjax_private.encryption.math.rings import Residues, Ring
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.wire import MISSING_COUNT, Message

_LABEL = b"fedjax_private recovery 1"


@dataclasses.dataclass(frozen=True)
class Recovery:
    """The holders of one recovery.

    Attributes:
        missing: those whose keys others stand in for.
        present: the T holders that stand in.
    """

    missing: tuple[int, ...]
    present: tuple[int, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The holders that messages of this recovery name."""
        return (*self.missing, *self.present)

    @property
    def payload(self) -> bytes:
        """The payload of the request."""
        return MISSING_COUNT.pack(len(self.missing))

    @classmethod
    def of_request(cls, message: Message) -> "Recovery":
        """Returns what a request of the server says.

        Raises:
            WireError: if more holders are missing than it names.
        """
        (count,) = MISSING_COUNT.unpack(message.payload)
        if count > len(message.numbers):
            raise WireError(f"{count} missing holders, of {len(message.numbers)}.")
        return cls(message.numbers[:count], message.numbers[count:])

    @property
    def sets(self) -> tuple[frozenset[int], frozenset[int]]:
        """The missing and the present, whatever their order in the request."""
        return frozenset(self.missing), frozenset(self.present)


def masks(
    party: Party,
    recovery: Recovery,
    ring: Ring,
    rows: int,
    key_id: bytes,
    round_number: int,
) -> Residues:
    """Returns what a holder adds to its answer: (rows, L, N); the sum over all is zero.

    Formal guarantees: if HMAC-SHA256 and ChaCha20 are pseudo-random, the answers of the
    holders of one recovery are uniform, up to their sum, for everybody who is none of
    them. Each mask belongs to a pair, a key, a round and a recovery: two requests that
    differ in any of these get independent masks, which do not cancel.

    Args:
        party: the holder, one of those present.
        recovery: says which holders stand in for which.
        ring: of the key.
        rows: R, ciphertexts of a vector.
        key_id: of the key.
        round_number: of the sum.
    """
    missing, present = (sorted(numbers) for numbers in recovery.sets)
    context = hashlib.sha256(_LABEL + key_id)
    for numbers in ([round_number], missing, present):
        context.update(struct.pack(f"<Q{len(numbers)}Q", len(numbers), *numbers))
    total: Residues = np.zeros((rows, ring.limbs, ring.dimension), np.uint64)
    moduli = ring.column
    for other in recovery.present:
        if other == party.number:
            continue
        key = party.pair_channel(other).derivation
        draw = stream(hmac.digest(key, context.digest(), "sha256"))
        limbs = [below(q, rows * ring.dimension, draw) for q in ring.moduli]
        mask = np.stack([limb.reshape(rows, -1) for limb in limbs], axis=1)
        if party.number > other:
            mask = (moduli - mask) % moduli
        total = ring.add(total, mask)
    return total
