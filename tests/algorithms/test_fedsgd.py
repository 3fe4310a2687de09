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

# Gradients at w: (w - 3) + 3 (w - 1) from the first client, 2 (w + 1) from the second,
# together 6 w - 4, a mean of (6 w - 4) / 3. The third has no records.
DATA = shards([(1, 3), (3, 1)], [(2, -1)], [])


def fedsgd(size=None, optimizer=("sgd", 0.1)):
    return algorithms.fedsgd(
        loss,
        clients.by_examples(3.0),
        algorithms.server_optimizer(*optimizer),
        sums(2, 3).codec,
        START,
        physical_size=size,
    )


@pytest.mark.parametrize("size", [None, 1, 2, 3])
def test_a_step_follows_the_mean_gradient_over_all_records(size):
    done = rounds(fedsgd(size), DATA, simulation.cohorts(0, 2, 3))
    # 1 - 0.1 x 2/3 = 14/15; there the mean is (5.6 - 4) / 3 = 8/15: 14/15 - 0.8/15.
    assert weights(done) == pytest.approx([14 / 15, 0.88], rel=1e-6)
    # Losses at w = 1: 1/2 (1 - 3)^2 + 0 + 2/2 (1 + 1)^2.
    assert done[0][0].metrics == {"loss": pytest.approx(6.0), "examples": 3.0}


def test_the_server_s_optimiser_gets_the_gradient():
    done = rounds(fedsgd(None, ("momentum", 0.1)), DATA, simulation.cohorts(0, 2, 3))
    # The second step is 0.1 (0.9 x 2/3 + 8/15) = 1.7/15.
    assert weights(done) == pytest.approx([14 / 15, 12.3 / 15], rel=1e-6)


def test_fedsgd_is_fedavg_with_one_step_on_whole_shards():
    trainer = clients.sgd(loss, clients.SgdConfig(0.1, batch_size=8))
    fedavg = algorithms.fedavg(
        clients.federated(trainer, clients.by_examples(3.0)),
        algorithms.server_optimizer("sgd", 1.0),
        sums(2, 3).codec,
        START,
    )
    schedule = simulation.cohorts(0, 4, 4, size=2)
    expected = weights(rounds(fedavg, uneven(), schedule))
    got = weights(rounds(fedsgd(), uneven(), schedule))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_physical_batches_hold_something():
    with pytest.raises(ValueError, match="physical_size must be"):
        fedsgd(size=0)
