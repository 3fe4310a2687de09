"""Epsilons worked out without the library's accountant."""

import math

import numpy as np
from scipy import optimize, stats


def rho_epsilon(rho, delta=1e-5):
    """From rho-zCDP by Canonne, Kamath, Steinke 2020, proposition 12, at any order."""

    def at(log_slope):
        order = 1 + math.exp(log_slope)
        left = math.log(1 / delta) - math.log(order)
        return order * rho + math.log1p(-1 / order) + left / (order - 1)

    return optimize.minimize_scalar(at, bounds=(-9, 9), method="bounded").fun


def gaussian_epsilon(noise_multiplier, steps, delta=1e-5):
    """Of so many Gaussian steps without sampling, of sensitivity 1."""
    return rho_epsilon(steps / (2 * noise_multiplier**2), delta)


def sampled_epsilon(probability, noise_multiplier, steps, delta=1e-5):
    """Of Poisson-sampled steps: Mironov, Talwar, Zhang 2019, 3.3, by quadrature."""
    q, z = probability, noise_multiplier
    x = np.linspace(-20, 40, 6001)
    density = stats.norm(scale=z).pdf(x) * (x[1] - x[0])
    ratio = 1 - q + q * np.exp((2 * x - 1) / (2 * z**2))

    def at(order):
        rdp = steps * math.log(density @ ratio**order) / (order - 1)
        left = math.log(delta * order) / (order - 1)
        return rdp + math.log1p(-1 / order) - left

    return min(map(at, np.arange(1.5, 12, 0.02)))
