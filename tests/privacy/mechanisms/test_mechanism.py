"""Every entry makes a priced plan; a user's own function or entry does too."""

import dataclasses
import sys
import types

import pytest

from fedjax_private.privacy import (
    MECHANISMS,
    AutomaticClipping,
    FlatClipping,
    GaussianNoise,
    Mechanism,
    MechanismSettings,
    PerLayerClipping,
    PoissonSampling,
    PrivacyPlan,
    make_plan,
)
from fedjax_private.privacy.accounting import Neighbors, RdpAccountant

C, ADD = 0.7, Neighbors.ADD_REMOVE
SETTINGS = MechanismSettings(0.25, C, 2.0, 40.0, ADD, 80)
PLAN = PrivacyPlan(
    PoissonSampling(0.25), FlatClipping(C), GaussianNoise(2.0), 40.0, ADD
)


def made(name, settings=SETTINGS, **own):
    return make_plan(MECHANISMS.choose(name, own), settings)


def epsilon(event):
    return RdpAccountant(neighbors=ADD).compose(event).spent(1e-5).epsilon


@pytest.mark.parametrize("name", MECHANISMS.names)
def test_named_mechanisms_are_plans_that_a_set_can_hold(name):
    plan = made(name)
    assert isinstance(plan, PrivacyPlan)
    assert len({plan, made(name)}) == 1
    assert plan.neighbors is ADD
    assert 0 < epsilon(plan.event(80)) < epsilon(plan.event(160))
    louder = made(name, dataclasses.replace(SETTINGS, noise_multiplier=1.0))
    assert epsilon(louder.event(80)) > epsilon(plan.event(80))


@pytest.mark.parametrize("entry", MECHANISMS.entries(), ids=lambda entry: entry.name)
def test_entries_are_found_by_their_own_names(entry):
    assert MECHANISMS.find(entry.name) is entry and entry.summary


def test_mechanisms_are_dp_sgd_with_their_clipping():
    assert made("gaussian") == PLAN
    per_layer = dataclasses.replace(PLAN, clipping=PerLayerClipping(C))
    assert made("per_layer") == per_layer
    automatic = dataclasses.replace(PLAN, clipping=AutomaticClipping(C, 0.5))
    assert made("automatic", clip_stability=0.5) == automatic
    assert made("automatic").clipping == AutomaticClipping(C)


@pytest.fixture
def fork(monkeypatch):
    """A module of the user's own."""
    module = types.ModuleType("my_fork")

    def plan(settings):
        """Twice the noise.

        More words.
        """
        noise = GaussianNoise(2 * settings.noise_multiplier)
        return dataclasses.replace(PLAN, noise=noise)

    module.plan = plan
    module.entry = Mechanism("entry", "An entry.", lambda settings, own: PLAN)
    module.no_plan = lambda settings: "no plan"
    module.other = lambda settings: dataclasses.replace(
        PLAN, neighbors=Neighbors.REPLACE_ONE
    )
    monkeypatch.setitem(sys.modules, "my_fork", module)
    return module


def test_a_function_of_the_user_is_an_entry(fork):
    assert made("my_fork:plan").noise == GaussianNoise(4.0)
    assert MECHANISMS.find("my_fork:plan").summary == "Twice the noise."
    assert made("my_fork:entry") == PLAN


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no_plan", "returns a PrivacyPlan, got 'no plan'"),
        ("other", "neighbors=replace_one"),
    ],
)
def test_what_is_no_plan_for_the_run_is_refused(fork, name, sentence):
    with pytest.raises(ValueError, match=f"mechanism=my_fork:{name} .*{sentence}"):
        made(f"my_fork:{name}")


@pytest.mark.parametrize(
    "name",
    ["magic", "", "no_such_module:f", "math:no_such_name", "math:pi", ":f", "m:"],
)
def test_mechanisms_that_do_not_exist_are_named(name):
    with pytest.raises(ValueError, match="mechanism"):
        MECHANISMS.find(name)
