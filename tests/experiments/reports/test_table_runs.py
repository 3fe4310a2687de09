"""Which runs the tables are made of."""

import itertools

import pytest

from experiments.reports import table_runs
from experiments.reports.table_runs import LINEAR, TablesConfig, specs
from fedjax_private.runs import ARMS
from tests.experiments.reports.made_up import DATA


@pytest.fixture(scope="module")
def digits():
    return specs(TablesConfig(seeds=2), DATA)


def test_every_run_has_a_name_of_its_own(digits):
    assert len({spec.name for spec in digits}) == len(digits)


def test_what_takes_long_is_run_once(digits):
    costs = [spec for spec in digits if spec.label.startswith("cost")]
    assert {spec.seed for spec in costs} == {0}
    assert {spec.scheme.name for spec in costs} == set(table_runs.SCHEMES)
    repeated = [
        spec for spec in digits if spec.label == table_runs.CNN and spec.arm == "fl"
    ]
    assert {spec.seed for spec in repeated} == {0, 1}
    assert [spec.seed for spec in digits] == sorted(spec.seed for spec in digits)


def test_all_cells_of_fl_dp_and_he_are_run(digits):
    """The arms, and one holder of all data under encryption."""
    alone = {s.arm for s in digits if s.clients == 1 and ARMS[s.arm].encrypted}
    assert alone == {"fl_he", "private_ai"}
    hybrid = {
        (s.clients, s.partition_name, s.epsilon)
        for s in digits
        if s.arm == "private_ai" and s.model_entry.name == LINEAR
    }
    assert hybrid >= set(
        itertools.product((4, 8, 16, 32), table_runs.PARTITIONS, table_runs.EPSILONS)
    )


def test_pooled_data_know_neither_clients_nor_partition(digits):
    pooled = [spec for spec in digits if spec.traits.pooled]
    assert {(s.client_count, s.partition_name) for s in pooled} == {(1, "iid")}


def test_every_run_can_be_run(digits):
    """Its algorithm goes with its arm, and its clients suffice for its sums."""
    for spec in digits:
        assert spec.hyperparameters.rounds >= 1
        assert spec.trust.uploads == (spec.cohort_size if spec.encrypts else 1)


def test_quick_runs_are_short(digits):
    quick = specs(TablesConfig(quick=True, clients=(2,)), DATA)
    assert {spec.hyperparameters.rounds for spec in quick} == {3}
    assert {spec.seed for spec in quick} == {0}
    related = table_runs.related(TablesConfig(quick=True), DATA)
    assert (
        len(related)
        == len(table_runs.related(TablesConfig(), DATA))
        == len(table_runs.RELATED)
    )
    assert set(related) <= set(quick)


def test_the_scarce_profile_has_its_rounds_and_seeds():
    what = TablesConfig(profile="paper_shape", clients=(4,))
    scarce = specs(what, DATA)
    assert {spec.rounds for spec in scarce} == {table_runs.SCARCE_ROUNDS}
    assert {spec.arm for spec in scarce} == {"centralized", "local", "fl"}
    assert {spec.seed for spec in scarce} == set(range(table_runs.SCARCE_SEEDS))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"profile": "poster"}, "profile must be one of digits, paper_shape"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"clients": (0,)}, "clients must be at least 1"),
        ({"clients": ()}, "clients must be at least 1"),
    ],
)
def test_bad_settings_are_refused(values, named):
    with pytest.raises(ValueError, match=named):
        TablesConfig(**values)
