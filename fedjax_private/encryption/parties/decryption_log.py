"""The sums that a party may still decrypt under one key."""

import threading

from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.messages.wire import SERVER, Kind, Message, read
from fedjax_private.encryption.parameters import SumRequest
from fedjax_private.trust import Trust


def check_uploads(trust: Trust, request: SumRequest) -> None:
    """Raises ValueError if the trust model needs more uploads than a sum can hold."""
    if trust.uploads > request.uploads:
        raise ValueError(
            f"a sum must hold at least {trust.uploads} uploads, but the parameters "
            f"hold at most {request.uploads}: lower trust.uploads or raise "
            "request.uploads."
        )


def read_sum(
    party: Party, data: bytes, material: Material, polynomials: int
) -> Message:
    """Returns the server's message with a sum, of so many polynomials a ciphertext.

    Raises:
        WireError: if the message is not a sum from the server under this key.
    """
    parameters = material.parameters
    return read(
        party,
        data,
        Kind.SUM,
        payload=polynomials * parameters.rows * parameters.polynomial_bytes,
        most_numbers=parameters.request.uploads,
        key_id=material.key_id,
        sender=SERVER,
    )


class DecryptionLog:
    """Says which sums a party may decrypt under one key.

    The number of sums is counted for the key. That a round is decrypted once holds for
    the party, whatever its key: see `Party.once`. Safe to use from several threads.

    Args:
        party: the one that decrypts.
        material: of the key.
        trust: states the fewest uploads that a decrypted sum holds.

    Raises:
        ValueError: if the trust model asks for more uploads than a sum can hold.
    """

    def __init__(self, party: Party, material: Material, trust: Trust) -> None:
        request = material.parameters.request
        check_uploads(trust, request)
        self._party = party
        self._least, self._most = trust.uploads, request.uploads
        self._left = material.parameters.sums_per_key
        self._recording = threading.Lock()

    @property
    def used_up(self) -> bool:
        """Whether the key has decrypted as many sums as it may."""
        return self._left == 0

    def record(self, round_number: int, clients: tuple[int, ...]) -> None:
        """Records that the sum of these clients in this round is decrypted now.

        Call it before the decryption, so that a decryption that fails is not retried.

        Raises:
            RefusedError: if the sum has too few or too many uploads, if the key is used
                up, or if the party has decrypted a sum of the round, under any key.
        """
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
        with self._recording:
            if self.used_up:
                raise RefusedError(
                    "this key has decrypted as many sums as its noise protects: the "
                    "next round needs a fresh one."
                )
            self._party.once("decrypted", round_number)
            if self._left is not None:
                self._left -= 1
