"""Prices against 30-digit quadrature of the definition (mpmath) and closed forms."""

import itertools
import math

import mpmath
import numpy as np
import pytest

from fedjax_private.privacy.accounting import (
    BandedMatrix,
    DistributedDiscreteGaussian,
    Gaussian,
    Laplace,
    Neighbors,
    NoPrivacy,
    Poisson,
    Pure,
    RandomizedResponse,
    RdpAccountant,
    Repeated,
    WithoutReplacement,
    ZCdp,
    price,
    sampled_gaussian,
)

ADD, REPLACE, ZERO = Neighbors.ADD_REMOVE, Neighbors.REPLACE_ONE, Neighbors.ZERO_OUT


def renyi(log_p, log_q, order, points):
    """(1/(a-1)) log of the integral of p^a q^(1-a), to 25 digits or so."""
    with mpmath.workdps(30):
        a = mpmath.mpf(order)
        moment = mpmath.quad(
            lambda x: mpmath.exp(a * log_p(x) + (1 - a) * log_q(x)), points
        )
        return float(mpmath.log(moment) / (a - 1))


def normal(mean, sigma):
    mean, sigma = mpmath.mpf(mean), mpmath.mpf(sigma)
    constant = mpmath.log(sigma * mpmath.sqrt(2 * mpmath.pi))
    return lambda x: -((x - mean) ** 2) / (2 * sigma**2) - constant


def mixed(q, left, right):
    q = mpmath.mpf(q)
    return lambda x: mpmath.log(
        (1 - q) * mpmath.exp(left(x)) + q * mpmath.exp(right(x))
    )


def line(sigma, order):
    ends = mpmath.linspace(-12 * sigma - 1, 2 * order + 12 * sigma + 1, 13)
    return [*ends]


def ours(event, orders, neighbors):
    return price(event, np.atleast_1d(orders).astype(float), neighbors)


@pytest.mark.parametrize("sigma", [0.6, 0.8, 1.0])
@pytest.mark.parametrize("order", [1.05, 1.5, 2.5, 4.3, 11.7])
def test_fractional_orders(order, sigma):
    centre = normal(0, sigma)
    mixture = mixed(0.1, centre, normal(1, sigma))
    exact = renyi(mixture, centre, order, line(sigma, order))
    [mine] = ours(Poisson(0.1, Gaussian(sigma)), order, ADD)
    assert exact <= mine <= exact * (1 + 1e-8)
    reverse = renyi(centre, mixture, order, line(sigma, order))
    assert reverse <= mine


@pytest.mark.parametrize(
    ("q", "sigma", "order"),
    [
        (0.1, 1.0, 1.5),
        (0.1, 0.7, 6.3),
        (0.01, 2.0, 30.0),
        (0.6, 1.5, 4.5),
        (0.9, 3, 12),
        (0.92, 19, 341),
    ],
)
def test_replaced_record_under_poisson(q, sigma, order):
    centre = normal(0, sigma)
    left = mixed(q, centre, normal(1, sigma))
    right = mixed(q, centre, normal(-1, sigma))
    exact = renyi(left, right, order, line(sigma, order))
    [mine] = ours(Poisson(q, Gaussian(sigma)), order, REPLACE)
    assert exact <= mine <= exact * (1 + 1e-8)


def test_opposite_contributions_are_the_worst():
    """No pair u, v of contributions within the bound beats u = -v, as claimed."""
    sigma, q, order = 0.8, 0.3, 3.5
    [mine] = ours(Poisson(q, Gaussian(sigma)), order, REPLACE)
    grid = np.linspace(-9, 12, 701)
    x, y = np.meshgrid(grid, grid)

    def density(u):
        def bell(mean):
            squared = (x - mean[0]) ** 2 + (y - mean[1]) ** 2
            return np.exp(-squared / (2 * sigma**2)) / (2 * math.pi * sigma**2)

        return (1 - q) * bell((0, 0)) + q * bell(u)

    generator = np.random.default_rng(0)
    for _ in range(12):
        angles = generator.uniform(0, 2 * math.pi, 2)
        radii = np.sqrt(generator.uniform(0.2, 1, 2))
        p, r = (
            density((length * math.cos(t), length * math.sin(t)))
            for length, t in zip(radii, angles, strict=True)
        )
        moment = (p**order * r ** (1 - order)).sum() * (grid[1] - grid[0]) ** 2
        assert math.log(moment) / (order - 1) <= mine


