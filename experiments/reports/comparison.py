"""The report of runs: summary.csv, report.md and the figures."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.box
import rich.table

from experiments.reports import clients, encryption, figures, paper, privacy
from experiments.reports.averages import MEASURED, Cell, Row, cells
from experiments.reports.cautions import told_once
from experiments.reports.layout import (
    PLACES,
    Layout,
    along,
    axis_values,
    columns,
    kinds,
    layout,
    lines,
    missing,
    panels,
    shown,
    tick,
    words,
)
from experiments.reports.markdown import (
    accuracy,
    markdown_table,
    mean_and_deviation,
    means,
    number,
    settings_table,
)
from experiments.reports.metrics import ACCURACY, COMPILING, Metric
from fedjax_private.runs import ARMS

FIGURE, ROUNDS = "comparison.png", "rounds.png"

# What `write` writes.
FILES = ("report.md", "summary.csv", FIGURE, ROUNDS, clients.FIGURE)

# Panels that a figure shows, at most.
MOST_PANELS = 24


def line(row: Row, label: str = "") -> str:
    """A finished run in one line, with its label, where it has one."""
    parts = [
        f"{row['arm']:<14} clients={row['clients']:<3} {row['partition']:<9} "
        f"seed={row['seed']}{label and '  ' + label}  "
        f"accuracy {number(row['accuracy'], '.4f')}"
    ]
    if row["epsilon"] is not None:
        parts.append(f"epsilon {number(row['epsilon'], '.3f')}")
    if row["epsilon_insider"] not in (None, row["epsilon"]):
        parts.append(f"for insiders {number(row['epsilon_insider'], '.3f')}")
    if row.get("lost_uploads"):
        parts.append(f"lost uploads {row['lost_uploads']}")
    if row.get("recovered_holders"):
        parts.append(f"key holders stood in for {row['recovered_holders']}")
    if row.get("void_rounds"):
        parts.append(f"void rounds {row['void_rounds']} of {row['rounds']}")
    parts.append(f"{row['seconds_total']:.1f} s")
    return "  ".join(parts)


PRINTED = {
    "epsilon": ("epsilon", ".2f"),
    "for insiders": ("epsilon_insider", ".2f"),
    "seconds": ("seconds_total", ".1f"),
}


def table(
    rows: Sequence[Row], metric: Metric = ACCURACY, vary: Sequence[str] = ()
) -> rich.table.Table:
    """The table that is printed at the end; see `write`."""
    grouped = cells(rows)
    laid_out = layout(grouped, vary)
    differ = _differ(grouped, laid_out)
    cited = [_cited(cell, laid_out.columns) for cell in grouped]
    other = metric.name not in ("accuracy", *(name for name, _ in PRINTED.values()))
    head = ["partition", "clients", *map(words, differ), "arm", "accuracy", *PRINTED]
    head += [metric.label] * other + ["paper's accuracy"] * any(cited)
    body, sections, previous = [], [], None
    for cell, theirs in zip(grouped, cited, strict=True):
        place = (cell.partition, cell.clients)
        sections.append(place != previous and previous is not None)
        where = place if previous != place else ("", "")
        previous = place
        body.append(
            [
                *map(str, where),
                *(shown(cell.setting(name)) for name in differ),
                ARMS[cell.arm].label,
                accuracy(cell),
                *means(cell, PRINTED),
                *[mean_and_deviation(cell, metric.name, metric.form)] * other,
                *[theirs] * any(cited),
            ]
        )
    # Without the columns that hold nothing, as in reports.
    kept = [i for i in range(len(head)) if any(entries[i] for entries in body)]
    result = rich.table.Table(*(head[i] for i in kept), box=rich.box.SIMPLE)
    remarks = [*baseline(rows), COMPILING]
    if any(cited):
        remarks.append(f"{paper.DIFFERENCE}.")
    result.caption = " ".join(remarks)
    result.caption_justify = "left"
    for entries, begins in zip(body, sections, strict=True):
        if begins:
            result.add_section()
        result.add_row(*(entries[i] for i in kept))
    return result


def _differ(grouped: Sequence[Cell], laid_out: Layout) -> list[str]:
    """The settings that have columns: those that varied, and kinds of which several."""
    return list(dict.fromkeys([*laid_out.columns, *kinds(grouped)]))


def _cited(cell: Cell, differ: Sequence[str]) -> str:
    """The paper's figures, where nothing varies but what the paper varied."""
    if differ:
        return ""
    return paper.cited(cell.rows[0]["dataset"], *cell[:3])


# The noise multiplier follows from the target, and may differ with the seed.
SUMMARY_VALUES = (*MEASURED, "noise_multiplier")


