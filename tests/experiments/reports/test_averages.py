import pytest

from experiments.reports.averages import cells
from tests.experiments.reports.made_up import row

INF = float("inf")


def test_cells_average_over_seeds():
    rows = [row("fl", 4, seed, value) for seed, value in enumerate((0.90, 0.94))]
    (cell,) = cells(rows)
    assert cell[:3] == ("fl", "iid", 4) and cell.rows == rows
    assert cell.values("accuracy") == [0.90, 0.94]
    assert cell.mean("accuracy") == pytest.approx(0.92)
    assert cell.deviation("accuracy") == pytest.approx(0.0282843, rel=1e-4)
    assert cell.mean("epsilon") is cell.deviation("epsilon") is None


def test_one_seed_and_infinities_have_no_deviation():
    assert cells([row("fl")])[0].deviation("accuracy") is None
    (unbounded,) = cells([row("fl_dp", 4, seed, epsilon=INF) for seed in (0, 1)])
    assert unbounded.mean("epsilon") == INF
    assert unbounded.deviation("epsilon") is None
    (partly,) = cells([row("fl", 4, 0, 0.5), row("fl", 4, 1, None)])
    assert partly.mean("accuracy") == 0.5


def test_cells_are_ordered_by_partition_clients_and_arm():
    rows = [
        row("private_ai", 8),
        row("fl", 8),
        row("fl", 4, partition="my:parts"),
        row("centralized", 4),
        row("fl", 4),
    ]
    assert [cell[:3] for cell in cells(rows)] == [
        ("centralized", "iid", 4),
        ("fl", "iid", 4),
        ("fl", "iid", 8),
        ("private_ai", "iid", 8),
        ("fl", "my:parts", 4),
    ]


@pytest.mark.parametrize(
    "setting",
    [
        "dataset",
        "model",
        "algorithm",
        "mechanism",
        "clip_norm",
        "delta",
        "encryption",
        "rounds",
        "learning_rate",
        "epsilon_target",
        "noise_multiplier",
        "noise_seed",
        "drop_out",
        "directory",
        "alpha",
        "a_setting_of_one_s_own",
    ],
)
def test_rows_that_differ_in_any_setting_are_never_averaged(setting):
    rows = [row("fl_dp", 4, 0, value, **{setting: value}) for value in (0.5, 0.7)]
    assert [cell.mean("accuracy") for cell in cells(rows)] == [0.5, 0.7]


def test_what_follows_from_the_seed_tells_no_cells_apart():
    rows = [
        row(
            "fl_dp",
            4,
            seed,
            epsilon_target=2.9,
            noise_multiplier=1.0 + seed,
            epsilon=2.89 + seed / 1000,
            steps=80 + seed,
            time=f"{seed}",
            warnings=[f"{seed}"],
        )
        for seed in (0, 1)
    ]
    (cell,) = cells(rows)
    assert cell.mean("noise_multiplier") == 1.5


def test_rows_of_older_directories_lack_names():
    (cell,) = cells([{"arm": "fl", "partition": "iid", "clients": 4, "seed": 0}])
    assert cell.mean("accuracy") is None and cell.setting("alpha") is None


def test_a_seed_that_occurs_twice_with_the_same_settings_is_not_averaged():
    """Its rows do not say what differed, and a mean of them would hide it."""
    rows = [row("fl", 4, seed, 0.1 * seed, run=f"a-{seed}") for seed in (1, 2)]
    rows += [row("fl", 4, 1, 0.9, run="b-1"), row("fl", 8, 1, 0.4)]
    rows.append(row("fl", 4, 1, 0.8, run="b-1"))
    several = cells(rows)
    assert [(c.setting("repeated_run"), c.mean("accuracy")) for c in several] == [
        ("a-1", 0.1),
        ("a-2", 0.2),
        ("b-1", 0.9),
        ("b-1 (2)", 0.8),
        (None, 0.4),
    ]
    assert all(cell.deviation("accuracy") is None for cell in several)
