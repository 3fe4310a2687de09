"""The entry of a partitioner, and the draw of the clients' sizes.

The built-in partitioners share two steps: the clients' sizes are drawn first
(`size_skew`), and the partitioner then decides which classes fill them. Size and label
skew can so be varied one at a time, and `size_skew=0` means equal sizes under each.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from fedjax_private.choices import Settings, between, setting
from fedjax_private.datasets.examples import Indices, apportion


@dataclasses.dataclass(frozen=True)
class Partitioner:
    """A way to divide examples over clients.

    Attributes:
        name: by which it is chosen.
        summary: one line for `--help` and for the documentation.
        deal: (labels (N,) integers, number of clients K, settings, random generator) ->
            for each client the positions of its examples, (n_k,) integers, in any
            order. The parts are disjoint and none is empty; `partition` checks it. All
            randomness comes from the generator.
        settings: the class of its settings.
        count: of a partitioner that deals by the clients that the data name: groups
            (N,), the named client of each example -> the number of clients where none
            is given. `deal` then takes `groups` by name. None where the data need not
            name any.
    """

    name: str
    summary: str
    deal: Callable[..., Sequence[npt.NDArray[np.integer]]]
    settings: type[Settings] = Settings
    count: Callable[[npt.NDArray[np.integer]], int] | None = None


@dataclasses.dataclass(frozen=True)
class SizeSettings(Settings):
    """Settings that the built-in partitioners have in common.

    Attributes:
        size_skew: s in 0 .. 100. Every client gets one example, and the rest is shared
            in proportion to `exp(s * z_k)` with independent standard normal z_k:
            lognormal sizes, whose logarithms have standard deviation s. 0 gives equal
            sizes, up to one example; at 1, two clients in three lie within a factor of
            2.7 of the median.
    """

    size_skew: float = setting(
        0.0, "spread of the clients' log sizes; 0 is even", between(0, 100)
    )


def draw_sizes(
    total: int, clients: int, size_skew: float, rng: np.random.Generator
) -> Indices:
    """The clients' sizes, int64 (K,), each at least 1, summing to `total`."""
    logs = size_skew * rng.standard_normal(clients)
    return 1 + apportion(total - clients, np.exp(logs - logs.max()))