@pytest.mark.parametrize(
    ("q", "sigma", "order"), [(0.1, 2.0, 2.5), (0.02, 3.0, 8.0), (0.5, 6.0, 20.0)]
)
def test_without_replacement(q, sigma, order):
    """The two halves of the line, each with the direction that is worse there."""
    with mpmath.workdps(30):
        a, s = mpmath.mpf(order), mpmath.mpf(sigma)
        centre, shifted = normal(0, s), normal(2, s)
        mixture = mixed(q, centre, shifted)

        def excess(ratio):
            return ratio**a - 1 - a * (ratio - 1)

        def integrand(x):
            p, r = mpmath.exp(mixture(x)), mpmath.exp(centre(x))
            return r * excess(p / r) + p * excess(r / p)

        ends = [mpmath.mpf(1), *mpmath.linspace(2, 2 * order + 12 * sigma, 12)]
        moment = mpmath.quad(integrand, ends)
        exact = float(mpmath.log1p(moment) / (a - 1))
    batch = round(q * 1000)
    [mine] = ours(WithoutReplacement(1000, batch, Gaussian(sigma)), order, REPLACE)
    assert exact * (1 - 1e-12) <= mine <= exact * (1 + 1e-8)


@pytest.mark.parametrize("neighbors", [ADD, ZERO])
@pytest.mark.parametrize(
    ("q", "scale", "order"), [(0.1, 1.0, 1.5), (0.01, 0.3, 7.0), (0.5, 4.0, 33.3)]
)
def test_poisson_laplace(q, scale, order, neighbors):
    def laplace(mean):
        return lambda x: -abs(x - mean) / mpmath.mpf(scale) - mpmath.log(2 * scale)

    mixture = mixed(q, laplace(0), laplace(1))
    points = [-mpmath.inf, -10 * scale, 0, 0.5, 1, 1 + 10 * scale, mpmath.inf]
    points = [-400 * scale, *points[1:-1], 400 * scale]
    forward = renyi(mixture, laplace(0), order, points)
    backward = renyi(laplace(0), mixture, order, points)
    [mine] = ours(Poisson(q, Laplace(scale)), order, neighbors)
    assert forward >= backward
    assert forward * (1 - 1e-12) <= mine <= forward * (1 + 1e-7)


@pytest.mark.parametrize("neighbors", list(Neighbors))
@pytest.mark.parametrize("epsilon", [1e-3, 1.0, 8.0, 400.0])
def test_pure(epsilon, neighbors):
    orders = np.array([1.001, 1.5, 3.0, 40.0])
    with mpmath.workdps(400):
        p = 1 / (1 + mpmath.exp(-mpmath.mpf(epsilon)))
        exact = [
            float(
                mpmath.log(p**a * (1 - p) ** (1 - a) + (1 - p) ** a * p ** (1 - a))
                / (a - 1)
            )
            for a in map(mpmath.mpf, orders)
        ]
    mine = ours(Pure(epsilon), orders, neighbors)
    np.testing.assert_allclose(mine, exact, rtol=1e-8)
    assert np.all(mine <= epsilon)


@pytest.mark.parametrize("epsilon", [0.1, 2.0, 20.0])
@pytest.mark.parametrize("q", [0.001, 0.3])
def test_poisson_pure_is_sampled_randomised_response(epsilon, q):
    orders = np.array([1.5, 2.0, 8.0])
    p = 1 / (1 + math.exp(-epsilon))
    absent, present = np.array([1 - p, p]), np.array([p, 1 - p])
    sampled = (1 - q) * absent + q * present

    def divergence(left, right):
        moment = [(left**a * right ** (1 - a)).sum() for a in orders]
        return np.log(moment) / (orders - 1)

    exact = np.maximum(divergence(sampled, absent), divergence(absent, sampled))
    mine = ours(Poisson(q, Pure(epsilon)), orders, ADD)
    np.testing.assert_allclose(mine, exact, rtol=1e-7)


