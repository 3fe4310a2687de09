"""The arms: where data lie, who aggregates, and what noises and encrypts sums."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        label: for tables and figures.
        algorithm: the usual one.
        pooled: all data at one place, whatever the number of clients.
        federated: updates are aggregated by a server.
        private: what leaves a client, or the server, is noised.
        encrypted: the aggregation sees ciphertext only.
        shared: clients share the noise of each encrypted sum, unless `noise` says
            otherwise.
    """

    label: str
    algorithm: str
    pooled: bool = False
    federated: bool = False
    private: bool = False
    encrypted: bool = False
    shared: bool = False


# Name -> arm, in the order of reports.
ARMS: Mapping[str, Arm] = {
    "centralized": Arm("centralised", "local", pooled=True),
    "centralized_dp": Arm("centralised + DP", "local", pooled=True, private=True),
    "local": Arm("without FL", "local"),
    "fl": Arm("FL", "fedavg", federated=True),
    "fl_dp": Arm("FL + DP", "fedavg", federated=True, private=True),
    "fl_he": Arm("FL + HE", "fedavg", federated=True, encrypted=True),
    "private_ai_local": Arm(
        "PRIVATE-AI, local noise",
        "fedavg",
        federated=True,
        private=True,
        encrypted=True,
    ),
    "private_ai": Arm(
        "PRIVATE-AI (FL + DP + HE)",
        "distributed_dp_sgd",
        federated=True,
        private=True,
        encrypted=True,
        shared=True,
    ),
}
