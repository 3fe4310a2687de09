"""Turns the rows of a sweep into summary.csv, report.md and the figure."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.box
import rich.table

from experiments import figure, paper
from experiments.arms import ARMS
from experiments.cells import Cell, Row, cells


def accuracy(cell: Cell) -> str:
    """Mean and standard deviation over seeds, as printed in tables."""
    mean, deviation = cell.mean("accuracy"), cell.deviation("accuracy")
    if mean is None:
        return "diverged"
    return f"{mean:.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")


def line(row: Row) -> str:
    """A finished run in one line."""
    parts = [
        f"{row['arm']:<14} clients={row['clients']:<3} {row['partition']:<9} "
        f"seed={row['seed']}  accuracy {number(row['accuracy'], '.4f')}"
    ]
    if row["epsilon"] is not None:
        parts.append(f"epsilon {row['epsilon']:.3f}")
    parts.append(f"{row['seconds_total']:.1f} s")
    return "  ".join(parts)


def table(rows: Sequence[Row]) -> rich.table.Table:
    """The table that is printed at the end."""
    result = rich.table.Table(
        "partition", "clients", "arm", "accuracy", "epsilon", "seconds",
        "paper's accuracy", box=rich.box.SIMPLE,
    )  # fmt: skip
    previous = None
    for cell in cells(rows):
        place = (cell.partition, cell.clients)
        if previous not in (None, place):
            result.add_section()
        shown = place if previous != place else ("", "")
        previous = place
        result.add_row(
            shown[0],
            str(shown[1]),
            ARMS[cell.arm].label,
            accuracy(cell),
            number(cell.mean("epsilon"), ".2f"),
            number(cell.mean("seconds_total"), ".1f"),
            paper.cited(cell.arm, cell.partition, cell.clients),
        )
    return result


def number(value: float | None, form: str) -> str:
    """A number, or nothing where it does not apply."""
    return "" if value is None else format(value, form)


SUMMARY_VALUES = (
    "accuracy",
    "loss",
    "epsilon",
    "epsilon_insider",
    "noise_multiplier",
    "seconds_total",
    "seconds_train",
    "seconds_encrypt",
    "seconds_add",
    "seconds_decrypt",
    "upload_bytes_per_client_round",
    "max_aggregation_error",
)


def write_summary(path: Path, grouped: Sequence[Cell]) -> None:
    """Writes a line per cell: mean and standard deviation of every measured value."""
    names = [f"{n}_{kind}" for n in SUMMARY_VALUES for kind in ("mean", "sd")]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        where = ["partition", "clients", "arm", "model", "encryption"]
        writer.writerow([*where, "seeds", *names])
        for cell in grouped:
            first = cell.rows[0]
            kind = [first["model"], first["encryption"] or ""]
            values = [
                "" if value is None else repr(value)
                for name in SUMMARY_VALUES
                for value in (cell.mean(name), cell.deviation(name))
            ]
            writer.writerow(
                [
                    cell.partition,
                    cell.clients,
                    cell.arm,
                    *kind,
                    len(cell.rows),
                    *values,
                ]
            )


def markdown(
    rows: Sequence[Row], config: Mapping[str, Any], notes: Sequence[str]
) -> str:
    """The report's text."""
    first = rows[0]
    lines = [
        "# Accuracy, privacy and cost against the number of clients",
        "",
        f"Data set {first['dataset']} ({first['train_examples']} training examples), "
        f"model {first['model']} ({first['params']} parameters), "
        f"{len({row['seed'] for row in rows})} seed(s). Accuracy is on the test set "
        "after the last round, mean ± standard deviation over seeds. Centralised arms "
        "are trained once a seed and repeated in every cell; `without FL` is the mean "
        "over the clients' own models.",
        "",
        *[f"**{note}**\n" for note in notes],
        "![accuracy against clients](accuracy_clients.png)",
        "",
    ]
    grouped = cells(rows)
    for partition in dict.fromkeys(cell.partition for cell in grouped):
        lines += _accuracy_table([c for c in grouped if c.partition == partition])
    lines += _privacy(rows, config)
    lines += _encryption(grouped, config["sums"])
    lines += _settings(config)
    return "\n".join(lines) + "\n"


