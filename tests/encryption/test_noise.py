import math

import numpy as np
import pytest

from fedjax_private.encryption.noise import worst_error


def test_the_worst_error_by_hand():
    # N = 4096: ln(16 N) + 64 ln 2 = 55.4518, cos(pi / 16) = 0.980785; the root of
    # 4096 * 55.4518 over that is 485.918. Of the key 3.19 times that, 1550.08, of the
    # secret sqrt(2 / 3) times, 396.750; 64 (1550.08 + 39 * 397.750) = 1091989.
    assert worst_error(4096, 1, 1) == pytest.approx(1091989, rel=1e-5)
    assert worst_error(4096, 1, 32) == pytest.approx(32 * worst_error(4096, 1, 1))


def times(left, right):
    """The product of polynomials (N,) modulo X^N + 1, in float64."""
    size = len(left)
    turns = np.exp(1j * np.pi * np.arange(size) / size)
    values = np.fft.fft(left * turns) * np.fft.fft(right * turns)
    return (np.fft.ifft(values) / turns).real


@pytest.mark.parametrize("holders", [1, 8])
def test_chosen_random_numbers_stay_below_the_worst_error_but_not_far_below(holders):
    rng, size = np.random.default_rng(holders), 2048
    secret = rng.integers(-1, 2, (holders, size)).sum(axis=0).astype(float)
    error = np.rint(rng.normal(0, 3.19, (holders, size))).sum(axis=0)
    turns = np.exp(1j * np.pi * np.arange(size) / size)

    def aligned(polynomial):
        """Signs of the wave at the root where that polynomial is largest."""
        root = np.abs(np.fft.fft(polynomial * turns)).argmax()
        wave = np.cos(np.pi * (1 - 2 * root) * np.arange(size) / size)
        return np.where(wave < 0, -1.0, 1.0)

    worst = times(aligned(error), error) + times(39 * aligned(secret), secret) + 39
    bound = worst_error(size, holders, 1)
    assert 0.2 * bound < np.linalg.norm(worst) < bound
    honest = 3.19 * math.sqrt(size * (1 + 4 * size * holders / 3))
    assert np.linalg.norm(worst) > 15 * honest
