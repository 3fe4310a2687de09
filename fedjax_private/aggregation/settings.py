"""Settings of encrypted sums, as users choose them."""

import dataclasses

from fedjax_private import choices
from fedjax_private.aggregation.topologies import TOPOLOGIES
from fedjax_private.encryption.settings import CipherSettings

KEY_HOLDERS = ("authority", "clients")


@dataclasses.dataclass(frozen=True)
class SumSettings(CipherSettings):
    """How sums are encrypted, who holds the key, and how uploads travel.

    Attributes:
        key_holder: of a single key: the authority, or every client. The latter is a
            baseline: one client and the server together read every upload.
        recovery_threshold: T, holders of key shares that can stand in for others; None
            for just more than half.
        topology: how uploads travel; one of `TOPOLOGIES`.
        fan_out: clients of one edge server, in a tree.
        encrypted_fraction: share of entries that is encrypted; see
            `SelectiveAggregation`.
        processes: whether server, clients and decryptors are separate processes.
        key_rounds: rounds until a new key is made. One client that departs from the
            protocol can learn a key from a sum that is released, and with the
            ciphertexts it reads every upload under that key: this bounds how many
            rounds those are of. None: a new key is made when the old one has decrypted
            as much as its noise protects, which exact schemes of one key never have.

    Raises:
        ValueError: a value outside its range, or fields that exclude each other.
    """

    key_holder: str = choices.setting(
        "authority",
        f"who holds a single key: {' or '.join(KEY_HOLDERS)} (a baseline)",
        choices.one_of(*KEY_HOLDERS),
    )
    recovery_threshold: int | None = choices.setting(
        None,
        "key holders that stand in for others (default: just over half)",
        choices.at_least(1),
    )
    topology: str = choices.setting(
        "star",
        f"how uploads travel: {', '.join(TOPOLOGIES)}",
        choices.one_of(*TOPOLOGIES),
    )
    fan_out: int = choices.setting(
        8,
        "clients of one edge server; topology tree",
        choices.at_least(1),
        needs=("topology", "tree"),
    )
    encrypted_fraction: float = choices.setting(
        1.0,
        "share of entries that is encrypted; below 1 the server reads the others",
        choices.probability,
    )
    processes: bool = choices.setting(
        False, "server and clients as processes that exchange bytes over sockets"
    )
    key_rounds: int | None = choices.setting(
        None,
        "rounds until a new key is made (default: when its budget is used up)",
        choices.at_least(1),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.processes:
            return
        for name, needed, why in (
            ("topology", "star", "send their uploads straight to the server"),
            ("encrypted_fraction", 1, "encrypt every entry"),
            ("key_holder", "authority", "keep a single key with the authority"),
        ):
            value = getattr(self, name)
            if value != needed:
                raise ValueError(
                    f"processes {why}: {name} must be {needed}, got {value}."
                )