def markdown_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, and an empty one."""

    def line(parts: Sequence[str]) -> str:
        return "| " + " | ".join(parts) + " |"

    return [line(head), line(["---"] * len(head)), *map(line, body), ""]


def _accuracy_table(group: Sequence[Cell]) -> list[str]:
    counts = sorted({cell.clients for cell in group})
    arms = [arm for arm in ARMS if any(cell.arm == arm for cell in group)]
    at = {(cell.arm, cell.clients): cell for cell in group}
    body = []
    for arm in arms:
        ours = [accuracy(at[arm, k]) if (arm, k) in at else "" for k in counts]
        body.append([ARMS[arm].label, *ours])
        theirs = [paper.cited(arm, group[0].partition, k) for k in counts]
        if any(theirs):
            body.append(["*the paper's*", *(f"*{t}*" if t else "" for t in theirs)])
    return [
        f"## Partition {group[0].partition}",
        "",
        *markdown_table(["arm", *(f"{count} clients" for count in counts)], body),
        "Lines in italics are the paper's own figures, not ours: T3 its Table 3, T4 "
        "its Table 4, T5 its Table 5. Tables 4 and 5 name neither clients nor "
        "partition, and the paper states neither delta nor the amount of data.",
        "",
    ]


PRIVACY_COLUMNS = (
    "arm",
    "epsilon, outsiders",
    "epsilon, insiders",
    "delta",
    "noise multiplier",
    "clip norm",
    "sampling probability",
    "steps",
)


def _privacy(rows: Sequence[Row], config: Mapping[str, Any]) -> list[str]:
    private = [row for row in rows if row["epsilon"] is not None]
    if not private:
        return []
    body = [
        [
            ARMS[arm].label,
            number(max(row["epsilon"] for row in of_arm), ".4f"),
            _insider(of_arm),
            number(of_arm[0]["delta"], "g"),
            number(of_arm[0]["noise_multiplier"], ".4f"),
            number(of_arm[0]["clip_norm"], "g"),
            number(of_arm[0]["sampling_probability"], "g"),
            str(of_arm[0]["steps"]),
        ]
        for arm in ARMS
        if (of_arm := [row for row in private if row["arm"] == arm])
    ]
    privacy = config["settings"]["privacy"]
    seeded, mechanism = privacy["noise_seed"] is not None, privacy["mechanism"]
    exact = any("exact" in (row["encryption"] or "") for row in private)
    priced = (
        "the Poisson-subsampled Gaussian"
        if mechanism == "gaussian" and not exact
        else "the Poisson-subsampled sum of discrete Gaussian shares, where noise is "
        "shared, and of the Gaussian elsewhere"
        if mechanism == "gaussian"
        else f"what the mechanism {mechanism} declares"
    )
    return [
        "## Privacy",
        "",
        *markdown_table(
            PRIVACY_COLUMNS,
            body,
        ),
        "The unit is one record, added to or removed from one client's shard. Epsilon "
        "is the largest over clients (their data are disjoint), from the RDP of "
        f"{priced}. Whom it is against:",
        "",
        *(
            f"- {ARMS[arm].label}: {_against(arm, private)}"
            for arm in ARMS
            if any(row["arm"] == arm for row in private)
        ),
        "",
        "Hyper-parameters were searched on a split of the training data. That search "
        "is not part of epsilon.",
        "",
        (
            "The noise, and who was sampled, came from a seed: whoever knows it can "
            "subtract the noise, so "
            "these epsilons are those of a simulation."
            if seeded
            else "The noise, and who was sampled, came from the operating system's "
            "entropy; the key is "
            "written nowhere, and a rerun differs within the noise."
        ),
        "",
    ]


def _insider(rows: Sequence[Row]) -> str:
    values = [r["epsilon_insider"] for r in rows if r["epsilon_insider"] is not None]
    return number(max(values), ".4f") if values else ""


def _against(arm: str, rows: Sequence[Row]) -> str:
    """Whom the epsilons of an arm are against."""
    if not ARMS[arm].federated:
        return "everyone but whoever holds the data."
    of_arm = [row for row in rows if row["arm"] == arm]
    honest = sorted({row["honest_clients"] for row in of_arm} - {None})
    if not honest:
        return (
            "the world, the server and all other clients together: every client adds "
            "all of the noise to each of its own steps."
        )
    return (
        "clients share the noise of each released sum. Outsiders are the world and the "
        "server, who see the released sums with all noise in them; insiders are the "
        "server together with all clients but the honest ones "
        f"({', '.join(map(str, honest))} of a sum's), who subtract their own shares."
    )


ENCRYPTION_COLUMNS = (
    "arm",
    "partition",
    "clients",
    "seconds",
    "same without HE",
    "encrypt",
    "add",
    "decrypt",
    "bytes a parameter",
    "largest error of a sum",
)


def _encryption(grouped: Sequence[Cell], sums: Mapping[str, str]) -> list[str]:
    encrypted = [cell for cell in grouped if cell.rows[0]["encryption"]]
    if not encrypted:
        return []
    plain = {
        (c.partition, c.clients, c.arm): c for c in grouped if not ARMS[c.arm].encrypted
    }
    # Shared noise has no counterpart in the clear.
    twin = {"fl_he": "fl", "private_ai_local": "fl_dp"}
    body = []
    for cell in encrypted:
        other = plain.get((cell.partition, cell.clients, twin.get(cell.arm, "")))
        uploads = cell.mean("upload_bytes_per_client_round")
        body.append(
            [
                ARMS[cell.arm].label,
                cell.partition,
                str(cell.clients),
                number(cell.mean("seconds_total"), ".1f"),
                number(other.mean("seconds_total") if other else None, ".1f"),
                number(cell.mean("seconds_encrypt"), ".2f"),
                number(cell.mean("seconds_add"), ".2f"),
                number(cell.mean("seconds_decrypt"), ".2f"),
                number(uploads / cell.rows[0]["params"] if uploads else None, ".1f"),
                number(max(cell.values("max_aggregation_error")), ".1e"),
            ]
        )
    return [
        "## Encryption",
        "",
        "Seconds of a whole run, all clients on this one machine, so that time with "
        "many clients is not what one of them would wait. The server adds ciphertexts "
        "with no secret key in reach. Decryption noise counts as no privacy.",
        "",
        *[f"- {place}: {text}" for place, text in sums.items()],
        "",
        *markdown_table(
            ENCRYPTION_COLUMNS,
            body,
        ),
    ]


def distinct(counts: Sequence[Mapping[str, Any]], name: str) -> str:
    """A setting; one value per client count where they differ."""
    distinct = dict.fromkeys(each[name] for each in counts)
    return ", ".join(
        format(value, ".4g") if isinstance(value, float) else str(value)
        for value in distinct
        if value is not None
    )


def _settings(config: Mapping[str, Any]) -> list[str]:
    used = {arm: list(by_count.values()) for arm, by_count in config["arms"].items()}
    names = list(next(iter(used.values()))[0])
    body = [
        [ARMS[arm].label, *(distinct(counts, name) for name in names)]
        for arm, counts in used.items()
    ]
    versions = ", ".join(f"{k} {v}" for k, v in config["versions"].items() if v)
    return [
        "## Settings",
        "",
        *markdown_table(["arm", *(name.replace("_", " ") for name in names)], body),
        f"{versions}; {config['machine']['devices']} {config['machine']['backend']} "
        "device(s). All settings are in config.json, all rounds in rounds.jsonl.",
    ]


def write(
    directory: Path,
    rows: Sequence[Row],
    config: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> None:
    """Writes summary.csv, report.md and accuracy_clients.png."""
    write_summary(directory / "summary.csv", cells(rows))
    figure.draw(directory / "accuracy_clients.png", rows)
    (directory / "report.md").write_text(markdown(rows, config, notes))
