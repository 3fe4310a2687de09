"""The sum in the clear beside an encrypted one, which only a simulation can take."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.aggregation.codecs import grid_of
from fedjax_private.aggregation.plain import PlainSum
from fedjax_private.aggregation.types import IntArray
from fedjax_private.encryption.parameters import SumRequest


class ReferenceSum:
    """The plain sum of one round's vectors, taken outside the protocol.

    Checks each vector before it is encrypted, and measures the released sum's error.

    Args:
        request: what is to be summed.
        round_number: for error messages.

    Attributes:
        saturated: entries of uploads at either end of the grid, or beyond.
    """

    def __init__(self, request: SumRequest, round_number: int) -> None:
        self._request, self._round = request, round_number
        self._sum = PlainSum(request.values)
        self._open = True
        self.saturated = 0

    @property
    def uploads(self) -> int:
        """How many vectors the sum holds."""
        return len(self._sum.clients)

    def add(self, clients: IntArray, slots: npt.NDArray[Any]) -> None:
        """Adds a chunk, as `Session.add` does.

        Raises:
            RuntimeError: if the round has been released.
            ValueError: if shapes differ, or an integer stands for NaN.
            RefusedError: if a client comes twice.
        """
        self._check_open()
        self._sum.add(clients, slots)
        if self._request.scheme.exact and not self._request.residues:
            self._check_numbers(clients, slots)
            # -2^(b-1) stands for no value, so that the ends are +-most.
            most, modulus = grid_of(self._request).most, 1 << self._request.bits
            ends = (slots == most) | (slots == modulus - most)
            self.saturated += int(np.count_nonzero(ends))

    def close(self) -> None:
        """Ends the round.

        Raises:
            RuntimeError: if it has been ended before.
        """
        self._check_open()
        self._open = False

    def error(self, total: npt.NDArray[Any]) -> float:
        """Returns the largest error of an entry of a sum, in units of the values."""
        if not self._request.scheme.exact:
            return float(np.abs(total - self._sum.total).max())
        expected = self._sum.total.astype(np.int64)
        different = (total - expected) % (1 << self._request.bits)
        return float(different.max()) * grid_of(self._request).step

    def _check_open(self) -> None:
        if not self._open:
            raise RuntimeError(f"round {self._round} has been released already.")

    def _check_numbers(self, clients: IntArray, slots: npt.NDArray[Any]) -> None:
        # `quantize` turns NaN into this integer, and nothing else.
        bad = (slots == 1 << self._request.bits - 1).any(axis=1)
        if bad.any():
            raise ValueError(
                f"client {clients[np.argmax(bad)]}: the vector has an entry that is "
                "not a number, which cannot be encrypted; the training has probably "
                "diverged."
            )
