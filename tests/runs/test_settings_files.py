"""Files of hyper-parameters: read, searched, written, refused."""

import json
import os

import pytest

from fedjax_private.algorithms import ALGORITHMS
from fedjax_private.runs import Spec
from fedjax_private.runs.settings_files import (
    MOST_BYTES,
    Entry,
    SettingsFile,
    read,
    steps_of,
)

ENTRY = {
    "dataset": "csv:ward.csv",
    "model": "linear",
    "steps": "fl",
    "algorithm": "fedavg",
    "hyperparameters": {"rounds": 7, "learning_rate": 0.3},
}


def written(tmp_path, *entries, **top):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"version": 1, "entries": entries} | top))
    return path


def entry(**changes):
    fields = {name: ENTRY[name] for name in ("dataset", "model", "steps", "algorithm")}
    usual = {"epsilon": None, "cohort": None, "values": (("rounds", 7),)}
    return Entry(**fields | usual | changes)


def test_what_is_written_is_read(tmp_path):
    path = os.fspath(tmp_path / "new" / "settings.json")
    search = {"validation_accuracy": 0.9}
    file = SettingsFile(path)
    for each in (entry(), entry(steps="local_dp", epsilon=2.9, cohort=4)):
        file = file.with_entry(each)
    file = file.with_entry(entry(values=(("rounds", 9),), search=search))
    file.write()
    back = read(path, {})
    assert back == file and len(back.entries) == 2
    assert dict(back.entries[0].values) == {"rounds": 9}
    assert back.entries[0].search == search
    assert os.listdir(tmp_path / "new") == ["settings.json"]


@pytest.mark.parametrize(
    ("arm", "algorithm", "shares_noise", "steps"),
    [
        ("centralized", "local", False, "centralized"),
        ("local", "local", False, "local"),
        ("fl", "fedprox", False, "fl"),
        ("fl_he", "fedavg", False, "fl"),
        ("centralized_dp", "local", False, "central_dp"),
        ("private_ai", "distributed_dp_sgd", True, "central_dp"),
        ("private_ai_local", "fedavg", False, "local_dp"),
        ("fl_dp", "fedavg", False, "local_dp"),
        ("fl_dp", "nbafl", False, "nbafl"),
    ],
)
def test_runs_that_share_settings_take_steps_of_one_kind(
    arm, algorithm, shares_noise, steps
):
    found = ALGORITHMS.find(algorithm)
    assert steps_of(arm, found, shares_noise=shares_noise) == steps


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ({}, 0),
        ({"epsilon": 1.0}, 1),
        ({"epsilon": 2.0}, 0),  # the logarithm decides: 2.9 / 2 < 2 / 0.5
        ({"cohort": 30}, 2),
        ({"algorithm": "fedprox"}, 3),  # its own, whatever the rest
        ({"algorithm": "scaffold"}, 0),
        ({"dataset": "mnist"}, None),
        ({"model": "mlp_2nn"}, None),
        ({"steps": "fl"}, None),
    ],
)
def test_a_run_takes_the_nearest_entry_of_its_kind(asked, place):
    private = {"steps": "local_dp", "epsilon": 2.9, "cohort": 4}
    entries = (
        entry(**private),
        entry(**private | {"epsilon": 0.5}),
        entry(**private | {"cohort": 32}),
        entry(**private | {"algorithm": "fedprox", "epsilon": 8.0, "cohort": 100}),
    )
    usual = {"dataset": "csv:ward.csv", "model": "linear", "steps": "local_dp"}
    usual |= {"algorithm": "fedavg", "epsilon": None, "cohort": 4}
    found = SettingsFile("x.json", entries).for_run(**usual | asked)
    assert found == (None if place is None else entries[place])


HYPER = "hyperparameters"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"dataset": 3}, "dataset must be text, got 3"),
        ({"colour": 3}, "'colour', which is none of its names"),
        ({"epsilon": 0}, "epsilon must be positive"),
        ({"epsilon": "2"}, "epsilon must be a number"),
        ({"epsilon": True}, "epsilon must be a number"),
        ({"cohort": 0}, "cohort must be at least 1"),
        ({"cohort": 1.5}, "cohort must be a whole number"),
        ({"search": "yes"}, "search must be an object"),
        ({HYPER: [1]}, "hyperparameters must be an object"),
        ({HYPER: {"colour": 1}}, "'colour', which is no hyper-parameter"),
        ({HYPER: {"rounds": 0}}, "rounds must be at least 1, got 0"),
        ({HYPER: {"rounds": 2.5}}, "rounds must be a whole number"),
        ({HYPER: {"rounds": True}}, "rounds must be a whole number"),
        ({HYPER: {"rounds": None}}, "rounds must be a whole number"),
        ({HYPER: {"learning_rate": -1}}, "learning_rate must be positive"),
        ({HYPER: {"learning_rate": 1e999}}, "Infinity is no number"),
        ({HYPER: {"learning_rate": 10**400}}, "learning_rate must be at most 1e+15"),
        ({HYPER: {"rounds": 10**400}}, "rounds must be at most 1e+15"),
        ({"cohort": 10**400}, "cohort must be at most 1e+15"),
        ({HYPER: {"momentum": 1.0}}, "momentum must lie in"),
        ({HYPER: {"signal_bound": 2.0}}, "signal_bound must lie in"),
        ({HYPER: {"activation": "magic"}}, "activation must be one of"),
        # Nothing is imported by a name in a file.
        ({HYPER: {"server_optimizer": "os:abort"}}, "server_optimizer must be one of"),
        ({HYPER: {"local_steps": 1, "local_epochs": 1}}, "not both"),
    ],
)
def test_what_an_entry_may_not_hold_is_one_sentence(change, named, tmp_path):
    path = written(tmp_path, ENTRY, ENTRY | {"model": "mlp_2nn"} | change)
    with pytest.raises(ValueError) as caught:
        Spec(settings=path)
    assert named in str(caught.value) and f"settings={path}" in str(caught.value)
    if "no number" not in named:
        assert "entry 2" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "is no JSON"),
        ("{", "is no JSON"),
        pytest.param("[" * 100_000, "is no JSON", id="deep"),
        ('{"version": NaN, "entries": []}', "NaN is no number"),
        ('{"version": 1, "version": 1, "entries": []}', "'version' stands there twice"),
        ("[]", "must hold version and entries"),
        ('{"version": 1}', "must hold version and entries"),
        ('{"version": 2, "entries": []}', "version 2"),
        ('{"version": true, "entries": []}', "version True, and only 1"),
        ('{"version": 1, "entries": {}}', "must be a list"),
        ('{"version": 1, "entries": [1]}', "must be a list of objects"),
        ('{"version": 1, "entries": [{}]}', "entry 1 lacks algorithm"),
        pytest.param(" " * (MOST_BYTES + 1), "is larger than", id="large"),
        pytest.param("\udcff", "is no JSON", id="bytes"),
    ],
)
def test_what_is_no_settings_file_is_one_sentence(text, named, tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(ValueError, match=named):
        read(path, {})


def test_a_file_is_a_file_and_serves_nothing_twice(tmp_path):
    for path, named in (
        (tmp_path / "none.json", "cannot be read"),
        (tmp_path, "is no file"),
        (os.devnull, "is no file"),
        (written(tmp_path, ENTRY, ENTRY), "entry 2: an earlier entry"),
    ):
        with pytest.raises(ValueError, match=named):
            read(path, {})
