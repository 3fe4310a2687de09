"""Trained models on disk: arrays through Orbax, and what they are of as JSON."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from fedjax_private.models import MODELS
from fedjax_private.runs.preparation import Prepared
from fedjax_private.typing import Params

FOLDER = "checkpoints"

# What `load` needs to know of a model.
MODEL_NAMES = {
    "name",
    "found_by_name",
    "input_shape",
    "dtype",
    "num_classes",
    "normalization",
    "activation",
    "augmentations",
}


def save(directory: Path, prepared: Prepared, params: Params) -> None:
    """Writes the models of a run: complete or not at all.

    Args:
        directory: of the command; models go to `checkpoints/<run>` there.
        prepared: the run.
        params: with a leading axis over its models.

    Raises:
        ValueError: the run has been saved before.
    """
    folder = (directory / FOLDER).absolute()
    dataset, values = prepared.dataset, prepared.hyperparameters
    of = {
        "run": prepared.spec.described(),
        "model": {
            "name": prepared.model_name,
            "found_by_name": _found_by_name(prepared),
            "input_shape": list(dataset.train.inputs.shape[1:]),
            "dtype": str(dataset.train.inputs.dtype),
            "num_classes": dataset.num_classes,
            "class_names": dataset.class_names,
            "normalization": dataclasses.asdict(dataset.normalization),
            "activation": values.activation,
            "augmentations": values.augmentations,
        },
        "models": int(jax.tree.leaves(params)[0].shape[0]),
    }
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / prepared.spec.name, jax.tree.map(np.asarray, params))
    path = folder / f"{prepared.spec.name}.json"
    path.write_text(json.dumps(of, indent=2) + "\n")


def _found_by_name(prepared: Prepared) -> bool:
    """Whether the model's name alone finds it again."""
    try:
        return MODELS.find(prepared.model_name) == prepared.spec.model_entry
    except ValueError:  # it was given as an object
        return False


def names(directory: Path) -> list[str]:
    """The runs whose models a directory holds, in alphabetical order."""
    folder = directory / FOLDER
    found = folder.glob("*.json") if folder.is_dir() else ()
    return sorted(path.stem for path in found)


def read(directory: Path, name: str) -> dict[str, Any]:
    """What a run's models are of, as `save` wrote it.

    Raises:
        ValueError: the file is damaged.
    """
    path = directory / FOLDER / f"{name}.json"
    try:
        of: dict[str, Any] = json.loads(path.read_text())
        if not {"run", "model", "models"} <= of.keys():
            raise KeyError
        if not of["model"].keys() >= MODEL_NAMES:
            raise KeyError
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: train again.") from error
    return of


def restore(directory: Path, name: str, params_like: Params, count: int) -> Params:
    """Reads the models of a run.

    Args:
        directory: as for `save`.
        name: of the run.
        params_like: shapes of one model.
        count: how many models.

    Returns:
        NumPy arrays with a leading axis over models, of the dtypes of `params_like`.

    Raises:
        ValueError: the checkpoint holds other arrays or shapes, or is damaged.
    """
    stacked = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype), params_like
    )
    path = (directory / FOLDER / name).absolute()
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            params: Params = checkpointer.restore(path, stacked)
        held = jax.tree.map(lambda leaf: leaf.shape, params)
        if held != jax.tree.map(lambda leaf: leaf.shape, stacked):
            raise ValueError("shapes differ")
    except (ValueError, FileNotFoundError, KeyError) as error:
        raise ValueError(
            f"checkpoint {name} does not fit the model of its file {name}.json: train "
            "again, or name the model that it was trained with."
        ) from error
    return jax.tree.map(np.asarray, params)
