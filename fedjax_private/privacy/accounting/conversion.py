"""From Rényi differential privacy to epsilon and delta."""

import numpy as np

from fedjax_private.privacy.accounting.registry import Floats

_ROUNDING = 16 * float(np.finfo(np.float64).eps)


def epsilon(orders: Floats, rdp: Floats, delta: float) -> Floats:
    """Returns the epsilon at `delta` that each order proves by itself.

    Args:
        orders: orders above 1.
        rdp: the Rényi differential privacy at each order; inf is allowed.
        delta: 0 < delta < 1.

    Returns:
        float64, one epsilon per order, 0 or more; the least of them is the guarantee.

    Raises:
        ValueError: delta is outside (0, 1), or an RDP is negative or NaN: that is an
            error of the mechanism's price, never an epsilon of 0.

    Formal guarantees:
        (epsilon, delta)-DP by Canonne, Kamath, Steinke 2020, "The Discrete Gaussian
        for Differential Privacy", proposition 12; and epsilon 0 where the total
        variation distance is at most delta by the inequality of Bretagnolle and Huber
        (1979), TV^2 <= 1 - exp(-KL), as the divergence of any order above 1 bounds KL.
        Rounding goes upwards.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}.")
    _check(rdp)
    proof = np.log1p(-1 / orders)
    tail = (np.log(delta) + np.log(orders)) / (orders - 1)
    value = rdp + proof - tail
    value += _ROUNDING * (np.abs(proof) + np.abs(tail) + rdp)
    value[-np.expm1(-rdp) <= delta**2] = 0.0
    return np.asarray(np.maximum(value, 0.0))


def delta(orders: Floats, rdp: Floats, epsilon: float) -> Floats:
    """Returns the delta at `epsilon` that each order proves by itself.

    Args:
        orders: orders above 1.
        rdp: the Rényi differential privacy at each order; inf is allowed.
        epsilon: 0 or more; inf is allowed.

    Returns:
        float64, one delta per order, in [0, 1]; the least of them is the guarantee.

    Raises:
        ValueError: epsilon is negative or NaN, or an RDP is.

    Formal guarantees:
        As for `epsilon`.
    """
    if not epsilon >= 0:
        raise ValueError(f"epsilon must be 0 or more, got {epsilon}.")
    _check(rdp)
    if epsilon == np.inf:
        return np.zeros_like(rdp)
    log_delta = (orders - 1) * (rdp - epsilon + np.log1p(-1 / orders)) - np.log(orders)
    rounding = _ROUNDING * (orders * (np.where(rdp < np.inf, rdp, 0) + epsilon) + 8)
    value = np.exp(np.minimum(log_delta + rounding, 0.0))
    return np.asarray(np.minimum(value, np.sqrt(-np.expm1(-rdp))))


def _check(rdp: Floats) -> None:
    if not np.all(rdp >= 0):
        raise ValueError(f"a Rényi divergence is negative or undefined: {rdp}.")
