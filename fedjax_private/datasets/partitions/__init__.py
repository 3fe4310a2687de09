"""Division of one training set over simulated clients: one file a partitioner.

`partitioner` holds the entries' class and the draw of the clients' sizes; `iid`,
`shards`, `dirichlet` and `natural` each define one entry; this file finds entries and
checks what they deal.
"""

import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.choices import Choice, Registry, check_kind
from fedjax_private.datasets.examples import Indices
from fedjax_private.datasets.partitions.partitioner import Partitioner

# Keeps a partition's random stream apart from other uses of the same seed.
_STREAM = 0x70617274  # "part"


def _adapted(name: str, function: Any) -> Partitioner:
    """The entry of a user's `(labels, clients, rng) -> parts`."""
    if not callable(function):
        raise ValueError(
            f"partition={name} must be a Partitioner or a function of labels, clients "
            f"and a random generator, got {type(function).__name__}."
        )
    return Partitioner(
        name, name, lambda labels, clients, _, rng: function(labels, clients, rng)
    )


_HERE = "fedjax_private.datasets.partitions"
PARTITIONS: Registry[Partitioner] = Registry(
    "partition",
    Partitioner,
    {
        "iid": f"{_HERE}.iid:IID",
        "shards": f"{_HERE}.shards:SHARDS",
        "dirichlet": f"{_HERE}.dirichlet:DIRICHLET",
        "natural": f"{_HERE}.natural:NATURAL",
    },
    _adapted,
)


def named_clients(
    scheme: str | Partitioner | Choice[Partitioner],
    groups: npt.NDArray[np.integer] | None,
) -> int | None:
    """Returns how many clients a scheme makes of those that the data name.

    Args:
        scheme: see `partition`.
        groups: (N,) integers, the named client of each example; see `Examples.clients`.

    Returns:
        None for a scheme that deals to any number of clients.

    Raises:
        ValueError: the scheme needs named clients, and there are no groups.
    """
    choice = PARTITIONS.choose(scheme)
    if choice.entry.count is None:
        return None
    if groups is None:
        raise ValueError(
            f"partition={choice.name} needs data that name clients, and these do not: "
            "give client_column with csv:FILE, client_folders=True with folder:DIR, "
            "client_train in npz:FILE, clients to datasets.from_arrays, or choose "
            "another partition."
        )
    return choice.entry.count(np.asarray(groups))


def partition(
    labels: npt.NDArray[np.integer],
    clients: int | None,
    scheme: str | Partitioner | Choice[Partitioner],
    seed: int,
    *,
    groups: npt.NDArray[np.integer] | None = None,
) -> list[Indices]:
    """Deals examples to clients; each example to at most one, and some to every client.

        partition(labels, 8, "iid", seed=0)
        partition(labels, 8, PARTITIONS.choose("dirichlet", {"alpha": 0.1}), seed=0)
        partition(labels, None, "natural", seed=0, groups=dataset.train.clients)

    Args:
        labels: (N,) integers, the labels of the examples.
        clients: K, in 1 .. N; None for as many as the groups name.
        scheme: a name of `PARTITIONS` or module:attribute, an entry, or an entry with
            settings.
        seed: >= 0; fixes the result, for a given NumPy.
        groups: (N,) integers, the named client of each example; schemes such as
            `natural` deal by them.

    Returns:
        K sorted int64 arrays of positions in `labels`, disjoint, each non-empty. Those
        of the built-in partitioners are together 0 .. N - 1.

    Raises:
        ValueError: a number of clients below 1 or above N, or none where the scheme
            needs one, a negative seed, labels or groups that are not vectors of
            integers, an unknown scheme, a scheme that needs groups without any, or a
            partitioner of the user's that deals anything else than stated above.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels must be a vector of integers, got {labels.dtype} {labels.shape}."
        )
    total = len(labels)
    choice = PARTITIONS.choose(scheme)
    named = named_clients(choice, groups)
    clients = named if clients is None else clients
    if clients is None:
        raise ValueError(f"clients must be given with partition={choice.name}.")
    for name, value in (("clients", clients), ("seed", seed)):
        check_kind(name, value, numbers.Integral, "a whole number")
    if clients < 1:
        raise ValueError(
            f"clients must be at least 1, got {clients}; choose 1 to {total}."
        )
    if clients > total:
        raise ValueError(
            f"clients={clients} is more than the {total} training examples, so some "
            f"clients would hold none; choose at most {total}, or a larger data set."
        )
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}.")
    rng = np.random.default_rng(np.random.SeedSequence([seed, _STREAM]))
    by: dict[str, Any] = {}
    if named is not None:
        by["groups"] = groups = np.asarray(groups)
        if groups.shape != labels.shape or not np.issubdtype(groups.dtype, np.integer):
            raise ValueError(
                f"groups must be a vector of {total} integers, got {groups.dtype} "
                f"{groups.shape}."
            )
    parts = choice.entry.deal(labels, clients, choice.settings, rng, **by)
    return _checked(choice.name, parts, clients, total)


def _checked(name: str, parts: Any, clients: int, total: int) -> list[Indices]:
    """The parts, sorted, if they are a division of `total` examples."""
    if not isinstance(parts, Iterable) or len(parts := list(parts)) != clients:
        got = len(parts) if isinstance(parts, list) else type(parts).__name__
        raise ValueError(
            f"partition {name} must return an array of positions for each of the "
            f"{clients} clients, got {got}."
        )
    checked: list[Indices] = []
    for client, part in enumerate(map(np.asarray, parts)):
        if part.size == 0:
            raise ValueError(
                f"partition {name} leaves client {client} without examples: choose "
                "fewer clients or another partition."
            )
        if part.ndim != 1 or not np.issubdtype(part.dtype, np.integer):
            raise ValueError(
                f"partition {name} must give positions as vectors of integers, got "
                f"{part.dtype} {part.shape} for client {client}."
            )
        low, high = part.min(), part.max()
        if low < 0 or high >= total:
            raise ValueError(
                f"partition {name} gives client {client} positions from {low} to "
                f"{high}, outside 0..{total - 1}."
            )
        checked.append(np.sort(part.astype(np.int64)))
    owners = np.bincount(np.concatenate(checked), minlength=total)
    if owners.max() > 1:
        raise ValueError(
            f"partition {name} deals example {owners.argmax()} {owners.max()} times; "
            "an example may be dealt once."
        )
    return checked
