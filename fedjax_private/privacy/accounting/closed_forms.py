"""Rényi divergences in closed form, one function per mechanism.

All take orders above 1 as a float64 vector and return one value for each.
"""

import math

import numpy as np
from scipy import special

from fedjax_private.privacy.accounting.events import (
    BandedMatrix,
    DistributedDiscreteGaussian,
    Gaussian,
    Laplace,
    Neighbors,
    NoPrivacy,
    Poisson,
    Pure,
    RandomizedResponse,
    Repeated,
    ZCdp,
)
from fedjax_private.privacy.accounting.registry import (
    CoarseGrid,
    Floats,
    Price,
    Unsupported,
)
from fedjax_private.privacy.accounting.sampled_gaussian import MARGIN, h_near_zero


def no_privacy(
    event: NoPrivacy, orders: Floats, neighbors: Neighbors, price: Price
) -> Floats:
    """Infinite at every order."""
    return np.full_like(orders, math.inf)


def gaussian(
    event: Gaussian, orders: Floats, neighbors: Neighbors, price: Price
) -> Floats:
    """a d^2 / (2 sigma^2) for a sum that moves by d C in L2 norm.

    Formal guarantees:
        Exact (Mironov 2017, proposition 7), in real arithmetic; d is 1 for adding,
        removing or zeroing out a record and 2 for replacing it.
    """
    if event.noise_multiplier == 0:
        return np.full_like(orders, math.inf)
    return orders * (neighbors.sensitivity / event.noise_multiplier) ** 2 / 2


def zcdp(event: ZCdp, orders: Floats, neighbors: Neighbors, price: Price) -> Floats:
    """rho a.

    Formal guarantees:
        The definition of rho-zCDP (Bun, Steinke 2016), for the relation under which
        the event's rho was proved.
    """
    return event.rho * orders


def laplace(
    event: Laplace, orders: Floats, neighbors: Neighbors, price: Price
) -> Floats:
    """The divergence of two Laplace distributions at distance e, in units of scale.

    Formal guarantees:
        Exact for one coordinate (Mironov 2017, proposition 6); with several whose
        shifts add up to at most e, the sum of the coordinates' divergences is largest
        where one takes the whole shift, as the divergence is convex in the shift and 0
        at 0.
    """
    if event.noise_multiplier == 0:
        return np.full_like(orders, math.inf)
    e = neighbors.sensitivity / event.noise_multiplier
    slope = orders - 1
    # With h(x) = e^x - 1 - x >= 0, and the linear terms cancelling exactly,
    # a e^((a-1)e) + (a-1) e^(-a e) - (2a-1) = a h((a-1)e) + (a-1) h(-a e).
    with np.errstate(over="ignore", invalid="ignore"):
        excess = orders * _h(slope * e) + slope * _h(-orders * e)
        rdp = np.log1p(excess / (2 * orders - 1)) / slope
    limit = e + np.log(orders / (2 * orders - 1)) / slope
    rdp = np.where(slope * e > 500, limit, rdp) * (1 + MARGIN)
    return np.asarray(np.minimum(rdp, e), dtype=np.float64)


def laplace_pure(event: Laplace, neighbors: Neighbors) -> float:
    """The distance of the means over the scale (Dwork et al. 2006)."""
    if event.noise_multiplier == 0:
        return math.inf
    return neighbors.sensitivity / event.noise_multiplier


def pure(event: Pure, orders: Floats, neighbors: Neighbors, price: Price) -> Floats:
    """The divergence of two-valued randomised response.

    log(p^a (1-p)^(1-a) + (1-p)^a p^(1-a)) / (a-1) with p = e^e / (1 + e^e).

    Formal guarantees:
        The best bound for any epsilon-DP mechanism, which is a post-processing of
        randomised response (Kairouz, Oh, Viswanath 2015, theorem 2).
    """
    e = event.epsilon
    if e > 300:
        return np.full_like(orders, e)
    # The ratio is e^e or e^-e under the reference (1-p, p), so the excess over 1 is
    # (1-p) f_a(e^e) + p f_a(e^-e), with f_a as in `sampled_gaussian`.
    slope = orders - 1
    with np.errstate(over="ignore", invalid="ignore"):
        up = slope * _h(np.full_like(orders, -e)) + _h(slope * e)
        down = slope * _h(np.full_like(orders, e)) + _h(-slope * e)
        # (1-p) e^e = p and p e^-e = 1-p.
        excess = special.expit(e) * up + special.expit(-e) * down
        rdp = np.log1p(excess) / slope
    limit = e + special.log_expit(e) / slope
    # The second term adds e^-(2a-1)e to the sum: below the margin here.
    return np.minimum(np.where(slope * e > 500, limit, rdp) * (1 + MARGIN), e)


