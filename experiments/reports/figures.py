"""Figures: a metric against what was varied, accuracy against epsilon, costs."""

import contextlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reports.averages import Cell, Row, cells
from experiments.reports.layout import (
    Layout,
    Panel,
    along,
    axis_values,
    layout,
    level,
    lines,
    panels,
    shown,
    tick,
    words,
)
from experiments.reports.metrics import ACCURACY, Metric
from fedjax_private.runs import ARMS

# Okabe and Ito's palette, told apart by colour-blind readers and in grey; arms that
# differ in encryption alone share a colour and differ in line and marker.
STYLES: dict[str, dict[str, Any]] = {
    "centralized": {"color": "#000000", "linestyle": "--"},
    "centralized_dp": {"color": "#7f7f7f", "linestyle": "-."},
    "local": {"color": "#D55E00", "marker": "v"},
    "fl": {"color": "#0072B2", "marker": "o"},
    "fl_he": {"color": "#56B4E9", "marker": "s", "linestyle": ":"},
    "fl_dp": {"color": "#CC79A7", "marker": "o"},
    "private_ai_local": {"color": "#E69F00", "marker": "s", "linestyle": ":"},
    "private_ai": {"color": "#009E73", "marker": "D"},
}

# Panels in a row of a figure, at most.
COLUMNS = 4

# Letters of a name along an axis.
LONGEST = 24

# An axis is logarithmic where its values, all positive, span a factor of so much.
DECADE = 10


