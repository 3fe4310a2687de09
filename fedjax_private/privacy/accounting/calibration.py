"""Calibration: the least noise, or the most steps, that a budget allows.

Every function returns a setting whose cost was computed and is at most the target.

Formal guarantees:
    The event made from the returned setting is (epsilon, delta)-DP at the given target
    by `RdpAccountant`'s bound. The search assumes that epsilon is monotone in the
    setting for its tightness only: what is returned is checked.
"""

import math
from collections.abc import Callable

from fedjax_private.privacy.accounting.accountant import RdpAccountant
from fedjax_private.privacy.accounting.events import Event, Neighbors

_SLACK = 1e-3  # the returned setting spends at least (1 - _SLACK) of the target
_LOWEST, _HIGHEST = 1e-6, 1e9


def calibrate_noise_multiplier(
    make_event: Callable[[float], Event],
    epsilon: float,
    delta: float,
    neighbors: Neighbors,
) -> float:
    """Returns a noise multiplier whose event costs at most epsilon, within 0.1 %.

    Args:
        make_event: maps a noise multiplier to the whole run's event, whose epsilon
            must not grow with it.
        epsilon: the target, above 0.
        delta: the target, 0 < delta < 1.
        neighbors: the neighbouring relation.

    Returns:
        A noise multiplier whose event costs between 0.999 epsilon and epsilon; or
        costs less, where the bound jumps past the target.

    Raises:
        ValueError: no noise multiplier between 1e-6 and 1e9 meets the target.
        Unsupported: the event has no price under this relation.
    """

    def spent(noise_multiplier: float) -> float:
        return _spent(make_event(noise_multiplier), delta, neighbors)

    _check_target(epsilon, delta)
    high = 1.0
    while spent(high) > epsilon:
        high *= 4
        if high > _HIGHEST:
            raise ValueError(
                f"no noise multiplier up to {_HIGHEST:g} brings epsilon down to "
                f"{epsilon:g} at delta {delta:g}: epsilon must fall as the noise "
                "multiplier grows, and the target must not be too small."
            )
    low = high / 4
    while spent(low) <= epsilon:
        high = low
        low /= 4
        if low < _LOWEST:
            return high
    return _search(spent, high, low, epsilon)


def calibrate_steps(
    make_event: Callable[[int], Event],
    epsilon: float,
    delta: float,
    neighbors: Neighbors,
    limit: int = 1 << 40,
) -> int:
    """Returns the largest number of steps whose event costs at most epsilon.

    Args:
        make_event: maps a number of steps to the whole run's event, whose epsilon must
            not fall with it.
        epsilon, delta, neighbors: as for `calibrate_noise_multiplier`.
        limit: returned where even that many steps are within the target.

    Raises:
        ValueError: a single step costs more than the target.
        Unsupported: the event has no price under this relation.
    """

    def fits(steps: int) -> bool:
        return _spent(make_event(steps), delta, neighbors) <= epsilon

    _check_target(epsilon, delta)
    if not fits(1):
        raise ValueError(
            f"a single step costs more than epsilon {epsilon:g} at delta {delta:g}."
        )
    low = 1
    high = 2
    while high < limit and fits(high):
        low, high = high, 2 * high
    if high >= limit:
        if fits(limit):
            return limit
        high = limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _spent(event: Event, delta: float, neighbors: Neighbors) -> float:
    return RdpAccountant(neighbors=neighbors).compose(event).spent(delta).epsilon


def _check_target(epsilon: float, delta: float) -> None:
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon must be above 0 and finite, got {epsilon}.")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}.")


def _search(
    spent: Callable[[float], float], safe: float, unsafe: float, epsilon: float
) -> float:
    """Narrows (safe, unsafe) until `safe` spends within the slack of epsilon.

    False position with Illinois weights on logarithms, where epsilon is nearly a
    straight line, aimed at the middle of the slack.
    """
    aim = math.log(epsilon) + math.log1p(-_SLACK / 2)
    half = -math.log1p(-_SLACK / 2)

    def gap(value: float) -> float:
        cost = spent(value)
        return min(max(math.log(cost) - aim if cost > 0 else -50.0, -50.0), 50.0)

    y_safe, y_unsafe = gap(safe), gap(unsafe)
    for iteration in range(100):
        x_safe, x_unsafe = math.log(safe), math.log(unsafe)
        width = x_unsafe - x_safe
        if abs(width) < 1e-9:
            break
        share = y_safe / (y_safe - y_unsafe) if y_safe < 0 else 0.5
        if iteration % 6 == 5 or iteration > 20 or not 0 < share < 1:
            share = 0.5
        x = math.exp(x_safe + share * width)
        y = gap(x)
        if -half <= y <= 0 or 0 <= y <= half / 2:
            return x
        if y < 0:
            safe, y_safe, y_unsafe = x, y, y_unsafe / 2
        else:
            unsafe, y_unsafe, y_safe = x, y, y_safe / 2
    return safe
