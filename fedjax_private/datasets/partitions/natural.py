"""Clients as the data name them: hospitals, writers, devices."""

import numpy as np
import numpy.typing as npt

from fedjax_private.choices import Settings
from fedjax_private.datasets.examples import Indices
from fedjax_private.datasets.partitions.partitioner import Partitioner


def _count(groups: npt.NDArray[np.integer]) -> int:
    return len(np.unique(groups))


def _deal(
    labels: npt.NDArray[np.integer],
    clients: int,
    settings: Settings,
    rng: np.random.Generator,
    *,
    groups: npt.NDArray[np.integer],
) -> list[Indices]:
    named = np.unique(groups)
    if clients != len(named):
        raise ValueError(
            f"clients={clients} and the data name {len(named)}: leave out clients, or "
            "choose another partition than natural."
        )
    return [np.flatnonzero(groups == name) for name in named]


NATURAL = Partitioner("natural", "the clients that the data name", _deal, count=_count)
