"""The contract between the jitted phases and an aggregation scheme.

The primitive is a *sum* of vectors over clients. Weights are applied by the clients
before encoding and divisions by the server after decoding, so a scheme needs to know
nothing about the algorithm it serves.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import jax
import numpy as np
import numpy.typing as npt

from fedjax_private.trust import Trust

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Codec:
    """Pure, jittable maps between a float vector and what a scheme can add.

    Attributes:
        encode: `(key, vector (P,) float32) -> slots (S,)`, float32 or int32. Runs
            inside the client phase, under vmap; `key` is for randomised rounding.
        decode: `(sum of slots (S,)) -> vector (P,) float32`. Runs in the server phase.
    """

    encode: Callable[[jax.Array, jax.Array], jax.Array]
    decode: Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class SessionReport:
    """The measured cost of one round's aggregation.

    Attributes:
        uploads: number of client vectors in the released sum.
        upload_bytes_per_client: bytes that one client sent, mean over clients.
        download_bytes_per_client: bytes of the released aggregate sent to one client.
        seconds_encrypt: wall seconds of all clients' encryption, with serialisation.
        seconds_add: wall seconds of the server's parsing and addition.
        seconds_decrypt: wall seconds of decryption and decoding.
        max_error: in simulation, the largest absolute difference of any entry of the
            released sum from the true sum of the plain vectors as they were encoded, in
            the units of the values.
        seconds_keys: wall seconds of making this round's key, if it is a new one, and
            of vouching for it to clients that are new to it.
        saturated: entries of uploads at either end of the range that integers
            represent, or beyond; those beyond have been cut off. Few integers have an
            end to which entries within the range are rounded, too.
        wrapped: in simulation, entries of the released sum that are wrong because the
            true sum is beyond the range of sums.
        rounding: in simulation, an estimate of the share of the squared norm of the
            released sum that is error of rounding, or of decryption, in [0, 1]; without
            the sum's largest entry, such as the weight beside an update. 1 where
            nothing else is left. 0 where clients share noise, which has been priced on
            the grid, and where nothing is rounded.
        link_bytes: mean bytes of a message, for each kind of link.
        recovered_holders: key holders that vanished before the sum was decrypted, and
            that others stood in for; None where nobody holds shares of a key.
    """

    uploads: int
    upload_bytes_per_client: int
    download_bytes_per_client: int
    seconds_encrypt: float
    seconds_add: float
    seconds_decrypt: float
    max_error: float
    seconds_keys: float = 0.0
    saturated: int = 0
    wrapped: int = 0
    rounding: float = 0.0
    link_bytes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    recovered_holders: int | None = None

    def with_clear(self, other: "SessionReport") -> "SessionReport":
        """Returns this report plus the cost of values that were sent in the clear."""
        return dataclasses.replace(
            self,
            upload_bytes_per_client=self.upload_bytes_per_client
            + other.upload_bytes_per_client,
            download_bytes_per_client=self.download_bytes_per_client
            + other.download_bytes_per_client,
            seconds_add=self.seconds_add + other.seconds_add,
        )


class Session(Protocol):
    """One round's sum. Host side, between two jitted phases."""

    def add(self, clients: IntArray, slots: npt.NDArray[np.generic]) -> None:
        """Adds a chunk: `clients` (C,) whole ids, `slots` (C, S).

        Slots are as the codec makes them: integers if the scheme is exact, else reals.
        """

    def release(self) -> tuple[FloatArray, SessionReport]:
        """Ends the round; returns the sum of all slots, (S,), and its report.

        Raises:
            VoidRoundError: if too few parties are left that decrypt. The sum is lost
                then, and later rounds go on.
        """


@runtime_checkable
class InformedSession(Session, Protocol):
    """A session that also learns whose uploads do not arrive.

    In its protocol clients do something before they upload.
    """

    def lose(self, clients: IntArray) -> None:
        """Notes clients (C,) of the round that vanish before they upload."""


class Aggregation(Protocol):
    """A scheme set up for one training run (keys generated, parameters fixed)."""

    @property
    def codec(self) -> Codec:
        """The scheme's codec."""

    @property
    def description(self) -> str:
        """One sentence for reports: scheme, parameters, who can decrypt."""

    @property
    def trust(self) -> Trust:
        """The fewest uploads that a released sum holds, and who decrypts it."""

    def open(self, round_number: int) -> Session:
        """Opens the session of one round."""
