"""Runs under masks: the same sums as under ciphertexts, for every algorithm."""

import math
import sys

import numpy as np
import pytest

from fedjax_private import runs
from fedjax_private.aggregation import SCHEMES
from fedjax_private.algorithms import ALGORITHMS

CASES = [
    (arm, entry.name)
    for arm, traits in runs.ARMS.items()
    if traits.encrypted
    for entry in ALGORITHMS.entries()
    if arm in entry.arms
]


def settings_of(arm, algorithm):
    noise = {"noise_seed": 3} if runs.ARMS[arm].private else {}
    return {"arm": arm, "algorithm": algorithm, "rounds": 1, **noise}


@pytest.mark.needs_openfhe
@pytest.mark.parametrize(("arm", "algorithm"), CASES)
def test_masks_give_the_model_that_exact_sums_give(arm, algorithm, train):
    found = [
        train(encryption=scheme, **settings_of(arm, algorithm))
        for scheme in ("masks", "exact")
    ]
    masks, exact = (result.params["Dense_0"]["kernel"] for result in found)
    np.testing.assert_array_equal(masks, exact)
    rows = [result.row for result in found]
    assert rows[0]["max_aggregation_error"] == rows[1]["max_aggregation_error"] == 0
    assert rows[0]["epsilon"] == rows[1]["epsilon"]
    assert (
        rows[0]["upload_bytes_per_client_round"]
        < rows[1]["upload_bytes_per_client_round"]
    )


def test_masks_need_no_openfhe_and_bear_lost_uploads(train, monkeypatch):
    monkeypatch.setitem(sys.modules, "openfhe", None)
    result = train(
        arm="fl_he",
        clients=6,
        encryption=SCHEMES.choose("masks", {"holder_drop_out": 0.05}),
        drop_out=0.2,
        min_uploads=3,
        rounds=4,
    )
    assert sum(row["void"] for row in result.rows) < 4
    assert sum(row["lost"] for row in result.rows) > 0
    assert result.row["max_aggregation_error"] == 0


def test_insiders_that_reach_the_quorum_have_no_epsilon(train):
    few = SCHEMES.choose("masks", {"server": "semi_honest"})
    asked = {"arm": "private_ai", "clients": 6, "rounds": 1, "noise_seed": 1}
    # Six clients: T = 4 open masks with a semi-honest server.
    kept = train(encryption=few, honest_clients=3, **asked).row["epsilon_insider"]
    lost = train(encryption=few, honest_clients=2, **asked).row["epsilon_insider"]
    assert kept < math.inf and lost == math.inf
