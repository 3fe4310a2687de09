import itertools

import pytest

from experiments.tune import combinations, spec_with, tune
from fedjax_private.datasets import load
from fedjax_private.runs import Spec, read_rows
from tests.experiments.commands import SMALL


def test_grids():
    assert combinations("a=1,2 b=x") == [{"a": "1", "b": "x"}, {"a": "2", "b": "x"}]
    assert combinations("") == [{}]
    for text in ("a", "a=", "a=1 b"):
        with pytest.raises(ValueError, match="grid takes name=a,b pairs"):
            combinations(text)


def test_values_of_a_grid_are_fields_of_the_spec():
    chosen = spec_with(Spec(), {"learning_rate": "0.5", "rounds": "3", "client": "sgd"})
    assert (chosen.learning_rate, chosen.rounds) == (0.5, 3)
    assert chosen.client.name == "sgd"
    assert spec_with(Spec(), {}) == Spec()


def test_settings_of_entries_are_searched_too():
    values = {"proximal": "0.01", "algorithm": "fedprox"}
    for order in itertools.permutations(values.items()):
        chosen = spec_with(Spec(arm="fl"), dict(order))
        assert chosen.algorithm.described() == {"name": "fedprox", "proximal": 0.01}
    base = Spec(arm="fl_dp", mechanism="adaptive")
    two = spec_with(base, {"clip_quantile": "0.3", "clip_share": "0.1"})
    settings = two.mechanism.settings
    assert (settings.clip_quantile, settings.clip_share) == (0.3, 0.1)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"colour": "red"}, "grid names 'colour', which is nothing to search over"),
        ({"clients": "4"}, "grid names 'clients'"),
        ({"encryption": "exact"}, "grid names 'encryption'"),
        ({"proximal": "0.1"}, "grid names 'proximal'"),  # of an algorithm not chosen
        ({"momentum": "fast"}, "fast"),
        ({"momentum": "2"}, "momentum must"),
        ({"algorithm": "magic"}, "algorithm 'magic' is unknown"),
        ({"algorithm": "fedprox", "proximal": "-1"}, "proximal must"),
    ],
)
def test_bad_values_are_refused(values, named):
    with pytest.raises(ValueError, match=named):
        spec_with(Spec(), values)


def test_tuning_scores_a_grid_on_held_out_training_data(tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    grid = "learning_rate=0.0001,0.1"
    argv = ["tune", "--arm=fl", *SMALL, f"--grid={grid}", f"--log={log}"]
    assert tune(argv) == 0
    first, second = read_rows(log)
    assert (first["learning_rate"], second["learning_rate"]) == (0.0001, 0.1)
    assert first["validation_accuracy"] < second["validation_accuracy"]
    assert first["held_out_examples"] == len(load("mnist_5k").train) / 5 == 800
    assert first["rounds"] == 2
    assert first["grid"] == {"learning_rate": "0.0001"}
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].startswith(f"{second['validation_accuracy']:.4f}")


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--grid=momentum", "--grid takes name=a,b pairs"),
        ("--grid=colour=red", "--grid names 'colour'"),
        ("--clients=0", "--clients must be at least 1"),
        ("--arm=magic", "--arm must be one of"),
        ("--seeds=0", "--seeds must be at least 1"),
    ],
)
def test_bad_input_is_one_sentence(flag, named, tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    with pytest.raises(SystemExit) as exit_:
        tune(["tune", flag, f"--log={log}"])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and named in line
    assert not log.exists()