@pytest.mark.parametrize("order", [2, 3, 5])
def test_general_bound_under_poisson(order):
    """Zhu and Wang's theorem 5, term by term."""
    q, rho = 0.05, 0.2
    total = (1 - q) ** (order - 1) * (order * q - q + 1)
    total += math.comb(order, 2) * q**2 * (1 - q) ** (order - 2) * math.exp(2 * rho)
    for k in range(3, order + 1):
        total += (
            3
            * math.comb(order, k)
            * q**k
            * (1 - q) ** (order - k)
            * math.exp((k - 1) * k * rho)
        )
    [mine] = ours(Poisson(q, ZCdp(rho)), order, ADD)
    assert mine == pytest.approx(math.log(total) / (order - 1), rel=1e-8)
    # It bounds what is known exactly: a Gaussian with this rho.
    [exact] = ours(Poisson(q, Gaussian(1 / math.sqrt(2 * rho))), order, ADD)
    assert exact <= mine


@pytest.mark.parametrize("neighbors", [REPLACE, ZERO])
def test_joint_convexity_where_nothing_better_is_known(neighbors):
    q, rho, order = 0.05, 0.2, 3.5
    exact = math.log(1 - q + q * math.exp((order - 1) * order * rho)) / (order - 1)
    [mine] = ours(Poisson(q, ZCdp(rho)), order, neighbors)
    assert mine == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize("order", [2, 4])
def test_general_bound_without_replacement(order):
    q, rho = 0.02, 0.3
    e2 = math.exp(2 * rho)
    total = 1 + q**2 * math.comb(order, 2) * min(4 * (e2 - 1), 2 * e2)
    for k in range(3, order + 1):
        total += 2 * q**k * math.comb(order, k) * math.exp((k - 1) * k * rho)
    [mine] = ours(WithoutReplacement(100, 2, ZCdp(rho)), order, REPLACE)
    assert mine == pytest.approx(math.log(total) / (order - 1), rel=1e-8)


def test_chords_between_whole_orders():
    two, three = ours(Poisson(0.05, ZCdp(0.2)), [2.0, 3.0], ADD)
    [between] = ours(Poisson(0.05, ZCdp(0.2)), 2.25, ADD)
    assert between == pytest.approx((0.75 * two + 0.25 * 2 * three) / 1.25)


def test_the_series_and_the_integral_agree():
    for q, sigma in [(0.3, 0.5), (1e-7, 1.0), (0.01, 30.0), (0.99, 2.0), (0.004, 1.3)]:
        orders = np.array([2.0, 3.0, 7.0, 31.0, 200.0, 1024.0])
        series = sampled_gaussian.poisson(q, sigma, orders)  # at whole orders
        beside = np.nextafter(orders, np.inf)  # at all others
        integral = sampled_gaussian.poisson(q, sigma, beside)
        np.testing.assert_allclose(integral, series, rtol=2e-10)


def test_tiny_divergences_keep_their_digits():
    """E[f_2] = q^2 (e^(1/s^2) - 1), though 1 + that rounds to 1."""
    q, sigma = 1e-9, 50.0
    exact = q**2 * math.expm1(1 / sigma**2)
    assert exact < 1e-20
    [mine] = ours(Poisson(q, Gaussian(sigma)), 2.0, ADD)
    assert mine == pytest.approx(exact, rel=2e-9)
    below, above = ours(Poisson(q, Gaussian(sigma)), [1.999999, 2.000001], ADD)
    assert below == pytest.approx(exact, rel=2e-6)
    assert above == pytest.approx(exact, rel=2e-6)


