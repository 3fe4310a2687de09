"""Figures: accuracy against clients (the paper's Figure 1) and epsilon, and costs."""

from collections.abc import Mapping, Sequence
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


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _open(axis: Any) -> None:
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


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
    plt = _pyplot()
    grouped = cells(rows)
    partitions = list(dict.fromkeys(cell.partition for cell in grouped))
    arms = [arm for arm in STYLES if any(cell.arm == arm for cell in grouped)]
    counts = sorted({cell.clients for cell in grouped})
    figure, axes = plt.subplots(
        1,
        len(partitions),
        figsize=(1.9 + 3.7 * len(partitions), 3.8),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, partition in zip(axes[0], partitions, strict=True):
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
        axis.set_xscale("log", base=2)
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.minorticks_off()
        axis.set_xlabel("clients")
        axis.set_title({"iid": "IID"}.get(partition, f"non-IID ({partition})"))
        axis.grid(alpha=0.3)
        _open(axis)
    axes[0][0].set_ylabel("test accuracy (%)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    figure.savefig(path, dpi=160)
    plt.close(figure)


def accuracy_against_epsilon(path: Path, curves: Mapping[str, Sequence[Cell]]) -> None:
    """Draws accuracy against epsilon, a line an arm."""
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
    for arm, line in curves.items():
        places = [cell.mean("epsilon") for cell in line]
        _line(axis, places, line, ARMS[arm].label, STYLES[arm])
    axis.set_xscale("log")
    ticks = sorted(
        {round(c.mean("epsilon") or 0, 2) for c in next(iter(curves.values()))}
    )
    axis.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel("epsilon (delta = 1e-5)")
    axis.set_ylabel("test accuracy (%)")
    axis.grid(alpha=0.3)
    _open(axis)
    axis.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=160)
    plt.close(figure)


def encryption_cost(path: Path, line: Sequence[Cell]) -> None:
    """Draws seconds of a run, by what takes them, and bytes of a round, by clients."""
    plt = _pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.4), layout="constrained")
    names = [str(cell.clients) for cell in line]
    below = [0.0] * len(line)
    for name, color in (
        ("train", "#999999"),
        ("encrypt", "#0072B2"),
        ("add", "#E69F00"),
        ("decrypt", "#009E73"),
    ):
        values = [cell.mean(f"seconds_{name}") or 0.0 for cell in line]
        left.bar(names, values, bottom=below, color=color, label=name, width=0.6)
        below = [a + b for a, b in zip(below, values, strict=True)]
    left.set_xlabel("clients")
    left.set_ylabel("seconds of a run, all clients together")
    left.legend(frameon=False)
    uploads = [cell.mean("upload_bytes_per_client_round") or 0.0 for cell in line]
    right.bar(
        names,
        [k.clients * u / 1e6 for k, u in zip(line, uploads, strict=True)],
        color="#0072B2",
        width=0.6,
    )
    right.set_xlabel("clients")
    right.set_ylabel("MB that the server receives in a round")
    for axis in (left, right):
        _open(axis)
        axis.grid(alpha=0.3, axis="y")
    figure.savefig(path, dpi=160)
    plt.close(figure)


def prediction(path: Path, image: Any, scores: Any, classes: Sequence[str]) -> None:
    """Draws an image and the scores that it was given.

    Args:
        path: of the PNG file.
        image: uint8 (H, W, C), with 1 or 3 channels.
        scores: (classes,).
        classes: their names.
    """
    plt = _pyplot()
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(5.6, 2.5), layout="constrained", width_ratios=(1, 1.6)
    )
    grey = image.shape[-1] == 1
    left.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None)
    left.set_xticks([])
    left.set_yticks([])
    left.set_title("what the client encrypts", fontsize=10)
    best = int(scores.argmax())
    colors = ["#0072B2" if k == best else "#bbbbbb" for k in range(len(scores))]
    right.bar(range(len(scores)), scores, color=colors, width=0.7)
    right.axhline(0.0, color="black", linewidth=0.8)
    right.set_xticks(range(len(scores)), classes)
    right.set_xlabel("class")
    right.set_ylabel("score")
    right.set_title(f"what it decrypts: {classes[best]}", fontsize=10)
    right.grid(alpha=0.3, axis="y")
    right.set_axisbelow(True)
    _open(right)
    figure.savefig(path, dpi=160)
    plt.close(figure)