def write_summary(path: Path, grouped: Sequence[Cell]) -> None:
    """Writes a line per cell: mean and standard deviation of every measured value.

    Settings that differ between cells of one arm at one place have columns.
    """
    names = [f"{n}_{kind}" for n in SUMMARY_VALUES for kind in ("mean", "sd")]
    where = ["partition", "clients", "arm", "model", "encryption"]
    differ = [name for name in columns(grouped) if name not in where]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*where, *differ, "seeds", *names])
        for cell in grouped:
            place = [cell.partition, cell.clients, cell.arm]
            kind = [cell.setting(name) for name in ("model", "encryption", *differ)]
            values = [
                value
                for name in SUMMARY_VALUES
                for value in (cell.mean(name), cell.deviation(name))
            ]
            writer.writerow([*place, *kind, len(cell.rows), *values])


def markdown(
    rows: Sequence[Row],
    config: Mapping[str, Any],
    notes: Sequence[str],
    *,
    vary: Sequence[str] = (),
    metric: Metric = ACCURACY,
    drawn: Sequence[str] = (FIGURE,),
) -> str:
    """The report's text.

    Args:
        rows: of all runs.
        config: as config.json holds it.
        notes: sentences that stand out.
        vary: names of flags that were varied.
        metric: that is compared.
        drawn: names of the figures that stand beside.
    """
    first, grouped = rows[0], cells(rows)
    laid_out = layout(grouped, vary)
    differ = _differ(grouped, laid_out)
    title = f"{metric.label} against {words(laid_out.axis)}"
    if len(grouped) == 1:
        title = f"{ARMS[first['arm']].label}: accuracy, privacy and cost"
    blocks = [
        f"# {title[0].upper()}{title[1:]}",
        _data(rows),
        *(f"**{note}**" for note in notes),
        *warnings(rows),
    ]
    if FIGURE in drawn:
        blocks.append(f"![{metric.label} against {words(laid_out.axis)}]({FIGURE})")
    if ROUNDS in drawn:
        blocks.append(f"![accuracy and epsilon over rounds]({ROUNDS})")
    for each in dict.fromkeys((metric, ACCURACY)):
        blocks += _values(grouped, laid_out, each)
    blocks += [
        *clients.section(grouped, config, differ),
        *clients.losses(rows),
        *privacy.section(rows, config),
        *encryption.section(grouped, config, differ),
        *_settings(config),
    ]
    return "\n\n".join(blocks) + "\n"


def baseline(rows: Iterable[Row]) -> list[str]:
    """The accuracy of who always names the largest class, for each data set."""
    shares = dict.fromkeys(
        (row["dataset"], share) for row in rows if (share := row.get("largest_class"))
    )
    several = len({name for name, _ in shares}) > 1
    return [
        f"Largest class: {share:.3f} of the test set{f' of {name}' * several}."
        for name, share in shares
    ]


def warnings(rows: Iterable[Row]) -> list[str]:
    """The section of warnings, each kind once; empty where there is none."""
    found = told_once(row.get("warnings") or () for row in rows)
    return ["## Warnings", "\n".join(f"- {each}" for each in found)][: 2 * len(found)]


def _data(rows: Sequence[Row]) -> str:
    """What the runs have in common, and how to read their accuracy."""
    kinds = dict.fromkeys(
        f"data set {row['dataset']} ({row['train_examples']} training examples), "
        f"model {row['model']} ({row['params']} parameters)"
        for row in rows
    )
    words = "; ".join(kinds)
    sentences = [
        f"{words[0].upper()}{words[1:]}, {len({row['seed'] for row in rows})} seed(s).",
        "Accuracy is on the test set after the last round, mean ± standard deviation "
        "over seeds.",
        *baseline(rows),
    ]
    arms = {row["arm"] for row in rows}
    if any(ARMS[arm].pooled for arm in arms) and len(arms) > 1:
        sentences.append(
            "Centralised arms are trained once a seed and repeated in every cell."
        )
    if "local" in arms:
        sentences.append("`without FL` is the mean over the clients' own models.")
    return " ".join(sentences)


