"""The peers: the suites that each serves, and the environment that it runs in.

Runs in the peers' environments too: imports the standard library only.
"""

import dataclasses
from collections.abc import Mapping

# Suite -> stages of its work, timed one by one; other suites are timed as a whole.
STAGES: Mapping[str, tuple[str, ...]] = {
    "encryption": ("encrypt", "add", "decrypt"),
    "inference": ("encrypt", "evaluate", "decrypt"),
}
# Suite -> further numbers of the ready line.
READY_NUMBERS: Mapping[str, tuple[str, ...]] = {
    "encryption": ("bytes_per_parameter", "max_error"),
    "inference": ("upload_bytes", "key_bytes", "max_error"),
}


@dataclasses.dataclass(frozen=True)
class Peer:
    """A library, used in one way.

    Attributes:
        environment: name of its virtual environment.
        modules: suite -> the module that builds its work.
        packages: on whose versions its results depend.
        privacy: values of `private` that it can run in the suite `clients`.
    """

    environment: str
    modules: Mapping[str, str]
    packages: tuple[str, ...]
    privacy: frozenset[bool] = frozenset({True})


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


_SUITES = {
    frozenset({"clients", "batch", "model", "private"}): "clients",
    frozenset({"clients", "examples", "batch", "epochs"}): "round",
    frozenset({"parameters", "clients"}): "encryption",
    frozenset({"images"}): "inference",
}


def suite_of(case: Mapping[str, object]) -> str:
    """The suite of a case, by the names of its fields.

    Raises:
        ValueError: no suite has cases with these fields.
    """
    try:
        return _SUITES[frozenset(case)]
    except KeyError:
        raise ValueError(f"no suite has cases with {', '.join(case)}.") from None


def unsuitable(name: str, case: Mapping[str, object]) -> str | None:
    """Why a peer cannot run a case, as a sentence; None where it can."""
    if name not in PEERS:
        return f"peer {name} is unknown: choose one of {', '.join(PEERS)}."
    try:
        suite = suite_of(case)
    except ValueError as error:
        return str(error)
    if suite not in PEERS[name].modules:
        return f"{name} does not serve the suite {suite}."
    if suite == "clients" and case["private"] not in PEERS[name].privacy:
        kind = "private" if case["private"] else "non-private"
        return f"{name} has no {kind} steps."
    return None
