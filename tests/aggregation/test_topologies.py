import numpy as np
import pytest

from fedjax_private.aggregation import TOPOLOGIES
from tests.aggregation.sums import encoded, made, released


@pytest.mark.needs_openfhe
@pytest.mark.parametrize("name", ["ckks", "exact", "threshold_exact"])
def test_topologies_give_equal_sums(name):
    rows = np.random.default_rng(0).uniform(-0.3, 0.3, (5, 3000))
    totals, links = {}, {}
    for topology in TOPOLOGIES:
        settings = {"topology": topology, "fan_out": 2}
        aggregation = made(name, 5, 3000, settings)
        slots = encoded(aggregation, rows)
        totals[topology], report = released(aggregation, slots)
        links[topology] = {
            link
            for link in report.link_bytes
            if "authority" not in link and "holder" not in link
        }
        sizes = [report.link_bytes[link] for link in links[topology]]
        # A sum is as long as an upload, but for the clients' numbers.
        assert max(sizes) - min(sizes) <= 8 * 4
    assert links == {
        "star": {"client to server"},
        "tree": {"client to edge", "edge to server"},
        "ring": {"client to client", "client to server"},
    }
    for total in totals.values():
        if name == "ckks":  # the flooding noise differs
            np.testing.assert_allclose(total, totals["star"], atol=1e-3)
        else:
            np.testing.assert_array_equal(total, totals["star"])