@contextlib.contextmanager
def drawn(
    path: Path, count: int, size: tuple[float, float], rows: int = 1, **options: Any
) -> Iterator[tuple[Any, Sequence[Any]]]:
    """A figure and its panels, row by row; written when the block ends."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        rows,
        math.ceil(count / rows),
        figsize=size,
        squeeze=False,
        layout="constrained",
        **options,
    )
    flat = axes.ravel()
    for unused in flat[count:]:
        unused.set_visible(False)
    yield figure, flat[:count]
    figure.savefig(path, dpi=160)
    pyplot.close(figure)


def frame(axis: Any, x: str, y: str = "", grid: str = "both") -> None:
    """Labels and a faint grid, open at the top and on the right."""
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(alpha=0.3, axis=grid)
    axis.spines[["top", "right"]].set_visible(False)


def _ticks(axis: Any, ticks: Sequence[float], form: str, **scale: Any) -> None:
    """A logarithmic scale, with these ticks only."""
    axis.set_xscale("log", **scale)
    axis.set_xticks(ticks, [format(tick, form) for tick in ticks])
    axis.minorticks_off()


def _numbers(values: Sequence[Any]) -> bool:
    """Whether all values are numbers; truth values are names."""
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def _spans_decades(values: Sequence[float], factor: float = DECADE) -> bool:
    return bool(values) and min(values) > 0 and max(values) >= factor * min(values)


def _level(axis: Any, cell: Cell, metric: Metric, style: Mapping[str, Any]) -> None:
    """A horizontal line with a band of one standard deviation."""
    mean, (below, above) = _bar(cell, metric)
    line = {key: value for key, value in style.items() if key != "marker"}
    axis.axhline(mean, label=ARMS[cell.arm].label, linewidth=1.4, **line)
    band = {"color": style["color"], "alpha": 0.12, "linewidth": 0}
    axis.axhspan(mean - below, mean + above, **band)


def _bar(cell: Cell, metric: Metric) -> tuple[float, tuple[float, float]]:
    """A mean, and how far one standard deviation reaches below and above it.

    No further than there can be values.
    """
    mean, deviation = cell.mean(metric.name) or 0.0, cell.deviation(metric.name) or 0.0
    return mean, (min(deviation, mean), min(deviation, metric.most - mean))


def _line(
    axis: Any, xs: Sequence[Any], line: Sequence[Cell], metric: Metric, style: Any
) -> None:
    """Means of an arm, with bars of one standard deviation."""
    bars = [_bar(cell, metric) for cell in line]
    axis.errorbar(
        xs,
        [mean for mean, _ in bars],
        yerr=list(zip(*(reach for _, reach in bars), strict=True)),
        label=ARMS[line[0].arm].label,
        capsize=2,
        markersize=5,
        linewidth=1.4,
        **{"marker": "o"} | style,
    )


def draw(
    path: Path,
    rows: Sequence[Row],
    laid_out: Layout | None = None,
    metric: Metric = ACCURACY,
) -> None:
    """Draws a metric over what was varied, a line an arm, in one or more panels.

    Args:
        path: of the PNG file.
        rows: of all runs.
        laid_out: the axis and the panels; by default those that the rows call for.
        metric: on the vertical axis; bars are one standard deviation over seeds.
    """
    grouped = cells(rows)
    laid_out = laid_out or layout(grouped)
    shown_panels = panels(grouped, laid_out)
    lines, columns = _grid(grouped, laid_out, len(shown_panels))
    size = (1.9 + 3.7 * columns, 0.6 + 3.2 * lines)
    measured = [m for cell in grouped if (m := cell.mean(metric.name)) is not None]
    legend: dict[str, Any] = {}
    # Values on different data sets are not compared by height.
    sharey = "dataset" not in laid_out.panels
    with drawn(path, len(shown_panels), size, lines, sharey=sharey) as (figure, axes):
        for axis, panel in zip(axes, shown_panels, strict=True):
            _panel(axis, panel, grouped, laid_out, metric)
            handles, labels = axis.get_legend_handles_labels()
            legend |= dict(zip(labels, handles, strict=True))
        for axis in axes[::columns]:
            axis.set_ylabel(metric.label)
        if metric is not ACCURACY and _spans_decades(measured, DECADE**2):
            axes[0].set_yscale("log")
        order = [arm.label for arm in ARMS.values() if arm.label in legend]
        figure.legend(
            [legend[label] for label in order],
            order,
            loc="outside right center",
            frameon=False,
        )


def _grid(cells: Sequence[Cell], laid_out: Layout, count: int) -> tuple[int, int]:
    """Lines and columns of panels; a column a value of the last setting, if it fits."""
    columns = min(count, COLUMNS)
    if len(laid_out.panels) > 1:
        last = len(axis_values(cells, Layout(laid_out.panels[-1], ())))
        columns = last if last <= COLUMNS and count % last == 0 else columns
    lines = math.ceil(count / columns)
    return lines, math.ceil(count / lines)


def _panel(
    axis: Any,
    panel: Panel,
    grouped: Sequence[Cell],
    laid_out: Layout,
    metric: Metric,
) -> None:
    """Draws one panel."""
    values, of_arms = axis_values(grouped, laid_out), lines(panel)
    measured = {c.arm for c in grouped if c.mean(metric.name) is not None}
    arms = [arm for arm in STYLES if arm in measured]
    counts, numbers = laid_out.axis == "clients", _numbers(values)
    logarithmic = numbers and (counts or _spans_decades(values))
    width = values[-1] - values[0] if numbers else len(values) - 1
    for position, arm in enumerate(arms):
        if (of_arm := of_arms.get(arm)) is None:  # it stands in other panels
            continue
        at = [
            (value, cell)
            for value, cell in zip(values, along(of_arm, values, laid_out), strict=True)
            if cell and cell.mean(metric.name) is not None
        ]
        if not at:
            continue
        places, line = zip(*at, strict=True)
        if level(of_arm, laid_out):
            _level(axis, line[0], metric, STYLES[arm])
            continue
        # A few per cent apart, so that equal values do not hide each other.
        aside = position - (len(arms) - 1) / 2
        if not numbers:
            places = [values.index(value) for value in places]
        if logarithmic:
            places = [place * (1.0 + 0.02 * aside) for place in places]
        else:
            apart = 0.012 * width if numbers else 0.08
            places = [place + apart * aside for place in places]
        unconnected = {} if numbers else {"linestyle": "none"}
        _line(axis, places, line, metric, STYLES[arm] | unconnected)
    if logarithmic:
        _ticks(axis, values, "d" if counts else "g", base=2 if counts else 10)
        axis.set_xlim(0.82 * values[0], 1.22 * values[-1])
    elif numbers:
        axis.set_xticks(values, [shown(value) for value in values])
        if width:
            axis.set_xlim(values[0] - 0.06 * width, values[-1] + 0.06 * width)
    else:
        names = _tick_names([tick(value) for value in values])
        slanted = {"rotation": 25, "ha": "right"} if sum(map(len, names)) > 36 else {}
        axis.set_xticks(range(len(values)), names, **slanted)
        axis.set_xlim(-0.5, len(values) - 0.5)
    frame(axis, words(laid_out.axis))
    axis.set_title(panel.title, fontsize=10)


def _tick_names(names: Sequence[str]) -> list[str]:
    """Names without the folders that all of them share, and their ends if long."""
    folders = [name.split("/")[:-1] for name in names]
    same = itertools.takewhile(
        lambda level: len(set(level)) == 1, zip(*folders, strict=False)
    )
    shared = len(list(same)) if len(names) > 1 else 0
    ends = ["/".join(name.split("/")[shared:]) for name in names]
    return [end if len(end) <= LONGEST else f"…{end[1 - LONGEST :]}" for end in ends]


def accuracy_against_epsilon(path: Path, curves: Mapping[str, Sequence[Cell]]) -> None:
    """Draws accuracy against epsilon, a line an arm."""
    with drawn(path, 1, (4.6, 3.4)) as (_, (axis,)):
        for arm, line in curves.items():
            places = [cell.mean("epsilon") for cell in line]
            _line(axis, places, line, ACCURACY, STYLES[arm])
        first = next(iter(curves.values()))
        ticks = sorted({round(cell.mean("epsilon") or 0, 2) for cell in first})
        _ticks(axis, ticks, ".2g")
        frame(axis, "epsilon (delta = 1e-5)", ACCURACY.label)
        axis.legend(frameon=False, loc="lower right")


def over_rounds(path: Path, rows: Sequence[Row], delta: float | None) -> None:
    """Draws accuracy, and in runs with DP epsilon, over the rounds of one run.

    Args:
        path: of the PNG file.
        rows: of rounds.jsonl.
        delta: of the epsilons; None without DP.
    """
    private = delta is not None
    with drawn(path, 1 + private, (4.3 + 3.7 * private, 3.2)) as (_, axes):
        tested = [row for row in rows if row["accuracy"] is not None]
        axes[0].plot(
            [row["round"] for row in tested],
            [row["accuracy"] for row in tested],
            color="#0072B2",
            marker="o",
            markersize=4,
            linewidth=1.4,
        )
        frame(axes[0], "round", ACCURACY.label)
        if private:
            _epsilons(axes[1], rows)
            frame(axes[1], "round", f"epsilon so far (delta = {_short(delta)})")
        for axis in axes:
            axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def _short(value: float) -> str:
    """A small number as it is written by hand: 1e-5."""
    return format(value, "g").replace("e-0", "e-")


def _epsilons(axis: Any, rows: Sequence[Row]) -> None:
    """Epsilon against each adversary; one line where there is one adversary."""
    numbers = [row["round"] for row in rows]
    several = any(
        row.get("epsilon_insider") not in (None, row["epsilon"]) for row in rows
    )
    kinds = {"epsilon": ("outsiders", "#009E73", "-")}
    if several:
        kinds["epsilon_insider"] = ("insiders", "#D55E00", "--")
    for name, (label, color, style) in kinds.items():
        values = [row[name] for row in rows]
        finite = [v if v is not None and math.isfinite(v) else math.nan for v in values]
        unbounded = all(map(math.isnan, finite))
        label += ": no bound" if unbounded else ""
        axis.plot(numbers, finite, label=label, color=color, linestyle=style)
    axis.set_ylim(bottom=0)
    if several:
        axis.legend(frameon=False, loc="lower right")


def encryption_cost(path: Path, line: Sequence[Cell]) -> None:
    """Draws seconds of a run, by what takes them, and bytes of a round, by clients."""
    names = [str(cell.clients) for cell in line]
    below = [0.0] * len(line)
    colors = {
        "train": "#999999",
        "encrypt": "#0072B2",
        "add": "#E69F00",
        "decrypt": "#009E73",
    }
    uploads = [
        cell.clients * (cell.mean("upload_bytes_per_client_round") or 0.0) / 1e6
        for cell in line
    ]
    with drawn(path, 2, (8.2, 3.4)) as (_, (left, right)):
        for name, color in colors.items():
            values = [cell.mean(f"seconds_{name}") or 0.0 for cell in line]
            left.bar(names, values, bottom=below, color=color, label=name, width=0.6)
            below = [a + b for a, b in zip(below, values, strict=True)]
        left.legend(frameon=False)
        frame(left, "clients", "seconds of a run, all clients together", grid="y")
        right.bar(names, uploads, color="#0072B2", width=0.6)
        frame(right, "clients", "MB that the server receives in a round", grid="y")


def prediction(path: Path, image: Any, scores: Any, classes: Sequence[str]) -> None:
    """Draws an image and the scores that it was given.

    Args:
        path: of the PNG file.
        image: uint8 (H, W, C), with 1 or 3 channels.
        scores: (classes,).
        classes: their names.
    """
    grey = image.shape[-1] == 1
    best = int(scores.argmax())
    colors = ["#0072B2" if k == best else "#bbbbbb" for k in range(len(scores))]
    with drawn(path, 2, (5.6, 2.5), width_ratios=(1, 1.6)) as (_, (left, right)):
        left.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None)
        left.set_xticks([])
        left.set_yticks([])
        left.set_title("what the client encrypts", fontsize=10)
        right.bar(range(len(scores)), scores, color=colors, width=0.7)
        right.axhline(0.0, color="black", linewidth=0.8)
        right.set_xticks(range(len(scores)), classes)
        right.set_title(f"what it decrypts: {classes[best]}", fontsize=10)
        right.set_axisbelow(True)
        frame(right, "class", "score", grid="y")