def randomized_response(
    event: RandomizedResponse, orders: Floats, neighbors: Neighbors, price: Price
) -> Floats:
    """The divergence of two reports, worst direction.

    Formal guarantees:
        Exact. REPLACE_ONE: two records in different buckets. ZERO_OUT: a record
        against one that reports a uniformly random bucket.
    """
    keep, other = _response(event)
    if event.num_buckets == 1 or event.noise_parameter == 1:
        return np.zeros_like(orders)
    if other == 0:
        return np.full_like(orders, math.inf)
    rest = event.num_buckets - 1
    if neighbors is Neighbors.REPLACE_ONE:
        pairs = [([keep, other, other * (rest - 1)], [other, keep, other * (rest - 1)])]
    else:
        uniform = [1 / event.num_buckets, rest / event.num_buckets]
        pairs = [([keep, other * rest], uniform), (uniform, [keep, other * rest])]
    worst = np.max([_discrete(p, q, orders) for p, q in pairs], axis=0)
    return np.asarray(worst * (1 + MARGIN), dtype=np.float64)


def randomized_response_pure(event: RandomizedResponse, neighbors: Neighbors) -> float:
    """The largest log ratio of a report's probabilities."""
    keep, other = _response(event)
    if event.num_buckets == 1 or event.noise_parameter == 1:
        return 0.0
    if other == 0:
        return math.inf
    if neighbors is Neighbors.REPLACE_ONE:
        return math.log(keep / other)
    return max(math.log(keep * event.num_buckets), -math.log(event.noise_parameter))


def distributed_discrete_gaussian(
    event: DistributedDiscreteGaussian,
    orders: Floats,
    neighbors: Neighbors,
    price: Price,
) -> Floats:
    """A sum of n discrete Gaussians is close to a discrete Gaussian.

    With D the L2 sensitivity (twice as large for replacing a record), D1 <= D min(D,
    sqrt d) the L1 sensitivity of an integer vector, s = sigma sqrt n and
    tau = 10 sum_{k<n} e^(-2 pi^2 sigma^2 k/(k+1)), the least of
    a D^2 / 2s^2 + tau d, a/2 (D^2/s^2 + 2 tau D1/s + tau^2 d) and
    a/2 (D/s + tau sqrt d)^2.

    Formal guarantees:
        Kairouz, Liu, Steinke 2021, "The Distributed Discrete Gaussian Mechanism for
        Federated Learning with Secure Aggregation", proposition 14, for exact samples
        and sigma >= 1/2. A sampler's distance from the exact law belongs in delta.

    Raises:
        CoarseGrid: the scale is below 1/2.
    """
    if event.sensitivity == 0:
        return np.zeros_like(orders)
    if event.scale == 0:
        return np.full_like(orders, math.inf)
    if event.scale < 0.5:
        raise CoarseGrid(
            f"DistributedDiscreteGaussian: the bound needs a scale of 0.5 or more on "
            f"the integer grid, got {event.scale:g}; use a finer grid or more noise."
        )
    d = event.dimension
    moved = neighbors.sensitivity * event.sensitivity
    k = np.arange(1, min(event.shares, 1_000_000), dtype=np.float64)
    exponent = -2 * (math.pi * event.scale) ** 2
    tau = 10 * float(np.exp(exponent * (k / (k + 1))).sum())
    # Past the millionth share every term is within a factor 1 + 1e-5 of the last one.
    tau += 10 * max(event.shares - 1_000_000, 0) * math.exp(exponent * 0.999999)
    total = event.scale * math.sqrt(event.shares)
    l2 = moved / total
    l1 = moved * min(moved, math.sqrt(d)) / total
    return np.asarray(
        np.minimum(
            orders * l2**2 / 2 + tau * d,
            orders
            / 2
            * min(l2**2 + 2 * tau * l1 + tau**2 * d, (l2 + tau * math.sqrt(d)) ** 2),
        )
        * (1 + MARGIN)
    )


