import csv

import pytest

from experiments import paper, report
from experiments.arms import ARMS
from experiments.command import config_of
from experiments.config import (
    PrivacyConfig,
    Settings,
    SweepConfig,
    TrainConfig,
    TrainingConfig,
)
from experiments.sweep import quick, specs
from experiments.tune import combinations, settings_with
from experiments.tuned import QUICK_ROUNDS, hyperparameters
from fedjax_private.simulation.records import ROW_NAMES


def row(arm, clients, seed, accuracy, **values):
    base = {
        "arm": arm,
        "clients": clients,
        "partition": "iid",
        "seed": seed,
        "dataset": "mnist_5k",
        "model": "linear",
        "params": 10,
        "train_examples": 100,
        "accuracy": accuracy,
        "seconds_total": 2.0,
    }
    return dict.fromkeys(ROW_NAMES) | base | values


ERROR = {"max_aggregation_error": 1e-9}
ROWS = [
    row("fl", 4, 0, 0.90),
    row("fl", 4, 1, 0.94),
    row("centralized", 4, 0, 0.95),
    row(
        "fl_he",
        4,
        0,
        0.91,
        upload_bytes_per_client_round=330,
        max_aggregation_error=1e-9,
    ),
    row("private_ai", 8, 0, None, epsilon=2.9, delta=1e-5, max_aggregation_error=1e-9),
]
SHARED = {
    "epsilon": 2.9,
    "delta": 1e-5,
    "honest_clients": 2,
    "noise_multiplier": 2.0,
    "steps": 80,
}


@pytest.fixture(scope="module")
def config():
    config = config_of("sweep", SweepConfig(), Settings(), list(ARMS), [4, 16], ["--x"])
    return {**config, "sums": {"4 clients": "CKKS, for four."}}


def test_cells_average_over_seeds():
    cell = next(c for c in report.cells(ROWS) if c.arm == "fl")
    assert cell.mean("accuracy") == pytest.approx(0.92)
    assert cell.deviation("accuracy") == pytest.approx(0.0282843, rel=1e-4)
    assert cell.mean("epsilon") is None
    assert report.accuracy(cell) == "0.920 ± 0.028"
    rows = [row("fl_dp", 4, seed, 0.5, epsilon=float("inf")) for seed in (0, 1)]
    (unbounded,) = report.cells(rows)
    assert unbounded.mean("epsilon") == float("inf")
    assert unbounded.deviation("epsilon") is None


def test_files_are_written_and_agree(tmp_path, config):
    report.write(tmp_path, ROWS, config, ["Not run: something."])
    lines = list(csv.DictReader((tmp_path / "summary.csv").open()))
    assert {(line["arm"], line["seeds"]) for line in lines} == {
        ("centralized", "1"),
        ("fl", "2"),
        ("fl_he", "1"),
        ("private_ai", "1"),
    }
    fl = next(line for line in lines if line["arm"] == "fl")
    assert float(fl["accuracy_mean"]) == pytest.approx(0.92)
    text = (tmp_path / "report.md").read_text()
    assert "0.920 ± 0.028" in text
    assert "0.824 ± 0.02 (T3), 0.924 (T4)" in text
    assert "Not run: something." in text
    assert "not part of epsilon" in text
    assert "diverged" in text
    assert (tmp_path / "accuracy_clients.png").stat().st_size > 10_000


def test_both_epsilons_and_both_adversaries_are_told(config):
    for insider, shown in ((3.4, "3.4000"), (float("inf"), "inf")):
        one = row("private_ai", 4, 0, 0.9, epsilon_insider=insider, **SHARED)
        text = report.markdown([one], config, [])
        assert f"| 2.9000 | {shown} |" in text
        assert "the honest ones (2 of a sum's), who subtract their own" in text
    local = row("private_ai_local", 4, 0, 0.9, **SHARED | {"honest_clients": None})
    assert "every client adds all of the noise" in report.markdown([local], config, [])


def test_a_seeded_noise_is_called_a_simulation(config):
    assert "those of a simulation" not in report.markdown(ROWS, config, [])
    config["settings"]["privacy"]["noise_seed"] = 1
    assert "those of a simulation" in report.markdown(ROWS, config, [])


