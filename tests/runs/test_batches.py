import dataclasses

import jax
import numpy as np
import pytest

from fedjax_private import runs
from fedjax_private.models import MODELS
from fedjax_private.runs import Inputs, RunDirectory, batches
from tests.runs.small import spec


def test_each_data_set_is_made_once_as_each_model_takes_it(blobs):
    asked = []

    def source(spec):
        asked.append(spec)
        return blobs

    inputs = Inputs(source)
    specs = [spec(seed=0), spec(seed=1), spec(model="mlp_2nn")]
    assert all(inputs(each) is blobs for each in specs)
    assert len(asked) == 3


def test_features_are_computed_once_a_model(blobs):
    computed = []

    def features(dataset):
        computed.append(dataset)
        return dataclasses.replace(dataset, name="features")

    entry = dataclasses.replace(MODELS.find("linear"), name="own", features=features)
    inputs = Inputs(lambda spec: blobs)
    own = [inputs(spec(model=entry, seed=seed)) for seed in range(3)]
    assert [each.name for each in own] == ["features"] * 3
    assert inputs(spec()) is blobs and computed == [blobs]


def test_data_sets_are_loaded_by_name():
    inputs, digits = Inputs(), spec(dataset="mnist_5k")
    assert inputs(digits) is inputs(dataclasses.replace(digits, seed=3))
    assert inputs(digits).name == "mnist_5k"


def test_seeds_of_pooled_data_go_together_where_devices_would_idle(blobs):
    inputs = Inputs(lambda spec: blobs)
    specs = [
        spec(arm=arm, seed=seed) for seed in range(3) for arm in ("centralized", "fl")
    ]
    groups = runs.together(specs, inputs)
    assert sorted(map(len, groups)) == (
        [1, 1, 1, 3] if jax.local_device_count() > 1 else [1] * 6
    )
    assert {each for group in groups for each in group} == set(specs)
    several = {0: blobs, 1: dataclasses.replace(blobs), 2: blobs}
    apart = runs.together(specs[::2], Inputs(lambda spec: several[spec.seed]))
    assert len(apart) == (2 if jax.local_device_count() > 1 else 3)


def test_a_run_that_fails_stops_no_other(blobs, tmp_path):
    specs = [
        spec(seed=0),
        spec(cohort=9, label="a"),
        spec(algorithm="scaffold", drop_out=0.5, label="b"),
        spec(seed=1),
    ]
    said, rows, advanced = [], {}, []
    failures = runs.train_all(
        specs,
        Inputs(lambda spec: blobs),
        RunDirectory.create(tmp_path),
        finished=lambda spec, row: rows.update({spec: row}),
        failed=said.append,
        advance=lambda name, row: advanced.append(row),
    )
    assert list(rows) == [specs[0], specs[3]]
    assert [row["seed"] for row in rows.values()] == [0, 1]
    assert failures == said
    names = [sentence.split(":")[1].strip() for sentence in said]
    assert names == ["a-fl-3-iid-0", "b-fl-3-iid-0"]
    assert "cohort must" in said[0] and "leave out drop_out" in said[1]
    assert sum(row is not None for row in advanced) == 4


def test_two_runs_of_one_name_are_refused_before_any_is_trained(blobs, tmp_path):
    specs = [spec(), spec(learning_rate=0.2)]
    with pytest.raises(ValueError, match="two runs have the name 'fl-3-iid-0'"):
        runs.train_all(
            specs,
            Inputs(lambda spec: blobs),
            RunDirectory.create(tmp_path),
            finished=lambda spec, row: None,
        )
    assert runs.checkpoints.names(tmp_path) == []


def test_a_seed_that_diverges_takes_no_other_seed_along(blobs, tmp_path, monkeypatch):
    """Seeds that go together each end for themselves."""
    specs = [spec(arm="centralized", seed=seed) for seed in range(2)]
    ready = [runs.prepare(each, blobs) for each in specs]
    data = ready[1].data
    bad = dataclasses.replace(data, inputs=np.full_like(data.inputs, np.inf))
    ready[1] = dataclasses.replace(ready[1], data=bad)
    made = iter(ready)
    monkeypatch.setattr(batches, "prepare", lambda spec, dataset: next(made))
    monkeypatch.setattr(batches, "together", lambda specs, inputs: [specs])
    rows = {}
    (failure,) = runs.train_all(
        specs,
        Inputs(lambda spec: blobs),
        RunDirectory.create(tmp_path),
        finished=lambda spec, row: rows.update({spec: row}),
    )
    assert failure.startswith("Failed: centralized-1-iid-1: training of central")
    assert "give a smaller learning_rate" in failure
    assert list(rows) == specs[:1] and np.isfinite(rows[specs[0]]["loss"])
    assert runs.checkpoints.names(tmp_path) == ["centralized-1-iid-0"]
    assert len(runs.read_rows(tmp_path / "rounds.jsonl")) == 4