def test_absurdly_little_noise_is_priced_upwards():
    orders = np.array([1.5, 2.0, 64.5])
    for neighbors in Neighbors:
        mine = ours(Poisson(0.1, Gaussian(1e-6)), orders, neighbors)
        full = ours(Gaussian(1e-6), orders, neighbors)
        assert np.all(mine <= full)
        assert np.all(mine >= full / 4.001)


def test_published_orientation():
    run = Repeated(Poisson(250 / 60000, Gaussian(1.3)), 720)
    at_18 = RdpAccountant(neighbors=ADD, orders=[18]).compose(run).spent(1e-5)
    assert at_18.epsilon == pytest.approx(0.5632, abs=5e-5)
    spent = RdpAccountant(neighbors=ADD).compose(run).spent(1e-5)
    assert spent.epsilon <= 0.5632
    assert spent.order == pytest.approx(18, abs=0.5)
    assert not spent.at_edge


def test_published_gaussian():
    """zCDP's rho = T / 2 sigma^2 converted over a fine grid of orders."""
    books = RdpAccountant(neighbors=ADD).compose(Gaussian(10), 80)
    orders = np.linspace(1.01, 100, 200_001)
    rho = 80 / 200
    exact = np.min(
        rho * orders + np.log1p(-1 / orders) - np.log(1e-5 * orders) / (orders - 1)
    )
    assert books.epsilon(1e-5) == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("neighbors", list(Neighbors))
def test_distributed_discrete_gaussian(neighbors):
    moved = neighbors.sensitivity * 12.0
    order = 7.0
    one = DistributedDiscreteGaussian(1, 20.0, 100, 12.0)
    [mine] = ours(one, order, neighbors)
    assert mine == pytest.approx(order * moved**2 / (2 * 20.0**2), rel=1e-8)
    many = DistributedDiscreteGaussian(10, 0.6, 100, 12.0)
    tau = 10 * sum(math.exp(-2 * math.pi**2 * 0.36 * k / (k + 1)) for k in range(1, 10))
    total = 0.6 * math.sqrt(10)
    candidates = (
        order * moved**2 / (2 * total**2) + tau * 100,
        order
        / 2
        * (
            moved**2 / total**2
            + 2 * tau * moved * min(moved, 10) / total
            + tau**2 * 100
        ),
        order / 2 * (moved / total + tau * 10) ** 2,
    )
    [mine] = ours(many, order, neighbors)
    assert mine == pytest.approx(min(candidates), rel=1e-8)
    [sampled] = ours(Poisson(0.001, one), 2.0, neighbors)
    assert sampled < ours(one, 2.0, neighbors)[0] / 50


def worst_sensitivity(matrix, separation):
    """The largest norm of a sum of |columns| at least `separation` apart."""
    steps = matrix.shape[0]
    best = 0.0
    for pattern in range(1, 2**steps):
        chosen = [i for i in range(steps) if pattern >> i & 1]
        if all(b - a >= separation for a, b in itertools.pairwise(chosen)):
            best = max(best, float(np.linalg.norm(np.abs(matrix)[:, chosen].sum(1))))
    return best


@pytest.mark.parametrize("neighbors", list(Neighbors))
@pytest.mark.parametrize(
    ("coefficients", "separation"),
    [((1.0, 0.5, 0.25), 3), ((1.0, -2.0), 4), ((1.0, 0.7, 0.6, 0.1), 2), ((2.0,), 1)],
)
def test_banded_matrix(coefficients, separation, neighbors):
    steps, sigma = 9, 3.0
    matrix = sum(np.diag(np.full(steps - i, c), -i) for i, c in enumerate(coefficients))
    moved = neighbors.sensitivity * worst_sensitivity(matrix, separation)
    event = BandedMatrix(sigma, coefficients, steps, separation)
    [mine] = ours(event, 5.0, neighbors)
    assert mine == pytest.approx(5 * moved**2 / (2 * sigma**2), rel=1e-12)


