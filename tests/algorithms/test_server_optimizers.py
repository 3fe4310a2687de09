import optax
import pytest

from fedjax_private.algorithms import SERVER_OPTIMIZERS, ServerOptimizer
from fedjax_private.choices import Settings

HERE = "tests.algorithms.test_server_optimizers"
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
    with pytest.raises(ValueError, match="function of the learning rate, got int"):
        SERVER_OPTIMIZERS.find(f"{HERE}:NUMBER")
