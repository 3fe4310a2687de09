"""Client functions, codecs and parameters of other forms: one sentence each."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_private import algorithms, clients, models, privacy
from fedjax_private.aggregation import make
from fedjax_private.algorithms.forms import misfit
from fedjax_private.clients import ClientOutput
from fedjax_private.datasets import ClientData, Normalization
from fedjax_private.trust import Decryptor, Trust
from fedjax_private.typing import ClientKeys

PARAMS = {"w": jnp.zeros(2)}
SUMS = make("none", vector_size=3, trust=Trust(2, Decryptor.NOBODY_NEEDED))
DATA = ClientData(
    np.zeros((2, 4, 2), np.float32), np.zeros((2, 4), np.int32), np.ones((2, 4), bool)
)
ROOTS = ClientKeys(*(jax.random.key(i)[None] for i in (0, 1)))


def good(params, state, data, keys):
    return ClientOutput({"delta": params, "weight": jnp.float32(1)}, {}), state


def fedavg(client=good, optimizer="sgd", codec=SUMS.codec, params_like=PARAMS):
    return algorithms.fedavg(client, optimizer, codec, params_like, "vmap")


def traced(algorithm, states=()):
    """What a round's client phase returns, as shapes."""
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], algorithm.init(PARAMS))
    ids = jnp.arange(2)
    return jax.eval_shape(
        algorithm.client_phase, state, states, DATA, ids, ids * 0, jnp.int32(1), ROOTS
    )


MODEL = models.from_flax(models.Mlp(3), (2,), Normalization())
TRAINER = clients.sgd(MODEL.loss, clients.SgdConfig(0.1))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"client": TRAINER}, "such as clients.federated.*got a Trainer"),
        ({"client": "sgd"}, r"client_update must be a function \(broadcast.*'sgd'"),
        ({"client": lambda params, data, keys: None}, "too many positional"),
        ({"codec": SUMS}, "such as sums.codec, got PlainAggregation"),
        ({"codec": "ckks"}, "codec must be the codec of an aggregation.*'ckks'"),
        ({"params_like": 3}, "params_like must be params or their shapes.*got 3"),
        ({"params_like": MODEL}, "params_like must be .* as model.init.*got Model"),
        ({"optimizer": optax.sgd}, "optimizer must be an optax optimiser"),
    ],
)
def test_arguments_of_another_kind_are_refused_at_once(arguments, words):
    with pytest.raises(ValueError, match=words):
        fedavg(**arguments)


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (lambda p, s, d, k: good(p, s, d, k)[0], "must return .*got ClientOutput"),
        (lambda p, s, d, k: {"delta": p}, r"ClientOutput\(update, metrics\), state\)"),
        (
            lambda p, s, d, k: (ClientOutput({"delta": p}, {}), s),
            r"update does not fit its algorithm: array \['weight'\] is missing",
        ),
        (
            lambda p, s, d, k: (
                ClientOutput({"delta": {"w": p["w"][:1]}, "weight": p["w"][0]}, {}),
                s,
            ),
            r"array \['delta'\]\['w'\] has shape \(1,\), not \(2,\)",
        ),
        (
            lambda p, s, d, k: (good(p, s, d, k)[0], jnp.zeros(3)),
            "state of the form that it was given: array is not expected",
        ),
    ],
)
def test_results_of_another_form_are_named_when_traced(client, words):
    with pytest.raises(ValueError, match=words):
        traced(fedavg(client))


def test_shapes_serve_as_well_as_arrays():
    shapes = jax.eval_shape(lambda: PARAMS)
    slots, metrics, states = traced(fedavg(params_like=shapes))
    assert slots.shape == (2, 3)
    assert (metrics, states) == ({}, ())


def test_params_of_another_model_are_refused():
    with pytest.raises(ValueError, match=r"do not fit .*params_like: array \['b'\] is"):
        fedavg().init({"w": jnp.zeros(2), "b": jnp.zeros(2)})


def test_the_ways_in_which_forms_differ():
    assert misfit(PARAMS, {"w": np.zeros(2)}) is None
    assert misfit((), ()) is misfit((), None) is None
    assert misfit((), jnp.zeros(2)) == "array is not expected"
    assert misfit(jnp.zeros(2), ()) == "array is missing"


def test_other_algorithms_check_theirs():
    with pytest.raises(ValueError, match=r"trainer must be a Trainer.*'sgd'"):
        algorithms.alone("sgd")
    with pytest.raises(ValueError, match="codec must be the codec of an aggregation"):
        algorithms.distributed_dp_sgd(MODEL.loss, None, "sgd", SUMS, PARAMS)
    with pytest.raises(ValueError, match=r"plan must be a SharedPlan.*got None"):
        algorithms.distributed_dp_sgd(MODEL.loss, None, "sgd", SUMS.codec, PARAMS)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: algorithms.fedsgd(
                MODEL.loss, clients.equally, "sgd", SUMS.codec, PARAMS
            ),
            "weight must be clients.equally called with its number",
        ),
        (
            lambda: algorithms.fedprox(
                TRAINER,
                clients.SgdConfig(0.1),
                0.1,
                clients.equally(2),
                "sgd",
                SUMS.codec,
                PARAMS,
            ),
            r"loss must be a function .* model.loss, got Trainer",
        ),
        (
            lambda: algorithms.AlgorithmEntry("x", "y", lambda: None, arms=("fl",)),
            r"make of algorithm x must be a function \(Task\) -> Algorithm.*too many",
        ),
        (
            lambda: algorithms.AlgorithmEntry("x", "y", lambda task: None, arms="fl"),
            r"arms of algorithm x must be names of arms, such as \(\"fl\",\), got 'fl'",
        ),
        (
            lambda: clients.ClientEntry("x", "y", lambda loss, values: TRAINER),
            r"make of client x must be a function \(loss, hyper-param.*too many",
        ),
        (
            lambda: models.ModelEntry("x", "y", lambda shape, classes: None),
            r"build of model x must be a function \(input shape, .*too many",
        ),
        (
            lambda: privacy.Mechanism("x", "y", lambda settings: None),
            r"make of mechanism x must be a function \(MechanismSettings, .*too many",
        ),
        (
            lambda: algorithms.server_optimizer("sgd", "1"),
            "server_learning_rate must be a number, got '1'",
        ),
    ],
)
def test_entries_and_algorithms_of_other_forms_are_refused_when_made(call, words):
    with pytest.raises(ValueError, match=words):
        call()
