"""The report of a comparison of arms: summary.csv, report.md and the figure."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.box
import rich.table

from experiments.reports import figures, paper
from experiments.reports.averages import Cell, Row, cells
from experiments.reports.markdown import (
    Means,
    accuracy,
    markdown_table,
    means,
    number,
    searches,
    settings_table,
)
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


PRINTED = {"epsilon": ("epsilon", ".2f"), "seconds": ("seconds_total", ".1f")}


def table(rows: Sequence[Row]) -> rich.table.Table:
    """The table that is printed at the end."""
    head = ("partition", "clients", "arm", "accuracy", *PRINTED, "paper's accuracy")
    result = rich.table.Table(*head, box=rich.box.SIMPLE)
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
            *means(cell, PRINTED),
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
            place = [cell.partition, cell.clients, cell.arm]
            kind = [first["model"], first["encryption"]]
            values = [
                value
                for name in SUMMARY_VALUES
                for value in (cell.mean(name), cell.deviation(name))
            ]
            writer.writerow([*place, *kind, len(cell.rows), *values])


def markdown(
    rows: Sequence[Row], config: Mapping[str, Any], notes: Sequence[str]
) -> str:
    """The report's text."""
    first = rows[0]
    grouped = cells(rows)
    blocks = [
        "# Accuracy, privacy and cost against the number of clients",
        f"Data set {first['dataset']} ({first['train_examples']} training examples), "
        f"model {first['model']} ({first['params']} parameters), "
        f"{len({row['seed'] for row in rows})} seed(s). Accuracy is on the test set "
        "after the last round, mean ± standard deviation over seeds. Centralised arms "
        "are trained once a seed and repeated in every cell; `without FL` is the mean "
        "over the clients' own models.",
        *(f"**{note}**" for note in notes),
        "![accuracy against clients](accuracy_clients.png)",
        *_accuracy(grouped),
        *_privacy(rows, config),
        *_encryption(grouped, config),
        *_settings(config),
    ]
    return "\n\n".join(blocks) + "\n"


def _accuracy(grouped: Sequence[Cell]) -> Iterator[str]:
    for partition in dict.fromkeys(cell.partition for cell in grouped):
        group = [cell for cell in grouped if cell.partition == partition]
        counts = sorted({cell.clients for cell in group})
        at = {(cell.arm, cell.clients): cell for cell in group}
        body = []
        for arm in ARMS:
            if not any(cell.arm == arm for cell in group):
                continue
            ours = [accuracy(at[arm, k]) if (arm, k) in at else "" for k in counts]
            body.append([ARMS[arm].label, *ours])
            theirs = [paper.cited(arm, partition, k) for k in counts]
            if any(theirs):
                body.append(["*the paper's*", *(f"*{t}*" if t else "" for t in theirs)])
        yield f"## Partition {partition}"
        yield markdown_table(["arm", *(f"{count} clients" for count in counts)], body)
        yield (
            "Lines in italics are the paper's own figures, not ours: T3 its Table 3, "
            "T4 its Table 4, T5 its Table 5. Tables 4 and 5 name neither clients nor "
            "partition, and the paper states neither delta nor the amount of data."
        )


UNITS = {
    "record": "one record, added to or removed from one client's shard",
    "client": "one client with all its records",
}

# The largest over clients.
EPSILONS = {
    "epsilon, outsiders": "epsilon",
    "epsilon, insiders": "epsilon_insider",
    "the paper's claim": "epsilon_claimed",
}

NOISE: Means = {
    "delta": ("delta", "g"),
    "noise multiplier": ("noise_multiplier", ".4f"),
    "clip norm": ("clip_norm", "g"),
    "sampling probability": ("sampling_probability", "g"),
    "steps": ("steps", ".0f"),
}


def _privacy(rows: Sequence[Row], config: Mapping[str, Any]) -> list[str]:
    private = [row for row in rows if row["epsilon"] is not None]
    if not private:
        return []
    body = []
    for arm in ARMS:
        of_arm = Cell(arm, "", 0, [row for row in private if row["arm"] == arm])
        if not of_arm.rows:
            continue
        first = of_arm.rows[0]
        who = [ARMS[arm].label, first["algorithm"], first["unit"]]
        epsilons = [
            number(max(of_arm.values(name), default=None), ".4f")
            for name in EPSILONS.values()
        ]
        noise = means(of_arm._replace(rows=[first]), NOISE)
        body.append([*who, *epsilons, *noise])
    head = ["arm", "algorithm", "unit", *EPSILONS, *NOISE]
    kept = [i for i in range(len(head)) if any(line[i] for line in body)]
    units = dict.fromkeys(row["unit"] for row in private)
    seeded = any(
        run["spec"]["noise_seed"] is not None for run in config["runs"].values()
    )
    return [
        "## Privacy",
        markdown_table(
            [head[i] for i in kept], [[line[i] for i in kept] for line in body]
        ),
        f"The unit is {'; or '.join(UNITS[unit] for unit in units)}. Epsilon is the "
        "largest over clients (their data are disjoint), from the RDP of "
        f"{_priced(private)}. The adversaries:",
        "\n".join(_adversaries(private, config)),
        *searches(
            run["searched_on"]
            for run in config["runs"].values()
            if ARMS[run["spec"]["arm"]].private
        ),
        (
            "The noise, and who was sampled, came from a seed: whoever knows it can "
            "subtract the noise, so these epsilons are those of a simulation."
            if seeded
            else "The noise, and who was sampled, came from the operating system's "
            "entropy; the key is written nowhere, and a rerun differs within the noise."
        ),
    ]


