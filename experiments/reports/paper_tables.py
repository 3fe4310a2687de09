"""The report of `experiments.tables`: tables and figures, the paper's beside ours."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.reports import collusion, figures, paper, predictions, related
from experiments.reports.comparison import warnings, write_summary
from experiments.reports.markdown import (
    Means,
    accuracy,
    filled_table,
    markdown_table,
    means,
    number,
    searches,
    settings_table,
)
from experiments.reports.results import (
    NAMES,
    Results,
    cost_cells,
    epsilon_curves,
    panels,
    shape,
)
from experiments.reports.table_runs import (
    CLIENTS,
    CNN,
    EPSILONS,
    LINEAR,
    PARTITIONS,
    POLYNOMIAL,
    SCARCE_EXAMPLES,
    SCARCE_ROUNDS,
    SCHEMES,
    SHALLOW,
    TABLE_1_MODELS,
)
from fedjax_private.runs import ARMS

EPSILON: Means = {"epsilon": ("epsilon", ".3f")}
BOTH_EPSILONS: Means = {
    "epsilon, outsiders": ("epsilon", ".3f"),
    "epsilon, insiders": ("epsilon_insider", ".3f"),
}
DELTA: Means = {"delta": ("delta", "g")}
SECONDS: Means = {"seconds": ("seconds_total", ".1f")}


def _paper(found: Results, value: paper.Figure | None) -> str:
    """The paper's figure, beside runs on data like the paper's."""
    if value is None or not found.like_the_paper:
        return ""
    spread = "" if value.deviation is None else f" ± {value.deviation:.2f}"
    return f"*{value.accuracy:.3f}{spread}*"


def _table_1(found: Results) -> list[str]:
    epsilon = paper.TABLE_1_EPSILON
    theirs = {arm: _paper(found, figure) for arm, figure in paper.TABLE_1.items()}
    at_epsilon = theirs["centralized_dp"]
    at_epsilon += f" at {epsilon}" if at_epsilon else ""
    rows = []
    for model in TABLE_1_MODELS:
        plain = found.cell("centralized", model=model)
        private = found.cell("centralized_dp", model=model, epsilon=epsilon)
        rows += [
            ["ML", model, accuracy(plain), "", theirs["centralized"]],
            ["ML + DP", model, accuracy(private), *means(private, EPSILON), at_epsilon],
        ]
    asked = f"{found.encrypted[0].accuracy:.3f}" if found.encrypted else "not run"
    rows.append(["ML + HE", POLYNOMIAL, asked, "", theirs["encrypted_inference"]])
    return [
        "## Table 1: machine learning, with DP, with HE",
        filled_table(["", "model", "accuracy", "epsilon", "paper"], rows),
        *predictions.described(found.encrypted),
    ]


def _table_3(found: Results) -> list[str]:
    rows = []
    central = accuracy(found.cell("centralized", model=CNN))
    for partition, clients in itertools.product(PARTITIONS, found.what.clients):
        kind = "iid" if partition == "iid" else "non-iid"
        row = [NAMES[partition], str(clients)]
        for arm in ("local", "fl"):
            cell = found.cell(arm, clients, partition, model=CNN)
            row += [
                accuracy(cell),
                _paper(found, paper.TABLE_3.get((arm, kind, clients))),
            ]
        rows.append([*row, central])
    theirs = _paper(found, paper.TABLE_3_CENTRALIZED)
    head = ["data", "clients", "without FL", "paper", "FL", "paper", "centralised"]
    return [
        "## Table 3 and Figure 1: with and without federated learning",
        f"Model {CNN}. `without FL` is the mean over the clients' own models."
        + (f" The paper's centralised figure is {theirs}." if theirs else ""),
        filled_table(head, rows),
        "![accuracy against clients](figure_1.png)",
    ]


def _tables_4_and_5(found: Results) -> list[str]:
    high = {"epsilon": EPSILONS[1]}
    fl, fl_he = paper.TABLE_4["fl"], paper.TABLE_5["fl_he"]
    local, shared = "FL + DP, local noise", "FL + DP + HE, shared noise"
    lines: list[tuple[str, str, str, dict[str, Any], Any]] = [
        ("FL", LINEAR, "fl", {}, fl),
        (local, LINEAR, "fl_dp", high, paper.TABLE_4["fl_dp"]),
        ("FL + HE", LINEAR, "fl_he", {}, fl_he),
        (shared, LINEAR, "private_ai", high, None),
        ("FL", CNN, "fl", {}, fl),
        ("FL + HE", CNN, "fl_he", {}, fl_he),
        (shared, CNN, "private_ai", high, None),
        (shared, SHALLOW, "private_ai", high, None),
    ]
    epsilon: Means = {"epsilon": ("epsilon", ".2f")}
    rows = []
    for title, model, arm, changes, theirs in lines:
        cell = found.cell(arm, model=model, **changes)
        ours = [accuracy(cell), *means(cell, epsilon)]
        rows.append([title, model, *ours, _paper(found, theirs)])
    return [
        "## Tables 4 and 5: FL with DP, FL with HE, and all three",
        f"{CLIENTS} clients, IID. The paper names neither clients nor partition; "
        "its DP has noise multiplier 4, clip norm 1 and epsilon 2.90, and it gives no "
        "figure for all three together.",
        filled_table(["", "model", "accuracy", *epsilon, "paper"], rows),
    ]


def _eight(found: Results) -> list[str]:
    high = {"epsilon": EPSILONS[1]}
    cells = [
        ("", "", "", found.cell("centralized", model=LINEAR)),
        ("", "x", "", found.cell("centralized_dp", **high)),
        ("", "", "x", found.cell("fl_he", 1)),
        ("", "x", "x", found.cell("private_ai", 1, **high)),
        ("x", "", "", found.cell("fl")),
        ("x", "x", "", found.cell("fl_dp", **high)),
        ("x", "", "x", found.cell("fl_he")),
        ("x", "x", "x", found.cell("private_ai", **high)),
    ]
    columns: Means = {
        **BOTH_EPSILONS,
        **DELTA,
        **SECONDS,
        "bytes a client and round": ("upload_bytes_per_client_round", ",.0f"),
    }
    return [
        "## The table that the paper lacks: FL x DP x HE",
        f"Model {LINEAR}; {CLIENTS} clients, IID, with FL; one holder of all "
        "data without. HE without FL is one holder whose updates pass through an "
        "encrypted sum of one: it shows a cost, and hides nothing from whoever sees "
        "the released model.",
        markdown_table(
            ["FL", "DP", "HE", "accuracy", *columns],
            [[*marks, accuracy(cell), *means(cell, columns)] for *marks, cell in cells],
        ),
    ]


def _hybrid(found: Results) -> list[str]:
    low, high = EPSILONS
    columns = [
        ("PRIVATE-AI", "private_ai", high),
        ("FL + DP, local noise", "fl_dp", high),
        ("centralised + DP", "centralized_dp", high),
        ("PRIVATE-AI", "private_ai", low),
        ("centralised + DP", "centralized_dp", low),
    ]
    rows = []
    for partition, clients in itertools.product(PARTITIONS, found.what.clients):
        ours = [
            accuracy(found.cell(arm, clients, partition, epsilon=epsilon))
            for _, arm, epsilon in columns
        ]
        rows.append([NAMES[partition], str(clients), *ours])
    head = [
        "data",
        "clients",
        *(f"{title}, {epsilon}" for title, _, epsilon in columns),
    ]
    return [
        "## Accuracy that does not depend on the number of clients",
        f"Model {LINEAR}, epsilon in the heads. With shared noise the released sum has "
        "the law of central DP-SGD's, so that columns agree up to the noise itself.",
        markdown_table(head, rows),
        "![accuracy against clients at equal epsilon](accuracy_epsilon_clients.png)",
        "![accuracy against epsilon](accuracy_epsilon.png)",
    ]


def _costs(found: Results) -> list[str]:
    changes: dict[str, Any] = {"label": "cost", "epsilon": EPSILONS[1]}
    cells = {"local noise, ckks": found.cell("private_ai_local", **changes)}
    for scheme in SCHEMES:
        cells[scheme] = found.cell("private_ai", **changes, encryption=scheme)
    columns: Means = {
        **BOTH_EPSILONS,
        **SECONDS,
        "encrypt": ("seconds_encrypt", ".1f"),
        "add": ("seconds_add", ".1f"),
        "decrypt": ("seconds_decrypt", ".1f"),
    }
    error: Means = {"largest error of a sum": ("max_aggregation_error", ".1e")}
    rows = [
        [
            name,
            accuracy(cell),
            *means(cell, columns),
            number(cell.bytes_per_parameter, ".1f"),
            *means(cell, error),
        ]
        for name, cell in cells.items()
        if cell is not None
    ]
    head = ["PRIVATE-AI with", "accuracy", *columns, "bytes a parameter", *error]
    sums = dict.fromkeys(
        f"- {spec.scheme.name}: {prepared.sums}"
        for spec, prepared in found.prepared.items()
        if spec.label.startswith("cost") and prepared.sums
    )
    return [
        "## What encryption costs, and who holds the key",
        f"{CLIENTS} clients, IID, model {LINEAR}, one seed; seconds of a whole "
        "run, all clients on this one machine.",
        markdown_table(head, rows),
        "\n".join(sums),
        "![seconds and bytes against clients](encryption_cost.png)",
    ]


def _privacy(found: Results) -> list[str]:
    rows, adversaries = [], {}
    for spec, prepared in found.prepared.items():
        privacy = prepared.privacy
        if privacy is None or spec not in found.rows:
            continue
        row = found.rows[spec]
        arm = ARMS[spec.arm].label
        algorithm = "" if spec.algorithm is None else f", {row['algorithm']}"
        rows.append(
            [
                f"{arm}, {row['model']}{algorithm}",
                str(spec.client_count),
                spec.partition_name,
                privacy.unit.value,
                number(privacy.epsilon, ".4f"),
                number(privacy.epsilon_insider, ".4f"),
                number(row["delta"], "g"),
                number(privacy.noise_multiplier, ".3f"),
                number(row["clip_norm"], "g"),
                number(row["sampling_probability"], "g"),
                str(privacy.steps),
            ]
        )
        several = len(privacy.against) > 1
        for adversary, words in privacy.against.items():
            whose = f", {adversary.value}" if several else ""
            adversaries.setdefault(f"- {arm}{algorithm}{whose}", words)
    if not rows:
        return []
    run = ["", "clients", "partition", "unit"]
    noise = ["noise multiplier", "clip norm", "q", "steps"]
    return [
        "## Privacy",
        "Epsilon is for one record added to or removed from one client's shard, or for "
        "one client where the unit says so; it is the largest over clients, by RDP. It "
        "is met by calibration, so slightly below its target. The adversaries (a "
        "number of clients is the first run's example):",
        "\n".join(f"{name}: {words}." for name, words in adversaries.items()),
        markdown_table([*run, *BOTH_EPSILONS, *DELTA, *noise], rows),
        "The operating system seeded the generator of noise and samples, with 64 bits.",
        *searches(
            spec.settings_from.searched_on for spec in found.rows if spec.traits.private
        ),
    ]


UNSAID = """## What the paper leaves open, and what was chosen

