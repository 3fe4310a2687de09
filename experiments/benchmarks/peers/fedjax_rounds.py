"""A round of federated averaging with FedJAX."""

import os
from collections.abc import Callable
from typing import Any

import cases
import fedjax
import jax
from fedjax.algorithms import fed_avg
from jax_networks import mean_loss, round_cnn
from work import Work, fastest


def build(peer: str, case: dict[str, Any], threads: int) -> Work:
    """The work of `fedjax`, with the faster of its backends."""
    del peer
    what = cases.RoundCase(**case)
    if threads > 1:
        # Devices for its `pmap` backend; JAX reads this when it is first used.
        devices = f"--xla_force_host_platform_device_count={threads}"
        os.environ["XLA_FLAGS"] = devices
    backends = ["jit", "pmap"] if jax.local_device_count() > 1 else ["jit"]
    return fastest({backend: _round(what, backend) for backend in backends})


def _round(case: cases.RoundCase, backend: str) -> Callable[[], Any]:
    images, labels = case.data()
    loss = mean_loss(round_cnn)

    def gradient(params: Any, batch: dict[str, jax.Array], key: jax.Array) -> Any:
        del key
        return jax.grad(loss)(params, batch["x"], batch["y"])

    with fedjax.for_each_client_backend(backend):
        algorithm = fed_avg.federated_averaging(
            gradient,
            fedjax.optimizers.sgd(cases.ROUND_LEARNING_RATE),
            fedjax.optimizers.sgd(cases.SERVER_LEARNING_RATE),
            fedjax.ShuffleRepeatBatchHParams(
                batch_size=case.batch, num_epochs=case.epochs
            ),
        )
    state = algorithm.init(jax.device_put(case.parameters()))
    keys = jax.random.split(jax.random.PRNGKey(0), case.clients)
    clients = [
        (k, fedjax.ClientDataset({"x": images[k], "y": labels[k]}), keys[k])
        for k in range(case.clients)
    ]

    def work() -> Any:
        after, _ = algorithm.apply(state, clients)
        return jax.block_until_ready(after.params)

    return work
