"""The report of a comparison of arms: summary.csv, report.md and the figure."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.box
import rich.table

from experiments.reports import figures, paper
from experiments.reports.averages import Cell, Row, cells
from experiments.reports.markdown import accuracy, distinct, markdown_table, number
from fedjax_private.aggregation import SCHEMES
from fedjax_private.runs import ARMS


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
    lines += _encryption(grouped, config)
    lines += _settings(config)
    return "\n".join(lines) + "\n"


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
    "algorithm",
    "unit",
    "epsilon, outsiders",
    "epsilon, insiders",
    "the paper's claim",
    "delta",
    "noise multiplier",
    "clip norm",
    "sampling probability",
    "steps",
)

UNITS = {
    "record": "one record, added to or removed from one client's shard",
    "client": "one client with all its records",
}


def _privacy(rows: Sequence[Row], config: Mapping[str, Any]) -> list[str]:
    private = [row for row in rows if row["epsilon"] is not None]
    if not private:
        return []
    body = []
    for arm, of_arm in _by_arm(private).items():
        first = of_arm[0]
        body.append(
            [
                ARMS[arm].label,
                first["algorithm"],
                first["unit"],
                _largest(of_arm, "epsilon"),
                _largest(of_arm, "epsilon_insider"),
                _largest(of_arm, "epsilon_claimed"),
                number(first["delta"], "g"),
                number(first["noise_multiplier"], ".4f"),
                number(first["clip_norm"], "g"),
                number(first["sampling_probability"], "g"),
                str(first["steps"]),
            ]
        )
    units = dict.fromkeys(row["unit"] for row in private)
    seeded = any(
        run["spec"]["noise_seed"] is not None for run in config["runs"].values()
    )
    return [
        "## Privacy",
        "",
        *markdown_table(*_without_empty(PRIVACY_COLUMNS, body)),
        f"The unit is {'; or '.join(UNITS[unit] for unit in units)}. Epsilon is the "
        "largest over clients (their data are disjoint), from the RDP of "
        f"{_priced(private)}. The adversaries:",
        "",
        *_adversaries(private, config),
        "",
        "Hyper-parameters were searched on a split of the training data. That search "
        "is not part of epsilon.",
        "",
        (
            "The noise, and who was sampled, came from a seed: whoever knows it can "
            "subtract the noise, so these epsilons are those of a simulation."
            if seeded
            else "The noise, and who was sampled, came from the operating system's "
            "entropy; the key is written nowhere, and a rerun differs within the noise."
        ),
        "",
    ]


def _without_empty(
    head: Sequence[str], body: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """A table without the columns that hold nothing."""
    kept = [i for i in range(len(head)) if any(line[i] for line in body)]
    return [head[i] for i in kept], [[line[i] for i in kept] for line in body]


def _by_arm(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups = {arm: [row for row in rows if row["arm"] == arm] for arm in ARMS}
    return {arm: group for arm, group in groups.items() if group}


def _largest(rows: Sequence[Row], name: str) -> str:
    values = [row[name] for row in rows if row[name] is not None]
    return number(max(values), ".4f") if values else ""


def _priced(rows: Sequence[Row]) -> str:
    """The mechanism whose divergence was computed."""
    mechanisms = dict.fromkeys(row["mechanism"] for row in rows if row["mechanism"])
    if any(name != "gaussian" for name in mechanisms):
        return f"what the mechanism {', '.join(mechanisms)} declares"
    if any(row["honest_clients"] and _exact(row["encryption"]) for row in rows):
        return (
            "the Poisson-subsampled sum of discrete Gaussian shares, where noise is "
            "shared, and of the Gaussian elsewhere"
        )
    return "the Poisson-subsampled Gaussian"


def _exact(scheme: str | None) -> bool:
    return scheme is not None and SCHEMES.find(scheme).exact


def _adversaries(rows: Sequence[Row], config: Mapping[str, Any]) -> list[str]:
    """A line for each arm and adversary; one a client count where they differ."""
    words: dict[tuple[str, str], dict[str, list[int]]] = {}  # -> text -> client counts
    for run in config["runs"].values():
        spec = run["spec"]
        for adversary, text in (run["against"] or {}).items():
            counts = words.setdefault((spec["arm"], adversary), {}).setdefault(text, [])
            if spec["clients"] not in counts:
                counts.append(spec["clients"])
    shown = _by_arm(rows)
    several = {arm for arm, adversary in words if adversary == "insiders"}
    lines = []
    for (arm, adversary), texts in words.items():
        if arm not in shown:
            continue
        name = ARMS[arm].label + (f", {adversary}" if arm in several else "")
        for text, counts in texts.items():
            where = f", {', '.join(map(str, counts))} clients" if len(texts) > 1 else ""
            lines.append(f"- {name}{where}: {text}.")
    return lines


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


def _encryption(grouped: Sequence[Cell], config: Mapping[str, Any]) -> list[str]:
    encrypted = [cell for cell in grouped if cell.rows[0]["encryption"]]
    if not encrypted:
        return []
    plain = {
        (c.partition, c.clients, c.arm): c for c in grouped if not ARMS[c.arm].encrypted
    }
    # Shared noise has no counterpart in the clear.
    counterpart = {"fl_he": "fl", "private_ai_local": "fl_dp"}
    sums = dict.fromkeys(
        f"- {ARMS[run['spec']['arm']].label}, {run['spec']['clients']} clients: "
        f"{run['sums']}"
        for run in config["runs"].values()
        if run["sums"]
    )
    body = []
    for cell in encrypted:
        other = plain.get((cell.partition, cell.clients, counterpart.get(cell.arm, "")))
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
                number(max(cell.values("max_aggregation_error"), default=None), ".1e"),
            ]
        )
    return [
        "## Encryption",
        "",
        "Seconds of a whole run, all clients on this one machine, so that time with "
        "many clients is not what one of them would wait. The server adds ciphertexts "
        "with no secret key in reach. Decryption noise counts as no privacy.",
        "",
        *sums,
        "",
        *markdown_table(
            ENCRYPTION_COLUMNS,
            body,
        ),
    ]


def _settings(config: Mapping[str, Any]) -> list[str]:
    used: dict[str, list[Mapping[str, Any]]] = {}
    for run in config["runs"].values():
        used.setdefault(run["spec"]["arm"], []).append(run["hyperparameters"])
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
    figures.draw(directory / "accuracy_clients.png", rows)
    (directory / "report.md").write_text(markdown(rows, config, notes))
