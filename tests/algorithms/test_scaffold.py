import jax.numpy as jnp
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


def scaffold(config, cohort, count, rate=1.0, backend="auto"):
    return algorithms.scaffold(
        loss,
        config,
        sums(3, cohort).codec,
        START,
        cohort=cohort,
        clients=count,
        server_learning_rate=rate,
        backend=backend,
    )


def fedavg(config, cohort):
    return algorithms.fedavg(
        clients.federated(clients.sgd(loss, config), clients.equally(cohort)),
        algorithms.server_optimizer("sgd", 1.0),
        sums(2, cohort).codec,
        START,
    )


def controls(done):
    """(the server's c, the clients' c_i) after a round."""
    one, states = done
    return float(one.server_state.control["w"]), states["w"]


def test_two_rounds_by_hand():
    """lr = 0.1, two epochs of batches of one: K = 2, 4, and 0 without records."""
    data = shards([(1, 3)], [(2, -1), (2, -1)], [])
    config = clients.SgdConfig(0.1, batch_size=1, epochs=2)
    first, second = rounds(
        scaffold(config, 3, 3), data, simulation.cohorts(0, 2, 3), vector_size=3
    )
    # Round 1, all controls 0. First client: y = 1, 1.2, 1.38, gradients -2 and -1.8.
    # Second: y = 1, 0.6, 0.28, 0.024, -0.1808, gradients 4, 3.2, 2.56 and 2.048.
    # c_i+ = (1 - 1.38) / (2 x 0.1) and (1 + 0.1808) / (4 x 0.1): the mean gradients.
    x, c = 1 + (0.38 - 1.1808) / 2, (-1.9 + 2.952) / 3
    assert float(first[0].server_state.params["w"]) == pytest.approx(x, rel=1e-5)
    common, own = controls(first)
    assert common == pytest.approx(c, rel=1e-5)
    assert own == pytest.approx([-1.9, 2.952, 0.0], rel=1e-5)
    # Round 2 from x = 0.5996 with c = 0.350667. The first client steps against
    # (y - 3) + 1.9 + c = y - 0.749333: y = 0.614573, 0.628049. The second against
    # 2 (y + 1) - 2.952 + c = 2 y - 0.601333: y = 0.539813, 0.491984, 0.453721,
    # 0.423110. c_i+ are -1.9 - c - 0.028449 / 0.2 and 2.952 - c + 0.176490 / 0.4.
    x += (0.0284493 - 0.1764902) / 2
    assert float(second[0].server_state.params["w"]) == pytest.approx(x, rel=1e-5)
    common, own = controls(second)
    assert own == pytest.approx([-2.392913, 3.042559, 0.0], rel=1e-5)
    assert common == pytest.approx((-2.392913 + 3.042559) / 3, rel=1e-5)


def paper(data, schedule, rate, server_rate, epochs):
    """Algorithm 1 with option II in plain Python; batches hold one record, all alike.

    Returns x, c and every c_i after each round.
    """
    count = data.mask.shape[0]
    x, c, own, after = 1.0, 0.0, np.zeros(count), []
    for cohort in schedule:
        moved, changed = [], []
        for i in cohort:
            steps = epochs * int(data.mask[i].sum())
            a, b = float(data.inputs[i, 0, 0, 0, 0]), float(data.labels[i, 0])
            y = x
            for _ in range(steps):
                y -= rate * (a * (y - b) - own[i] + c)
            new = own[i] - c + (x - y) / (steps * rate)
            moved.append(y - x)
            changed.append(new - own[i])
            own[i] = new
        x += server_rate * np.mean(moved)
        c += len(cohort) / count * np.mean(changed)
        after.append((x, c, own.copy()))
    return after


