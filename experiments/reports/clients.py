"""The report's section on clients: accuracy of each, sizes and classes of shards."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reports.averages import Cell, Row
from experiments.reports.figures import drawn, frame
from experiments.reports.layout import shown, words
from experiments.reports.markdown import (
    Means,
    filled_table,
    markdown_table,
    mean_and_deviation,
)
from fedjax_private.runs import ARMS

FIGURE = "shards.png"

# Divisions of data that the figure shows, at most.
MOST_PANELS = 8

ACCURACIES: Means = {
    "mean over clients": ("client_accuracy_mean", ".3f"),
    "worst tenth": ("client_accuracy_worst_tenth", ".3f"),
}


def section(
    cells: Sequence[Cell], config: Mapping[str, Any], differ: Sequence[str] = ()
) -> list[str]:
    """The section's blocks; none where data are pooled everywhere.

    Args:
        cells: of all runs.
        config: as config.json holds it.
        differ: settings that tell cells of one place apart.
    """
    apart = [cell for cell in cells if not ARMS[cell.arm].pooled]
    if not apart:
        return []
    known = [cell for cell in apart if cell.values("client_accuracy_mean")]
    divisions = shards(config)
    blocks = ["## Clients"]
    if not known and not divisions:
        return [
            *blocks,
            "Sizes, class counts and accuracies of clients are facts about their "
            "records, which no epsilon covers: arms with DP leave them out. For "
            "simulations on public data `--client_statistics` writes them down.",
        ]
    if known:
        head = ["arm", "partition", "clients", *map(words, differ), *ACCURACIES]
        body = [
            [
                ARMS[cell.arm].label,
                cell.partition,
                str(cell.clients),
                *(shown(cell.setting(name)) for name in differ),
                *(
                    mean_and_deviation(cell, name, form)
                    for name, form in ACCURACIES.values()
                ),
            ]
            for cell in known
        ]
        blocks += [
            "Accuracy by client, after the last round. Where the test examples name "
            "their clients, it is that on each client's own; otherwise that on the "
            "classes of the test set, weighted by the client's class frequencies. The "
            "worst tenth is the mean of the worst client in ten, at least of one.",
            filled_table(head, body),
        ]
    if divisions:
        blocks += [
            "Shards at the first seed: the smallest, median and largest number of "
            "records of a client, and of its classes.",
            markdown_table(
                ["division", "records", "classes"],
                [
                    [title, _three(of["sizes"]), _three(of["classes"])]
                    for title, of in divisions.items()
                ],
            ),
        ]
        if _listed(divisions):
            blocks.append(f"![records of each class by client]({FIGURE})")
    blocks.append(
        "These numbers are for reading a simulation. Shards are counted on training "
        "records, and accuracies on test records, weighted by training labels where "
        "the test records name no clients. None of this is covered by epsilon, and "
        "where the data are real people's it is not for publication."
    )
    return blocks


def shards(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What config.json says of the shards, for each division of data, in words.

    Different shards under the same words have the name of their first run as well,
    which begins with its directory where there are several.
    """
    described = {name: run for name, run in config["runs"].items() if run.get("shards")}
    several = len({_dataset(run["spec"]) for run in described.values()}) > 1
    found: dict[str, dict[str, Mapping[str, Any]]] = {}  # words -> run -> shards
    for run_name, run in described.items():
        spec = run["spec"]
        partition = dict(spec["partition"])
        values = [
            f"{words(name)} {shown(value)}"
            for name, value in partition.items()
            if name != "name" and not (name == "size_skew" and value == 0)
        ]
        kind = [_dataset(spec)] * several + [partition["name"], *values]
        title = ", ".join([*kind, f"{spec['clients']} clients"])
        same_words = found.setdefault(title, {})
        if _counts(run["shards"]) not in map(_counts, same_words.values()):
            same_words[run_name] = run["shards"]
    return {
        f"{title}, {run_name}" if len(same_words) > 1 else title: of
        for title, same_words in found.items()
        for run_name, of in same_words.items()
    }


