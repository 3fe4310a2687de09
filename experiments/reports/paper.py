"""The figures of the paper that this project implements, as printed there.

S. Kamalsha, Siri S, S. Krishna, S. Amruth, S. Jadon, "PRIVATE-AI: A hybrid approach to
privacy preserving": Tables 1, 3, 4 and 5 (there is no Table 2). Rounds,
batch size, delta, the unit of privacy and the amount of training data are not given
there.
"""

from typing import NamedTuple

# The data sets whose reports show the figures.
DATASETS = ("mnist", "mnist_5k")

# What may differ from the runs that the figures stand beside.
DIFFERENCE = "The paper's model is a CNN, and its non-IID partition is not described"


class Figure(NamedTuple):
    """An accuracy with its standard deviation, where the paper gives one."""

    accuracy: float
    deviation: float | None


# Table 1. The epsilon is stated, delta and the unit are not.
TABLE_1_EPSILON = 0.563
TABLE_1: dict[str, Figure] = {
    "centralized": Figure(0.971, None),
    "centralized_dp": Figure(0.92, None),
    "encrypted_inference": Figure(0.95, None),
}

# Table 3: (arm, "iid" or "non-iid", clients).
TABLE_3: dict[tuple[str, str, int], Figure] = {
    ("local", "iid", 4): Figure(0.731, 0.03),
    ("local", "iid", 8): Figure(0.620, 0.06),
    ("local", "iid", 16): Figure(0.570, 0.03),
    ("local", "iid", 32): Figure(0.527, 0.02),
    ("fl", "iid", 4): Figure(0.824, 0.02),
    ("fl", "iid", 8): Figure(0.780, 0.05),
    ("fl", "iid", 16): Figure(0.726, 0.06),
    ("fl", "iid", 32): Figure(0.641, 0.09),
    ("local", "non-iid", 4): Figure(0.682, 0.10),
    ("local", "non-iid", 8): Figure(0.561, 0.08),
    ("local", "non-iid", 16): Figure(0.524, 0.03),
    ("local", "non-iid", 32): Figure(0.520, 0.03),
    ("fl", "non-iid", 4): Figure(0.824, 0.01),
    ("fl", "non-iid", 8): Figure(0.823, 0.05),
    ("fl", "non-iid", 16): Figure(0.750, 0.06),
    ("fl", "non-iid", 32): Figure(0.550, 0.20),
}
TABLE_3_CENTRALIZED = Figure(0.848, 0.02)

# Tables 4 and 5 name neither the number of clients nor the partition.
TABLE_4: dict[str, Figure] = {
    "fl": Figure(0.924, None),
    "fl_dp": Figure(0.815, None),  # noise multiplier 4, clip norm 1, epsilon 2.90
}
TABLE_5: dict[str, Figure] = {"fl_he": Figure(0.937, None)}


# Algorithm -> the headline figure of its own paper, where one could be checked: in
# abstracts, in the authors' code, or by computing it anew.
RELATED: dict[str, str] = {
    "fedavg": "10 to 100 times fewer rounds than FedSGD (abstract)",
    "fedsgd": "FedAvg's baseline",
    "fedprox": "22 % more test accuracy than FedAvg on very heterogeneous clients "
    "(abstract)",
    "dopamine": "about 0.74 at epsilon 10.8, 3,000 steps, retinopathy images (read off "
    "Figure 1 of the report in the authors' code)",
    "dp_fedavg": "epsilon 4.634 at delta 1e-9 for 763,430 users, 5,000 a round, 5,000 "
    "rounds, noise multiplier 1 (computed anew: 4.634)",
}


def cited(dataset: str, arm: str, partition: str, clients: int) -> str:
    """The paper's figures for a cell, each with its table; empty if it has none."""
    if dataset not in DATASETS:
        return ""
    found = []
    kind = "iid" if partition == "iid" else "non-iid"
    cell = TABLE_3.get((arm, kind, clients))
    if arm == "centralized":
        cell = TABLE_3_CENTRALIZED
    if cell is not None:
        found.append(f"{cell.accuracy:.3f} ± {cell.deviation:.2f} (T3)")
    if arm in TABLE_4:
        found.append(f"{TABLE_4[arm].accuracy:.3f} (T4)")
    if arm in TABLE_5:
        found.append(f"{TABLE_5[arm].accuracy:.3f} (T5)")
    return ", ".join(found)
