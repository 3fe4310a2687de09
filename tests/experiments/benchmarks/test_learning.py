"""The floating-point operations that the machine's limit is computed from."""

import pytest

from experiments.benchmarks import learning


def test_operations_are_those_of_the_layers():
    """tutorial_cnn by hand: multiply-adds forward, for weights, and for inputs."""
    conv1, conv2 = 14 * 14 * 64 * 16, 5 * 5 * 256 * 32
    dense1, dense2 = 512 * 32, 32 * 10
    expected = 2 * (2 * conv1 + 3 * conv2 + 3 * dense1 + 3 * dense2)
    counted = learning.operations(learning.build_model("tutorial_cnn"))
    assert counted == pytest.approx(expected, rel=1e-3)
