import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private import clients
from fedjax_private.datasets import ClientData
from fedjax_private.privacy import FixedSizeSampling
from fedjax_private.privacy.accounting import Neighbors
from tests.clients.regression import DATA, PARAMS, PLAN, SGD, loss, one, run

FIXED = dataclasses.replace(
    PLAN, sampler=FixedSizeSampling(6, 12), neighbors=Neighbors.REPLACE_ONE
)


def private(plan):
    trainer = clients.dp_sgd(loss, clients.DpSgdConfig(0.05, 0.9, 3, 4), plan)
    return clients.federated(trainer, clients.equally(3))


UPDATES = {
    "sgd": clients.federated(clients.sgd(loss, SGD), clients.by_examples(29.0)),
    "dp_sgd": private(PLAN),
    "fixed_size": private(FIXED),
}


@pytest.fixture(scope="module")
def plain_loop():
    """One client after another in plain Python, each jitted alone."""

    def clients_of(update):
        single = jax.jit(one(update))
        leaves = zip(DATA.inputs, DATA.labels, DATA.mask, strict=True)
        shards = [ClientData(*shard) for shard in leaves]
        return [single(PARAMS, shard, i) for i, shard in enumerate(shards)]

    return {name: clients_of(update) for name, update in UPDATES.items()}


@pytest.mark.parametrize("backend", ["auto", *clients.BACKENDS])
@pytest.mark.parametrize("name", UPDATES)
def test_mapped_clients_equal_a_plain_loop(plain_loop, name, backend):
    mapped = run(UPDATES[name], backend=backend)
    for index, expected in enumerate(plain_loop[name]):
        for a, b in zip(
            jax.tree.leaves(mapped), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_allclose(a[index], b, rtol=2e-5, atol=2e-6)


def test_debug_names_the_client_that_fails():
    def faulty(params, own, client_id):
        if int(client_id) == 1:
            raise KeyError("no such layer")
        return params

    each = clients.for_each_client(faulty, "debug")
    with pytest.raises(clients.ClientError, match=r"client 1 .*no such layer"):
        each(PARAMS, DATA, jnp.arange(3))


def test_debug_names_the_client_whose_result_is_not_finite():
    def diverging(params, own, client_id):
        return jnp.where(client_id == 2, jnp.nan, 0.0)

    each = clients.for_each_client(diverging, "debug")
    with pytest.raises(clients.ClientError, match=r"client 2 .*not finite"):
        each(PARAMS, DATA, jnp.arange(3))


def test_unknown_backends_are_named():
    with pytest.raises(ValueError, match="unknown backend 'pmap': choose auto, vmap"):
        clients.for_each_client(lambda broadcast, x: x, "pmap")
