"""Models on disk, and files that were damaged or belong to another run."""

import json
import shutil

import jax
import numpy as np
import pytest

from fedjax_private import runs

NAME = "fl-3-iid-0"


@pytest.fixture(scope="module")
def result(train):
    return train()


@pytest.fixture
def folder(result, copied):
    return copied(result).directory


def described(folder):
    return folder / "checkpoints" / f"{NAME}.json"


def changed(folder, *keys, value):
    """Writes a value into a checkpoint's description."""
    of = json.loads(described(folder).read_text())
    inner = of
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    described(folder).write_text(json.dumps(of))


def test_checkpoints_come_back_as_they_were(result):
    assert runs.checkpoints.names(result.directory) == [NAME]
    like = jax.eval_shape(result.model.init, jax.random.key(0))
    restored = runs.checkpoints.restore(result.directory, NAME, like, 1)
    jax.tree.map(np.testing.assert_array_equal, restored, result.models)
    with pytest.raises(ValueError, match="exists"):
        runs.checkpoints.save(result.directory, result.prepared, result.models)


def test_shapes_and_counts_must_fit(result):
    like = jax.eval_shape(result.model.init, jax.random.key(0))

    def wider(leaf):
        return jax.ShapeDtypeStruct((*leaf.shape, 2), leaf.dtype)

    others = [jax.tree.map(wider, like), {"a": np.zeros(3)}]
    for other, count in [(each, 1) for each in others] + [(like, 2)]:
        with pytest.raises(ValueError, match="does not fit the model"):
            runs.checkpoints.restore(result.directory, NAME, other, count)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{}",
        "[]",
        "null",
        "\udcff",
        '{"run": {}, "model": {}, "models": 1}',
        '{"run": 1, "model": [], "models": 1}',
    ],
)
def test_damaged_descriptions_are_named(text, folder):
    described(folder).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=f"{NAME}.json is damaged"):
        runs.load(folder)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("model", "input_shape"), 3),
        (("model", "input_shape"), ["a"]),
        (("model", "num_classes"), "ten"),
        (("model", "normalization"), {"offset": 0}),
        (("model", "normalization"), {"offset": 0, "scale": 0}),
        (("model", "dtype"), "no dtype"),
        (("model", "name"), "resnet"),
        (("model", "name"), 3),
        (("model", "activation"), "magic"),
        (("model", "activation"), ["tanh"]),
        (("models",), "many"),
        (("models",), 2),
        (("models",), -1),
        (("run",), {}),
        (("run", "model"), {"name": "linear", "depth": 9}),
    ],
)
def test_descriptions_of_something_else_are_refused(keys, value, folder):
    changed(folder, *keys, value=value)
    with pytest.raises(ValueError):
        runs.load(folder)


def test_another_model_s_arrays_are_refused(folder):
    changed(folder, "model", "input_shape", value=[7])
    with pytest.raises(ValueError, match=f"checkpoint {NAME} does not fit the model"):
        runs.load(folder)


def test_arrays_that_are_gone_or_cut_short_are_refused(folder):
    arrays = folder / "checkpoints" / NAME
    for path in arrays.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="does not fit the model"):
        runs.load(folder)
    shutil.rmtree(arrays)
    with pytest.raises(ValueError, match="does not fit the model"):
        runs.load(folder)


def test_what_lies_beside_checkpoints_may_be_missing_but_not_damaged(folder, result):
    (folder / "config.json").unlink()
    (folder / "runs.jsonl").unlink()
    loaded = runs.load(folder)
    assert loaded.config == {} and loaded.rows == []
    jax.tree.map(np.testing.assert_array_equal, loaded.models, result.models)
    for name in ("config.json", "runs.jsonl"):
        (folder / name).write_text("{")
        with pytest.raises(ValueError, match=f"files of run {NAME} in .* are damaged"):
            runs.load(folder)
        (folder / name).unlink()
