"""The arms that are compared: each is a combination of the same four choices."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        label: for tables and figures.
        pooled: all data at one place, whatever the number of clients.
        federated: updates are aggregated by a server.
        private: clients clip and noise every step.
        encrypted: the aggregation sees ciphertext only.
        shared: clients share the noise of each encrypted sum, unless --noise says
            otherwise.
    """

    label: str
    pooled: bool = False
    federated: bool = False
    private: bool = False
    encrypted: bool = False
    shared: bool = False


ARMS: Mapping[str, Arm] = {
    "centralized": Arm("centralised", pooled=True),
    "centralized_dp": Arm("centralised + DP", pooled=True, private=True),
    "local": Arm("without FL"),
    "fl": Arm("FL", federated=True),
    "fl_dp": Arm("FL + DP", federated=True, private=True),
    "fl_he": Arm("FL + HE", federated=True, encrypted=True),
    "private_ai_local": Arm(
        "PRIVATE-AI, local noise", federated=True, private=True, encrypted=True
    ),
    "private_ai": Arm(
        "PRIVATE-AI (FL + DP + HE)",
        federated=True,
        private=True,
        encrypted=True,
        shared=True,
    ),
}
