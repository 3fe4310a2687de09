"""Clients whose class mixes are drawn from a Dirichlet distribution.

Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for
Federated Visual Classification", 2019: client k draws a class mix
q_k ~ Dirichlet(alpha * C * p), where p is the class mix of the whole set and C its
number of classes, and then draws its n_k examples one at a time without replacement,
each from a class drawn from q_k; classes that have run out are left out and the rest of
q_k rescaled (the rule of Reddi et al., "Adaptive Federated Optimization", ICLR 2021).
The order in which clients draw is random. Balanced classes give
Dirichlet(alpha, ..., alpha), the scale on which most of the literature quotes alpha;
Hsu et al. quote alpha * C.

Unlike the variant that divides each class over the clients by a Dirichlet draw
(Yurochkin et al., ICML 2019), alpha does not change the clients' sizes.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from fedjax_private.choices import positive, setting
from fedjax_private.datasets.examples import Indices
from fedjax_private.datasets.partitions.partitioner import (
    Partitioner,
    SizeSettings,
    draw_sizes,
)


@dataclasses.dataclass(frozen=True)
class DirichletSettings(SizeSettings):
    """Settings of `dirichlet`.

    Attributes:
        alpha: > 0. Small: a client holds few classes. Large: close to `iid`.
    """

    alpha: float = setting(
        0.5, "concentration of class mixes; small: few classes per client", positive
    )


def _deal(
    labels: npt.NDArray[np.integer],
    clients: int,
    settings: DirichletSettings,
    rng: np.random.Generator,
) -> list[Indices]:
    sizes = draw_sizes(len(labels), clients, settings.size_skew, rng)
    classes, left = np.unique(labels, return_counts=True)
    pools = [rng.permutation(np.flatnonzero(labels == label)) for label in classes]
    # Dirichlet draws are gamma draws normalised. A gamma draw of shape a has the
    # logarithm log Gamma(a + 1) - Exp(1) / a, which does not underflow where a is tiny.
    # Beyond the clipped ends a mix is one class, or the mix of the whole set.
    shape = np.clip(settings.alpha * len(classes) * (left / left.sum()), 1e-12, 1e12)
    logs = np.log(rng.standard_gamma(shape + 1, (clients, len(classes))))
    logs -= rng.standard_exponential((clients, len(classes))) / shape
    mixes = np.exp(logs - logs.max(axis=1, keepdims=True))
    parts: list[Indices] = [np.empty(0, np.int64)] * clients
    for client in rng.permutation(clients):
        taken = np.zeros_like(left)
        while (missing := int(sizes[client] - taken.sum())) > 0:
            mix = np.where(left > taken, mixes[client], 0.0)
            if not mix.any():  # its classes have run out: take any that are left
                mix = (left - taken).astype(np.float64)
            # A batch of draws of which those from exhausted classes are rejected and
            # redrawn: the same distribution as drawing one at a time.
            drawn = rng.multinomial(missing, mix / mix.sum())
            taken = np.minimum(taken + drawn, left)
        parts[client] = np.concatenate(
            [pool[n - t : n] for pool, n, t in zip(pools, left, taken, strict=True)]
        )
        left = left - taken
    return parts


DIRICHLET = Partitioner(
    "dirichlet", "random class mixes per client", _deal, DirichletSettings
)
