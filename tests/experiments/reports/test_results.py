"""Runs found by what was run, and the shape of Table 3."""

import dataclasses

import pytest

from experiments.reports.results import cost_cells, epsilon_curves, panels, shape
from experiments.reports.table_runs import CNN, EPSILONS, MORE_EPSILONS, TablesConfig
from tests.experiments.reports.made_up import results

ONE_SEED = TablesConfig(seeds=1, clients=(4, 32))
SCARCE = TablesConfig(profile="paper_shape", seeds=1, clients=(4, 8, 32))


def paper_like(spec):
    """Table 3's shape: falling without FL, nearly level with it."""
    if spec.arm == "local":
        return 0.9 - 0.01 * spec.client_count
    return 0.95 - 0.001 * spec.client_count


def test_the_shape_of_table_3_holds_or_is_said_not_to():
    lines, holds = shape(results(SCARCE, paper_like))
    assert holds
    assert not any("DOES NOT HOLD" in line for line in lines)

    def planted(arm, clients, value):
        def accuracy(spec):
            place = (spec.arm, spec.clients, spec.partition_name)
            return value if place == (arm, clients, "shards") else paper_like(spec)

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


@pytest.fixture(scope="module")
def told_apart():
    def accuracy(spec):
        model = 0.5 if spec.model_entry.name == CNN else 0.9
        return model + (spec.epsilon or 8.0) / 100

    return results(ONE_SEED, accuracy)


def test_cells_tell_models_epsilons_and_schemes_apart(told_apart):
    def mean(*place, **changes):
        return told_apart.cell("private_ai", *place, **changes).mean("accuracy")

    assert mean(epsilon=2.9) == pytest.approx(0.929)
    assert mean(32, "shards", epsilon=0.563) == pytest.approx(0.90563)
    assert mean(model=CNN, epsilon=2.9) == pytest.approx(0.529)
    assert told_apart.cell("fl_dp", 16, epsilon=2.9) is None  # was not run
    # One cell a run, though many share arm, partition and clients.
    cells = told_apart.cells()
    assert [len(cell.rows) for cell in cells] == [1] * len(told_apart.rows)


def test_figures_are_drawn_from_cells():
    found = results(TablesConfig(seeds=1, clients=(4, 8)), paper_like)
    rows = panels(found, ("local", "fl"), "centralized", model=CNN)
    places = {(row["partition"], row["clients"]) for row in rows}
    assert places == {(p, k) for p in ("iid", "shards") for k in (4, 8)}
    assert len(rows) == 3 * len(places)
    curves = epsilon_curves(found)
    epsilons = sorted((*EPSILONS, *MORE_EPSILONS))
    for cells in curves.values():
        assert [cell.mean("epsilon") for cell in cells] == epsilons
    assert [cell.clients for cell in cost_cells(found)] == [4, 8]
