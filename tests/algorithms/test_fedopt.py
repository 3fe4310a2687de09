import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_private import algorithms
from fedjax_private.algorithms import SERVER_OPTIMIZERS, ServerOptimizer
from fedjax_private.algorithms.fedopt import optimizer_of, server_optimizer
from fedjax_private.choices import Settings

# Steps from x = 1 with eta = 0.1 on the pseudo-gradients -2 and then 0.1, by hand. At
# the second, v is above g^2, so that yogi's v falls, and by less than adam's.
STEPS = {
    "sgd": [0.1 * 2, -0.1 * 0.1],
    "momentum": [0.1 * 2, 0.1 * (0.9 * 2 - 0.1)],
    # v = 0.1 + 4, then 4.1 + 0.01.
    "adagrad": [0.1 * 2 / np.sqrt(4.1 + 1e-3), -0.1 * 0.1 / np.sqrt(4.11 + 1e-3)],
    # m = 0.2, v = 0.04, corrected 2 and 4; then -m = 0.18 - 0.01 and v = 0.0396 +
    # 0.0001, corrected by 1 - 0.9^2 and 1 - 0.99^2.
    "adam": [
        0.1 * 2 / (2 + 1e-3),
        0.1 * (0.17 / 0.19) / (np.sqrt(0.0397 / 0.0199) + 1e-3),
    ],
    # As adam's, but from 1e-6; v = 1e-6 + 0.01 x 4, then less 0.01 x 0.01.
    "yogi": [
        0.1 * ((0.2 - 0.9e-6) / 0.1) / (np.sqrt(0.040001 / 0.01) + 1e-3),
        0.1 * ((0.17 - 0.81e-6) / 0.19) / (np.sqrt(0.039901 / 0.0199) + 1e-3),
    ],
}


@pytest.mark.parametrize("name", algorithms.SERVER_OPTIMIZERS.names)
def test_steps_are_those_of_the_formulas(name):
    optimizer = algorithms.server_optimizer(name, 0.1)
    x = jnp.float32(1.0)
    state, got = optimizer.init(x), []
    for gradient in (-2.0, 0.1):
        update, state = optimizer.update(jnp.float32(gradient), state, x)
        x = optax.apply_updates(x, update)
        got.append(float(update))
    assert got == pytest.approx(STEPS[name], rel=1e-4)
    assert float(x) == pytest.approx(1 + sum(STEPS[name]), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "rate", "message"),
    [
        ("lion", 1.0, "server_optimizer 'lion' is unknown: choose one of sgd"),
        ("sgd", 0.0, "server_learning_rate must be positive"),
    ],
)
def test_bad_choices_are_refused(name, rate, message):
    with pytest.raises(ValueError, match=message):
        algorithms.server_optimizer(name, rate)


HERE = "tests.algorithms.test_fedopt"
OWN = ServerOptimizer("own", "plain steps", optax.sgd)
NUMBER = 1


def undocumented(learning_rate):
    return optax.sgd(learning_rate)


def test_the_paper_s_optimisers_have_entries():
    names = ("sgd", "momentum", "adam", "yogi", "adagrad")
    assert SERVER_OPTIMIZERS.names == names
    for entry in SERVER_OPTIMIZERS.entries():
        assert isinstance(entry.make(0.1), optax.GradientTransformation)
        assert entry.settings is Settings


def test_functions_and_entries_of_the_user_s():
    assert SERVER_OPTIMIZERS.find(f"{HERE}:OWN").make is optax.sgd
    entry = SERVER_OPTIMIZERS.find(f"{HERE}:undocumented")
    assert entry.make is undocumented
    assert entry.summary == f"{HERE}:undocumented"


def test_other_attributes_are_refused():
    with pytest.raises(ValueError, match=r"function \(learning rate\) -> .*, got"):
        SERVER_OPTIMIZERS.find(f"{HERE}:NUMBER")


def test_an_algorithm_takes_optax_s_optimisers_or_the_name_of_one_that_needs_no_rate():
    sgd = optax.sgd(0.1)
    assert optimizer_of(sgd) is sgd
    step, _ = optimizer_of("sgd").update({"w": jnp.float32(3.0)}, ((), ()))
    assert float(step["w"]) == -3.0
    for given, words in (
        ("adam", r"adam needs a learning rate: .*server_optimizer\('adam', rate\)"),
        ("sgdd", "server_optimizer 'sgdd' is unknown: choose one of sgd"),
        (optax.sgd, "optimizer must be an optax optimiser.*got sgd"),
        (0.1, "optimizer must be an optax optimiser.*got 0.1"),
    ):
        with pytest.raises(ValueError, match=words):
            optimizer_of(given)


def test_a_function_of_the_rate_is_an_optimiser_of_one_s_own():
    made = server_optimizer(optax.sgd, 0.5)
    step, _ = made.update({"w": jnp.float32(3.0)}, made.init({"w": jnp.float32(0)}))
    assert float(step["w"]) == -1.5
    with pytest.raises(ValueError, match="returns an optax optimiser, got 'sgd'"):
        server_optimizer(lambda rate: "sgd", 0.5)
