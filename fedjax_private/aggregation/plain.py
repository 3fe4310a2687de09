"""Sums in the clear: the server sees every upload."""

import dataclasses
import time

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

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
    """A float64 sum of the vectors of distinct clients, on the host.

    Args:
        size: how many values each vector has.
    """

    def __init__(self, size: int) -> None:
        self.clients: set[int] = set()
        self.total: FloatArray = np.zeros(size)

    def add(self, clients: IntArray, slots: npt.NDArray[np.generic]) -> None:
        """Adds a chunk: `clients` (C,) ids, `slots` (C, size).

        Raises:
            ValueError: if the shapes do not match; nothing has been added then.
            RefusedError: if a client comes twice; nothing has been added then.
        """
        if slots.shape != (len(clients), self.total.size):
            raise ValueError(
                f"slots of shape {slots.shape} where "
                f"({len(clients)}, {self.total.size}) were declared."
            )
        ids = [int(client) for client in clients]
        repeated = self.clients.intersection(ids)
        if repeated or len(set(ids)) < len(ids):
            raise RefusedError(
                "a client has uploaded twice in this round: the chunk of clients "
                f"{ids} repeats one."
            )
        self.clients.update(ids)
        self.total += slots.sum(axis=0, dtype=np.float64)


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
        return (
            "Plain sums: nothing is encrypted, the server reads every upload; a "
            f"released sum holds at least {self.trust.uploads} uploads."
        )

    def open(self, round_number: int) -> Session:
        """Opens the session of one round."""
        return _PlainSession(self, round_number)


class _PlainSession:
    def __init__(self, aggregation: PlainAggregation, round_number: int) -> None:
        self._aggregation = aggregation
        self._round = round_number
        self._sum: PlainSum | None = PlainSum(aggregation.vector_size)
        self._seconds_add = 0.0

    def add(self, clients: IntArray, slots: npt.NDArray[np.generic]) -> None:
        total = self._open_sum()
        # Waits for the device first, so that training is not timed as addition.
        slots = np.asarray(slots)
        start = time.perf_counter()
        total.add(clients, slots)
        self._seconds_add += time.perf_counter() - start

    def release(self) -> tuple[FloatArray, SessionReport]:
        total = self._open_sum()
        self._sum = None
        uploads = len(total.clients)
        wanted = self._aggregation.trust.uploads
        if uploads < wanted:
            raise RefusedError(
                f"a sum of {uploads} uploads is not released: it must hold at least "
                f"{wanted}."
            )
        vector_bytes = BYTES_PER_VALUE * self._aggregation.vector_size
        report = SessionReport(
            uploads=uploads,
            upload_bytes_per_client=vector_bytes,
            download_bytes_per_client=vector_bytes,
            seconds_encrypt=0.0,
            seconds_add=self._seconds_add,
            seconds_decrypt=0.0,
            max_error=0.0,
        )
        return total.total, report

    def _open_sum(self) -> PlainSum:
        if self._sum is None:
            raise RuntimeError(f"round {self._round} has been released already.")
        return self._sum
