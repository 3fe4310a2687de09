import dataclasses

import pytest

from fedjax_private import clients
from fedjax_private.choices import Settings, setting
from fedjax_private.clients import CLIENTS, ClientEntry
from fedjax_private.hyperparameters import Hyperparameters
from fedjax_private.typing import LossFn
from tests.clients.regression import loss

HERE = "tests.clients.test_entries"
VALUES = Hyperparameters(
    rounds=1,
    learning_rate=0.2,
    momentum=0.0,
    evaluate_every=1,
    batch_size=8,
    local_steps=3,
)


def own(loss: LossFn, values: Hyperparameters) -> clients.Trainer:
    """Trains at twice the rate."""
    return clients.sgd(loss, clients.SgdConfig(2 * values.learning_rate))


def no_trainer(loss, values):
    return "trained"


@dataclasses.dataclass(frozen=True)
class OwnSettings(Settings):
    steps: int = setting(7, "steps a round")


ENTRY = ClientEntry(
    "mine",
    "a fixed number of steps",
    lambda loss, values, plan, settings: clients.sgd(
        loss, clients.SgdConfig(values.learning_rate, steps=settings.steps)
    ),
    settings=OwnSettings,
)
DATA = 1


@pytest.mark.parametrize("name", CLIENTS.names)
def test_private_client_functions_are_those_that_noise_steps(name):
    assert CLIENTS.find(name).private is (name == "dp_sgd")


def test_a_function_of_the_user_s_is_an_entry():
    entry = CLIENTS.find(f"{HERE}:own")
    assert (entry.summary, entry.private) == ("Trains at twice the rate.", False)
    made = entry.make(loss, VALUES, None, Settings())
    assert isinstance(made, clients.Trainer)


def test_an_entry_of_the_user_s_has_settings():
    choice = CLIENTS.choose(f"{HERE}:ENTRY", {"steps": 9})
    assert choice.settings == OwnSettings(9)
    assert CLIENTS.choose(ENTRY).settings == OwnSettings(7)
    trainer = choice.entry.make(loss, VALUES, None, choice.settings)
    assert isinstance(trainer, clients.Trainer)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adam", "client 'adam' is unknown: choose one of sgd, dp_sgd"),
        (f"{HERE}:DATA", "must be a ClientEntry, or a function .* got 1"),
        (f"{HERE}:nothing", "nothing"),
    ],
)
def test_other_attributes_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        CLIENTS.find(name)


def test_a_function_must_return_a_trainer():
    entry = CLIENTS.find(f"{HERE}:no_trainer")
    with pytest.raises(ValueError, match="-> Trainer, got '"):
        entry.make(loss, VALUES, None, Settings())
