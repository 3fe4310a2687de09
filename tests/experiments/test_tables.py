"""The command that makes the paper's tables: what it runs, asserts and writes."""

import csv
import dataclasses
import itertools

import pytest

from experiments import tables
from experiments.arms import ARMS
from experiments.config import DataConfig
from experiments.tables import CNN, LINEAR, TablesConfig
from experiments.tables_results import Results, shape
from fedjax_private.simulation.records import ROW_NAMES, read_rows

DATA = DataConfig()
ONE_SEED = TablesConfig(seeds=1, clients=(4, 32))
SCARCE = TablesConfig(profile="paper_shape", seeds=1, clients=(4, 8, 32))


def made_up(spec, accuracy):
    """A row as a run would leave it."""
    settings, arm = spec.settings, ARMS[spec.arm]
    values = {
        "arm": spec.arm,
        "clients": spec.clients,
        "partition": spec.partition,
        "seed": spec.seed,
        "dataset": "mnist_5k",
        "model": settings.training.model,
        "params": 1000,
        "train_examples": 4000,
        "accuracy": accuracy,
        "seconds_total": 2.5,
    }
    if arm.private:
        values |= {
            "epsilon": settings.privacy.epsilon,
            "epsilon_insider": float("inf") if arm.federated else None,
            "delta": 1e-5,
            "clip_norm": 0.1,
            "sampling_probability": 1.0,
        }
    if arm.encrypted:
        values |= {
            "encryption": settings.encryption.encryption,
            "upload_bytes_per_client_round": 33_000,
            "seconds_encrypt": 1.0,
            "max_aggregation_error": 1e-9,
        }
    return dict.fromkeys(ROW_NAMES) | values


def results(what, accuracy):
    """Results of made-up runs whose accuracy is `accuracy(spec)`."""
    rows = {spec: made_up(spec, accuracy(spec)) for spec in tables.specs(what, DATA)}
    return Results(what, DATA, rows, {spec: None for spec in rows if spec.seed == 0})


def test_every_run_has_a_name_of_its_own_and_costs_are_run_once():
    specs = tables.specs(TablesConfig(seeds=2), DATA)
    assert len({spec.name for spec in specs}) == len(specs)
    costs = [spec for spec in specs if spec.label.startswith("cost")]
    assert {spec.seed for spec in costs} == {0}
    assert {s.seed for s in specs if s.arm in ("local", "fl", "fl_dp")} == {0, 1}
    assert {s.settings.encryption.encryption for s in costs} == set(tables.SCHEMES)
    # All eight cells of FL x DP x HE: the arms, and one holder under encryption.
    alone = {s.arm for s in specs if s.clients == 1 and ARMS[s.arm].encrypted}
    assert alone == {"fl_he", "private_ai"}
    hybrid = {
        (s.clients, s.partition, s.settings.privacy.epsilon)
        for s in specs
        if s.arm == "private_ai" and s.settings.training.model == LINEAR
    }
    assert hybrid >= set(
        itertools.product((4, 8, 16, 32), tables.PARTITIONS, tables.EPSILONS)
    )


def paper_like(spec):
    """Table 3's shape: falling without FL, nearly level with it."""
    if spec.arm == "local":
        return 0.9 - 0.01 * spec.clients
    return 0.95 - 0.001 * spec.clients


def test_the_shape_of_table_3_holds_or_is_said_not_to():
    lines, holds = shape(results(SCARCE, paper_like))
    assert holds
    assert not any("DOES NOT HOLD" in line for line in lines)

    def planted(arm, clients, value):
        def accuracy(spec):
            if (spec.arm, spec.clients, spec.partition) == (arm, clients, "shards"):
                return value
            return paper_like(spec)

        return shape(results(SCARCE, accuracy))

    for fault, said in (
        (("local", 8, 0.87), "accuracy without FL falls"),
        (("fl", 8, 0.80), "FL is above it"),
        (("fl", 32, 0.60), "FL loses less"),
    ):
        lines, holds = planted(*fault)
        assert not holds
        (line,) = [line for line in lines if said in line and "NOT" in line]
        assert "non-IID" in line


def test_missing_runs_are_no_evidence_for_the_shape():
    found = results(SCARCE, paper_like)
    rows = {s: r for s, r in found.rows.items() if s.clients != 8}
    assert not shape(dataclasses.replace(found, rows=rows))[1]


def test_cells_tell_models_epsilons_and_schemes_apart():
    def accuracy(spec):
        epsilon = spec.settings.privacy.epsilon or 8.0
        return (0.5 if spec.settings.training.model == CNN else 0.9) + epsilon / 100

    found = results(ONE_SEED, accuracy)

    def mean(*place, **changes):
        return found.cell("private_ai", *place, **changes).mean("accuracy")

    assert mean(epsilon=2.9) == pytest.approx(0.929)
    assert mean(32, "shards", epsilon=0.563) == pytest.approx(0.90563)
    assert mean(model=CNN, epsilon=2.9) == pytest.approx(0.529)
    assert found.cell("fl_dp", 16, epsilon=2.9) is None  # was not run
    # One cell a run, though many share arm, partition and clients.
    assert [len(cell.rows) for cell in found.cells()] == [1] * len(found.rows)


@pytest.mark.slow
@pytest.mark.needs_openfhe
def test_quick_tables_end_to_end(tmp_path):
    out = tmp_path / "tables"
    argv = ["tables", "--quick", "--clients=2", f"--out={out}"]
    assert tables.tables(argv) == 0
    rows = read_rows(out / "runs.jsonl")
    what = TablesConfig(quick=True, clients=(2,))
    assert len(rows) == len(tables.specs(what, DATA))
    text = (out / "report.md").read_text()
    for title in ("Table 1", "Table 3", "Tables 4 and 5", "FL x DP x HE", "Privacy"):
        assert title in text
    assert "not run" not in text
    (encrypted,) = read_rows(out / "predictions.jsonl")
    assert encrypted["images"] == 1000
    assert encrypted["agreement"] >= 0.999
    assert encrypted["largest_difference"] < 1e-2
    summary = list(csv.DictReader((out / "summary.csv").open()))
    assert len(summary) == len(rows)
    assert {line["seeds"] for line in summary} == {"1"}
    for name in (
        "figure_1",
        "accuracy_epsilon_clients",
        "accuracy_epsilon",
        "encryption_cost",
    ):
        assert (out / f"{name}.png").stat().st_size > 5_000


def test_bad_profiles_are_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        tables.tables(["tables", "--profile=poster"])
    assert ended.value.code == 2
    assert "--profile takes digits, paper_shape" in capsys.readouterr().err
    with pytest.raises(ValueError, match="--seeds must be at least 1"):
        TablesConfig(seeds=0)
