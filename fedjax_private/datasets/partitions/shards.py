"""FedAvg's pathological split: clients hold a few runs of the sorted examples.

McMahan, Moore, Ramage, Hampson and Agueera y Arcas, "Communication-Efficient Learning
of Deep Networks from Decentralized Data", AISTATS 2017, section 3: sort by label, cut
into K * classes_per_client shards of equal size, deal classes_per_client shards to each
client at random. Ties in the sort are broken at random.

A shard that straddles a boundary between classes holds both, so that a client may hold
more than `classes_per_client` classes; with fewer shards than classes, every shard
does. Where sizes are skewed, a client's shards have 1 / classes_per_client of its size
each, and are laid along the sorted examples in random order.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from fedjax_private.choices import at_least, setting
from fedjax_private.datasets.examples import Indices, apportion
from fedjax_private.datasets.partitions.partitioner import (
    Partitioner,
    SizeSettings,
    draw_sizes,
)


@dataclasses.dataclass(frozen=True)
class ShardsSettings(SizeSettings):
    """Settings of `shards`.

    Attributes:
        classes_per_client: shards per client, >= 1.
    """

    classes_per_client: int = setting(2, "shards per client", at_least(1))


def _deal(
    labels: npt.NDArray[np.integer],
    clients: int,
    settings: ShardsSettings,
    rng: np.random.Generator,
) -> list[Indices]:
    sizes = draw_sizes(len(labels), clients, settings.size_skew, rng)
    shuffled = rng.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    # Shards are laid along the sorted examples in random order of their owners: with
    # equal sizes, a random deal of equal shards. A client of fewer examples than shards
    # has one shard per example.
    shards = np.minimum(sizes, settings.classes_per_client)
    lengths = np.concatenate(
        [apportion(n, np.ones(m)) for n, m in zip(sizes, shards, strict=True)]
    )
    owners = np.repeat(np.arange(clients), shards)
    order = rng.permutation(len(owners))
    owner_along = np.repeat(owners[order], lengths[order])
    by_owner = by_label[np.argsort(owner_along, kind="stable")]
    return np.split(by_owner, np.cumsum(sizes)[:-1])


SHARDS = Partitioner("shards", "few classes per client", _deal, ShardsSettings)
