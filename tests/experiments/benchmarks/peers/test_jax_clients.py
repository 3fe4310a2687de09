"""Local steps in JAX, as peers take them."""

import operator

import jax
import jax.numpy as jnp

CLIENTS = {"clients": 2, "batch": 4, "model": "tutorial_cnn", "private": True}


def test_a_step_of_jax_keeps_the_shapes(worker_modules):
    cases, clients = worker_modules("cases"), worker_modules("jax_clients")
    case = cases.ClientsCase(**CLIENTS)
    own = jax.tree.map(operator.itemgetter(0), (case.parameters(), *case.data()))
    for step in (clients.plain_step, clients.textbook_step):
        after = jax.eval_shape(step, *own, jax.random.key(0))
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, own[0])
