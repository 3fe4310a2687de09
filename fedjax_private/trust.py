"""The trust model: who decrypts released sums, and how many clients are honest.

Privacy (how much noise counts against whom) and encryption (which sums may ever be
decrypted) must agree on these facts, so both take them from one frozen value.
"""

import dataclasses
import enum
import numbers


class Decryptor(enum.Enum):
    """The parties that can decrypt the ciphertexts that the server holds."""

    NOBODY_NEEDED = "none"  # nothing is encrypted: the server reads every upload
    KEY_AUTHORITY = "authority"  # a named party, assumed not to collude
    HOLDERS = "holders"  # all holders of key shares together; see `KeyHolder`
    EVERY_CLIENT = "clients"  # one secret key, which each client has: a baseline
    UPLOADERS = (
        "uploaders"  # the clients of a round open its masks; see `MaskingClient`
    )


class Adversary(enum.Enum):
    """The adversary that an epsilon holds against; see `Trust`."""

    OUTSIDERS = "outsiders"
    INSIDERS = "insiders"


@dataclasses.dataclass(frozen=True)
class Trust:
    """The trust model of one training run.

    Parties: clients hold their data; the aggregation server holds no key; the key
    authority, or the holders of key shares together, decrypt one released sum a round
    and nothing else. Clients, holders and the authority follow the protocol. So does
    the server if sums are not verified. If they are, as by default, it may substitute
    ciphertexts: it then reads no more than released sums, but can make them wrong (see
    `KeyAuthority` and `KeyHolder`, which also say where recovery of key holders sets a
    limit to that).

    Under masks there is no such party: the clients of a round open its sum together.

    Where clients share the noise of a released sum, two adversaries differ. Outsiders
    are the world and the server: they see the released sums, with all shares in them.
    Insiders are the server together with m - t clients, of all that there are: they
    subtract their own shares from each sum, and see what is left.

    Attributes:
        uploads: m, how many uploads a released sum must hold. A sum of fewer is never
            decrypted: it would carry less noise than was accounted for, or expose a
            smaller group than the participants agreed to.
        decryptor: who decrypts the released sum; or the name of a `Decryptor`.
        honest: t, how many of any m clients of a sum are assumed not to collude, so
            that at most m - t of all clients do; all of the m but one unless given.
        quorum: how many colluding holders of key shares, or clients under masks, get
            more than one sum a round together with the server; None where only all of
            them do.

    Raises:
        ValueError: a number outside its range.
    """

    uploads: int
    decryptor: Decryptor
    honest: int | None = None
    quorum: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.decryptor, Decryptor):
            try:
                object.__setattr__(self, "decryptor", Decryptor(self.decryptor))
            except ValueError as error:
                raise ValueError(
                    "decryptor must be one of "
                    f"{', '.join(each.value for each in Decryptor)}, got "
                    f"{self.decryptor!r}."
                ) from error
        for name in ("uploads", "honest", "quorum"):
            number = getattr(self, name)
            if not isinstance(number, (numbers.Integral, type(None))):
                raise ValueError(f"{name} must be a whole number, got {number!r}.")
        if self.uploads < 1:
            raise ValueError(f"a sum needs at least one upload, got {self.uploads}.")
        for name, most in (("honest", "uploads of a sum"), ("quorum", "holders")):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= self.uploads:
                raise ValueError(
                    f"{name} must lie between 1 and the {self.uploads} {most}, got "
                    f"{value}."
                )

    @property
    def honest_clients(self) -> int:
        """t: as given, or all but one; at least one."""
        return self.honest or max(1, self.uploads - 1)

    def shares(self, adversary: Adversary) -> int:
        """Returns how many noise shares other than its own the adversary faces.

        Where the server reads every upload, one share hides each of them.
        """
        if self.decryptor is Decryptor.NOBODY_NEEDED:
            return 1
        outside = adversary is Adversary.OUTSIDERS
        return self.uploads if outside else self.honest_clients

    @property
    def insiders_read_uploads(self) -> bool:
        """Whether insiders can decrypt more than the one released sum of a round.

        Then they read an honest client's upload, which one share of the noise hides, or
        as many sums of few uploads as they like.
        """
        if self.decryptor is Decryptor.KEY_AUTHORITY:
            return False
        if self.decryptor in (Decryptor.HOLDERS, Decryptor.UPLOADERS):
            colluding = self.uploads - self.honest_clients
            return colluding >= (self.quorum or self.uploads)
        return True
