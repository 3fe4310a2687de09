"""Settings of encrypted sums, as users choose them."""

import dataclasses

from fedjax_private import choices
from fedjax_private.aggregation.topologies import TOPOLOGIES
from fedjax_private.encryption.settings import CipherSettings

KEY_HOLDERS = ("authority", "clients")
SERVERS = ("malicious", "semi_honest")
ARITHMETIC = ("xla", "openfhe")

# A setting, a value of it -> another setting, what that must then be, and why.
_EXCLUDED = (
    ("processes", True, "topology", "star", "send uploads straight to the server"),
    ("processes", True, "encrypted_fraction", 1, "encrypt every entry"),
    ("processes", True, "key_holder", "authority", "keep a single key with it"),
    ("arithmetic", "openfhe", "server", "semi_honest", "takes the server's word"),
    ("arithmetic", "openfhe", "processes", False, "computes in one process"),
    ("arithmetic", "openfhe", "topology", "star", "has no parties between"),
    ("arithmetic", "openfhe", "encrypted_fraction", 1, "encrypts every entry"),
    ("arithmetic", "openfhe", "recovery_threshold", None, "needs every key holder"),
    ("arithmetic", "openfhe", "holder_drop_out", 0, "needs every key holder"),
)


@dataclasses.dataclass(frozen=True)
class SumSettings(CipherSettings):
    """How sums are encrypted, who holds the key, and how uploads travel.

    Attributes:
        key_holder: of a single key: the authority, or every client. The latter is a
            baseline: one client and the server together read every upload.
        recovery_threshold: T, of n holders of key shares, that can stand in for others.
            None: just over two thirds against a malicious server, which 2T - n
            colluding holders help to two sums of one round; otherwise just over half.
        holder_drop_out: of a simulation: the probability that a holder of key shares
            vanishes from a round before it decrypts, and again before each time that it
            is asked to stand in for others.
        topology: how uploads travel; one of `TOPOLOGIES`.
        fan_out: clients of one edge server, in a tree.
        encrypted_fraction: share of entries that is encrypted; see
            `SelectiveAggregation`.
        server: the server, and relays, that sums are secret from. `malicious`: one that
            may depart from the protocol, so decryptors check which uploads a sum holds;
            see `encryption.parties.declarations`. `semi_honest`: one that follows it.
        processes: whether server, clients and decryptors are separate processes.
        key_rounds: rounds until a new key is made. One client that departs from the
            protocol can learn a key from a sum that is released, and with the
            ciphertexts it reads every upload under that key: this bounds how many
            rounds those are of. Keys state it, and clients upload in no other round.
            Rounds that are left out count. None: a new key is made when the old one has
            decrypted as much as its noise protects, which exact schemes of one key
            never have.
        arithmetic: who computes with keys and ciphertexts: `xla`, with which this
            library decrypts and adds, or `openfhe`, whose bindings do everything: the
            reference, see `OpenFHEAggregation`.

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
        "key holders that stand in for others (default: just over 2/3, or 1/2)",
        choices.at_least(1),
    )
    holder_drop_out: float = choices.setting(
        0.0,
        "probability that a key holder vanishes from a round, in [0, 1)",
        choices.below_one,
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
    server: str = choices.setting(
        "malicious",
        "server that sums are secret from: malicious (decryptors check which uploads a "
        "sum holds) or semi_honest (they take its word)",
        choices.one_of(*SERVERS),
    )
    processes: bool = choices.setting(
        False, "server and clients as processes that exchange bytes over sockets"
    )
    key_rounds: int | None = choices.setting(
        None,
        "rounds until a new key is made (default: when its budget is used up)",
        choices.at_least(1),
    )
    arithmetic: str = choices.setting(
        "xla",
        "who computes with ciphertexts: xla, or openfhe (its bindings alone, slower)",
        choices.one_of(*ARITHMETIC),
    )

    @property
    def by_openfhe(self) -> bool:
        """Whether OpenFHE's bindings alone compute."""
        return self.arithmetic == "openfhe"

    @property
    def verified(self) -> bool:
        """Whether decryptors check which uploads a sum holds."""
        return self.server == "malicious"

    def __post_init__(self) -> None:
        super().__post_init__()
        for asked, value, name, needed, why in _EXCLUDED:
            given = getattr(self, name)
            if getattr(self, asked) == value and given != needed:
                subject = asked if value is True else f"{asked}={value}"
                must = "be left out" if needed is None else f"be {needed}"
                raise ValueError(f"{subject} {why}: {name} must {must}, got {given}.")
