import itertools
import math

import pytest
from scipy import stats

from fedjax_private.encryption.masking import graphs


def connected(neighbours, kept):
    """Whether the kept places are connected, by a search."""
    reached, waiting = set(), [min(kept)]
    while waiting:
        place = waiting.pop()
        if place not in reached:
            reached.add(place)
            waiting.extend(kept.intersection(neighbours[place]))
    return reached == kept


@pytest.mark.parametrize("clients", [40, 128, 1000, 10_000])
def test_degrees_meet_their_bounds_and_no_smaller_ones_do(clients):
    degree, threshold = graphs.sparse(clients)
    colluding = vanishing = -(-clients // 5)

    def fails(degree, threshold):
        """The logarithms of the three probabilities, by SciPy's distributions."""
        law = stats.hypergeom(clients - 1, colluding, degree)
        read = math.log2(clients * max(law.sf(threshold - 1), 1e-300))
        gone = stats.hypergeom(clients - 1, vanishing, degree)
        void = math.log2(clients * max(gone.sf(degree - threshold), 1e-300))
        apart = math.log2(clients) + sum(
            math.log2((colluding + vanishing - i) / (clients - i))
            if colluding + vanishing > i
            else -math.inf
            for i in range(degree // 2)
        )
        return read, apart, void

    def good(degree, threshold):
        read, apart, void = fails(degree, threshold)
        return read <= -41 and apart <= -41 and void <= -30

    assert good(degree, threshold)
    assert not good(degree, threshold - 1)
    assert not any(good(degree - 2, other) for other in range(1, degree))


def test_few_clients_need_all_edges():
    for clients in (1, 2, 3, 4, 10):
        assert graphs.sparse(clients) is None
    # Logarithmic growth: ten times the clients, a few more neighbours.
    degrees = [graphs.sparse(clients)[0] for clients in (1000, 10_000, 100_000)]
    assert degrees == [112, 136, 150]


def test_circles_are_regular_symmetric_and_of_the_seed():
    neighbours = graphs.circle(b"seed", 50, 12)
    for place, near in neighbours.items():
        assert len(near) == 12 and list(near) == sorted(set(near) - {place})
        assert all(place in neighbours[other] for other in near)
    assert neighbours == graphs.circle(b"seed", 50, 12)
    assert neighbours != graphs.circle(b"sees", 50, 12)


def test_circles_fall_apart_only_where_successive_places_are_gone():
    # 12 places, 4 neighbours: it takes two pairs of neighbours on the circle.
    neighbours = graphs.circle(b"any", 12, 4)
    adjacent = {
        frozenset(pair)
        for pair in itertools.combinations(range(12), 2)
        # Next to each other on the circle: three common neighbours.
        if len({*neighbours[pair[0]], pair[0]} & {*neighbours[pair[1]], pair[1]}) == 4
    }
    assert len(adjacent) == 12
    for gone in itertools.combinations(range(12), 4):
        kept = set(range(12)) - set(gone)
        if not connected(neighbours, kept):
            assert sum(pair <= set(gone) for pair in adjacent) >= 2
    for gone in itertools.combinations(range(12), 3):
        assert connected(neighbours, set(range(12)) - set(gone))


def test_complete_graphs():
    lines = graphs.Complete(3)
    assert lines == {}
    assert [lines[place] for place in range(3)] == [(1, 2), (0, 2), (0, 1)]
