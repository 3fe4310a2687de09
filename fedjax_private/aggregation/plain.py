"""Sums in the clear: the server sees every upload."""

import dataclasses
import time

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from fedjax_private.aggregation.inputs import check_clients, check_numbers, check_round
from fedjax_private.aggregation.types import (
    Codec,
    FloatArray,
    IntArray,
    Session,
    SessionReport,
)
from fedjax_private.encryption.errors import RefusedError
from fedjax_private.trust import Trust

# Vectors leave and reach clients as float32.
BYTES_PER_VALUE = 4

# Float vectors are summed as they are.
IDENTITY = Codec(
    encode=lambda key, vector: jnp.asarray(vector, jnp.float32),
    decode=lambda total: jnp.asarray(total, jnp.float32),
)


class PlainSum:
    """A float64 sum of the vectors of distinct clients in one round, on the host.

    Args:
        size: how many values each vector has.
        round_number: for error messages.
        whole: whether only integers are added.
    """

    def __init__(self, size: int, round_number: int, whole: bool = False) -> None:
        self.clients: set[int] = set()
        self.total: FloatArray = np.zeros(size)
        self._round, self._open, self._whole = round_number, True, whole

    def check(self, clients: IntArray, slots: npt.NDArray[np.generic]) -> None:
        """Refuses a chunk that cannot be added: `clients` (C,), `slots` (C, size).

        Raises:
            RuntimeError: if the round has been ended.
            ValueError: if the shapes do not match, or as `check_clients` and
                `check_numbers` do.
            RefusedError: if a client comes twice.
        """
        self._check_open()
        ids = check_clients(clients)
        check_numbers(slots, self._whole)
        if slots.shape != (len(clients), self.total.size):
            raise ValueError(
                f"uploads of shape {slots.shape} where ({len(clients)}, "
                f"{self.total.size}) were declared: vector_size must be the number of "
                "values in a client's update, its weight included."
            )
        repeated = self.clients.intersection(ids)
        if repeated or len(set(ids)) < len(ids):
            raise RefusedError(
                "a client has uploaded twice in this round: the chunk of clients "
                f"{ids} repeats one."
            )

    def add(self, clients: IntArray, slots: npt.NDArray[np.generic]) -> None:
        """Adds a chunk that `check` takes."""
        self.clients.update(int(client) for client in clients)
        self.total += slots.sum(axis=0, dtype=np.float64)

    def close(self) -> None:
        """Ends the round. Raises RuntimeError if it has been ended before."""
        self._check_open()
        self._open = False

    def _check_open(self) -> None:
        if not self._open:
            raise RuntimeError(f"round {self._round} has been released already.")


@dataclasses.dataclass(frozen=True)
class PlainAggregation:
    """Aggregation without encryption.

    Formal guarantees: none. The server reads each client's vector; only noise that the
    client itself has added protects it.

    Attributes:
        vector_size: how many values each vector has.
        trust: the fewest uploads that a released sum holds.
    """

    vector_size: int
    trust: Trust

    @property
    def codec(self) -> Codec:
        """The identity on float32 vectors."""
        return IDENTITY

    @property
    def description(self) -> str:
        """One sentence for reports."""
        least = self.trust.uploads
        return (
            "Plain sums: nothing is encrypted, the server reads every upload; a "
            f"released sum holds at least {least} upload{'s' if least > 1 else ''}."
        )

    def open(self, round_number: int) -> Session:
        """Opens the session of one round. Raises ValueError if it has no number."""
        return _PlainSession(self, check_round(round_number))


class _PlainSession:
    def __init__(self, aggregation: PlainAggregation, round_number: int) -> None:
        self._least = aggregation.trust.uploads
        self._sum = PlainSum(aggregation.vector_size, round_number)
        self._seconds_add = 0.0

    def add(self, clients: IntArray, slots: npt.NDArray[np.generic]) -> None:
        # Waits for the device first, so that training is not timed as addition.
        slots = np.asarray(slots)
        start = time.perf_counter()
        self._sum.check(clients, slots)
        self._sum.add(clients, slots)
        self._seconds_add += time.perf_counter() - start

    def release(self) -> tuple[FloatArray, SessionReport]:
        self._sum.close()
        uploads, total = len(self._sum.clients), self._sum.total
        if uploads < self._least:
            raise RefusedError(
                f"a sum of {uploads} uploads is not released: it must hold at least "
                f"{self._least}."
            )
        report = SessionReport(
            uploads=uploads,
            upload_bytes_per_client=BYTES_PER_VALUE * total.size,
            download_bytes_per_client=BYTES_PER_VALUE * total.size,
            seconds_encrypt=0.0,
            seconds_add=self._seconds_add,
            seconds_decrypt=0.0,
            max_error=0.0,
        )
        return total, report
