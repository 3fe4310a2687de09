"""Suites `clients` (local training steps) and `round` (whole FedAvg rounds).

The images are random: speed does not depend on them. In `clients` every client has
weights of its own; in `round` all start from the server's.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.measure import Case, Work, timed
from experiments.benchmarks.suites import Suite
from fedjax_private import aggregation, algorithms, clients, models, simulation
from fedjax_private.choices import Choice
from fedjax_private.datasets import ClientData, Normalization
from fedjax_private.privacy import (
    FlatClipping,
    GaussianNoise,
    PoissonSampling,
    PrivacyPlan,
)
from fedjax_private.privacy.accounting import Neighbors
from fedjax_private.programs import flat_program
from fedjax_private.typing import ClientKeys

LEARNING_RATE = 0.1


def build_model(name: str) -> models.Model:
    """A model for 28 x 28 images of ten classes."""
    return models.build(
        name, input_shape=(28, 28, 1), num_classes=10, normalization=Normalization()
    )


def _shards(count: int, examples: int) -> ClientData:
    generator = np.random.default_rng(0)
    shape = (count, examples, 28, 28, 1)
    return ClientData(
        generator.integers(0, 256, shape, np.uint8),
        generator.integers(0, 10, shape[:2]).astype(np.int32),
        np.ones(shape[:2], bool),
    )


def operations(model: models.Model) -> float:
    """Floating-point operations of the matrix products in one example's gradient.

    Each product of the forward pass has two in the backward pass, for its parameters
    and for its inputs; the first layer's inputs are data and need none.
    """
    params = jax.eval_shape(model.init, jax.random.key(0))
    image = jax.ShapeDtypeStruct((28, 28, 1), jnp.uint8)
    label = jax.ShapeDtypeStruct((), jnp.int32)
    program = flat_program(
        lambda p, x, y: model.loss(p, x[None], y[None])[0], params, image, label
    )
    forward = []
    for eqn in program.jaxpr.eqns:
        out = math.prod(eqn.outvars[0].aval.shape)
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            shape = eqn.invars[0].aval.shape
            forward.append(2.0 * out * math.prod(shape[i] for i in contracted))
        elif eqn.primitive.name == "conv_general_dilated":
            kernel = eqn.invars[1].aval.shape
            features = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
            forward.append(2.0 * out * math.prod(kernel) / features)
    return 3 * sum(forward) - forward[0]


def _step(name: str, count: int, batch: int, private: bool) -> tuple[Work, Any]:
    model = build_model(name)
    if private:
        plan = PrivacyPlan(
            PoissonSampling(1.0),
            FlatClipping(1.0),
            GaussianNoise(1.1),
            batch,
            Neighbors.ADD_REMOVE,
        )
        trainer = clients.dp_sgd(model.loss, clients.DpSgdConfig(LEARNING_RATE), plan)
    else:
        trainer = clients.sgd(
            model.loss, clients.SgdConfig(LEARNING_RATE, batch_size=batch)
        )

    def one(_: None, params: Any, data: ClientData, key: Any) -> Any:
        return trainer.train(trainer.init(params), data, ClientKeys(key, key))[0].params

    each = clients.for_each_client(one)
    params = jax.jit(jax.vmap(model.init))(jax.random.split(jax.random.key(0), count))
    # As in a run, every device holds its part of the clients.
    params, data, keys = simulation.spread(
        (params, _shards(count, batch), jax.random.split(jax.random.key(1), count))
    )
    work = timed(lambda: each(None, params, data, keys))
    fields = {"seconds_first_call": work()}
    work()
    return work, fields


def _client_cases(quick: bool) -> list[Case]:
    """One local step of every client, with DP and without."""

    def case(name: str, model: str, count: int, batch: int, private: bool) -> Case:
        fields = {"clients": count, "batch": batch, "model": model}
        compared = model == "tutorial_cnn"
        return Case(
            name,
            fields,
            lambda: _step(model, count, batch, private),
            for_peers={**fields, "private": private} if compared else None,
            examples=count * batch,
            operations=operations(build_model(model)),
        )

    count, batch = (2, 8) if quick else (8, 64)
    cases = [
        case("dp_step", "tutorial_cnn", count, batch, True),
        case("plain_step", "tutorial_cnn", count, batch, False),
    ]
    if not quick:
        cases.append(case("dp_step_large_model", "fedavg_cnn", 32, 16, True))
    return cases


def rounds(
    count: int,
    examples: int,
    batch: int,
    *,
    epochs: int = 1,
    name: str = "fedavg_cnn_small",
    scheme: str | Choice[aggregation.SchemeEntry] = "none",
) -> Work:
    """The rounds of an endless run of FedAvg, one by one."""
    model = build_model(name)
    params = model.init(jax.random.key(0))
    sums = aggregation.make(
        scheme,
        vector_size=models.parameter_count(params) + 1,
        trust=aggregation.trust_of(scheme, uploads=count),
    )
    trainer = clients.sgd(
        model.loss, clients.SgdConfig(LEARNING_RATE, batch_size=batch, epochs=epochs)
    )
    fedavg = algorithms.fedavg(
        clients.federated(trainer, clients.by_examples(count * examples)),
        algorithms.server_optimizer("sgd", 1.0),
        sums.codec,
        params,
    )
    nothing = simulation.Evaluation(np.zeros(1), np.zeros(1))
    run = simulation.simulate(
        fedavg,
        sums,
        _shards(count, examples),
        params,
        simulation.cohorts(0, 1_000_000, count),
        simulation.root_keys(0),
        evaluate=lambda params: nothing,
        evaluate_every=1_000_000,
    )
    return timed(lambda: next(run).server_state)


def _open_rounds(
    count: int, examples: int, batch: int, scheme: str
) -> tuple[Work, Any]:
    work = rounds(count, examples, batch, scheme=scheme)
    fields = {"seconds_first_round": work()}
    work()
    return work, fields


def _round_cases(quick: bool) -> list[Case]:
    """A round of FedAvg at several numbers of clients: 100 examples, batches of 20."""

    def case(count: int, compared: bool, scheme: str = "none") -> Case:
        sizes = {"clients": count, "examples": 100, "batch": 20}
        return Case(
            f"fedavg_{count}" + ("" if scheme == "none" else f"_{scheme}"),
            {**sizes, "model": "fedavg_cnn_small"},
            lambda: _open_rounds(count, 100, 20, scheme),
            for_peers={**sizes, "epochs": 1} if compared else None,
        )

    if quick:
        return [case(2, True)]
    masked = case(32, False, "masks")
    return [case(8, True), case(32, True), masked, case(256, False)]


CLIENTS = Suite("clients", "a local step of every client", _client_cases)
ROUND = Suite("round", "rounds of federated averaging", _round_cases)
