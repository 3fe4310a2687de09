"""The peers: what each is compared on, and where it runs."""

import dataclasses
from collections.abc import Mapping

SUITES = ("clients", "round", "encryption", "inference")

# Suites whose work has stages, each timed; what their ready line says beside.
STAGES: Mapping[str, tuple[str, ...]] = {
    "encryption": ("encrypt", "add", "decrypt"),
    "inference": ("encrypt", "evaluate", "decrypt"),
}
SAID: Mapping[str, tuple[str, ...]] = {
    "encryption": ("bytes_per_parameter", "max_error"),
    "inference": ("upload_bytes", "key_bytes", "max_error"),
}


@dataclasses.dataclass(frozen=True)
class Peer:
    """A library, used in one way.

    Attributes:
        environment: the virtual environment it runs in.
        modules: the module that builds its work, for each suite it serves.
        packages: whose versions its results depend on.
        privacy: the values of `private` that it knows in the suite clients.
    """

    environment: str
    modules: Mapping[str, str]
    packages: tuple[str, ...]
    privacy: frozenset[bool] = frozenset({True})

    @property
    def suites(self) -> frozenset[str]:
        """The suites it serves."""
        return frozenset(self.modules)


_TORCH_CLIENTS = {"clients": "torch_clients"}
_SUMS = {"encryption": "tenseal_sums"}

PEERS: Mapping[str, Peer] = {
    "torch": Peer("torch", _TORCH_CLIENTS, ("torch",), frozenset({False})),
    "torch_func": Peer("torch", _TORCH_CLIENTS, ("torch",)),
    "opacus_hooks": Peer("torch", _TORCH_CLIENTS, ("opacus", "torch")),
    "opacus_ghost": Peer("torch", _TORCH_CLIENTS, ("opacus", "torch")),
    "jax_privacy": Peer("jax", {"clients": "jax_clients"}, ("jax-privacy", "jax")),
    "naive_jax": Peer(
        "jax",
        {"clients": "jax_clients", "round": "jax_rounds"},
        ("jax",),
        frozenset({True, False}),
    ),
    "fedjax": Peer("fedjax", {"round": "fedjax_rounds"}, ("fedjax", "jax")),
    "pfl": Peer("torch", {"round": "pfl_rounds"}, ("pfl", "torch")),
    "tenseal": Peer("jax", {**_SUMS, "inference": "tenseal_inference"}, ("tenseal",)),
    "tenseal_public_key": Peer("jax", _SUMS, ("tenseal",)),
}


def serving(suite: str) -> tuple[str, ...]:
    """The names of the peers that a suite has."""
    return tuple(name for name, peer in PEERS.items() if suite in peer.suites)


def suite_of(case: Mapping[str, object]) -> str:
    """The suite that a case belongs to, by its fields.

    Raises:
        ValueError: it is no case of any suite.
    """
    fields = {
        frozenset({"clients", "batch", "model", "private"}): "clients",
        frozenset({"clients", "examples", "batch", "epochs"}): "round",
        frozenset({"parameters", "clients"}): "encryption",
        frozenset({"images"}): "inference",
    }
    try:
        return fields[frozenset(case)]
    except KeyError:
        raise ValueError(f"no suite has cases with {', '.join(case)}.") from None


def unsuitable(name: str, case: Mapping[str, object]) -> str | None:
    """Why a peer cannot run a case, as a sentence; None where it can."""
    if name not in PEERS:
        return f"unknown peer {name}; there are {', '.join(PEERS)}."
    try:
        suite = suite_of(case)
    except ValueError as error:
        return str(error)
    if suite not in PEERS[name].suites:
        return f"{name} has nothing to compare in the suite {suite}."
    if suite == "clients" and case["private"] not in PEERS[name].privacy:
        kind = "private" if case["private"] else "non-private"
        return f"{name} takes no {kind} steps."
    return None
