"""What varies among cells, and the axis and panels that follow."""

import pytest

from experiments.reports.averages import cells
from experiments.reports.layout import (
    Layout,
    along,
    axis_values,
    columns,
    kinds,
    layout,
    level,
    lines,
    missing,
    panels,
    tick,
    varying,
)
from tests.experiments.reports.made_up import row


def swept(arms=("fl_dp",), seeds=(0, 1), **axes):
    """Cells of rows for each combination of values."""
    rows = [row(arm, seed=seed) for arm in arms for seed in seeds]
    for name, values in axes.items():
        rows = [{**each, name: value} for each in rows for value in values]
    return cells(rows)


def laid_out(grouped, *vary):
    found = layout(grouped, vary)
    return found.axis, found.panels


def test_clients_are_the_axis_unless_told():
    grouped = swept(clients=(4, 8), partition=("iid", "shards"))
    assert varying(grouped) == []
    assert laid_out(grouped) == ("clients", ("partition",))
    assert laid_out(swept()) == ("clients", ())


def test_the_first_varied_flag_is_the_axis_and_others_are_panels():
    grouped = swept(epsilon_target=(1.0, 2.0), learning_rate=(0.1, 0.2), clients=(4, 8))
    assert set(varying(grouped)) == {"epsilon_target", "learning_rate"}
    assert laid_out(grouped, "epsilon", "learning_rate") == (
        "epsilon_target",
        ("clients", "learning_rate"),
    )
    assert laid_out(grouped, "learning_rate")[0] == "learning_rate"
    titles = [p.title for p in panels(grouped, layout(grouped, ["learning_rate"]))]
    assert titles[0] == "4 clients, target epsilon 1"
    assert len(titles) == 4


def test_no_setting_that_varies_is_left_out():
    """Cells that differ in anything stand in different places."""
    grouped = swept(epsilon_target=(1.0, 2.0), drop_out=(0.0, 0.1), topology=("a", "b"))
    found = layout(grouped, ["epsilon"])
    for panel in panels(grouped, found):
        places = [(cell.arm, cell.setting(found.axis)) for cell in panel.cells]
        assert len(set(places)) == len(places)
    assert sum(len(p.cells) for p in panels(grouped, found)) == len(grouped) == 8


def test_what_follows_from_a_varied_flag_needs_no_panel():
    rows = [
        row("fl_dp", epsilon_target=epsilon, rounds=rounds)
        for epsilon, rounds in ((0.5, 40), (2.9, 80))
    ]
    assert varying(cells(rows)) == ["rounds", "epsilon_target"]
    assert laid_out(cells(rows), "epsilon") == ("epsilon_target", ())


def test_directories_tell_runs_apart_where_nothing_else_does():
    rows = [row("fl", directory=place) for place in ("/a", "/b")]
    assert laid_out(cells(rows)) == ("directory", ())
    rows = [
        row("fl", directory=place, learning_rate=rate)
        for place, rate in (("/a", 0.1), ("/b", 0.2))
    ]
    assert laid_out(cells(rows)) == ("learning_rate", ())


def from_tables(rate, *given):
    """A learning rate, and where it comes from."""
    names = f"; given: {', '.join(given)}" if given else ""
    return {"learning_rate": rate, "settings_from": f"x/y (searched){names}"}


def test_tuned_values_leave_arms_in_one_panel():
    """Each arm has its own tuned learning rate; another run was given two."""
    rows = [row("fl", **from_tables(0.05, "rounds"))]
    rows.append(row("fl_dp", epsilon_target=2.9, **from_tables(0.5)))
    rows += [
        row(
            arm,
            directory="/b",
            epsilon_target=epsilon,
            **from_tables(rate, "learning_rate"),
        )
        for arm, epsilon in (("fl", None), ("fl_dp", 1.0))
        for rate in (0.05, 0.5)
    ]
    grouped = cells(rows)
    found = panels(grouped, layout(grouped, ["epsilon", "learning_rate"]))
    assert [(p.title, [c.arm for c in p.cells]) for p in found] == [
        ("learning rate tuned, not given", ["fl", "fl_dp"]),
        ("learning rate 0.05", ["fl", "fl_dp"]),
        ("learning rate 0.5", ["fl", "fl_dp"]),
    ]
    by_epsilon = [
        row("fl_dp", epsilon_target=epsilon, **from_tables(rate))
        for epsilon, rate in ((1.0, 0.5), (8.0, 2.0))
    ]
    assert laid_out(cells(by_epsilon)) == ("epsilon_target", ())


def test_tuned_values_have_panels_where_nothing_else_tells_cells_apart():
    rows = [row("fl", clients=4, **from_tables(rate)) for rate in (0.1, 0.2)]
    rows.append(row("fl", clients=8, **from_tables(0.2)))
    found = layout(cells(rows))
    assert found == Layout("clients", ("learning_rate",), exact=True)
    assert sum(len(p.cells) for p in panels(cells(rows), found)) == 3


def test_data_sets_have_panels_of_their_own_wherever_runs_are_placed():
    rows = [row("fl", 4, partition="natural", dataset="csv:a.csv", model="linear")]
    rows.append(row("fl_he", 3, dataset="folder:pets", model="mlp_2nn"))
    grouped = cells(rows)
    titles = [panel.title for panel in panels(grouped, layout(grouped))]
    assert titles == ["csv:a.csv, non-IID (natural)", "folder:pets, IID"]
    assert kinds(grouped) == columns(grouped) == ["dataset", "model"]
    assert kinds(grouped[:1]) == []