- Delta: 1e-5. Unit of privacy: one record, added or removed. Neither is stated.
- Batches, rounds and local epochs: as below; the paper states none. Its noise \
multiplier and clip norm (4 and 1, Table 4) are replaced by calibration to its \
epsilon, as they depend on what it leaves open.
- Clients and partition of Tables 4 and 5: 8, IID. Non-IID in Table 3: two \
classes a client (shards).
- Amount of training data: all of the data set's.
- Key: held by a named authority unless a threshold scheme is named. In the paper \
clients hold it; one of them and the server together would read every upload."""


def _settings(found: Results) -> list[str]:
    def used() -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
        for spec, prepared in found.prepared.items():
            traits = spec.traits
            epsilon = number(spec.epsilon if traits.private else None, "g")
            key = (traits.label, prepared.algorithm.name, spec.model_entry.name)
            yield (*key, epsilon), dataclasses.asdict(prepared.hyperparameters)

    return [
        "## Settings",
        settings_table(["arm", "algorithm", "model", "epsilon"], used()),
    ]


def write(directory: Path, found: Results, notes: Sequence[str]) -> bool:
    """Writes report.md and the figures; returns whether the asserted shape holds."""
    what, some = found.what, next(iter(found.rows.values()))
    scarce, held = "", True
    if what.profile == "paper_shape":
        scarce = (
            f"Declared scarcity: {SCARCE_EXAMPLES} training examples of "
            f"{some['dataset']}, drawn anew for each of {what.repetitions} "
            f"seed(s), and {SCARCE_ROUNDS} rounds; for the shape of Table 3, "
            "not its level. "
        )
        claims, held = shape(found)
        tables = [*_table_3(found), "## The shape of Table 3", "\n".join(claims)]
    else:
        tables = [
            *_table_1(found),
            *_table_3(found),
            *_tables_4_and_5(found),
            *_eight(found),
            *_hybrid(found),
            *_costs(found),
            *collusion.section(found),
            *related.section(found),
            *_privacy(found),
            UNSAID,
        ]
        high = panels(
            found,
            ("fl_dp", "private_ai"),
            "centralized_dp",
            epsilon=EPSILONS[1],
        )
        figures.draw(directory / "accuracy_epsilon_clients.png", high)
        figures.accuracy_against_epsilon(
            directory / "accuracy_epsilon.png", epsilon_curves(found)
        )
        figures.encryption_cost(directory / "encryption_cost.png", cost_cells(found))
    theirs = ""
    if found.like_the_paper:
        theirs = (
            " Figures in italics are the paper's own (Kamalsha et al., *PRIVATE-AI: A "
            "hybrid approach to privacy preserving*), on data that it does not "
            "describe."
        )
    blocks = [
        f"# The paper's tables and figures: profile {what.profile}",
        f"{scarce}Data set {some['dataset']} ({some['train_examples']} training "
        f"examples), {what.repetitions} seed(s): mean ± standard deviation of test "
        "accuracy after the last round, one seed where no deviation stands." + theirs,
        *(f"**{note}**" for note in notes),
        *warnings(found.rows.values()),
        *tables,
        *_settings(found),
    ]
    rows = panels(found, ("local", "fl"), "centralized", model=CNN)
    figures.draw(directory / "figure_1.png", rows)
    write_summary(directory / "summary.csv", found.cells())
    (directory / "report.md").write_text("\n\n".join(blocks) + "\n\n")
    return held or what.quick
