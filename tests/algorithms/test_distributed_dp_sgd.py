"""Clients that share noise take the steps of central DP-SGD, with the same noise.

References are NumPy's, on all records together; only keys are taken from the code.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_private import algorithms, clients, simulation
from fedjax_private.aggregation import SCHEMES, make
from fedjax_private.clients.local_dp_sgd import SAMPLES
from fedjax_private.datasets import ClientData
from fedjax_private.privacy import (
    FlatClipping,
    GaussianNoise,
    PoissonSampling,
    PrivacyPlan,
    discrete_gaussian,
    gaussian,
    on_grid,
    poisson,
    shared,
)
from fedjax_private.privacy.accounting import Neighbors
from fedjax_private.quantization import quantize
from fedjax_private.trust import Decryptor, Trust
from fedjax_private.typing import ClientKeys

CLIENTS, RECORDS, SIZE = 4, 12, 6
C, SIGMA, RATE, MOMENTUM = 0.5, 1.5, 0.3, 0.9
ROOTS = ClientKeys(jax.random.key(1), jax.random.key(2))
PARAMS = {"w": jnp.linspace(-1.0, 1.0, SIZE)}
TRUST = Trust(CLIENTS, Decryptor.KEY_AUTHORITY)

# Sixteenths, so that sums of them are exact.
INPUTS = np.random.default_rng(0).integers(-12, 13, (RECORDS, SIZE)) / np.float32(16)
LABELS = np.random.default_rng(1).integers(-2, 3, RECORDS).astype(np.int32)
PARTITIONS = {
    "iid": [np.arange(RECORDS)[k::CLIENTS] for k in range(CLIENTS)],
    "one has everything": [np.arange(RECORDS), *[np.arange(0)] * (CLIENTS - 1)],
}


def squares(params, inputs, labels):
    return 0.5 * (inputs @ params["w"] - labels) ** 2


def sums(params, inputs, labels):
    """Its gradient is the input."""
    return inputs @ params["w"]


def plan_of(q=1.0, noise_multiplier=SIGMA, clip_norm=C):
    return shared(
        lambda one: PrivacyPlan(
            PoissonSampling(q),
            FlatClipping(clip_norm),
            GaussianNoise(one),
            q * RECORDS,
            Neighbors.ADD_REMOVE,
        ),
        noise_multiplier,
        TRUST,
    )


def shards(parts):
    inputs = np.full((len(parts), RECORDS, SIZE), 99, np.float32)
    labels = np.full((len(parts), RECORDS), 99, np.int32)
    mask = np.zeros((len(parts), RECORDS), bool)
    for client, part in enumerate(parts):
        inputs[client, : len(part)] = INPUTS[part]
        labels[client, : len(part)] = LABELS[part]
        mask[client, : len(part)] = True
    return ClientData(inputs, labels, mask)


def plain(uploads=CLIENTS):
    trust = Trust(uploads, Decryptor.NOBODY_NEEDED)
    return make("none", vector_size=SIZE, trust=trust)


def one_run(tree):
    """The only run of a program, along its axis of runs."""
    return jax.tree.map(lambda leaf: leaf[None], tree)


def released(algorithm, scheme, state, data, number):
    """The sum of one round's uploads."""
    count = len(data.mask)
    slots, metrics, _ = algorithm.client_phase(
        one_run(state),
        (),
        data,
        jnp.arange(count),
        jnp.zeros(count, int),
        jnp.int32(number),
        one_run(ROOTS),
    )
    assert metrics == {}
    session = scheme.open(number)
    session.add(np.arange(count), np.asarray(slots))
    return session.release()[0]