def test_data_sets_that_were_varied_are_the_axis():
    rows = [row("fl", dataset=name) for name in ("csv:a.csv", "folder:pets")]
    assert laid_out(cells(rows), "dataset") == ("dataset", ())
    assert laid_out(cells(rows)) == ("dataset", ())


def test_arms_that_a_flag_does_not_concern_stand_in_every_panel():
    grouped = cells(
        [
            row("fl"),
            *(
                row("fl_dp", epsilon_target=epsilon, learning_rate=rate)
                for epsilon in (1.0, 2.0)
                for rate in (0.1, 0.2)
            ),
        ]
    )
    found = layout(grouped, ["learning_rate", "epsilon"])
    several = list(panels(grouped, found))
    assert [p.title for p in several] == ["target epsilon 1", "target epsilon 2"]
    for panel in several:
        assert [cell.arm for cell in panel.cells].count("fl") == 1
    levels = {cell.arm: level([cell], found) for cell in grouped}
    assert levels == {"fl": True, "fl_dp": False}


def test_pooled_arms_are_level_over_clients():
    grouped = swept(("centralized", "fl"), clients=(4, 8))
    levels = {cell.arm: level([cell], layout(grouped)) for cell in grouped}
    assert levels == {"centralized": True, "fl": False}


@pytest.mark.parametrize(
    ("values", "ordered"),
    [((8.0, 0.5, 2), [0.5, 2, 8.0]), (("b", "a"), ["b", "a"])],
)
def test_numbers_are_ordered_by_size_and_names_as_they_come(values, ordered):
    grouped = swept(width=values)
    assert axis_values(grouped, layout(grouped, ["width"])) == ordered


def test_a_setting_of_one_partition_only_leaves_no_panel_of_repetitions():
    """Alpha is no setting of IID, and pooled arms stand in every panel."""
    rows = [row("fl", partition="iid", epsilon_target=2.0)]
    rows += [
        row("fl", partition="dirichlet", alpha=alpha, epsilon_target=2.0)
        for alpha in (0.1, 10.0)
    ]
    rows += [row("centralized", partition=p) for p in ("iid", "dirichlet")]
    grouped = cells(rows)
    over_alpha = layout(grouped, ["alpha"])
    assert axis_values(grouped, over_alpha) == [0.1, 10.0]
    iid, skewed = panels(grouped, over_alpha)
    assert [level([cell], over_alpha) for cell in iid.cells] == [True, True]
    assert len(skewed.cells) == 3
    by_alpha = Layout("epsilon_target", ("partition", "alpha"))
    titles = [panel.title for panel in panels(grouped, by_alpha)]
    assert titles == [
        "IID",
        "non-IID (dirichlet), alpha 0.1",
        "non-IID (dirichlet), alpha 10",
    ]


def test_what_a_setting_does_not_concern_stands_beside_all_of_its_values():
    rows = [row("fl", algorithm="fedavg")]
    rows += [row("fl", algorithm="fedprox", proximal=value) for value in (0.1, 1.0)]
    grouped = cells(rows)
    found = panels(grouped, layout(grouped, ["algorithm", "proximal"]))
    assert [panel.title for panel in found] == ["proximal 0.1", "proximal 1"]
    for panel in found:
        names = [cell.setting("algorithm") for cell in panel.cells]
        assert names == ["fedavg", "fedprox"]


LOCAL_WORK = [
    row("fl", accuracy=0.6, local_epochs=2, directory="C1"),
    row("fl", accuracy=0.7, local_steps=1, directory="C2"),
]


def test_null_has_a_place_where_an_arm_also_has_values():
    grouped = cells([*LOCAL_WORK, row("fl_dp", accuracy=0.5)])
    found = layout(grouped)
    values = axis_values(grouped, found)
    assert (found.axis, values) == ("local_epochs", [2, None])
    assert [tick(value) for value in values] == ["2", "not set"]
    (panel,) = panels(grouped, found)
    at = {
        arm: [cell.mean("accuracy") for cell in along(line, values, found)]
        for arm, line in lines(panel).items()
    }
    assert at == {"fl": [0.6, 0.7], "fl_dp": [0.5, 0.5]}


def test_cells_without_a_panel_of_their_own_are_left_over_for_others():
    """Each of two arms has a setting of which the other knows nothing."""
    rows = [row("fl_he", c, value_bound=v) for c in (4, 8) for v in (0.1, 1.0)]
    rows += [row("fl_dp", c, noise_multiplier=v) for c in (4, 8) for v in (2.0, 3.0)]
    grouped = cells(rows)
    found = Layout("clients", ("value_bound", "noise_multiplier"))
    several = panels(grouped, found)
    titles = [panel.title for panel in several]
    assert sorted(titles) == [
        "noise multiplier 2",
        "noise multiplier 3",
        "value bound 0.1",
        "value bound 1",
    ]
    placed = [cell for panel in several for cell in panel.cells]
    assert len(placed) == len(grouped) and missing(grouped, placed) == []
    assert missing(grouped, placed[1:]) == placed[:1]


def test_pooled_cells_are_repeated_and_so_never_missing():
    grouped = swept(("centralized", "fl"), clients=(4, 8))
    assert missing(grouped, grouped[1:]) == []  # centralised at 4 stands at 8 too
