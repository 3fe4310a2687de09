"""The table of related work: each algorithm at the setting of its own paper."""

from experiments.reports import paper, table_runs
from experiments.reports.averages import Cell
from experiments.reports.markdown import Means, accuracy, markdown_table, means
from experiments.reports.results import Results
from fedjax_private.runs import ARMS, Spec


def section(found: Results) -> list[str]:
    """The section's blocks."""
    columns: Means = {
        "epsilon, outsiders": ("epsilon", ".3g"),
        "epsilon, insiders": ("epsilon_insider", ".3g"),
        "epsilon that it claims": ("epsilon_claimed", ".3g"),
        "delta": ("delta", "g"),
    }
    rows = []
    for spec in table_runs.related(found.what, found.data):
        row = found.rows.get(spec)
        if row is None:
            continue
        cell = Cell(spec.arm, spec.partition_name, spec.clients, [row])
        server = "" if spec.server_optimizer is None else f", {spec.server_optimizer}"
        rows.append(
            [
                f"{row['algorithm']}{server}",
                ARMS[spec.arm].label,
                _setting(spec),
                row["unit"] or "",
                accuracy(cell),
                *means(cell, columns),
                paper.RELATED.get(row["algorithm"], ""),
            ]
        )
    head = ["algorithm", "arm", "setting", "unit", "accuracy", *columns]
    return [
        "## Related work",
        "Each algorithm at the setting of its paper that the digits allow: clients, "
        "cohort, local work, sampling and noise are the paper's, and data, model and "
        "rounds are ours, so that accuracies beside each other do not rank the "
        "algorithms. Epsilon is ours, by RDP, for the unit named; where the paper "
        "counts otherwise, its claim stands beside. Figures of papers are given where "
        "they could be checked; one seed.",
        markdown_table([*head, "its paper's figure"], rows),
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
