"""The sums that a party may still decrypt under one key."""

import dataclasses
import threading

import numpy as np

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.math.rings import Residues
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.messages.wire import SERVER, Kind, read, split
from fedjax_private.encryption.openfhe.contexts import ring_of
from fedjax_private.encryption.parameters import SumRequest
from fedjax_private.encryption.parties.declarations import Declarations, Parts
from fedjax_private.trust import Trust


def check_uploads(trust: Trust, request: SumRequest) -> None:
    """Raises ValueError if the trust model needs more uploads than a sum can hold."""
    if trust.uploads > request.uploads:
        raise ValueError(
            f"a sum must hold at least {trust.uploads} uploads, but the parameters "
            f"hold at most {request.uploads}: lower trust.uploads or raise "
            "request.uploads."
        )


@dataclasses.dataclass(frozen=True)
class CheckedSum:
    """An encrypted sum that its decryptor may decrypt, once.

    Attributes:
        round_number: its round.
        clients: whose uploads it holds.
        firsts: (R, L, N), the sum of the first polynomials; (0, L, N) for holders.
        seconds: (R, L, N), the sum of the second polynomials.
    """

    round_number: int
    clients: tuple[int, ...]
    firsts: Residues
    seconds: Residues


class DecryptionLog:
    """Says which sums a party may decrypt under one key.

    The number of sums is counted for the key. That a round is decrypted once holds for
    the party, whatever its key: see `Party.once`. Safe to use from several threads.

    Args:
        party: the one that decrypts.
        material: of the key.
        trust: states the fewest uploads that a decrypted sum holds.
        verified: whether sums are checked against declarations of their clients; if
            not, the server is believed.

    Raises:
        ValueError: if the trust model asks for more uploads than a sum can hold.
    """

    def __init__(
        self, party: Party, material: Material, trust: Trust, verified: bool = True
    ) -> None:
        request = material.parameters.request
        check_uploads(trust, request)
        self._party, self._material, self._verified = party, material, verified
        self._ring = ring_of(material.parameters)
        self._declarations = Declarations(party, material.key_id)
        self._least, self._most = trust.uploads, request.uploads
        self._left = material.parameters.sums_per_key
        self._recording = threading.Lock()

    @property
    def used_up(self) -> bool:
        """Whether the key has decrypted as many sums as it may."""
        return self._left == 0

    def declare(self, data: bytes) -> None:
        """Accepts a client's declaration; raises as `Declarations.accept` does."""
        self._declarations.accept(data)

    def read(
        self, data: bytes, parts: Parts | None = None, *, firsts: bool
    ) -> CheckedSum:
        """Returns the sum that the server wants decrypted, checked and recorded.

        Args:
            data: the server's message. With `firsts`, it holds the sum of the first
                polynomials. If sums are verified, the second polynomials of every
                upload are in it, or follow it where it goes to several decryptors. They
                need no tag of the server's, because clients have declared them.
            parts: what follows the message, where a simulation has it apart.
            firsts: whether this decryptor gets the first polynomials.

        Raises:
            WireError: if the message is not a sum from the server under this key.
            RefusedError: if clients have not declared these parts, or see `record`.
        """
        parameters, ring = self._material.parameters, self._ring
        half = parameters.rows * ring.polynomial_bytes
        if self._verified and not firsts and parts is None:
            data, count, rest = split(data)
            # Before anything is made for so many clients as bytes of any origin state.
            if count > self._most or len(rest) != count * half:
                raise WireError(f"{len(rest)} bytes are no parts of {count} uploads.")
            parts = Parts.from_bytes(rest, count, ring)
        message = read(
            self._party,
            data,
            Kind.SUM,
            payload=half * (firsts + (not self._verified)),
            each=half * (firsts and self._verified),
            most_numbers=parameters.request.uploads,
            key_id=self._material.key_id,
            sender=SERVER,
        )
        number, clients, payload = (
            message.round_number,
            message.numbers,
            message.payload,
        )
        self._check_uploads(clients)
        self._party.refuse_again("decrypted", number)
        first: Residues = np.empty((0, ring.limbs, ring.dimension), np.uint64)
        if firsts:
            first, payload = ring.unpack(payload[:half]), payload[half:]
        if self._verified:
            parts = parts or Parts.from_bytes(payload, len(clients), ring)
            seconds = self._declarations.total(number, clients, parts)
        else:
            seconds = ring.unpack(payload)
        if len(seconds) != parameters.rows:
            raise WireError(
                f"parts of {len(seconds)} polynomials, not {parameters.rows}."
            )
        self.record(number, clients)
        self._declarations.forget(number)
        return CheckedSum(number, clients, first, seconds)

    def end(self) -> None:
        """Ends the key: it decrypts no more."""
        self._left = 0

    def record(self, round_number: int, clients: tuple[int, ...]) -> None:
        """Records that the sum of these clients in this round is decrypted now.

        Call it before the decryption, so that a decryption that fails is not retried.

        Raises:
            RefusedError: if the sum has too few or too many uploads, if the key is used
                up, or if the party has decrypted a sum of the round, under any key.
        """
        self._check_uploads(clients)
        with self._recording:
            if self.used_up:
                raise RefusedError(
                    "this key has decrypted as many sums as its noise protects: the "
                    "next round needs a fresh one."
                )
            self._party.once("decrypted", round_number)
            if self._left is not None:
                self._left -= 1

    def _check_uploads(self, clients: tuple[int, ...]) -> None:
        if len(clients) < self._least:
            raise RefusedError(
                f"a sum of {len(clients)} uploads is not decrypted: it must hold at "
                f"least {self._least}."
            )
        if len(clients) > self._most:
            raise RefusedError(
                f"a sum of {len(clients)} uploads may wrap around: the parameters "
                f"hold at most {self._most}."
            )
