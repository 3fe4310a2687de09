import jax
import numpy as np

from fedjax_private import algorithms, clients, simulation
from tests.algorithms.quadratics import START, loss, shards


def test_every_client_goes_on_with_its_own_model_and_momentum():
    """lr = 0.1, beta = 0.5, one record each, whose gradient is a (w - b)."""
    config = clients.SgdConfig(0.1, momentum=0.5, batch_size=1)
    algorithm = algorithms.alone(clients.sgd(loss, config))
    assert algorithm.server_phase is None
    seen = []

    def evaluate(params):
        seen.append(np.array(jax.device_get(params["w"])))
        return simulation.Evaluation(np.zeros(2), np.zeros(2))

    done = simulation.simulate(
        algorithm,
        None,
        shards([(1, 3)], [(2, -1)]),
        START,
        simulation.cohorts(0, 2, 2),
        simulation.root_keys(0, 0),
        evaluate=evaluate,
    )
    assert [one.report for one in done] == [None, None]
    # First client: 1 + 0.2 = 1.2; v = 0.5 x (-2) - 1.8 = -2.8: 1.48.
    # Second: 1 - 0.4 = 0.6; v = 0.5 x 4 + 3.2 = 5.2: 0.08.
    np.testing.assert_allclose(seen, [[1.2, 0.6], [1.48, 0.08]], rtol=1e-5)
