"""Who masks with whom, and how many clients open a mask: degrees and thresholds.

The sparse graph is that of Bell et al. (CCS 2020): clients stand on a circle in random
order, and each is joined to the k/2 next ones on either side (a Harary graph).
"""

import functools
import hashlib
import math

# The sparse graph is made for at most one client in so many that colludes, and as many
# that vanish. Its bounds hold for any such sets that do not depend on it.
ONE_IN = 5
# Logarithms to base 2 of the probabilities that a round's graph fails one of the
# clients' secrecy, or that a round is void though no more vanish.
SECRECY_BITS = 40
CORRECTNESS_BITS = 30


@functools.cache
def sparse(clients: int) -> tuple[int, int] | None:
    """Returns the degree k and the threshold T of a sparse graph; None if none serves.

    With n clients, of whom n/5 (rounded up) collude and as many vanish, hypergeometric
    tails give the smallest even k < n - 1 for which some T satisfies, each for all
    clients together:

    - T or more of a client's k neighbours collude: probability at most 2^-41;
    - the honest clients that do not vanish are not connected, for which k/2 successive
      places on the circle must collude or vanish: at most 2^-41;
    - fewer than T of a client's k neighbours are left: at most 2^-30.

    Sums of probabilities are compared as whole numbers, without rounding.
    """
    few, others = fifth(clients), clients - 1
    for degree in range(2, clients - 1, 2):
        half = degree // 2
        apart = clients * math.comb(2 * few, half) << SECRECY_BITS + 1
        if apart > math.comb(clients, half):
            continue
        ways = math.comb(others, degree)
        threshold = _least_above(others, few, degree, ways, clients)
        # At least `vanished` neighbours vanish with probability at most 2^-30.
        vanished = _least_above(others, few, degree, ways, clients, CORRECTNESS_BITS)
        if threshold <= degree - (vanished - 1):
            return degree, threshold
    return None


def fifth(clients: int) -> int:
    """Returns how many of the clients may collude, and how many may vanish."""
    return -(-clients // ONE_IN)


def _least_above(
    others: int,
    marked: int,
    degree: int,
    ways: int,
    clients: int,
    bits: int = SECRECY_BITS + 1,
) -> int:
    """Returns the least t with clients * P[t or more marked neighbours] <= 2^-bits."""
    tail = 0
    for count in range(degree, -1, -1):
        rest = math.comb(others - marked, degree - count)
        tail += math.comb(marked, count) * rest
        if clients * tail << bits > ways:
            return count + 1
    return 0


def circle(seed: bytes, clients: int, degree: int) -> dict[int, tuple[int, ...]]:
    """Returns the neighbours of each position 0..clients-1, in ascending order.

    Args:
        seed: orders the circle, by SHA-256; public.
        clients: n.
        degree: k, even, below n.
    """
    order = sorted(
        range(clients),
        key=lambda place: hashlib.sha256(seed + place.to_bytes(8, "little")).digest(),
    )
    neighbours: dict[int, tuple[int, ...]] = {}
    for index, place in enumerate(order):
        steps = range(1, degree // 2 + 1)
        near = [
            order[(index + sign * step) % clients] for step in steps for sign in (1, -1)
        ]
        neighbours[place] = tuple(sorted(near))
    return neighbours


class Complete(dict[int, tuple[int, ...]]):
    """The neighbours of each position, all others; a line is made when it is asked for.

    So a client that is told of many others makes its own line only.

    Args:
        clients: n.
    """

    def __init__(self, clients: int) -> None:
        super().__init__()
        self._clients = clients

    def __missing__(self, place: int) -> tuple[int, ...]:
        others = (*range(place), *range(place + 1, self._clients))
        self[place] = others
        return others