@pytest.mark.parametrize("backend", clients.BACKENDS)
def test_some_clients_a_round_equal_the_paper_s_algorithm(backend):
    data = shards([(1, 3)] * 2, [(4, -1)], [(2, 2)] * 3, [(3, -2)] * 2, [(1, 0)])
    # Two rounds are slow enough without compilation; others take part in the second.
    schedule = simulation.cohorts(1, 2 if backend == "debug" else 4, 5, size=3)
    assert len(np.unique(np.concatenate(schedule[:2]))) > 3
    config = clients.SgdConfig(0.05, batch_size=1, epochs=2)
    algorithm = scaffold(config, 3, 5, rate=0.8, backend=backend)
    done = rounds(algorithm, data, schedule, vector_size=3, chunk_size=2)
    for got, (x, c, own) in zip(done, paper(data, schedule, 0.05, 0.8, 2), strict=True):
        common, kept = controls(got)
        assert float(got[0].server_state.params["w"]) == pytest.approx(x, rel=1e-4)
        assert common == pytest.approx(c, rel=1e-4, abs=1e-6)
        np.testing.assert_allclose(kept, own, rtol=1e-4, atol=1e-6)
        assert common == pytest.approx(np.mean(kept), rel=1e-4, abs=1e-6)


def test_the_first_round_is_that_of_fedavg_with_equal_weights():
    config = clients.SgdConfig(0.05, batch_size=2, epochs=3)
    schedule = simulation.cohorts(0, 1, 4)
    expected = weights(rounds(fedavg(config, 4), uneven(), schedule))
    got = rounds(scaffold(config, 4, 4), uneven(), schedule, vector_size=3)
    np.testing.assert_allclose(weights(got), expected, rtol=1e-6)


def test_many_local_steps_reach_the_optimum_that_fedavg_misses():
    """1/2 (w - 3)^2 and 4/2 (w + 1)^2: their sum is least at (3 - 4) / 5 = -0.2."""
    data = shards([(1, 3)], [(4, -1)])
    config = clients.SgdConfig(0.1, steps=10)
    schedule = simulation.cohorts(0, 60, 2)
    drifted = weights(rounds(fedavg(config, 2), data, schedule))[-1]
    # Ten steps leave shares 0.9^10 and 0.6^10 of the way to 3 and to -1: the fixed
    # point is w = (3 (1 - 0.348678) - (1 - 0.006047)) / (2 - 0.348678 - 0.006047).
    assert drifted == pytest.approx(0.583473, abs=1e-4)
    done = rounds(scaffold(config, 2, 2), data, schedule, vector_size=3)
    assert weights(done)[-1] == pytest.approx(-0.2, abs=1e-4)
    # There every control is its client's gradient, and their mean is 0.
    common, own = controls(done[-1])
    assert own == pytest.approx([-3.2, 3.2], abs=1e-3)
    assert common == pytest.approx(0.0, abs=1e-3)


def test_a_round_of_clients_without_records_changes_nothing():
    data = shards([(1, 3)], [])
    config = clients.SgdConfig(0.1, batch_size=1, steps=3)
    schedule = [np.array([0]), np.array([1])]
    done = rounds(scaffold(config, 1, 2), data, schedule, vector_size=3)
    x, unchanged = weights(done)
    assert x == unchanged != 1.0
    (before, own), (after, still) = map(controls, done)
    assert before == after != 0.0
    np.testing.assert_array_equal(own, still)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"cohort": 4}, "cohort must lie"),
        ({"cohort": 0}, "cohort must lie"),
        ({"server_learning_rate": 0.0}, "server_learning_rate must be"),
        ({"config": clients.SgdConfig(0.1, momentum=0.9)}, "set momentum=0"),
    ],
)
def test_bad_settings_are_named(changed, named):
    settings = {"config": clients.SgdConfig(0.1), "cohort": 2, "clients": 3} | changed
    params = {"w": jnp.zeros(2)}
    with pytest.raises(ValueError, match=named):
        algorithms.scaffold(
            loss, codec=sums(5, 2).codec, params_like=params, **settings
        )
