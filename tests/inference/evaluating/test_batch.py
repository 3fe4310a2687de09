import numpy as np
import pytest

from fedjax_private.inference.compiling.canonical import Step
from fedjax_private.inference.evaluating.batch import Weights


@pytest.mark.parametrize("bits", [10, 24, 30, 45])
@pytest.mark.parametrize("filled", [0.05, 1.0])
def test_products_modulo_a_prime_are_exact(filled, bits):
    random = np.random.default_rng(0)
    matrix = random.uniform(-1, 1, (9, 400))
    matrix[random.uniform(size=matrix.shape) >= filled] = 0.0
    step = Step(matrix, np.zeros(9), np.empty((0, 9)), 1.0, 1.0)
    weights, modulus = Weights.of(step, 2.0**bits), 2147352577
    residues = random.integers(modulus - 50, modulus, (400, 8)).astype(np.uint32)
    integers = np.rint(matrix * 2.0**bits).astype(np.int64).astype(object)
    expected = integers @ residues.astype(object) % modulus
    np.testing.assert_array_equal(weights.times(residues, modulus), expected)
