import contextlib

import numpy as np
import pytest

from experiments.reports import figures
from experiments.reports.averages import cells
from experiments.reports.layout import layout
from experiments.reports.metrics import ACCURACY, METRICS
from fedjax_private.runs import ARMS
from tests.experiments.reports.made_up import row


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5_000


def test_every_arm_has_a_style_of_its_own():
    assert set(figures.STYLES) == set(ARMS)
    drawn = {tuple(sorted(style.items())) for style in figures.STYLES.values()}
    assert len(drawn) == len(ARMS)


def test_accuracy_against_clients(tmp_path):
    rows = [
        row(arm, clients, seed, 0.8 + seed / 50, partition=partition)
        for arm in ARMS
        for clients in (4, 8)
        for seed in (0, 1)
        for partition in ("iid", "my:parts")
    ]
    rows.append(row("fl", 16, 0, None))  # diverged
    figures.draw(tmp_path / "figure.png", rows)
    assert is_png(tmp_path / "figure.png")


VALUES = {
    "epsilon_target": (0.5, 1.0, 8.0),  # spans a decade
    "learning_rate": (0.1, 0.2),
    "topology": ("star", "tree"),
    "protect": (True, False),
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("metric", ["accuracy", "seconds_total"])
def test_a_metric_over_any_setting(name, metric, tmp_path):
    rows = [
        row(arm, 8, seed, 0.8, **{name: value, "seconds_total": 10.0**seed})
        for arm in ("fl_he", "private_ai")
        for value in VALUES[name]
        for seed in (0, 1)
    ]
    rows.append(row("fl", 8))  # which the setting does not concern
    found = layout(cells(rows), [name])
    figures.draw(tmp_path / "figure.png", rows, found, METRICS[metric])
    assert is_png(tmp_path / "figure.png")


@pytest.mark.parametrize("insider", [None, 3.4, float("inf")])
def test_accuracy_and_epsilon_over_rounds(insider, tmp_path):
    rows = [
        {
            "round": number,
            "accuracy": number / 10 if number % 2 else None,
            "epsilon": 0.3 * number,
            "epsilon_insider": insider,
        }
        for number in range(1, 6)
    ]
    figures.over_rounds(tmp_path / "figure.png", rows, 1e-5)
    assert is_png(tmp_path / "figure.png")
    figures.over_rounds(tmp_path / "plain.png", rows, None)
    assert is_png(tmp_path / "plain.png")


def test_few_rounds_have_whole_numbers(tmp_path, monkeypatch):
    ticks = []

    @contextlib.contextmanager
    def drawn(*args, **options):
        with figures_drawn(*args, **options) as (figure, axes):
            yield figure, axes
            ticks.append(list(axes[0].get_xticks()))

    figures_drawn = figures.drawn
    monkeypatch.setattr(figures, "drawn", drawn)
    for last in (1, 3):
        rows = [{"round": n, "accuracy": n / 10} for n in range(1, last + 1)]
        figures.over_rounds(tmp_path / "figure.png", rows, None)
    assert all(float(tick).is_integer() for each in ticks for tick in each)


def test_data_sets_have_scales_of_their_own(tmp_path, monkeypatch):
    shared = []

    @contextlib.contextmanager
    def drawn(*args, **options):
        shared.append(options["sharey"])
        with figures_drawn(*args, **options) as both:
            yield both

    figures_drawn = figures.drawn
    monkeypatch.setattr(figures, "drawn", drawn)
    for other in ("mnist_5k", "folder:pets"):
        rows = [row("fl", 4), row("fl", 8, dataset=other)]
        figures.draw(tmp_path / "figure.png", rows)
    assert shared == [True, False]


def test_accuracy_against_epsilon(tmp_path):
    curves = {
        arm: cells([row(arm, 8, 0, 0.9, epsilon=epsilon) for epsilon in (0.5, 2.9)])
        for arm in ("centralized_dp", "private_ai")
    }
    figures.accuracy_against_epsilon(tmp_path / "figure.png", curves)
    assert is_png(tmp_path / "figure.png")


def test_the_cost_of_encryption(tmp_path):
    line = cells([row("private_ai", clients) for clients in (4, 8)])
    figures.encryption_cost(tmp_path / "figure.png", line)
    assert is_png(tmp_path / "figure.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_prediction(channels, tmp_path):
    image = np.arange(8 * 8 * channels, dtype=np.uint8).reshape(8, 8, channels)
    path = tmp_path / "figure.png"
    figures.prediction(path, image, np.array([0.1, -2.0, 3.0]), ("0", "1", "2"))
    assert is_png(path)


def test_bars_end_where_values_do(tmp_path, monkeypatch):
    """No accuracy is below 0 or above 1."""
    reached = []

    @contextlib.contextmanager
    def drawn(*args, **options):
        with figures_drawn(*args, **options) as (figure, axes):
            yield figure, axes
            for container in axes[0].containers:
                (bar,) = container.lines[2][0].get_segments()
                reached.append((bar[0][1], bar[1][1]))

    figures_drawn = figures.drawn
    monkeypatch.setattr(figures, "drawn", drawn)
    rows = [row("fl", 4, seed, value) for seed, value in enumerate((0.0, 0.4))]
    rows += [row("fl_he", 4, seed, value) for seed, value in enumerate((0.8, 1.0))]
    rows += [row("fl_dp", 4, seed, value) for seed, value in enumerate((0.4, 0.6))]
    figures.draw(tmp_path / "figure.png", rows)
    spread = 0.02**0.5  # of 0.4 and 0.6
    assert sorted(reached) == [
        pytest.approx((0.0, 0.2 + 0.08**0.5)),
        pytest.approx((0.5 - spread, 0.5 + spread)),
        pytest.approx((0.9 - spread, 1.0)),
    ]


def test_points_of_an_arm_without_a_value_are_drawn_beside_the_others(
    tmp_path, monkeypatch
):
    """No point becomes a level line that stands for the rest."""
    seen = []

    @contextlib.contextmanager
    def drawn(*args, **options):
        with figures_drawn(*args, **options) as (figure, axes):
            yield figure, axes
            ticks = [label.get_text() for label in axes[0].get_xticklabels()]
            for container in axes[0].containers:
                xs, ys = container.lines[0].get_data()
                at = {ticks[round(x)]: y for x, y in zip(xs, ys, strict=True)}
                seen.append((container.get_label(), at))
            seen.extend(
                (line.get_label(), line.get_ydata()[0])
                for line in axes[0].lines
                if line.get_label() == "FL"
            )

    figures_drawn = figures.drawn
    monkeypatch.setattr(figures, "drawn", drawn)
    rows = [row("fl_dp", accuracy=0.4), row("fl", accuracy=0.9)]
    rows += [row("fl_dp", accuracy=value, epsilon_target=value) for value in (0.6, 0.5)]
    found = layout(cells(rows), ["epsilon"])
    figures.draw(tmp_path / "figure.png", rows, found)
    assert seen == [("FL + DP", {"0.5": 0.5, "0.6": 0.6, "not set": 0.4}), ("FL", 0.9)]


def test_an_arm_may_stand_in_some_panels_only(tmp_path):
    rows = [
        row("fl_dp", partition=name, epsilon_target=epsilon)
        for name in ("iid", "shards")
        for epsilon in (1.0, 2.0)
    ]
    rows.append(row("private_ai", partition="shards", epsilon_target=1.0))
    figures.draw(tmp_path / "f.png", rows, layout(cells(rows), ("epsilon",)), ACCURACY)
    assert is_png(tmp_path / "f.png")


@pytest.mark.filterwarnings("error")
def test_long_names_leave_room_for_the_panel(tmp_path, monkeypatch):
    shown = []
    draw_panel = figures._panel
    monkeypatch.setattr(
        figures,
        "_panel",
        lambda axis, *rest: draw_panel(shown.append(axis) or axis, *rest),
    )
    folder = "/a/long/way/down/" + "x" * 90
    names = ("one", "two", "y" * 90)
    rows = [row("fl", directory=f"{folder}/{name}") for name in names]
    figures.draw(tmp_path / "f.png", rows, layout(cells(rows)))
    (axis,) = shown
    labels = [label.get_text() for label in axis.get_xticklabels()]
    assert labels == ["one", "two", "…" + "y" * 23]
