"""Amplification by sampling: an event's own theorem, else general bounds."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from fedjax_private.privacy.accounting import sampled_gaussian
from fedjax_private.privacy.accounting.closed_forms import laplace as laplace_rdp
from fedjax_private.privacy.accounting.events import (
    BandedMatrix,
    Event,
    Gaussian,
    Laplace,
    Neighbors,
    Poisson,
    WithoutReplacement,
)
from fedjax_private.privacy.accounting.registry import (
    Floats,
    Price,
    Unsupported,
    flatten,
    price,
    pure_epsilon,
    registered_price,
)
from fedjax_private.privacy.accounting.sampled_gaussian import (
    MARGIN,
    log_excess,
    log_mixture,
)

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)


def poisson(
    event: Poisson, orders: Floats, neighbors: Neighbors, price: Price
) -> Floats:
    """RDP of an event on a Poisson sample.

    A composition of Gaussians on the same sample is one Gaussian, and a Poisson sample
    of a Poisson sample is one Poisson sample. A single event with an amplification
    theorem of its own uses that; all other events use the least of the general bounds
    below that hold under the relation.

    Formal guarantees:
        Gaussians: see `sampled_gaussian`; Gaussians with multipliers s_i on the same
        data are dominated by one with 1/s^2 = sum 1/s_i^2 (Dong, Roth, Su 2022,
        corollary 3.3), and sampling keeps the dominance (Zhu, Dong, Wang 2022, theorem
        11). General: joint convexity under any relation; under ADD_REMOVE also Zhu,
        Wang 2019, theorem 5, and post-processing of randomised response where the
        event is purely private.

    Raises:
        Unsupported: the event inside has no price, or does not combine with sampling.
    """
    q = event.sampling_probability
    if q == 0:
        return np.zeros_like(orders)
    if q == 1:
        return price(event.event, orders, neighbors)
    single = _single(event.event, "Poisson")
    if isinstance(single, Poisson):
        nested = Poisson(q * single.sampling_probability, single.event)
        return price(nested, orders, neighbors)
    own = registered_price(single, neighbors).poisson if single else None
    if own is not None:
        return np.asarray(own(single, q, orders, neighbors), dtype=np.float64)
    return _general_poisson(event.event, q, orders, neighbors)


def poisson_sum(event: Event, q: float, orders: Floats, neighbors: Neighbors) -> Floats:
    """A Poisson-sampled noisy sum, where a zeroed record adds as much as an absent one.

    Formal guarantees:
        The general bounds of `poisson`, with those of ADD_REMOVE under ZERO_OUT too.
    """
    if neighbors is Neighbors.ZERO_OUT:
        neighbors = Neighbors.ADD_REMOVE
    return _general_poisson(event, q, orders, neighbors)


def _general_poisson(
    event: Event, q: float, orders: Floats, neighbors: Neighbors
) -> Floats:
    bounds = [_convexity(q, price(event, orders, neighbors), orders)]
    # The other two compare the drawn record with an absent one. In general only
    # ADD_REMOVE does: RandomizedResponse, for one, reports something for a zeroed
    # record and nothing for an absent one.
    if neighbors is Neighbors.ADD_REMOVE:
        pure = pure_epsilon(event, neighbors)
        if pure < math.inf:
            bounds.append(_sampled_pure(q, pure, orders))
        whole = np.arange(2.0, math.ceil(orders.max()) + 1)
        at_whole = price(event, whole, neighbors)
        bounds.append(_zhu_wang(q, at_whole, orders))
    return np.asarray(np.min(bounds, axis=0), dtype=np.float64)


def poisson_pure(event: Poisson, neighbors: Neighbors) -> float:
    """Epsilon at delta 0: log(1 + q (e^e - 1)), or e itself under other relations.

    Formal guarantees:
        ADD_REMOVE: Balle, Barthe, Gaboardi 2018, theorem 8. Otherwise the outputs
        without the record may be unlike those with it or its replacement, so that
        nothing is gained at delta 0.
    """
    q = event.sampling_probability
    if q == 0:
        return 0.0
    inner = pure_epsilon(event.event, neighbors)
    return _amplified(q, inner) if neighbors is Neighbors.ADD_REMOVE else inner


def without_replacement_pure(event: WithoutReplacement, neighbors: Neighbors) -> float:
    """Epsilon at delta 0: log(1 + q (e^e - 1)).

    Formal guarantees:
        Balle, Barthe, Gaboardi 2018, theorem 9, under REPLACE_ONE.
    """
    q = event.batch / event.population
    return _amplified(q, pure_epsilon(event.event, neighbors)) if q else 0.0


def without_replacement(
    event: WithoutReplacement, orders: Floats, neighbors: Neighbors, price: Price
) -> Floats:
    """RDP of an event on a fixed number of records, under REPLACE_ONE.

    Formal guarantees:
        Gaussians: see `sampled_gaussian.without_replacement`. General: the lesser of
        Wang, Balle, Kasiviswanathan 2019, theorem 9, and joint convexity.

    Raises:
        Unsupported: the event inside has no price, or does not combine with sampling.
    """
    q = event.batch / event.population
    if q == 0:
        return np.zeros_like(orders)
    if q == 1:
        return price(event.event, orders, neighbors)
    single = _single(event.event, "WithoutReplacement")
    own = registered_price(single, neighbors).without_replacement if single else None
    if own is not None:
        return np.asarray(own(single, q, orders, neighbors), dtype=np.float64)
    inner = price(event.event, orders, neighbors)
    whole = np.arange(2.0, math.ceil(orders.max()) + 1)
    at_whole = price(event.event, whole, neighbors)
    pure = pure_epsilon(event.event, neighbors)
    general = _wang(q, at_whole, pure, orders)
    return np.asarray(np.minimum(general, _convexity(q, inner, orders)))


def poisson_gaussian(
    event: Gaussian, q: float, orders: Floats, neighbors: Neighbors
) -> Floats:
    """The Poisson-sampled Gaussian mechanism; see `sampled_gaussian`."""
    if neighbors is Neighbors.REPLACE_ONE:
        return sampled_gaussian.poisson_replace_one(q, event.noise_multiplier, orders)
    return sampled_gaussian.poisson(q, event.noise_multiplier, orders)


def poisson_laplace(
    event: Laplace, q: float, orders: Floats, neighbors: Neighbors
) -> Floats:
    """The Poisson-sampled Laplace mechanism.

    Formal guarantees:
        ADD_REMOVE and ZERO_OUT: the exact divergence between (1-q) Lap(0) + q Lap(1)
        and Lap(0), the worse direction (Zhu, Wang 2019, theorem 8). One coordinate is
        the worst case: for a given L1 norm of the shift, moving it onto the coordinate
        that has the larger share never lowers a hockey-stick divergence. REPLACE_ONE:
        joint convexity.
    """
    inner = laplace_rdp(event, orders, neighbors, price)
    convexity = _convexity(q, inner, orders)
    scale = event.noise_multiplier
    if neighbors is Neighbors.REPLACE_ONE or scale < 1e-3:
        return convexity
    # log of Lap(1) over Lap(0) is -1/b left of 0, 1/b right of 1, and linear between:
    # two atoms and one integral, whose integrand is analytic around each panel.
    panels = math.ceil(1 / scale)
    x = ((np.arange(panels)[:, np.newaxis] + (_NODES + 1) / 2) / panels).ravel()
    weight = np.tile(_WEIGHTS, panels) / (2 * panels)
    ratio = np.concatenate([[-1 / scale], (2 * x - 1) / scale, [1 / scale]])
    mass = np.concatenate(
        [
            [math.log(0.5)],
            np.log(weight / (2 * scale)) - x / scale,
            [math.log(0.5) - 1 / scale],
        ]
    )
    rdp = _worse_direction(log_mixture(ratio, q), mass, orders)
    return np.asarray(np.minimum(rdp, convexity))


def _amplified(q: float, e: float) -> float:
    return float(log_mixture(np.array([e]), q)[0]) if 0 < q < 1 else e


def _convexity(q: float, inner: Floats, orders: Floats) -> Floats:
    """log(1 - q + q e^((a-1) inner)) / (a-1).

    The sampled outputs on neighbours are mixtures with the same weights, whose
    components agree unless the record is drawn, which has probability q; the moment of
    order a is jointly convex (van Erven, Harremoes 2014, theorem 13 and its proof).
    """
    slope = orders - 1
    with np.errstate(invalid="ignore"):
        rdp = log_mixture(np.where(np.isfinite(inner), slope * inner, 0.0), q) / slope
    return np.where(np.isfinite(inner), rdp * (1 + MARGIN), math.inf)


def _sampled_pure(q: float, e: float, orders: Floats) -> Floats:
    """Poisson sampling of an e-DP event, under ADD_REMOVE.

    An e-DP pair is a post-processing of A = (1-p, p), B = (p, 1-p) with p = e^e /
    (1 + e^e), in some order (Kairouz, Oh, Viswanath 2015), so the sampled pair is one
    of (1-q) A + q B and A. Both directions; A's own is symmetric.
    """
    loss = log_mixture(np.array([e, -e]), q)
    mass = np.array([special.log_expit(-e), special.log_expit(e)])
    return _worse_direction(loss, mass, orders)


def _worse_direction(loss: Floats, mass: Floats, orders: Floats) -> Floats:
    """The larger divergence of two laws on points of log ratio `loss`, log mass `mass`.

    The mass is that under the law in the ratio's denominator.
    """
    forward = special.logsumexp(log_excess(loss, orders) + mass, axis=1)
    backward = special.logsumexp(log_excess(-loss, orders) + loss + mass, axis=1)
    rdp = np.logaddexp(0.0, np.maximum(forward, backward)) / (orders - 1)
    return np.asarray(rdp * (1 + MARGIN), dtype=np.float64)


def _zhu_wang(q: float, inner: Floats, orders: Floats) -> Floats:
    """RDP of a Poisson-sampled event from its RDP at 2, 3, ... ceil(largest order).

    Zhu, Wang 2019, "Poisson Subsampled Rényi Differential Privacy", theorem 5:
    (1-q)^(a-1) (aq - q + 1) + C(a,2) q^2 (1-q)^(a-2) e^inner(2)
    + 3 sum_{k=3..a} C(a,k) q^k (1-q)^(a-k) e^((k-1) inner(k)).
    With all factors 3 replaced by 1 and all inner(k) by 0 the sum is 1; subtracting
    that leaves positive terms only.
    """
    k = np.arange(2.0, inner.size + 2)
    growth = (k - 1) * inner
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.where(
            k == 2,
            growth + np.log(-np.expm1(-growth)),
            math.log(3) + growth + np.log1p(-np.exp(-growth) / 3),
        )
    excess = np.where(np.isinf(growth), math.inf, excess)
    return _from_whole_orders(excess, q, math.log1p(-q), orders)


def _wang(q: float, inner: Floats, pure: float, orders: Floats) -> Floats:
    """RDP of an event without replacement from its RDP at 2, 3, ... and at order inf.

    Wang, Balle, Kasiviswanathan 2019, "Subsampled Rényi Differential Privacy and
    Analytical Moments Accountant", theorem 9: 1 + q^2 C(a,2) min(4 (e^inner(2) - 1),
    e^inner(2) min(2, (e^pure - 1)^2)) + sum_{k=3..a} q^k C(a,k) e^((k-1) inner(k))
    min(2, (e^pure - 1)^k).
    """
    k = np.arange(2.0, inner.size + 2)
    growth = (k - 1) * inner
    with np.errstate(divide="ignore"):
        lift = np.log(np.expm1(min(pure, 700.0)))
    excess = growth + np.minimum(math.log(2), k * lift)
    with np.errstate(divide="ignore", invalid="ignore"):
        second = math.log(4) + growth[0] + np.log(-np.expm1(-growth[0]))
    if math.isfinite(growth[0]):
        excess[0] = min(excess[0], second)
    return _from_whole_orders(excess, q, 0.0, orders)


def _from_whole_orders(
    excess: Floats, q: float, log_rest: float, orders: Floats
) -> Floats:
    """RDP at any order, from sum_k C(a,k) q^k e^((a-k) log_rest + excess(k)).

    The sum over k = 2..a is the moment's excess over 1 at a whole order a. (a-1) RDP(a)
    is convex in a (van Erven, Harremoes 2014, corollary 2) and 0 at order 1, so a chord
    between upper bounds is an upper bound.
    """
    low, high = np.floor(orders), np.ceil(orders)
    at_whole = {1: 0.0}
    for a in {*low.astype(int), *high.astype(int)} - {1}:
        k = np.arange(2.0, a + 1)
        terms = (
            excess[: a - 1] + _log_choose(a, k) + k * math.log(q) + (a - k) * log_rest
        )
        at_whole[a] = float(np.logaddexp(0.0, special.logsumexp(terms))) * (1 + MARGIN)
    left = np.array([at_whole[int(a)] for a in low])
    right = np.array([at_whole[int(a)] for a in high])
    share = orders - low
    with np.errstate(invalid="ignore"):
        value = np.where(share == 0, left, (1 - share) * left + share * right)
    return np.asarray(value / (orders - 1), dtype=np.float64)


def _log_choose(n: int, k: npt.NDArray[np.floating[Any]]) -> Floats:
    log_gamma = special.gammaln
    return np.asarray(log_gamma(n + 1) - log_gamma(k + 1) - log_gamma(n - k + 1))


def _single(event: Event, sampler: str) -> Event | None:
    """The one event that a composition on a single sample amounts to, if any.

    Raises:
        Unsupported: a part of the composition does not combine with the sampler.
    """
    parts = flatten(event)
    for part in parts:
        if isinstance(part, BandedMatrix):
            raise Unsupported(
                f"{sampler} does not combine with BandedMatrix; a sampled run is "
                "stated by its own sampling_probability."
            )
        if isinstance(part, WithoutReplacement):
            raise Unsupported(
                f"{sampler} does not combine with WithoutReplacement, whose population "
                "would be random; Poisson samples of Poisson samples are supported."
            )
    if parts and all(isinstance(part, Gaussian) for part in parts):
        total = 0.0
        for part, count in parts.items():
            assert isinstance(part, Gaussian)
            if part.noise_multiplier == 0:
                return Gaussian(0)
            total += count / part.noise_multiplier**2
        return Gaussian(1 / math.sqrt(total))
    return next(iter(parts)) if list(parts.values()) == [1] else None
