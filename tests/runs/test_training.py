"""Rounds on disk, lost uploads, seeds, and runs that go through together."""

import dataclasses
import datetime
import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from fedjax_private import runs
from fedjax_private.aggregation import SCHEMES
from fedjax_private.runs import RunDirectory, read_rows, training
from fedjax_private.trust import Decryptor, Trust
from tests.runs.small import ROW_NAMES, spec


def kernel(params):
    return params["Dense_0"]["kernel"].tolist()


def test_equal_seeds_give_equal_models_and_free_noise_does_not(train):
    first, again, other, free = (
        train(arm="fl_dp", **seeds).params
        for seeds in ({"noise_seed": 7}, {"noise_seed": 7}, {"noise_seed": 8}, {})
    )
    jax.tree.map(np.testing.assert_array_equal, first, again)
    for different in (other, free):
        assert not np.array_equal(
            first["Dense_0"]["kernel"], different["Dense_0"]["kernel"]
        )


def test_void_rounds_are_told_and_cost_no_sums(train):
    result = train(arm="fl", drop_out=0.4, min_uploads=2, rounds=6)
    rounds, row = result.rows, result.row
    assert {r["void"] for r in rounds} == {True, False}
    for each in rounds:
        assert (each["seconds_add"] is None) is each["void"]
    assert row["seconds_add"] == sum(r["seconds_add"] or 0 for r in rounds)
    assert row["upload_bytes_per_client_round"] == 4 * (result.prepared.parameters + 1)


@pytest.mark.needs_openfhe
def test_an_encrypted_run_equals_the_plain_one(train):
    losses = [train(arm=arm).row["loss"] for arm in ("fl", "fl_he")]
    # An accelerator adds up in another order each time.
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.needs_openfhe
@pytest.mark.parametrize(
    ("arm", "name"), [("fl_he", "threshold_exact"), ("private_ai", "exact")]
)
def test_openfhe_alone_trains_the_same_parameters(arm, name, train):
    """Signals and noise are the same, and exact sums have no error."""
    seeds = {} if arm == "fl_he" else {"noise_seed": 3}
    default, alone = (
        train(arm=arm, encryption=SCHEMES.choose(name, settings), **seeds)
        for settings in ({}, {"arithmetic": "openfhe", "server": "semi_honest"})
    )
    jax.tree.map(np.testing.assert_array_equal, default.params, alone.params)
    assert alone.row["max_aggregation_error"] == 0.0
    assert "REFERENCE" in alone.prepared.sums


@pytest.mark.needs_openfhe
def test_only_the_most_revealing_entries_are_encrypted_when_asked(train):
    scheme = SCHEMES.choose("ckks", {"encrypted_fraction": 0.3})
    part, whole = train(arm="fl_he", encryption=scheme), train(arm="fl_he")
    assert "the server reads 70.0%" in part.prepared.sums
    # Two runs of ckks differ by the noise of their sums.
    assert part.row["loss"] == pytest.approx(whole.row["loss"], rel=2e-3)


def test_rounds_are_on_disk_as_they_end(blobs, tmp_path):
    directory = RunDirectory.create(tmp_path)
    seen = []

    def advance(name, row):
        assert name == "fl-3-iid-0" and (row or {"round": 0})["round"] == len(seen)
        seen.append(len(read_rows(tmp_path / "rounds.jsonl")))

    ready = runs.prepare(spec(rounds=3), blobs)
    (trained,) = runs.train_together([ready], directory, advance)
    assert seen == [0, 1, 2, 3]
    assert [row["run"] for row in trained.rows] == ["fl-3-iid-0"] * 3
    assert list(trained.row) == [*ROW_NAMES, "size_skew", "data_dir"]
    assert any((tmp_path / "tb" / "fl-3-iid-0").rglob("events*"))


@pytest.mark.parametrize("arm", ["centralized", "centralized_dp", "fl"])
def test_seeds_train_together_as_they_do_alone(arm, blobs, tmp_path):
    several = [spec(arm=arm, seed=seed) for seed in range(2)]
    if runs.ARMS[arm].private:
        several = [dataclasses.replace(it, noise_seed=it.seed) for it in several]
    ready = [runs.prepare(each, blobs) for each in several]
    together = runs.train_together(ready, RunDirectory.create(tmp_path / "together"))
    for i, each in enumerate(ready):
        alone_in = RunDirectory.create(tmp_path / f"{i}")
        (alone,) = runs.train_together([each], alone_in)
        got, want = together[i], alone
        assert got.row["seed"] == i
        assert got.row["accuracy"] == want.row["accuracy"]
        assert got.row["epsilon"] == want.row["epsilon"]
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
            got.models,
            want.models,
        )
    names = runs.checkpoints.names(tmp_path / "together")
    assert names == [each.spec.name for each in ready]


