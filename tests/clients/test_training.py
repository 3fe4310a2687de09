import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_private.clients.training import (
    FEWEST,
    MOST,
    add_up,
    physical_batch_size,
    stepper,
)
from tests.clients.regression import DATA, PARAMS, loss


@pytest.mark.parametrize("count", [0, 1, 4])
def test_terms_add_up(count):
    def term(i):
        return {"a": jnp.float32(i), "b": jnp.full(2, i, jnp.int32)}

    total = jax.jit(lambda n: add_up(term, n))(count)
    expected = sum(range(count))
    assert float(total["a"]) == expected
    assert total["b"].tolist() == [expected, expected]
    assert total["b"].dtype == jnp.int32


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_are_those_of_sgd(momentum):
    init, step = stepper(0.1, momentum)
    state = init(PARAMS)
    gradient = jax.tree.map(jnp.ones_like, PARAMS)
    for _ in range(2):
        state = step(state, gradient)
    # 1, and then 1 + momentum.
    expected = 0.1 - 0.1 * (2 + momentum)
    assert float(state.params["b"]) == pytest.approx(expected, rel=1e-5)
    assert state.mechanism == ()
    assert jax.tree.structure(state.optimizer) == jax.tree.structure(
        optax.sgd(0.1, momentum or None).init(PARAMS)
    )


def test_physical_batches_are_those_asked_for_or_fit_the_cache():
    shard = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), DATA)
    assert physical_batch_size(5, loss, PARAMS, shard, 99) == 5
    got = physical_batch_size(None, loss, PARAMS, shard, 99)
    assert got == (MOST if jax.default_backend() == "cpu" else 99)
    images = np.zeros((2, 400, 400, 1), np.float32)
    large = dataclasses.replace(shard, inputs=images)

    def mean(params, inputs, labels):
        return jnp.exp(inputs).mean(axis=(1, 2, 3)) * params["b"]

    got = physical_batch_size(None, mean, PARAMS, large, 99)
    assert got == (FEWEST if jax.default_backend() == "cpu" else 99)