def _counts(of: Mapping[str, Any]) -> list[Any]:
    """What tells shards apart."""
    return [of[name] for name in ("sizes", "classes", "class_counts")]


def _dataset(spec: Mapping[str, Any]) -> str:
    dataset = spec["dataset"]  # earlier versions wrote its name
    return str(dataset["name"] if isinstance(dataset, dict) else dataset)


def data_sets(config: Mapping[str, Any]) -> dict[str, str]:
    """The data set of each run of config.json, by the run's name."""
    return {name: _dataset(run["spec"]) for name, run in config["runs"].items()}


def draw(path: Path, config: Mapping[str, Any]) -> bool:
    """Draws how many records of each class each client has; whether there are any."""
    listed = _listed(shards(config))[:MOST_PANELS]
    if not listed:
        return False
    import matplotlib

    columns = min(len(listed), 4)
    lines = -(-len(listed) // columns)
    size = (1.2 + 3.4 * columns, 0.4 + 2.9 * lines)
    with drawn(path, len(listed), size, lines) as (figure, axes):
        for axis, (title, counts, names, who) in zip(axes, listed, strict=True):
            classes = len(counts[0])
            colors = matplotlib.colormaps["tab10" if classes <= 10 else "tab20"]
            below = [0] * len(counts)
            for label in range(classes):
                heights = [client[label] for client in counts]
                axis.bar(
                    range(len(counts)),
                    heights,
                    bottom=below,
                    color=colors(label % colors.N),
                    label=names[label],
                    width=0.85,
                )
                below = [a + b for a, b in zip(below, heights, strict=True)]
            axis.set_ylim(0, 1.05 * max(below))
            axis.set_title(title, fontsize=10)
            if who is None:
                axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            else:
                slanted = {"rotation": 25, "ha": "right"}
                axis.set_xticks(range(len(who)), who, fontsize=8, **slanted)
            frame(axis, "client", grid="y")
            axis.set_axisbelow(True)
        for axis in axes[::columns]:
            axis.set_ylabel("records")
        legends = {
            names: axis for axis, (_, _, names, _) in zip(axes, listed, strict=True)
        }
        style: dict[str, Any] = {"title": "class", "frameon": False, "fontsize": 8}
        if len(legends) == 1:
            entries = axes[0].get_legend_handles_labels()
            figure.legend(*entries, loc="outside right center", **style)
        else:
            for axis in legends.values():
                axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), **style)
    return True


def _listed(
    divisions: Mapping[str, Mapping[str, Any]],
) -> list[tuple[str, list[list[int]], tuple[str, ...], list[str] | None]]:
    """Titles, class counts by client, names of classes and of clients, if listed."""
    return [
        (
            title,
            counts,
            tuple(of.get("class_names") or map(str, range(len(counts[0])))),
            of.get("client_names"),
        )
        for title, of in divisions.items()
        if (counts := of["class_counts"])
    ]


def _three(values: Mapping[str, float]) -> str:
    return ", ".join(f"{values[name]:g}" for name in ("min", "median", "max"))


def losses(rows: Sequence[Row]) -> list[str]:
    """The section on uploads and key holders that were lost; none where none were."""
    names = ("lost_uploads", "recovered_holders", "void_rounds")
    lost = [row for row in rows if any(row.get(name) for name in names)]
    if not lost:
        return []
    body = [
        [
            row["run"],
            str(row["lost_uploads"]),
            str(row.get("recovered_holders") or 0),
            f"{row['void_rounds']} of {row['rounds']}",
        ]
        for row in lost
    ]
    return [
        "## Lost uploads",
        "In a void round fewer uploads arrived than a released sum must hold, or too "
        "few key holders were left to decrypt it: nothing was released, and the model "
        "stayed as it was. Others stood in for key holders that vanished elsewhere.",
        markdown_table(
            ["run", "lost uploads", "key holders stood in for", "void rounds"], body
        ),
    ]