def _values(grouped: Sequence[Cell], laid_out: Layout, metric: Metric) -> Iterator[str]:
    """A table for each panel: a line an arm, a column a value along the axis."""
    values, is_accuracy = axis_values(grouped, laid_out), metric is ACCURACY
    heads = [
        f"{value} clients" if laid_out.axis == "clients" else tick(value)
        for value in values
    ]
    corner = "arm" if laid_out.axis == "clients" else f"arm, {words(laid_out.axis)}"
    varied = [name for name in laid_out.panels if name not in (*PLACES, "dataset")]
    cited_cells, placed = [], []
    for panel in panels(grouped, laid_out):
        body = []
        for arm, line in lines(panel).items():
            row = along(line, values, laid_out)
            placed += [cell for cell in row if cell]
            ours = [_shown(cell, metric) for cell in row]
            body.append([ARMS[arm].label, *ours])
            theirs = [
                _cited(cell, varied)
                if cell and is_accuracy and laid_out.axis == "clients"
                else ""
                for cell in row
            ]
            if any(theirs):
                cited_cells += [c for c, t in zip(row, theirs, strict=True) if c and t]
                body.append(["*the paper's*", *(f"*{t}*" if t else "" for t in theirs)])
        if any(entry for _, *entries in body for entry in entries):
            name = "Accuracy" if is_accuracy else metric.label
            yield f"## {name[0].upper()}{name[1:]}: {panel.title}"
            yield markdown_table([corner, *heads], body)
    # No layout may hide a run: what it has no place for stands by itself.
    if lost := missing(grouped, placed):
        yield "## Runs that the tables above have no place for"
        yield markdown_table(
            ["arm", "run", metric.label],
            [
                [ARMS[c.arm].label, str(c.rows[0].get("run")), _shown(c, metric)]
                for c in lost
            ],
        )
    if metric.note:
        yield metric.note
    if cited_cells:
        yield (
            "Lines in italics are the paper's own figures, not ours: T3 its Table 3, "
            "T4 its Table 4, T5 its Table 5. Tables 4 and 5 name neither clients nor "
            "partition, and the paper states neither delta nor the amount of data. "
            f"{_difference(cited_cells)}"
        )


def _difference(cited: Iterable[Cell]) -> str:
    """What the paper trained, beside what the runs did that its figures stand at."""
    ours = {
        name: ", ".join(dict.fromkeys(str(cell.setting(name)) for cell in cited))
        for name in ("model", "partition")
    }
    return (
        f"{paper.DIFFERENCE}; here: model {ours['model']}, partition "
        f"{ours['partition']}."
    )


def _shown(cell: Cell | None, metric: Metric) -> str:
    if cell is None:
        return ""
    if metric is ACCURACY:
        return accuracy(cell)
    return mean_and_deviation(cell, metric.name, metric.form)


def _settings(config: Mapping[str, Any]) -> list[str]:
    described, data = config["runs"], clients.data_sets(config)
    several = len(set(data.values())) > 1
    who = {
        name: (ARMS[run["spec"]["arm"]].label, *[data[name]] * several)
        for name, run in described.items()
    }
    origins: dict[str, dict[str, None]] = {}  # text -> arms
    for name, run in described.items():
        if (text := run.get("settings_from")) is not None:
            origins.setdefault(text, {})[" on ".join(who[name])] = None
    blocks = ["## Settings"]
    if described:
        used = [(who[name], run["hyperparameters"]) for name, run in described.items()]
        blocks.append(settings_table(["arm", *["data set"] * several], used))
    if origins:
        lines = [f"- {', '.join(arms)}: {text}." for text, arms in origins.items()]
        blocks += ["Where they come from:", "\n".join(lines)]
    versions = ", ".join(f"{k} {v}" for k, v in config["versions"].items() if v)
    machine = config["machine"]
    if versions and machine:
        where = f"{machine['devices']} {machine['backend']} device(s)"
        blocks.append(f"{versions}; {where}.")
    return [
        *blocks,
        "All settings are in config.json and runs.jsonl, all rounds in rounds.jsonl; "
        "the scalars under tb/ are for TensorBoard (`pip install tensorboard`, then "
        "`tensorboard --logdir=DIRECTORY/tb`).",
    ]


def write(
    directory: Path,
    rows: Sequence[Row],
    config: Mapping[str, Any],
    notes: Sequence[str] = (),
    *,
    vary: Sequence[str] = (),
    metric: Metric = ACCURACY,
    rounds: Sequence[Row] = (),
) -> None:
    """Writes summary.csv, report.md and the figures.

    Args:
        directory: where they go.
        rows: of all runs.
        config: as config.json holds it.
        notes: sentences that stand out.
        vary: names of flags that were varied.
        metric: that is compared.
        rounds: the lines of the rounds of a single run, which are drawn then.
    """
    grouped, notes = cells(rows), list(notes)
    write_summary(directory / "summary.csv", grouped)
    if not any(cell.values(metric.name) for cell in grouped):
        notes.append(f"No run has measured {metric.label}: accuracy stands instead.")
        metric = ACCURACY
    laid_out, drawn = layout(grouped, vary), []
    count = len(panels(grouped, laid_out))
    if len(rows) == 1 and rounds:
        figures.over_rounds(directory / ROUNDS, rounds, rows[0]["delta"])
        drawn.append(ROUNDS)
    elif count <= MOST_PANELS:
        figures.draw(directory / FIGURE, rows, laid_out, metric)
        drawn.append(FIGURE)
    else:
        notes.append(
            f"The runs differ in {', '.join(map(words, laid_out.panels))}, too much "
            "for a figure: tables and summary.csv hold every value."
        )
    clients.draw(directory / clients.FIGURE, config)
    text = markdown(rows, config, notes, vary=vary, metric=metric, drawn=drawn)
    (directory / "report.md").write_text(text)