def trained(plan, parts, rounds, loss=squares, momentum=MOMENTUM, scheme=None):
    """w after each round."""
    scheme = scheme or plain(len(parts))
    algorithm = algorithms.distributed_dp_sgd(
        loss, plan, optax.sgd(RATE, momentum or None), scheme.codec, PARAMS
    )
    state, found = algorithm.init(PARAMS), []
    for number in range(1, rounds + 1):
        total = released(algorithm, scheme, state, shards(parts), number)
        state = algorithm.server_phase(state, jnp.asarray(total))
        found.append(np.asarray(state.params["w"]))
    return np.array(found)


def step_key(number, client):
    return jax.random.fold_in(algorithms.client_key(ROOTS.noise, number, client), 0)


def noise_of(number, count=CLIENTS):
    """The sum of a round's shares."""
    one = SIGMA * C / np.sqrt(count)
    return sum(
        np.asarray(gaussian(step_key(number, client), (SIZE,), one), np.float64)
        for client in range(count)
    )


def clipped(gradients, clip_norm=C):
    bound = clip_norm * (1 - 1e-5)
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    return gradients * np.minimum(1, bound / norms)


def central(rounds, batch, drawn=lambda number: np.arange(RECORDS)):
    """DP-SGD with heavy-ball momentum on the records that a step draws."""
    w, velocity, found = np.array(PARAMS["w"], np.float64), np.zeros(SIZE), []
    for number in range(1, rounds + 1):
        inputs, labels = INPUTS[drawn(number)].astype(float), LABELS[drawn(number)]
        gradients = (inputs @ w - labels)[:, None] * inputs
        total = clipped(gradients).sum(axis=0) + noise_of(number)
        velocity = MOMENTUM * velocity + total / batch
        w = w - RATE * velocity
        found.append(w)
    return np.array(found)


@pytest.mark.parametrize("parts", PARTITIONS.values(), ids=PARTITIONS)
def test_steps_are_those_of_central_dp_sgd(parts):
    found = trained(plan_of(), parts, rounds=3)
    np.testing.assert_allclose(found, central(3, RECORDS), rtol=1e-5, atol=1e-5)


def test_so_are_steps_on_samples():
    q, parts = 0.5, PARTITIONS["iid"]

    def drawn(number):
        chosen = []
        for client, part in enumerate(parts):
            key = algorithms.client_key(ROOTS.noise, number, client)
            key = jax.random.fold_in(jax.random.fold_in(key, SAMPLES), 0)
            selection = poisson(key, jnp.arange(RECORDS) < len(part), q)
            chosen.extend(part[np.asarray(selection.order)[: int(selection.drawn)]])
        return np.array(chosen, int)

    assert 0 < len(drawn(1)) < RECORDS
    found = trained(plan_of(q), parts, rounds=3)
    right = central(3, q * RECORDS, drawn)
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-5)


def test_one_client_is_dp_sgd_by_itself():
    """Same keys, same draws, same noise; a step of one is a round of the other."""
    alone = dataclasses.replace(plan_of(0.5), trust=Trust(1, Decryptor.KEY_AUTHORITY))
    found = trained(alone, [np.arange(RECORDS)], rounds=3, momentum=0.0)
    trainer = clients.dp_sgd(squares, clients.DpSgdConfig(RATE), alone.plan)
    state = trainer.init(PARAMS)
    data = jax.tree.map(lambda leaf: leaf[0], shards([np.arange(RECORDS)]))
    for number, right in enumerate(found, 1):
        keys = ClientKeys(*(algorithms.client_key(root, number, 0) for root in ROOTS))
        state, _ = jax.jit(trainer.train)(state, data, keys)
        np.testing.assert_allclose(state.params["w"], right, rtol=1e-5, atol=1e-6)


