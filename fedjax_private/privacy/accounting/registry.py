"""The registry of prices, and the one place where composition and counts happen.

Each type of event registers the cost of a single run. `price` takes an event apart into
single runs and adds up their costs times their counts. Events that wrap others are
given `price` itself, so that no registered price handles counts.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.privacy.accounting.events import (
    Composed,
    Event,
    Neighbors,
    Repeated,
)
from fedjax_private.privacy.accounting.serialization import register_type

Floats = npt.NDArray[np.float64]
# price(event, orders, neighbors) -> RDP at each order.
Price = Callable[[Event, Floats, Neighbors], Floats]
# rdp(event, orders, neighbors, price) -> RDP of one run at each order.
Rdp = Callable[[Any, Floats, Neighbors, Price], npt.ArrayLike]
# amplified(event, sampling probability, orders, neighbors) -> RDP of one sampled run.
Amplified = Callable[[Any, float, Floats, Neighbors], npt.ArrayLike]
# pure(event, neighbors) -> epsilon at delta 0.
PureBound = Callable[[Any, Neighbors], float]


class Unsupported(ValueError):
    """No known theorem prices this event under this neighbouring relation."""


class CoarseGrid(Unsupported):
    """Whole-number noise whose scale, in grid steps, is too small to be priced."""


@dataclasses.dataclass(frozen=True)
class RegisteredPrice:
    """The functions that were registered for a type of event; see `register`."""

    rdp: Rdp
    poisson: Amplified | None
    without_replacement: Amplified | None
    pure: PureBound | None
    neighbors: frozenset[Neighbors]


_PRICES: dict[type[Event], RegisteredPrice] = {}


def register(
    event_type: type[Event],
    rdp: Rdp,
    *,
    poisson: Amplified | None = None,
    without_replacement: Amplified | None = None,
    pure: PureBound | None = None,
    neighbors: Collection[Neighbors] = frozenset(Neighbors),
) -> None:
    """Adds a type of event and its price to those that accountants know.

    Registering a class again, as a reloaded module does, replaces its price.

    Args:
        event_type: a frozen dataclass derived from `Event`, with a class name of its
            own: JSON knows the event by it.
        rdp: `rdp(event, orders, neighbors, price)` returns the Rényi differential
            privacy of one run at each of `orders`, a float64 vector with all entries
            above 1 and finite. The result has the same shape, is never negative, and
            may be inf. It must bound both directions of the divergence. `price(inner,
            orders, neighbors)` prices events that this one wraps. Counts and
            compositions are applied by the accountant and must not be here.
        poisson: `poisson(event, sampling_probability, orders, neighbors)` returns the
            RDP of the event on a Poisson sample, for 0 < sampling_probability < 1.
            Without it a general bound is used (see `amplification`).
        without_replacement: likewise for a sample drawn without replacement.
        pure: `pure(event, neighbors)` returns epsilon at delta 0, where that is finite.
        neighbors: the relations under which the price holds; others are refused.

    Raises:
        TypeError: `event_type` is not a frozen dataclass derived from `Event`.
        ValueError: another class has registered the same name, or `event_type` is
            Composed or Repeated, which only the accountant applies.

    Formal guarantees:
        The accountant's epsilon is an upper bound if `rdp` (and the optional bounds)
        are upper bounds under each relation in `neighbors`; nothing here can check
        that beyond refusing negative and undefined values.
    """
    if event_type in (Composed, Repeated):
        raise ValueError(
            f"{event_type.__name__} cannot be registered: the accountant alone applies "
            "it."
        )
    register_type(event_type)
    _PRICES[event_type] = RegisteredPrice(
        rdp, poisson, without_replacement, pure, frozenset(neighbors)
    )
    _price_one.cache_clear()


def registered_price(event: Event, neighbors: Neighbors) -> RegisteredPrice:
    """Returns the functions registered for an event's type.

    Raises:
        Unsupported: the event has no price, or none under this relation.
    """
    if not isinstance(neighbors, Neighbors):
        raise TypeError(f"neighbors must be a Neighbors, got {neighbors!r}.")
    known = _PRICES.get(type(event))
    if known is None:
        raise Unsupported(
            f"{type(event).__name__} has no registered price; events that have one "
            f"are {', '.join(sorted(t.__name__ for t in _PRICES))}."
        )
    if neighbors not in known.neighbors:
        supported = (n.name for n in Neighbors if n in known.neighbors)
        raise Unsupported(
            f"{type(event).__name__} has no price under {neighbors.name}; the "
            f"supported relations are {', '.join(supported)}."
        )
    return known


def flatten(event: Event, count: int = 1) -> dict[Event, int]:
    """Returns the single events in compositions and repetitions, with counts."""
    counts: dict[Event, int] = {}
    stack = [(event, count)]
    while stack:
        event, count = stack.pop()
        if isinstance(event, Composed):
            stack.extend((part, count) for part in reversed(event.events))
        elif isinstance(event, Repeated):
            stack.append((event.event, count * event.count))
        elif count:
            counts[event] = counts.get(event, 0) + count
    return counts


def price(event: Event, orders: npt.ArrayLike, neighbors: Neighbors) -> Floats:
    """Returns the Rényi differential privacy of an event at each order.

    Args:
        event: any event whose parts are all registered.
        orders: orders above 1, finite; any shape of one dimension.
        neighbors: the neighbouring relation.

    Returns:
        float64, one non-negative entry per order, inf where there is no guarantee.

    Raises:
        Unsupported: a part has no price under this relation.
        ValueError: an order is not above 1, or a registered price is negative or NaN.

    Formal guarantees:
        An upper bound on the Rényi divergence between the outputs on any two
        neighbours, in both directions, given the registered bounds: Rényi DP adds up
        over adaptive composition (Mironov 2017, Proposition 1).
    """
    grid = np.array(orders, dtype=np.float64)
    if grid.ndim != 1 or not np.all((grid > 1) & np.isfinite(grid)):
        raise ValueError(f"orders must be a vector of finite numbers above 1: {grid}.")
    total = np.zeros_like(grid)
    key = grid.tobytes()
    for part, count in flatten(event).items():
        total += count * _price_one(part, key, neighbors)
    return total


@functools.lru_cache(maxsize=4096)
def _price_one(event: Event, key: bytes, neighbors: Neighbors) -> Floats:
    known = registered_price(event, neighbors)
    orders = np.frombuffer(key)
    rdp = np.array(known.rdp(event, orders, neighbors, price), dtype=np.float64)
    if rdp.shape != orders.shape:
        raise ValueError(
            f"the price of {type(event).__name__} has shape {rdp.shape} at "
            f"{orders.size} orders."
        )
    if not np.all(rdp >= 0):
        raise ValueError(
            f"the price of {event} is negative or undefined at some order: {rdp}."
        )
    rdp.setflags(write=False)
    return rdp


def pure_epsilon(event: Event, neighbors: Neighbors) -> float:
    """Returns epsilon at delta 0, by adding up; inf if a part has no such bound."""
    total = 0.0
    for part, count in flatten(event).items():
        bound = registered_price(part, neighbors).pure
        total += count * (bound(part, neighbors) if bound else float("inf"))
    return total
