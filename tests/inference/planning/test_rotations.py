import numpy as np
import pytest

from fedjax_private.inference.planning.rotations import Diagonals, addition_chain


@pytest.mark.parametrize(
    ("outputs", "inputs", "period"),
    [(3, 8, 8), (8, 3, 4), (5, 7, 64), (16, 16, 16)],
)
def test_diagonals_multiply(outputs, inputs, period):
    random = np.random.default_rng(0)
    matrix = random.normal(size=(outputs, inputs))
    matrix[random.uniform(size=matrix.shape) < 0.5] = 0.0
    diagonals, slots = Diagonals.of(matrix, period), 64
    x = random.normal(size=inputs)
    row = np.zeros(period)
    row[:inputs] = x
    held = np.tile(row, slots // period)
    total = np.zeros(slots)
    for diagonal in diagonals.diagonals:
        baby = diagonal % diagonals.block
        product = diagonals.weights(matrix, diagonal, slots) * np.roll(held, -baby)
        total += np.roll(product, baby - diagonal)
    for step in diagonals.doublings:
        total = total + np.roll(total, -step)
    expected = np.zeros(diagonals.height)
    expected[:outputs] = matrix @ x
    np.testing.assert_allclose(
        total.reshape(-1, diagonals.height) - expected, 0, atol=1e-12
    )
    used = {k % diagonals.block for k in diagonals.diagonals} | set(diagonals.doublings)
    assert used - {0} <= diagonals.rotations


def test_zero_diagonals_are_skipped():
    diagonals = Diagonals.of(np.eye(8), 8)
    assert diagonals.diagonals == (0,)
    assert not diagonals.rotations


@pytest.mark.parametrize("count", range(1, 40))
def test_addition_chains_add_neighbours(count):
    random = np.random.default_rng(0)
    blocks = random.normal(size=64)
    total, first = blocks.copy(), blocks
    for step, whole in addition_chain(count):
        total = np.roll(total, -step) + (total if whole else first)
    np.testing.assert_allclose(total[0], blocks[:count].sum())