def banded_matrix(
    event: BandedMatrix, orders: Floats, neighbors: Neighbors, price: Price
) -> Floats:
    """A Gaussian mechanism whose sensitivity is that of the matrix C.

    Formal guarantees:
        Unsampled: C x + z is a Gaussian mechanism, adaptively chosen x included
        (Denisov et al. 2022, "Improved Differential Privacy for SGD via Optimal
        Private Linear Operators on Adaptive Streams"), whose sensitivity under
        participations that are b or more steps apart is the largest norm of a sum of
        such columns of C. Columns at least as many steps apart as there are bands are
        orthogonal, so their norms add in squares (Choquette-Choo et al. 2023,
        "(Amplified) Banded Matrix Factorization", on min-separated participation).
        Closer ones need coefficients that do not grow in magnitude: then columns 0, b,
        2b, ... are the worst (Kalinin, Lampert 2024, "Banded Square Root Matrix
        Factorization", theorem 2), taken of absolute values, which bound the inner
        products.
        Sampled: the run costs at most ceil(steps / b) Poisson-sampled Gaussians with
        the largest column norm as their sensitivity (the same paper's amplification
        theorem): C's rows fall into blocks of b, and in each a record may enter at one
        step only, moving that block alone by at most the norm. This holds for the
        cyclic scheme that `BandedMatrix` describes.

    Raises:
        Unsupported: participations are closer than the bands and either the run is
            sampled or the coefficients grow in magnitude.
    """
    column = np.abs(event.coefficients)[: event.steps]
    overlap = event.min_separation < len(np.trim_zeros(column, "b"))
    rounds = -(-event.steps // event.min_separation)
    if event.steps == 0 or event.sampling_probability == 0 or not column.any():
        return np.zeros_like(orders)
    if event.noise_multiplier == 0:
        return np.full_like(orders, math.inf)
    if event.sampling_probability < 1:
        if overlap:
            raise Unsupported(
                "BandedMatrix: a sampled run is priced only where min_separation is "
                "at least the number of bands; set sampling_probability to 1 or use "
                "fewer bands."
            )
        norm = float(np.linalg.norm(column))
        one = Poisson(
            event.sampling_probability, Gaussian(event.noise_multiplier / norm)
        )
        return price(Repeated(one, rounds), orders, neighbors)
    if overlap and np.any(np.diff(column) > 0):
        raise Unsupported(
            "BandedMatrix: with participations closer than the bands, coefficients "
            "must not grow in magnitude; use fewer bands or a larger min_separation."
        )
    if overlap:
        summed = np.zeros(event.steps)
        for start in range(0, event.steps, event.min_separation):
            length = min(column.size, event.steps - start)
            summed[start : start + length] += column[:length]
        squared = float(summed @ summed)
    else:
        partial = np.cumsum(column**2)
        starts = np.arange(0, event.steps, event.min_separation)
        squared = float(
            partial[np.minimum(event.steps - starts, column.size) - 1].sum()
        )
    sensitivity = neighbors.sensitivity**2 * squared
    return orders * sensitivity / (2 * event.noise_multiplier**2)


def _h(x: Floats) -> Floats:
    """e^x - 1 - x, precise near 0."""
    with np.errstate(over="ignore"):
        value = np.expm1(x) - x
    small = np.abs(x) < 0.03
    value[small] = h_near_zero(x[small])
    return value


def _response(event: RandomizedResponse) -> tuple[float, float]:
    other = event.noise_parameter / event.num_buckets
    return 1 - event.noise_parameter + other, other


def _discrete(p: list[float], q: list[float], orders: Floats) -> Floats:
    """The Rényi divergence of two distributions on finitely many points."""
    left = np.array([a for a, b in zip(p, q, strict=True) if b > 0])
    right = np.array([b for b in q if b > 0])
    loss = np.log(left / right)
    slope = (orders - 1)[:, np.newaxis]
    with np.errstate(over="ignore"):
        moment = right * np.exp(loss) * (slope * _h(-loss) + _h(slope * loss))
        exact = np.log1p(moment.sum(axis=1)) / slope[:, 0]
    # Where the powers overflow, plain summation of positive terms is precise.
    plain = special.logsumexp(slope * loss, b=left, axis=1) / slope[:, 0]
    return np.where(slope[:, 0] * np.abs(loss).max() > 500, plain, exact)
