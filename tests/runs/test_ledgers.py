"""What a run charges, to whom, and before which noise."""

import json

import numpy as np
import pytest

from fedjax_private import aggregation, runs
from fedjax_private.privacy.accounting import (
    BandedMatrix,
    Ledger,
    Neighbors,
    from_json,
)
from fedjax_private.runs import read_rows
from fedjax_private.trust import Adversary


def charges(path):
    """The header of a ledger, and its charges."""
    header, *entries = map(json.loads, path.read_text().splitlines())
    return header, entries


def test_arms_without_dp_keep_no_ledger(train):
    assert not (train(arm="fl").directory / "ledger").exists()


def test_local_noise_is_charged_round_by_round_in_one_ledger(train):
    result = train(arm="fl_dp", rounds=3, cohort=2)
    (path,) = (result.directory / "ledger").iterdir()
    assert path.name == "fl_dp-3-iid-0.jsonl"
    header, entries = charges(path)
    assert "all other clients together" in header["adversary"]
    assert [entry["round"] for entry in entries] == [1, 2, 3]
    cohorts = [cohort.tolist() for cohort in result.prepared.schedule]
    assert [entry["clients"] for entry in entries] == [f"{a}-{b}" for a, b in cohorts]
    assert len({entry["fingerprint"] for entry in entries}) == 3
    assert "noise_key" not in path.read_text()
    with Ledger(path, Neighbors.ADD_REMOVE) as ledger:
        assert ledger.epsilon(1e-5) == pytest.approx(result.epsilon)
    spent = [row["epsilon"] for row in result.rows]
    assert spent == sorted(spent) and spent[-1] == pytest.approx(result.epsilon)


@pytest.mark.needs_openfhe
def test_shared_noise_is_paid_for_in_two_ledgers(train):
    result = train(arm="private_ai", encryption="exact", epsilon=2.0, noise_seed=1)
    row = result.row
    assert 1.98 < row["epsilon"] <= 2.0
    assert row["epsilon"] < row["epsilon_insider"] < 3.0
    assert (row["honest_clients"], row["steps"], row["encryption"]) == (2, 2, "exact")
    assert row["max_aggregation_error"] == 0
    first, last = result.rows
    assert [last["epsilon"], last["epsilon_insider"]] == pytest.approx(
        [row["epsilon"], row["epsilon_insider"]]
    )
    assert first["epsilon"] < last["epsilon"]
    assert first["void"] is False
    assert first["train_loss"] is first["saturated"] is None  # facts about records
    books = {}
    for path in (result.directory / "ledger").iterdir():
        header, entries = charges(path)
        assert len(entries) == 2
        name, adversary, _ = path.name.split(".")
        assert name == "private_ai-3-iid-0"
        event = from_json(json.dumps(entries[0]["event"]))
        with Ledger(path, Neighbors.ADD_REMOVE) as ledger:
            shares = event.event.event.event.shares
            books[adversary] = shares, ledger.epsilon(1e-5), header["adversary"]
    assert set(books) == {"outsiders", "insiders"}
    assert books["outsiders"][:2] == (3, pytest.approx(row["epsilon"]))
    assert books["insiders"][:2] == (2, pytest.approx(row["epsilon_insider"]))
    assert "the released sums only" in books["outsiders"][2]
    assert "all clients but 2 of every 3 in a sum" in books["insiders"][2]


@pytest.mark.needs_openfhe
def test_one_shared_key_leaves_insiders_no_epsilon(train):
    scheme = aggregation.SCHEMES.choose("exact", {"key_holder": "clients"})
    result = train(arm="private_ai", encryption=scheme)
    for name in ("runs.jsonl", "rounds.jsonl"):
        for line in (result.directory / name).read_text().splitlines():
            assert json.loads(line)["epsilon_insider"] == "inf"
            assert json.loads(line)["epsilon"] <= result.epsilon
    (path,) = (result.directory / "ledger").glob("*.insiders.jsonl")
    assert "and read single uploads" in path.read_text()


@pytest.mark.parametrize(
    "arm",
    [
        "fl_dp",
        "centralized_dp",
        pytest.param("private_ai", marks=pytest.mark.needs_openfhe),
    ],
)
def test_correlated_noise_is_charged_once_and_whole(arm, train):
    """Before the first round, to everyone who will ever take part."""
    cohort = 2 if arm == "fl_dp" else None
    clients = None if runs.ARMS[arm].pooled else 4
    result = train(
        arm=arm, cohort=cohort, mechanism="banded", rounds=3, clients=clients
    )
    ready, privacy = result.prepared, result.prepared.privacy
    taking_part = np.unique(np.concatenate(ready.schedule))
    ledgers = sorted((result.directory / "ledger").iterdir())
    spent = []
    # In alphabetical order: insiders first, where there are any.
    adversaries = list(Adversary)[::-1] if len(ledgers) == 2 else [Adversary.OUTSIDERS]
    for path, adversary in zip(ledgers, adversaries, strict=True):
        _, (charge,) = charges(path)
        event = from_json(json.dumps(charge["event"]))
        assert isinstance(event, BandedMatrix)
        assert event == privacy.event(privacy.steps, adversary)
        assert event.steps == privacy.steps == result.row["steps"]
        with Ledger(path, Neighbors.ADD_REMOVE) as ledger:
            assert sorted(ledger.epsilons(1e-5)) == taking_part.tolist()
            spent.append(ledger.epsilon(1e-5))
    assert spent[-1] == pytest.approx(privacy.epsilon)
    assert spent[0] == pytest.approx(privacy.epsilon_insider or privacy.epsilon)
    rounds = read_rows(result.directory / "rounds.jsonl")
    assert [r["epsilon"] for r in rounds] == [pytest.approx(privacy.epsilon)] * 3
