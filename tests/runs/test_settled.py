"""Given values, those of a settings file, of the algorithm and of the tables."""

import dataclasses
import json

import pytest

from fedjax_private import runs
from fedjax_private.runs import Spec
from tests.runs.small import spec as small

FL = {"dataset": "mnist_5k", "model": "linear", "steps": "fl", "algorithm": "fedavg"}
DP = FL | {"steps": "local_dp", "epsilon": 1.0, "cohort": 4}
FOUND = {"validation_accuracy": 0.9}


@pytest.fixture
def file(tmp_path):
    def made(kind, values, **more):
        path = tmp_path / "mine.json"
        entry = kind | {"hyperparameters": values} | more
        path.write_text(json.dumps({"version": 1, "entries": [entry]}))
        return path

    return made


def test_a_file_s_values_are_the_tuned_ones_and_given_ones_replace_them(file):
    path = file(FL, {"rounds": 7, "learning_rate": 0.3}, search=FOUND)
    spec = Spec(arm="fl", model="linear", settings=path, rounds=3)
    values = spec.hyperparameters
    assert (values.rounds, values.learning_rate) == (3, 0.3)
    usual = Spec(arm="fl", model="linear").hyperparameters
    names = ("rounds", "learning_rate", "evaluate_every")
    same = {name: getattr(usual, name) for name in names}
    assert dataclasses.replace(values, **same) == usual
    told = str(spec.settings_from)
    assert told.startswith(f"{path} (searched); momentum, activation, ")
    assert "borrowed from mnist_5k/tutorial_cnn (searched); given: rounds" in told
    assert spec.settings_from.searched_on == "mnist_5k"
    assert not spec.settings_from.borrowed


def test_a_whole_entry_takes_nothing_from_the_tables(file):
    usual = Spec(arm="fl", model="linear").hyperparameters
    values = {k: v for k, v in dataclasses.asdict(usual).items() if v is not None}
    path = file(FL, values | {"learning_rate": 1.0})
    origin = Spec(arm="fl_he", model="linear", settings=path).settings_from
    assert str(origin) == f"{path} (written by hand)"
    assert origin.searched_on is None


def test_steps_take_the_place_of_epochs_wherever_they_are_given(file):
    path = file(FL, {"local_steps": 5})
    by_steps = Spec(arm="fl", model="linear", settings=path).hyperparameters
    assert (by_steps.local_steps, by_steps.local_epochs) == (5, None)
    by_epochs = Spec(arm="fl", model="linear", settings=path, local_epochs=2)
    by_file = file(FL, {"rounds": 5})
    both = Spec(arm="fl", model="linear", settings=by_file, local_steps=3)
    assert "local_epochs" not in str(both.settings_from)
    values = by_epochs.hyperparameters
    assert (values.local_steps, values.local_epochs) == (None, 2)


def test_what_the_run_lacks_is_left_out(file):
    path = file(FL, {"rounds": 7, "clip_norm": 1.0, "averaging": 0.5})
    spec = Spec(arm="fl", model="linear", settings=path)
    values = spec.hyperparameters
    assert values.rounds == 7 and values.clip_norm is values.averaging is None
    assert f"{path} (written by hand); without clip_norm, averaging; " in str(
        spec.settings_from
    )
    local = file(DP, {"local_epochs": 3, "learning_rate": 0.2})
    told = str(Spec(arm="fl_dp", model="linear", settings=local).settings_from)
    assert "; without local_epochs; " in told
    assert "without" not in str(Spec(arm="fl", model="linear").settings_from)


def test_another_algorithm_keeps_its_own_values(file):
    path = file(FL, {"momentum": 0.8, "rounds": 7})
    spec = Spec(arm="fl", model="linear", algorithm="scaffold", settings=path)
    assert (spec.hyperparameters.momentum, spec.hyperparameters.rounds) == (0.0, 7)
    assert ", for fedavg" in str(spec.settings_from)
    assert "scaffold's own: momentum" in str(spec.settings_from)
    searched = file(FL | {"algorithm": "scaffold"}, {"momentum": 0.8})
    spec = Spec(arm="fl", model="linear", algorithm="scaffold", settings=searched)
    assert spec.hyperparameters.momentum == 0.8
    assert "own" not in str(spec.settings_from)


def test_steps_of_local_noise_fall_with_the_cohort(file):
    path = file(DP, {"learning_rate": 0.2})
    for cohort, rate in ((4, 0.2), (1, 0.4), (16, 0.1)):
        spec = Spec(arm="fl_dp", model="linear", clients=16, cohort=cohort)
        spec = dataclasses.replace(spec, settings=path)
        assert spec.hyperparameters.learning_rate == pytest.approx(rate)
        told = str(spec.settings_from)
        assert f"{path} at epsilon 1, 4 clients" in told
        assert (f"; learning_rate 0.2 times sqrt(4/{cohort})" in told) == (cohort != 4)
        given = str(dataclasses.replace(spec, learning_rate=1.0).settings_from)
        assert "times sqrt" not in given


def test_a_file_that_serves_another_run_is_refused(file):
    path = file(FL, {"rounds": 7})
    spec = small(arm="fl_dp", settings=path)
    assert spec.hyperparameters == small(arm="fl_dp").hyperparameters
    with pytest.raises(ValueError) as caught:
        runs.prepare(spec, None)
    for words in (
        f"settings={path} has no effect",
        "for local_dp (every client adds all of the noise) of blobs and linear",
        "the file holds fl of mnist_5k and linear",
        "leave out settings",
    ):
        assert words in str(caught.value)


def test_a_spec_holds_the_file_as_it_was(file):
    path = file(FL, {"rounds": 7})
    spec = Spec(arm="fl", model="linear", settings=path)
    again = Spec(arm="fl", model="linear", settings=str(path))
    assert spec == again and hash(spec) == hash(again)
    file(FL, {"rounds": 9})
    assert dataclasses.replace(spec, seed=1).hyperparameters.rounds == 7
    assert spec.described()["settings"] == str(path)
    assert json.dumps(spec.described())


@pytest.mark.parametrize(("rounds", "every"), [(1, 1), (19, 1), (20, 10), (300, 10)])
def test_short_runs_are_evaluated_after_each_round(rounds, every):
    assert Spec(arm="fl", rounds=rounds).hyperparameters.evaluate_every == every
    given = Spec(arm="fl", rounds=rounds, evaluate_every=7)
    assert given.hyperparameters.evaluate_every == 7
