import numpy as np
import pytest

from fedjax_private.aggregation import TOPOLOGIES, encrypted
from fedjax_private.encryption.messages.wire import AUTHORITY, FIRST_EDGE, SERVER
from tests.aggregation.sums import encoded, made, released

CLIENTS, FAN_OUT = 5, 2
LINKS = {
    "star": {"client to server"},
    "tree": {"client to edge", "edge to server"},
    "ring": {"client to client", "client to server"},
}
# Uploads in a message, mean over those of a link.
CARRIED = {
    ("star", "client to server"): 1,
    ("tree", "client to edge"): 1,
    ("tree", "edge to server"): CLIENTS / 3,
    ("ring", "client to client"): (1 + 2 + 3 + 4) / 4,
    ("ring", "client to server"): CLIENTS,
}


@pytest.mark.needs_openfhe
@pytest.mark.parametrize("server", ["malicious", "semi_honest"])
@pytest.mark.parametrize("name", ["ckks", "exact", "threshold_exact"])
def test_topologies_give_equal_sums(name, server):
    rows = np.random.default_rng(0).uniform(-0.3, 0.3, (CLIENTS, 3000))
    totals = {}
    for topology, expected in LINKS.items():
        settings = {"topology": topology, "server": server}
        if topology == "tree":
            settings["fan_out"] = FAN_OUT
        aggregation = made(name, CLIENTS, 3000, settings)
        slots = encoded(aggregation, rows)
        totals[topology], report = released(aggregation, slots)
        links = {
            link
            for link in report.link_bytes
            if "authority" not in link and "holder" not in link
        }
        assert links == expected
        half = aggregation.parameters.rows * aggregation.parameters.polynomial_bytes
        for link in links:
            # Of c0 the sum, and of c1 each upload's, or the sum if nobody checks.
            carried = CARRIED[topology, link]
            parts = carried if server == "malicious" else 1
            expected_bytes = 58 + 8 * carried + half * (1 + parts) + 32
            assert report.link_bytes[link] == pytest.approx(expected_bytes, abs=1)
    assert totals.keys() == TOPOLOGIES.keys()
    for total in totals.values():
        if name == "ckks":  # the flooding noise differs
            np.testing.assert_allclose(total, totals["star"], atol=1e-3)
        else:
            np.testing.assert_array_equal(total, totals["star"])


@pytest.mark.needs_openfhe
@pytest.mark.parametrize(
    ("topology", "relays"),
    [("star", []), ("tree", [FIRST_EDGE, FIRST_EDGE + 1]), ("ring", [0, 1, 2])],
)
def test_makers_of_a_key_vouch_for_it_to_each_relay_once(topology, relays, monkeypatch):
    read = []

    def vouched(party, makers, messages):
        read.append((party.number, tuple(makers)))
        return honest(party, makers, messages)

    honest = encrypted.vouched
    monkeypatch.setattr(encrypted, "vouched", vouched)
    settings = {"topology": topology}
    if topology == "tree":
        settings["fan_out"] = FAN_OUT
    aggregation = made("exact", 3, settings=settings)
    slots = encoded(aggregation, np.zeros((3, 10)))
    for number in range(2):
        released(aggregation, slots, round_number=number)
    assert read == [(party, (AUTHORITY,)) for party in (SERVER, *relays)]
