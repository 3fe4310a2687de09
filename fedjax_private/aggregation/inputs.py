"""What every session takes: round numbers, clients' numbers, and the dtype of slots."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.messages.wire import FIRST_EDGE


def check_round(round_number: Any) -> int:
    """Returns a round number; raises ValueError unless it is whole, in [0, 2^64)."""
    number = _whole(round_number)
    if number is None or not 0 <= number < 2**64:
        raise ValueError(
            "round_number must be a whole number from 0 to 2^64 - 1, got "
            f"{round_number!r}."
        )
    return number


def check_clients(clients: Sequence[Any] | npt.NDArray[Any]) -> list[int]:
    """Returns the numbers of clients (C,), which are whole and in [0, 2^64 - 2^32).

    The numbers above are those of servers.

    Raises:
        ValueError: if one is none, such as a fraction, which would be cut to whole.
    """
    if np.ndim(clients) != 1:
        raise ValueError(
            f"clients must be a list of numbers, got {np.ndim(clients)} axes: give one "
            "number for each row of slots."
        )
    given = clients.tolist() if hasattr(clients, "tolist") else list(clients)
    numbers = []
    for client in given:
        number = _whole(client)
        if number is None or not 0 <= number < FIRST_EDGE:
            raise ValueError(
                "clients must be whole numbers from 0 to 2^64 - 2^32 - 1, got "
                f"{client!r}."
            )
        numbers.append(number)
    return numbers


def check_numbers(slots: npt.NDArray[Any], whole: bool) -> None:
    """Refuses slots of a dtype that a scheme does not add.

    Args:
        slots: (C, S).
        whole: whether the scheme is exact, so that slots are integers.

    Raises:
        ValueError: if they are booleans, complex numbers or objects, or if an exact
            scheme gets floats, whose fractions it would lose.
    """
    if slots.dtype.kind not in ("iu" if whole else "iuf"):
        kind = "whole numbers, of an integer dtype" if whole else "real numbers"
        raise ValueError(
            f"slots must be {kind}, got {slots.dtype}: encode vectors with the codec "
            "of the aggregation."
        )


def _whole(number: Any) -> int | None:
    """Returns a whole number as int; None for any other value, booleans included."""
    if isinstance(number, (bool, np.bool_)):
        return None
    try:
        return operator.index(number)
    except TypeError:
        return None
