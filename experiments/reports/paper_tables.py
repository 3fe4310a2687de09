"""The report of `experiments.tables`: tables and figures, the paper's beside ours."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.reports import figures, paper, plan, predictions
from experiments.reports.averages import Cell
from experiments.reports.comparison import line, write_summary
from experiments.reports.markdown import accuracy, distinct, markdown_table, number
from experiments.reports.plan import (
    CNN,
    LINEAR,
    PARTITIONS,
    POLYNOMIAL,
    SHALLOW,
    TABLE_1_MODELS,
)
from experiments.reports.results import (
    NAMES,
    Results,
    cost_cells,
    epsilon_curves,
    panels,
    shape,
)
from fedjax_private.hyperparameters import Hyperparameters
from fedjax_private.runs import ARMS, Spec

__all__ = ["POLYNOMIAL", "line", "write"]


def _accuracy(cell: Cell | None) -> str:
    return accuracy(cell) if cell else "not run"


def _paper(value: paper.Figure | None) -> str:
    if value is None:
        return ""
    spread = "" if value.deviation is None else f" ± {value.deviation:.2f}"
    return f"*{value.accuracy:.3f}{spread}*"


def _number(cell: Cell | None, name: str, form: str) -> str:
    value = cell.mean(name) if cell else None
    if value is None:
        return ""
    return "inf" if math.isinf(value) else format(value, form)


def _table_1(found: Results) -> list[str]:
    epsilon = paper.TABLE_1_EPSILON
    rows = []
    for model in TABLE_1_MODELS:
        plain = found.cell("centralized", model=model)
        private = found.cell("centralized_dp", model=model, epsilon=epsilon)
        rows += [
            ["ML", model, _accuracy(plain), "", _paper(paper.TABLE_1["centralized"])],
            [
                "ML + DP",
                model,
                _accuracy(private),
                _number(private, "epsilon", ".3f"),
                _paper(paper.TABLE_1["centralized_dp"]) + f" at {epsilon}",
            ],
        ]
    rows.append(
        [
            "ML + HE",
            plan.POLYNOMIAL,
            f"{found.encrypted[0].accuracy:.3f}" if found.encrypted else "not run",
            "",
            _paper(paper.TABLE_1["encrypted_inference"]),
        ]
    )
    return [
        "## Table 1: machine learning, with DP, with HE",
        "",
        *markdown_table(["", "model", "accuracy", "epsilon", "paper"], rows),
        *predictions.described(found.encrypted),
    ]


def _table_3(found: Results) -> list[str]:
    rows = []
    central = _accuracy(found.cell("centralized", model=CNN))
    for partition, clients in itertools.product(PARTITIONS, found.what.clients):
        kind = "iid" if partition == "iid" else "non-iid"
        cells = []
        for arm in ("local", "fl"):
            cell = found.cell(arm, clients, partition, model=CNN)
            cells += [_accuracy(cell), _paper(paper.TABLE_3.get((arm, kind, clients)))]
        rows.append([NAMES[partition], str(clients), *cells, central])
    theirs = _paper(paper.TABLE_3_CENTRALIZED)
    head = ["data", "clients", "without FL", "paper", "FL", "paper", "centralised"]
    return [
        "## Table 3 and Figure 1: with and without federated learning",
        "",
        f"Model {CNN}. `without FL` is the mean over the clients' own models. The "
        f"paper's centralised figure is {theirs}.",
        "",
        *markdown_table(head, rows),
        "![accuracy against clients](figure_1.png)",
        "",
    ]


def _tables_4_and_5(found: Results) -> list[str]:
    k, high = plan.CLIENTS, plan.EPSILONS[1]
    fl, fl_he = paper.TABLE_4["fl"], paper.TABLE_5["fl_he"]
    local, shared = "FL + DP, local noise", "FL + DP + HE, shared noise"
    lines: list[tuple[str, str, str, dict[str, Any], Any]] = [
        ("FL", LINEAR, "fl", {}, fl),
        (local, LINEAR, "fl_dp", {"epsilon": high}, paper.TABLE_4["fl_dp"]),
        ("FL + HE", LINEAR, "fl_he", {}, fl_he),
        (shared, LINEAR, "private_ai", {"epsilon": high}, None),
        ("FL", CNN, "fl", {}, fl),
        ("FL + HE", CNN, "fl_he", {}, fl_he),
        (shared, CNN, "private_ai", {"epsilon": high}, None),
        (shared, SHALLOW, "private_ai", {"epsilon": high}, None),
    ]
    rows = []
    for title, model, arm, changes, theirs in lines:
        cell = found.cell(arm, k, "iid", model=model, **changes)
        private = _number(cell, "epsilon", ".2f")
        rows.append([title, model, _accuracy(cell), private, _paper(theirs)])
    return [
        "## Tables 4 and 5: FL with DP, FL with HE, and all three",
        "",
        f"{k} clients, IID. The paper names neither clients nor partition; its DP has "
        "noise multiplier 4, clip norm 1 and epsilon 2.90, and it gives no figure for "
        "all three together.",
        "",
        *markdown_table(["", "model", "accuracy", "epsilon", "paper"], rows),
    ]


def _eight(found: Results) -> list[str]:
    high = {"epsilon": plan.EPSILONS[1]}
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
    rows = [
        [
            *marks,
            _accuracy(cell),
            _number(cell, "epsilon", ".3f"),
            _number(cell, "epsilon_insider", ".3f"),
            f"{cell.rows[0]['delta']:g}" if cell and cell.rows[0]["delta"] else "",
            _number(cell, "seconds_total", ".1f"),
            _number(cell, "upload_bytes_per_client_round", ",.0f"),
        ]
        for *marks, cell in cells
    ]
    head = [
        "FL", "DP", "HE", "accuracy", "epsilon, outsiders", "epsilon, insiders",
        "delta", "seconds", "bytes a client and round",
    ]  # fmt: skip
    return [
        "## The table that the paper lacks: FL x DP x HE",
        "",
        f"Model {LINEAR}; {plan.CLIENTS} clients, IID, with FL; one holder of all "
        "data without. HE without FL is one holder whose updates pass through an "
        "encrypted sum of one: it shows a cost, and hides nothing from whoever sees "
        "the released model.",
        "",
        *markdown_table(head, rows),
    ]


def _hybrid(found: Results) -> list[str]:
    low, high = plan.EPSILONS
    rows = []
    for partition, clients in itertools.product(PARTITIONS, found.what.clients):
        place = (clients, partition)
        rows.append(
            [
                NAMES[partition],
                str(clients),
                _accuracy(found.cell("private_ai", *place, epsilon=high)),
                _accuracy(found.cell("fl_dp", *place, epsilon=high)),
                _accuracy(found.cell("centralized_dp", epsilon=high)),
                _accuracy(found.cell("private_ai", *place, epsilon=low)),
                _accuracy(found.cell("centralized_dp", epsilon=low)),
            ]
        )
    head = [
        "data", "clients", f"PRIVATE-AI, {high}", f"FL + DP, local noise, {high}",
        f"centralised + DP, {high}", f"PRIVATE-AI, {low}", f"centralised + DP, {low}",
    ]  # fmt: skip
    return [
        "## Accuracy that does not depend on the number of clients",
        "",
        f"Model {LINEAR}, epsilon in the heads. With shared noise the released sum has "
        "the law of central DP-SGD's, so that columns agree up to the noise itself.",
        "",
        *markdown_table(head, rows),
        "![accuracy against clients at equal epsilon](accuracy_epsilon_clients.png)",
        "",
        "![accuracy against epsilon](accuracy_epsilon.png)",
        "",
    ]


def _costs(found: Results) -> list[str]:
    rows, words = [], []
    changes: dict[str, Any] = {"label": "cost", "epsilon": plan.EPSILONS[1]}
    cells = [
        ("local noise, ckks", found.cell("private_ai_local", **changes)),
        *(
            (scheme, found.cell("private_ai", **changes, encryption=scheme))
            for scheme in plan.SCHEMES
        ),
    ]
    for name, cell in cells:
        if cell is None:
            continue
        uploads = cell.mean("upload_bytes_per_client_round") or math.nan
        rows.append(
            [
                name,
                _accuracy(cell),
                _number(cell, "epsilon", ".3f"),
                _number(cell, "epsilon_insider", ".3f"),
                _number(cell, "seconds_total", ".1f"),
                _number(cell, "seconds_encrypt", ".1f"),
                _number(cell, "seconds_add", ".1f"),
                _number(cell, "seconds_decrypt", ".1f"),
                f"{uploads / cell.rows[0]['params']:.1f}",
                _number(cell, "max_aggregation_error", ".1e"),
            ]
        )
    for spec, prepared in found.prepared.items():
        if spec.label.startswith("cost") and prepared.sums:
            words.append(f"- {spec.scheme.name}: {prepared.sums}")
    head = [
        "PRIVATE-AI with", "accuracy", "epsilon, outsiders", "epsilon, insiders",
        "seconds", "encrypt", "add", "decrypt", "bytes a parameter",
        "largest error of a sum",
    ]  # fmt: skip
    return [
        "## What encryption costs, and who holds the key",
        "",
        f"{plan.CLIENTS} clients, IID, model {LINEAR}, one seed; seconds of a whole "
        "run, all clients on this one machine.",
        "",
        *markdown_table(head, rows),
        *dict.fromkeys(words),
        "",
        "![seconds and bytes against clients](encryption_cost.png)",
        "",
    ]


def _related(found: Results) -> list[str]:
    rows = []
    for spec in plan.related(found.what, found.data):
        row = found.rows.get(spec)
        if row is None:
            continue
        server = "" if spec.server_optimizer is None else f", {spec.server_optimizer}"
        rows.append(
            [
                f"{row['algorithm']}{server}",
                ARMS[spec.arm].label,
                _setting(spec),
                row["unit"] or "",
                f"{row['accuracy']:.3f}" if row["accuracy"] is not None else "diverged",
                number(row["epsilon"], ".3g"),
                number(row["epsilon_insider"], ".3g"),
                number(row["epsilon_claimed"], ".3g"),
                f"{row['delta']:g}" if row["delta"] else "",
                paper.RELATED.get(row["algorithm"], ""),
            ]
        )
    head = [
        "algorithm", "arm", "setting", "unit", "accuracy", "epsilon, outsiders",
        "epsilon, insiders", "epsilon that it claims", "delta", "its paper's figure",
    ]  # fmt: skip
    return [
        "## Related work",
        "",
        "Each algorithm at the setting of its paper that the digits allow: clients, "
        "cohort, local work, sampling and noise are the paper's, and data, model and "
        "rounds are ours, so that accuracies beside each other do not rank the "
        "algorithms. Epsilon is ours, by RDP, for the unit named; where the paper "
        "counts otherwise, its claim stands beside. Figures of papers are given where "
        "they could be checked; one seed.",
        "",
        *markdown_table(head, rows),
    ]


def _setting(spec: Spec) -> str:
    """What was given, in a few words."""
    values = spec.hyperparameters
    parts = [f"{spec.clients} clients, {spec.partition_name}", spec.model_entry.name]
    if spec.cohort is not None:
        parts.append(f"{spec.cohort} a round")
    if spec.local_epochs is not None and spec.batch_size is not None:
        parts.append(f"E={spec.local_epochs}, B={spec.batch_size}")
    if values.sampling_probability is not None:
        parts.append(f"q={values.sampling_probability:g}")
    if spec.noise_multiplier is not None:
        parts.append(f"noise multiplier {spec.noise_multiplier:g}")
    return ", ".join([*parts, f"{values.rounds} rounds"])


def _privacy(found: Results) -> list[str]:
    rows, adversaries = [], {}
    for spec, prepared in found.prepared.items():
        privacy = prepared.privacy
        if privacy is None or spec not in found.rows:
            continue
        row = found.rows[spec]
        label = f"{ARMS[spec.arm].label}, {row['model']}"
        if spec.algorithm is not None:
            label += f", {row['algorithm']}"
        rows.append(
            [
                label,
                str(spec.clients),
                spec.partition_name,
                privacy.unit.value,
                f"{privacy.epsilon:.4f}",
                ""
                if privacy.epsilon_insider is None
                else f"{privacy.epsilon_insider:.4f}",
                f"{row['delta']:g}",
                f"{privacy.noise_multiplier:.3f}",
                f"{row['clip_norm']:g}",
                ""
                if row["sampling_probability"] is None
                else f"{row['sampling_probability']:g}",
                str(privacy.steps),
            ]
        )
        several = len(privacy.against) > 1
        for adversary, words in privacy.against.items():
            name = ARMS[spec.arm].label
            name += f", {row['algorithm']}" if spec.algorithm is not None else ""
            name += f", {adversary.value}" if several else ""
            adversaries.setdefault(name, words)
    if not rows:
        return []
    head = [
        "", "clients", "partition", "unit", "epsilon, outsiders", "epsilon, insiders",
        "delta", "noise multiplier", "clip norm", "q", "steps",
    ]  # fmt: skip
    return [
        "## Privacy",
        "",
        "Epsilon is for one record added to or removed from one client's shard, or for "
        "one client where the unit says so; it is the largest over clients, by RDP. It "
        "is met by calibration, so slightly below its target. The adversaries (a "
        "number of clients is the first run's example):",
        "",
        *(f"- {name}: {words}." for name, words in adversaries.items()),
        "",
        *markdown_table(head, rows),
        "Noise and samples came from the operating system's entropy. Hyper-parameters "
        "were searched on a split of the training data, which no epsilon covers.",
        "",
    ]


UNSAID = (
    "## What the paper leaves open, and what was chosen",
    "",
    "- Delta: 1e-5. Unit of privacy: one record, added or removed. Neither is stated.",
    "- Batches, rounds and local epochs: as below; the paper states none. Its noise "
    "multiplier and clip norm (4 and 1, Table 4) are replaced by calibration to its "
    "epsilon, as they depend on what it leaves open.",
    "- Clients and partition of Tables 4 and 5: 8, IID. Non-IID in Table 3: two "
    "classes a client (shards).",
    "- Amount of training data: all of the data set's.",
    "- Key: held by a named authority unless a threshold scheme is named. In the paper "
    "clients hold it; one of them and the server together would read every upload.",
    "",
)


def _settings(found: Results) -> list[str]:
    used: dict[tuple[str, ...], list[Any]] = {}
    for spec, prepared in found.prepared.items():
        epsilon = spec.epsilon if ARMS[spec.arm].private else None
        key = (
            spec.arm,
            prepared.algorithm.name,
            spec.model_entry.name,
            "" if epsilon is None else f"{epsilon:g}",
        )
        used.setdefault(key, []).append(dataclasses.asdict(prepared.hyperparameters))
    names = [f.name for f in dataclasses.fields(Hyperparameters)]
    rows = [
        [ARMS[arm].label, algorithm, model, epsilon]
        + [distinct(values, name) for name in names]
        for (arm, algorithm, model, epsilon), values in used.items()
    ]
    head = [
        "arm",
        "algorithm",
        "model",
        "epsilon",
        *(name.replace("_", " ") for name in names),
    ]
    return ["## Settings", "", *markdown_table(head, rows)]


def write(directory: Path, found: Results, notes: Sequence[str]) -> bool:
    """Writes report.md and the figures; returns whether the asserted shape holds."""
    what, some = found.what, next(iter(found.rows.values()))
    lines = [
        f"# The paper's tables and figures: profile {what.profile}",
        "",
        f"Data set {some['dataset']} ({some['train_examples']} training examples), "
        f"{what.repetitions} seed(s): mean ± standard deviation of test accuracy after "
        "the last round, one seed where no deviation stands. Figures in italics are "
        "the paper's own (Kamalsha et al., *PRIVATE-AI: A hybrid approach to privacy "
        "preserving*), on data that it does not describe.",
        "",
        *[f"**{note}**\n" for note in notes],
    ]
    held = True
    if what.profile == "paper_shape":
        lines[2] = (
            f"Declared scarcity: {plan.SCARCE_EXAMPLES} training examples of "
            f"{found.data.dataset}, drawn anew for each of {what.repetitions} "
            f"seed(s), and {plan.SCARCE_ROUNDS} rounds; for the shape of Table 3, "
            "not its level. " + lines[2]
        )
        claims, held = shape(found)
        lines += [*_table_3(found), *claims]
    else:
        lines += [
            *_table_1(found),
            *_table_3(found),
            *_tables_4_and_5(found),
            *_eight(found),
            *_hybrid(found),
            *_costs(found),
            *_related(found),
            *_privacy(found),
            *UNSAID,
        ]
        high = panels(
            found, ("fl_dp", "private_ai"), "centralized_dp", epsilon=plan.EPSILONS[1]
        )
        figures.draw(directory / "accuracy_epsilon_clients.png", high)
        figures.accuracy_against_epsilon(
            directory / "accuracy_epsilon.png", epsilon_curves(found)
        )
        figures.encryption_cost(directory / "encryption_cost.png", cost_cells(found))
    lines += _settings(found)
    rows = panels(found, ("local", "fl"), "centralized", model=CNN)
    figures.draw(directory / "figure_1.png", rows)
    write_summary(directory / "summary.csv", found.cells())
    (directory / "report.md").write_text("\n".join(lines) + "\n")
    return held or what.quick
