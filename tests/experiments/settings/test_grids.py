"""Grids of values, and the specs that they make."""

import dataclasses
import itertools
import sys
import types

import pytest

from experiments.settings import flags, grids
from experiments.settings.grids import axes, combinations, spec_with
from fedjax_private.algorithms.entry import ALGORITHMS
from fedjax_private.choices import Settings, positive, setting
from fedjax_private.runs import Spec

FIELDS = tuple(flag.name for flag in flags.flags_of(Spec))


def made(base, values, **options):
    return spec_with(base, values, "vary", fields=FIELDS, **options)


def test_names_and_values_are_separated_in_either_way():
    wanted = {"epsilon": ("0.5", "1"), "learning_rate": ("0.1",)}
    for text in (
        "epsilon=0.5,1;learning_rate=0.1",
        "epsilon=0.5,1 learning_rate=0.1",
        " epsilon = 0.5, 1 ; learning_rate=0.1; ".replace(" = ", "="),
    ):
        assert axes(text, "vary") == wanted
    assert axes("", "vary") == {}
    assert axes("dataset=csv:my file.csv,mnist_5k", "vary") == {
        "dataset": ("csv:my file.csv", "mnist_5k")
    }


def test_all_combinations_are_made_in_order():
    assert combinations("a=1,2;b=x,y", "vary") == [
        {"a": "1", "b": "x"},
        {"a": "1", "b": "y"},
        {"a": "2", "b": "x"},
        {"a": "2", "b": "y"},
    ]
    assert combinations("", "vary") == [{}]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("epsilon", "vary takes name=a,b pairs, got 'epsilon'"),
        ("epsilon=", "vary takes name=a,b pairs"),
        ("epsilon=1,,2", "vary takes name=a,b pairs"),
        ("=1", "vary takes name=a,b pairs"),
        ("epsilon=1;epsilon=2", "vary names 'epsilon' twice"),
        ("epsilon=1,1", "vary names a value of 'epsilon' twice"),
    ],
)
def test_other_texts_are_refused(text, named):
    with pytest.raises(ValueError, match=named):
        axes(text, "vary")


def test_fields_take_values_of_their_types():
    spec = made(Spec(), {"learning_rate": "0.5", "rounds": "3", "model": "linear"})
    assert (spec.learning_rate, spec.rounds) == (0.5, 3)
    assert spec.model_entry.name == "linear"
    assert made(Spec(), {}) == Spec()


def test_settings_of_the_entries_that_are_chosen_with_them():
    values = {"proximal": "0.01", "algorithm": "fedprox", "alpha": "2"}
    base = Spec(arm="fl", partition="dirichlet")
    for order in itertools.permutations(values.items()):
        spec = made(base, dict(order))
        assert spec.algorithm.described() == {"name": "fedprox", "proximal": 0.01}
        assert spec.partition.settings.alpha == 2.0


@dataclasses.dataclass(frozen=True)
class Shrinking(Settings):
    alpha: float = setting(1.0, "factor of the step", positive)


def test_a_setting_that_two_entries_share_is_set_in_both_as_by_its_flag(monkeypatch):
    own = dataclasses.replace(ALGORITHMS.find("fedavg"), settings=Shrinking)
    spec = made(Spec(arm="fl", partition="dirichlet", algorithm=own), {"alpha": "0.1"})
    assert spec.partition.settings.alpha == spec.algorithm.settings.alpha == 0.1
    assert spec.values()["alpha"] == 0.1
    assert grids.has(spec, "alpha", FIELDS)
    module = types.ModuleType("shrinking")
    module.entry = own
    monkeypatch.setitem(sys.modules, "shrinking", module)
    flags_given = ["train", "--arm=fl", "--partition=dirichlet", "--alpha=0.1"]
    by_flag = flags.parse("", (Spec,), [*flags_given, "--algorithm=shrinking:entry"])
    assert by_flag[Spec].partition == spec.partition
    assert by_flag[Spec].algorithm.settings == spec.algorithm.settings


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"colour": "red"}, "vary names 'colour', which is nothing to vary"),
        ({"alpha": "1"}, "vary names 'alpha'"),  # of a partition not chosen
        ({"momentum": "fast"}, "vary: momentum takes a number, got 'fast'"),
        ({"momentum": "2"}, "momentum must"),
        ({"algorithm": "magic"}, "algorithm 'magic' is unknown"),
        ({"algorithm": "fedprox", "proximal": "x"}, "vary: proximal takes a number"),
    ],
)
def test_bad_values_are_refused(values, named):
    with pytest.raises(ValueError, match=named):
        made(Spec(arm="fl"), values)


def test_a_lenient_spec_leaves_out_what_it_has_not():
    assert made(Spec(), {"alpha": "1"}, lenient=True) == Spec()
