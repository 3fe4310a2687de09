import numpy as np
import pytest

from fedjax_private import algorithms, clients, simulation
from tests.algorithms.quadratics import (
    START,
    loss,
    rounds,
    shards,
    sums,
    uneven,
    weights,
)


def fedprox(config, mu):
    return algorithms.fedprox(
        loss,
        config,
        mu,
        clients.by_examples(3.0),
        algorithms.server_optimizer("sgd", 1.0),
        sums(2, 2).codec,
        START,
    )


def test_local_steps_are_pulled_back_to_the_global_model():
    """lr = 0.1, mu = 0.5, two full batches a client, from w_t = 1."""
    data = shards([(1, 3)], [(2, -1), (2, -1)])
    config = clients.SgdConfig(0.1, batch_size=2, epochs=2)
    done = rounds(fedprox(config, 0.5), data, simulation.cohorts(0, 1, 2))
    # First client: 1 - 0.1 (-2) = 1.2; 1.2 - 0.1 (-1.8 + 0.5 x 0.2) = 1.37.
    # Second: 1 - 0.1 x 4 = 0.6; 0.6 - 0.1 (3.2 + 0.5 x (-0.4)) = 0.3.
    # Weighted by their records: 1 + (1 x 0.37 + 2 x (-0.7)) / 3.
    assert weights(done) == pytest.approx([1 - 1.03 / 3], rel=1e-6)
    # Two epochs' losses of the records alone: 2 + 1.62 and 2 (4 + 2.56).
    assert done[0][0].metrics["loss"] == pytest.approx(2 + 1.62 + 2 * (4 + 2.56))


def test_without_the_term_it_is_fedavg_to_the_last_bit():
    config = clients.SgdConfig(0.05, momentum=0.9, batch_size=2, epochs=3)
    fedavg = algorithms.fedavg(
        clients.federated(clients.sgd(loss, config), clients.by_examples(3.0)),
        algorithms.server_optimizer("sgd", 1.0),
        sums(2, 2).codec,
        START,
    )
    schedule = simulation.cohorts(0, 4, 4, size=2)
    expected = weights(rounds(fedavg, uneven(), schedule))
    same = weights(rounds(fedprox(config, 0.0), uneven(), schedule))
    np.testing.assert_array_equal(same, expected)
    held = weights(rounds(fedprox(config, 1.0), uneven(), schedule))
    assert np.abs(held - expected).min() > 1e-3


@pytest.mark.parametrize("mu", [-0.1, float("inf"), float("nan")])
def test_the_term_cannot_push_away(mu):
    with pytest.raises(ValueError, match="mu must be at least 0"):
        fedprox(clients.SgdConfig(0.1), mu)
