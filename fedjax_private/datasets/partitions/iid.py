"""Clients that hold uniformly random subsets."""

import numpy as np
import numpy.typing as npt

from fedjax_private.datasets.examples import Indices
from fedjax_private.datasets.partitions.partitioner import (
    Partitioner,
    SizeSettings,
    draw_sizes,
)


def _deal(
    labels: npt.NDArray[np.integer],
    clients: int,
    settings: SizeSettings,
    rng: np.random.Generator,
) -> list[Indices]:
    sizes = draw_sizes(len(labels), clients, settings.size_skew, rng)
    return np.split(rng.permutation(len(labels)), np.cumsum(sizes)[:-1])


IID = Partitioner("iid", "uniformly random subsets", _deal, SizeSettings)