@pytest.mark.parametrize("algorithm", ["fedsgd", "fedprox", "scaffold"])
def test_the_arm_s_other_algorithms_train(algorithm, train):
    result = train(arm="fl", algorithm=algorithm)
    assert result.row["algorithm"] == algorithm
    assert np.isfinite(result.row["loss"])


@pytest.mark.needs_openfhe
def test_training_that_cannot_be_encrypted_ends_with_one_sentence(blobs, tmp_path):
    wild = dataclasses.replace(spec(arm="fl_he"), learning_rate=3e38)
    with pytest.raises(ValueError, match="probably diverged"):
        runs.train(wild, out=tmp_path / "run", dataset=blobs)
    assert runs.checkpoints.names(tmp_path / "run") == []
    with pytest.raises(ValueError, match="its training did not end"):
        runs.load(tmp_path / "run")


def test_rows_say_where_when_and_with_which_version(train):
    result = train()
    row = result.row
    assert row["directory"] == str(result.directory.resolve())
    ended = datetime.datetime.fromisoformat(row["time"])
    assert ended.utcoffset() == datetime.timedelta(0)
    assert row["version"] == runs.environment.versions()["fedjax-private"]


@pytest.mark.parametrize("arm", ["fl", "fl_dp"])
def test_plain_sums_go_on_with_the_uploads_that_arrive(arm, train):
    """A round is void where none arrives; privacy is charged as if all did."""
    place = {"arm": arm, "noise_seed": 1 if runs.ARMS[arm].private else None}
    result = train(drop_out=0.5, rounds=6, **place)
    lost = [row["lost"] for row in result.rows]
    assert 0 < sum(lost) == result.row["lost_uploads"] < 18
    assert [row["void"] for row in result.rows] == [each == 3 for each in lost]
    assert result.row["void_rounds"] == lost.count(3)
    whole = train(rounds=6, **place)
    assert result.epsilon == whole.epsilon
    for row, other in zip(result.rows, whole.rows, strict=True):
        assert row["epsilon"] == other["epsilon"]
    losses = [each.row["loss"] for each in (result, whole)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], abs=0.6)


def test_a_run_of_void_rounds_only_is_no_result(blobs, tmp_path):
    settings = spec(arm="fl_dp", min_uploads=3, drop_out=0.999, noise_seed=1)
    out = tmp_path / "run"
    with pytest.raises(ValueError, match=r"every round of .* was void.*the 3 that"):
        runs.train(settings, out=out, dataset=blobs)
    rows = runs.read_rows(out / "rounds.jsonl")
    assert [row["void"] for row in rows] == [True, True]
    assert rows[-1]["epsilon"] > 0
    (ledger,) = (out / "ledger").iterdir()
    assert len(ledger.read_text().splitlines()) == 3  # a head, and a charge a round
    assert runs.checkpoints.names(out) == runs.read_rows(out / "runs.jsonl") == []
    with pytest.raises(
        ValueError, match=r"the 1 that .*; lower drop_out, or take more"
    ):
        settings = dataclasses.replace(settings, min_uploads=None)
        runs.train(settings, out=tmp_path / "plain", dataset=blobs)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"encryption": SCHEMES.choose("masks", {"holder_drop_out": 0.999})},
            "too few clients were left to decrypt a sum of enough uploads; "
            "lower holder_drop_out.",
        ),
        (
            {"encryption": "masks", "drop_out": 0.999, "min_uploads": 2},
            "fewer uploads arrived than the 2 that a sum must hold; "
            "lower drop_out or min_uploads, or take more clients.",
        ),
    ],
)
def test_void_rounds_say_what_made_them_so(settings, sentence, blobs, tmp_path):
    settings = spec(arm="fl_he", **settings)
    with pytest.raises(ValueError, match=f"{re.escape(sentence)}$"):
        runs.train(settings, out=tmp_path / "run", dataset=blobs)


def test_each_cause_of_void_rounds_has_its_way_out():
    trust = Trust(2, Decryptor.NOBODY_NEEDED)
    lines = [{"void": True, "cohort": 4, "lost": lost} for lost in (3, 1)]
    for vanishing, way_out in ((0.1, "holder_drop_out"), (0.0, "drop_out")):
        scheme = SCHEMES.choose("masks", {"holder_drop_out": vanishing})
        prepared = SimpleNamespace(trust=trust, scheme=scheme, spec=spec())
        with pytest.raises(
            ValueError, match=f"the 2 .*, or too few .* clients, and lower {way_out}\\."
        ):
            training._check_trained(prepared, lines)
        training._check_trained(prepared, [*lines, {"void": False}])


def test_lost_uploads_are_told_where_there_are_uploads(train):
    alone = train(arm="local").row
    assert alone["lost_uploads"] is alone["void_rounds"] is None