def test_the_papers_figures_are_labelled():
    assert paper.cited("local", "shards", 32) == "0.520 ± 0.03 (T3)"
    assert paper.cited("fl_he", "iid", 5) == "0.937 (T5)"
    assert paper.cited("private_ai", "iid", 4) == ""


def work(name, *fields, clients=8, **training):
    settings = Settings(training=TrainingConfig(**training))
    hyper = hyperparameters(name, clients, settings)
    return tuple(getattr(hyper, field) for field in fields)


def test_arms_do_equal_work():
    plain = [name for name, arm in ARMS.items() if not arm.private]
    passes = {work(name, "rounds", "local_epochs", "batch_size") for name in plain}
    assert len(passes) == 1


@pytest.mark.parametrize("model", ["tutorial_cnn", "scattering_linear"])
def test_shared_noise_takes_the_steps_of_central_dp_sgd(model):
    steps = (
        "rounds",
        "local_steps",
        "sampling_probability",
        "clip_norm",
        "learning_rate",
        "momentum",
    )
    for clients in (1, 4, 32):
        shared = work("private_ai", *steps, clients=clients, model=model)
        assert shared == work("centralized_dp", *steps, model=model)
        assert shared[1] == 1


def test_local_noise_trains_alike_with_and_without_encryption():
    shared = Settings(privacy=PrivacyConfig(noise="local"))
    plain, encrypted, told = (
        hyperparameters(name, 8, settings)
        for name, settings in (
            ("fl_dp", Settings()),
            ("private_ai_local", Settings()),
            ("private_ai", shared),
        )
    )
    assert plain == encrypted == told
    assert plain.averaging is plain.signal_bound is None


def test_flags_override_the_tuned_values():
    settings = Settings(
        training=TrainingConfig(rounds=7, local_steps=3, learning_rate=0.01),
        privacy=PrivacyConfig(clip_norm=0.3),
    )
    for name, arm in ARMS.items():
        hyper = hyperparameters(name, 8, settings)
        assert (hyper.rounds, hyper.local_steps, hyper.learning_rate) == (7, 3, 0.01)
        assert hyper.local_epochs is None
        assert hyper.clip_norm == (0.3 if arm.private else None)


def test_quick_leaves_what_was_named():
    given = frozenset({"clients"})
    small, settings = quick(SweepConfig(clients=(6,)), Settings(), given)
    assert (small.clients, small.seeds) == ((6,), 1)
    assert settings.training.rounds == QUICK_ROUNDS
    assert quick(SweepConfig(), Settings(), frozenset())[0].clients == (4, 8)
    named = Settings(training=TrainingConfig(rounds=9))
    assert quick(SweepConfig(), named, frozenset())[1].training.rounds == 9


def test_a_sweep_is_a_run_for_every_cell():
    what = SweepConfig(clients=(2, 4), partitions=("iid", "shards"), seeds=3)
    found = [
        (s.arm, s.clients, s.partition, s.seed) for s in specs(what, ARMS, Settings())
    ]
    assert len(found) == len(set(found)) == len(ARMS) * 2 * 2 * 3
    assert set(what.arms) == set(ARMS) - {"private_ai_local"}
    assert [spec[3] for spec in found] == sorted(spec[3] for spec in found)


def test_grids():
    assert combinations("a=1,2 b=x") == [{"a": "1", "b": "x"}, {"a": "2", "b": "x"}]
    assert combinations("") == [{}]
    with pytest.raises(ValueError, match="--grid"):
        combinations("a")
    chosen = settings_with(Settings(), {"learning_rate": "0.5", "clip_norm": "2"})
    assert chosen.training.learning_rate == 0.5
    assert chosen.privacy.clip_norm == 2.0
    for values in ({"colour": "red"}, {"momentum": "fast"}, {"momentum": "2"}):
        with pytest.raises(ValueError):
            settings_with(Settings(), values)


def test_bad_configurations_are_refused_in_the_library_too():
    with pytest.raises(ValueError, match="--arm"):
        TrainConfig(arm="magic")