@pytest.mark.parametrize("neighbors", list(Neighbors))
def test_banded_matrix_sampled(neighbors):
    event = BandedMatrix(3.0, (1.0, 0.5), 11, 4, sampling_probability=0.1)
    norm = math.hypot(1, 0.5)
    same = Repeated(Poisson(0.1, Gaussian(3.0 / norm)), 3)
    orders = [1.5, 4.0]
    np.testing.assert_allclose(
        ours(event, orders, neighbors), ours(same, orders, neighbors)
    )
    # Without correlation it is DP-SGD with groups that take turns.
    plain = BandedMatrix(3.0, (1.0,), 8, 1, sampling_probability=0.1)
    dp_sgd = Repeated(Poisson(0.1, Gaussian(3.0)), 8)
    np.testing.assert_allclose(
        ours(plain, orders, neighbors), ours(dp_sgd, orders, neighbors)
    )


@pytest.mark.parametrize("neighbors", list(Neighbors))
def test_limits(neighbors):
    orders = [1.5, 8.0]
    for event in (
        Gaussian(0),
        Laplace(0),
        NoPrivacy(),
        Poisson(0.5, Gaussian(0)),
        Poisson(0.5, Laplace(0)),
        Poisson(0.5, NoPrivacy()),
        BandedMatrix(0, (1.0,), 2, 1),
        BandedMatrix(0, (1.0,), 2, 1, 0.5),
        DistributedDiscreteGaussian(3, 0, 5, 1.0),
    ):
        assert np.all(np.isinf(ours(event, orders, neighbors))), event
        assert (
            RdpAccountant(neighbors=neighbors).compose(event).epsilon(1e-5) == math.inf
        )
        assert RdpAccountant(neighbors=neighbors).compose(event).delta(3.0) == 1.0
    for event in (
        Poisson(0, Gaussian(0)),
        Poisson(0, NoPrivacy()),
        Repeated(NoPrivacy(), 0),
        ZCdp(0),
        Pure(0),
        BandedMatrix(1, (1.0,), 0, 1),
        BandedMatrix(0, (1.0,), 2, 1, 0),
        DistributedDiscreteGaussian(3, 0, 5, 0),
    ):
        assert np.all(ours(event, orders, neighbors) == 0), event
        assert RdpAccountant(neighbors=neighbors).compose(event).epsilon(1e-5) == 0
    np.testing.assert_allclose(
        ours(Poisson(1, Laplace(2)), orders, neighbors),
        ours(Laplace(2), orders, neighbors),
    )


def test_without_replacement_limits():
    orders = [1.5, 8.0]
    assert np.all(ours(WithoutReplacement(10, 0, NoPrivacy()), orders, REPLACE) == 0)
    assert np.all(
        np.isinf(ours(WithoutReplacement(10, 1, Gaussian(0)), orders, REPLACE))
    )
    np.testing.assert_allclose(
        ours(WithoutReplacement(10, 10, Gaussian(2)), orders, REPLACE),
        ours(Gaussian(2), orders, REPLACE),
    )


def test_randomised_response_limits():
    assert np.all(np.isinf(ours(RandomizedResponse(0, 3), [2.0], REPLACE)))
    assert np.all(ours(RandomizedResponse(1, 3), [2.0], REPLACE) == 0)


def test_nested_sampling_is_one_sampling():
    nested = Poisson(0.2, Poisson(0.05, Gaussian(1.1)))
    np.testing.assert_allclose(
        ours(nested, [1.5, 4.0], ADD), ours(Poisson(0.01, Gaussian(1.1)), [1.5, 4], ADD)
    )


def test_sampled_composites_fall_back_to_general_bounds():
    """Two rounds on one sample cost more than two rounds on fresh samples."""
    one_sample = Poisson(0.05, Repeated(Laplace(2.0), 3))
    fresh = Repeated(Poisson(0.05, Laplace(2.0)), 3)
    for neighbors in Neighbors:
        whole = ours(Repeated(Laplace(2.0), 3), [3.0], neighbors)
        once = ours(one_sample, [3.0], neighbors)
        assert ours(fresh, [3.0], neighbors) <= once <= whole