def _priced(rows: Sequence[Row]) -> str:
    """The mechanism whose divergence was computed."""
    mechanisms = dict.fromkeys(row["mechanism"] for row in rows if row["mechanism"])
    if any(name != "gaussian" for name in mechanisms):
        return f"what the mechanism {', '.join(mechanisms)} declares"
    shared = {row["encryption"] for row in rows if row["honest_clients"]} - {None}
    if any(SCHEMES.find(scheme).exact for scheme in shared):
        return (
            "the Poisson-subsampled sum of discrete Gaussian shares, where noise is "
            "shared, and of the Gaussian elsewhere"
        )
    return "the Poisson-subsampled Gaussian"


def _adversaries(rows: Sequence[Row], config: Mapping[str, Any]) -> Iterator[str]:
    """A line for each arm and adversary; one a client count where they differ."""
    words: dict[tuple[str, str], dict[str, list[int]]] = {}  # -> text -> client counts
    for run in config["runs"].values():
        spec = run["spec"]
        for adversary, text in (run["against"] or {}).items():
            counts = words.setdefault((spec["arm"], adversary), {}).setdefault(text, [])
            if spec["clients"] not in counts:
                counts.append(spec["clients"])
    shown = {row["arm"] for row in rows}
    several = {arm for arm, adversary in words if adversary == "insiders"}
    for (arm, adversary), texts in words.items():
        if arm not in shown:
            continue
        name = ARMS[arm].label + (f", {adversary}" if arm in several else "")
        for text, counts in texts.items():
            where = f", {', '.join(map(str, counts))} clients" if len(texts) > 1 else ""
            yield f"- {name}{where}: {text}."


ENCRYPTION: Means = {
    "encrypt": ("seconds_encrypt", ".2f"),
    "add": ("seconds_add", ".2f"),
    "decrypt": ("seconds_decrypt", ".2f"),
}
SECONDS: Means = {"seconds": ("seconds_total", ".1f")}

# Shared noise has no counterpart in the clear.
COUNTERPARTS = {"fl_he": "fl", "private_ai_local": "fl_dp"}


def _encryption(grouped: Sequence[Cell], config: Mapping[str, Any]) -> list[str]:
    at = {(cell.partition, cell.clients, cell.arm): cell for cell in grouped}
    body = []
    for cell in grouped:
        if not cell.rows[0]["encryption"]:
            continue
        plain = at.get((cell.partition, cell.clients, COUNTERPARTS.get(cell.arm, "")))
        place = [ARMS[cell.arm].label, cell.partition, str(cell.clients)]
        seconds = [
            *means(cell, SECONDS),
            *means(plain, SECONDS),
            *means(cell, ENCRYPTION),
        ]
        size = number(cell.bytes_per_parameter, ".1f")
        error = max(cell.values("max_aggregation_error"), default=None)
        body.append([*place, *seconds, size, number(error, ".1e")])
    if not body:
        return []
    sums = dict.fromkeys(
        f"- {ARMS[run['spec']['arm']].label}, {run['spec']['clients']} clients: "
        f"{run['sums']}"
        for run in config["runs"].values()
        if run["sums"]
    )
    head = ["arm", "partition", "clients", *SECONDS, "same without HE", *ENCRYPTION]
    return [
        "## Encryption",
        "Seconds of a whole run, all clients on this one machine, so that time with "
        "many clients is not what one of them would wait. The server adds ciphertexts "
        "with no secret key in reach. Decryption noise counts as no privacy.",
        "\n".join(sums),
        markdown_table([*head, "bytes a parameter", "largest error of a sum"], body),
    ]


def _settings(config: Mapping[str, Any]) -> list[str]:
    versions = ", ".join(f"{k} {v}" for k, v in config["versions"].items() if v)
    origins: dict[str, dict[str, None]] = {}  # text -> labels of arms
    for run in config["runs"].values():
        label = ARMS[run["spec"]["arm"]].label
        origins.setdefault(run["settings_from"], {})[label] = None
    return [
        "## Settings",
        settings_table(
            ["arm"],
            [
                ((ARMS[run["spec"]["arm"]].label,), run["hyperparameters"])
                for run in config["runs"].values()
            ],
        ),
        "Where they come from:",
        "\n".join(f"- {', '.join(arms)}: {text}." for text, arms in origins.items()),
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
