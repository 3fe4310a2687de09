"""Who is honest, how many they are, and who can decrypt what.

Privacy (how much noise counts against whom) and encryption (which sums may ever be
decrypted) must agree on these facts, so both take them from one frozen value.
"""

import dataclasses
import enum


class Decryptor(enum.Enum):
    """Who can turn a ciphertext of the server's into numbers."""

    NOBODY_NEEDED = "none"  # nothing is encrypted: the server reads every upload
    KEY_AUTHORITY = "authority"  # a named party, assumed not to collude
    HOLDERS = "holders"  # all holders of key shares together; see encryption.threshold


@dataclasses.dataclass(frozen=True)
class Trust:
    """The trust model of one training run.

    Attributes:
        uploads: m, how many uploads a released sum must hold. A sum of fewer is never
            decrypted: it would carry less noise than was accounted for, or expose a
            smaller group than the participants agreed to.
        decryptor: who decrypts the released sum.

    Parties: clients hold their data; the aggregation server is honest but curious and
    holds no key; the key authority, or the holders of key shares together, decrypt one
    released sum a round and nothing else. A server that substitutes ciphertexts is
    outside the model.
    """

    uploads: int
    decryptor: Decryptor

    def __post_init__(self) -> None:
        if self.uploads < 1:
            raise ValueError(f"a sum needs at least one upload, got {self.uploads}.")
