"""Figures: accuracy against clients (the paper's Figure 1) and epsilon, and costs."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reports.averages import Cell, Row, cells
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


@contextlib.contextmanager
def _panels(
    path: Path, count: int, size: tuple[float, float], **options: Any
) -> Iterator[tuple[Any, Sequence[Any]]]:
    """A figure and its panels side by side; written when the block ends."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, count, figsize=size, squeeze=False, layout="constrained", **options
    )
    yield figure, axes[0]
    figure.savefig(path, dpi=160)
    pyplot.close(figure)


def _frame(axis: Any, x: str, y: str = "", grid: str = "both") -> None:
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


def _level(axis: Any, cell: Cell, label: str, style: Mapping[str, Any]) -> None:
    """A horizontal line with a band of one standard deviation."""
    mean = 100 * (cell.mean("accuracy") or 0.0)
    deviation = 100 * (cell.deviation("accuracy") or 0.0)
    axis.axhline(mean, label=label, linewidth=1.4, **style)
    band = {"color": style["color"], "alpha": 0.12, "linewidth": 0}
    axis.axhspan(mean - deviation, mean + deviation, **band)


def _line(
    axis: Any, xs: Sequence[Any], line: Sequence[Cell], label: str, style: Any
) -> None:
    """Mean accuracies, with bars of one standard deviation."""
    axis.errorbar(
        xs,
        [100 * (cell.mean("accuracy") or 0.0) for cell in line],
        yerr=[100 * (cell.deviation("accuracy") or 0.0) for cell in line],
        label=label,
        capsize=2,
        markersize=5,
        linewidth=1.4,
        **style,
    )


def draw(path: Path, rows: Sequence[Row]) -> None:
    """Draws Figure 1: accuracy against clients, a panel a partition, a line an arm."""
    grouped = cells(rows)
    partitions = list(dict.fromkeys(cell.partition for cell in grouped))
    arms = [arm for arm in STYLES if any(cell.arm == arm for cell in grouped)]
    counts = sorted({cell.clients for cell in grouped})
    size = (1.9 + 3.7 * len(partitions), 3.8)
    with _panels(path, len(partitions), size, sharey=True) as (figure, axes):
        for axis, partition in zip(axes, partitions, strict=True):
            for position, arm in enumerate(arms):
                line = [c for c in grouped if (c.arm, c.partition) == (arm, partition)]
                line = [c for c in line if c.mean("accuracy") is not None]
                if line and ARMS[arm].pooled:  # the same for every number of clients
                    _level(axis, line[0], ARMS[arm].label, STYLES[arm])
                    continue
                # A few per cent apart, so that equal values do not hide each other.
                shift = 1.0 + 0.02 * (position - len(arms) / 2)
                places = [cell.clients * shift for cell in line]
                _line(axis, places, line, ARMS[arm].label, STYLES[arm])
            _ticks(axis, counts, "d", base=2)
            _frame(axis, "clients")
            axis.set_title({"iid": "IID"}.get(partition, f"non-IID ({partition})"))
        axes[0].set_ylabel("test accuracy (%)")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False)


def accuracy_against_epsilon(path: Path, curves: Mapping[str, Sequence[Cell]]) -> None:
    """Draws accuracy against epsilon, a line an arm."""
    with _panels(path, 1, (4.6, 3.4)) as (_, (axis,)):
        for arm, line in curves.items():
            places = [cell.mean("epsilon") for cell in line]
            _line(axis, places, line, ARMS[arm].label, STYLES[arm])
        first = next(iter(curves.values()))
        ticks = sorted({round(cell.mean("epsilon") or 0, 2) for cell in first})
        _ticks(axis, ticks, ".2g")
        _frame(axis, "epsilon (delta = 1e-5)", "test accuracy (%)")
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
    with _panels(path, 2, (8.2, 3.4)) as (_, (left, right)):
        for name, color in colors.items():
            values = [cell.mean(f"seconds_{name}") or 0.0 for cell in line]
            left.bar(names, values, bottom=below, color=color, label=name, width=0.6)
            below = [a + b for a, b in zip(below, values, strict=True)]
        left.legend(frameon=False)
        _frame(left, "clients", "seconds of a run, all clients together", grid="y")
        right.bar(names, uploads, color="#0072B2", width=0.6)
        _frame(right, "clients", "MB that the server receives in a round", grid="y")


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
    with _panels(path, 2, (5.6, 2.5), width_ratios=(1, 1.6)) as (_, (left, right)):
        left.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None)
        left.set_xticks([])
        left.set_yticks([])
        left.set_title("what the client encrypts", fontsize=10)
        right.bar(range(len(scores)), scores, color=colors, width=0.7)
        right.axhline(0.0, color="black", linewidth=0.8)
        right.set_xticks(range(len(scores)), classes)
        right.set_title(f"what it decrypts: {classes[best]}", fontsize=10)
        right.set_axisbelow(True)
        _frame(right, "class", "score", grid="y")