def test_averaging_by_hand():
    """Decays 1/10, 2/11, 3/12, ... up to the one asked for; steps of 1 C each."""
    algorithm = algorithms.distributed_dp_sgd(
        sums, plan_of(), optax.sgd(1.0), plain().codec, PARAMS, averaging=0.24
    )
    state = algorithm.init(PARAMS)
    weights, average = np.array(PARAMS["w"]), np.array(PARAMS["w"])
    for decay in (1 / 10, 2 / 11, 0.24, 0.24):
        state = algorithm.server_phase(state, jnp.ones(SIZE))
        weights = weights - C
        average = decay * average + (1 - decay) * weights
        np.testing.assert_allclose(state.params["w"], weights, rtol=1e-5)
        (model,) = algorithm.models(state, ())["w"]
        np.testing.assert_allclose(model, average, rtol=1e-5)
    last = algorithms.distributed_dp_sgd(
        sums, plan_of(), optax.sgd(1.0), plain().codec, PARAMS
    )
    state = last.server_phase(last.init(PARAMS), jnp.ones(SIZE))
    (model,) = last.models(state, ())["w"]
    np.testing.assert_array_equal(model, state.params["w"])
    for averaging in (-0.1, 1.0):
        with pytest.raises(ValueError, match="averaging must lie"):
            algorithms.distributed_dp_sgd(
                sums,
                plan_of(),
                optax.sgd(1.0),
                plain().codec,
                PARAMS,
                averaging=averaging,
            )


def test_a_server_that_reads_uploads_is_none_that_the_plan_assumes():
    algorithm = algorithms.distributed_dp_sgd(
        sums, plan_of(), optax.sgd(1.0), plain().codec, PARAMS
    )
    data, schedule = shards(PARTITIONS["iid"]), [np.arange(CLIENTS)]
    with pytest.raises(ValueError, match="give both the same trust model"):
        simulation.simulate(algorithm, plain(), data, PARAMS, schedule, ROOTS)


@pytest.mark.needs_openfhe
def test_exact_sums_are_the_quantised_parts_and_their_shares():
    """As integers mod 2^b, for any way that records are spread."""
    bits, bound, clip_norm = 16, 2.0, 2.0  # nothing is clipped: parts are exact
    plan = plan_of(clip_norm=clip_norm)
    whole = dataclasses.replace(plan, plan=on_grid(plan.plan, SIZE, bound, bits))
    exact = SCHEMES.choose("exact", {"value_bound": bound, "quantization_bits": bits})
    scheme = make(exact, vector_size=SIZE, trust=TRUST, residues=True)
    algorithm = algorithms.distributed_dp_sgd(
        sums, whole, optax.sgd(1.0), scheme.codec, PARAMS
    )
    state, on = algorithm.init(PARAMS), whole.plan.noise
    for number, parts in enumerate(PARTITIONS.values(), 1):
        total = released(algorithm, scheme, state, shards(parts), number)
        right, noise = np.zeros(SIZE, np.int64), np.zeros(SIZE, np.int64)
        for client, part in enumerate(parts):
            rounding, drawing = jax.random.split(step_key(number, client))
            own = jnp.asarray(INPUTS[part].sum(axis=0) / clip_norm, jnp.float32)
            noise += np.asarray(discrete_gaussian(drawing, (SIZE,), on.scale))
            right += np.asarray(quantize(rounding, own, on.grid))
        np.testing.assert_array_equal(total % 2**bits, (right + noise) % 2**bits)
        # The step is central DP-SGD's, up to a rounding of each client.
        moved = (
            PARAMS["w"] - algorithm.server_phase(state, jnp.asarray(total)).params["w"]
        )
        central = (INPUTS.sum(axis=0) / clip_norm + noise * on.grid.step) / RECORDS
        error = np.abs(np.asarray(moved) / clip_norm - central) * RECORDS
        assert error.max() <= CLIENTS * on.grid.step


@pytest.mark.needs_openfhe
def test_approximate_sums_take_the_same_steps():
    precise = SCHEMES.choose("ckks", {"value_bound": 4.0, "precision": 1e-7})
    scheme = make(precise, vector_size=SIZE, trust=TRUST)
    found = trained(plan_of(), PARTITIONS["iid"], rounds=2, scheme=scheme)
    np.testing.assert_allclose(found, central(2, RECORDS), atol=1e-5)
