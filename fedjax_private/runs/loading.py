"""Finished runs, ready to predict."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from fedjax_private import models
from fedjax_private.choices import Choice, check_kind
from fedjax_private.datasets import Dataset, Normalization, load as load_dataset
from fedjax_private.runs import checkpoints
from fedjax_private.runs.directory import read_rows
from fedjax_private.runs.training import one_model
from fedjax_private.typing import Params


@dataclasses.dataclass(frozen=True, eq=False)
class Loaded:
    """A finished run, ready to predict.

    Attributes:
        name: of the run.
        model: as pure functions; `model.apply(params, inputs)` takes stored inputs.
        models: params with a leading axis: one model, or one a client without FL.
        spec: all settings, choices with their own, as config.json holds them.
        config: config.json as a whole; empty where it is missing.
        dataset: name of the data set.
        normalization: of stored inputs.
        input_shape: of one example, as the model takes it.
        num_classes: logits.
        class_names: of the logits; their numbers where the data set names none.
        rows: the run's lines of runs.jsonl.
    """

    name: str
    model: models.Model
    models: Params
    spec: dict[str, Any]
    config: dict[str, Any]
    dataset: str
    normalization: Normalization
    input_shape: tuple[int, ...]
    num_classes: int
    class_names: tuple[str, ...]
    rows: list[dict[str, Any]]

    @property
    def params(self) -> Params:
        """The model's parameters; raises ValueError where there are several models."""
        return one_model(self.models)

    def load_dataset(self) -> Dataset:
        """The data set of the run, loaded anew; raises `DatasetError`."""
        described = self.spec["dataset"]
        if isinstance(described, str):  # as versions before settings of data sets did
            described = {"name": described, "data_dir": self.spec.get("data_dir")}
        return load_dataset(self.dataset, **_settings(described))

    def predict(self, inputs: Any) -> npt.NDArray[np.float32]:
        """Returns logits (B, classes) of stored inputs (B, ...).

        Raises:
            ValueError: inputs of another shape.
        """
        if np.shape(inputs)[1:] != self.input_shape:
            shape = ", ".join(map(str, self.input_shape))
            raise ValueError(
                f"inputs must have the shape (B, {shape}), got {np.shape(inputs)}."
            )
        return np.asarray(self.model.apply(self.params, inputs))


def load(
    directory: str | Path, name: str | None = None, *, model: Any = None
) -> Loaded:
    """Reads a finished run of a directory that a command, or `train`, wrote.

    Args:
        directory: as given to `out`.
        name: of the run; needed where there are several.
        model: as given to `train`, where the run was trained with an object that no
            name finds.

    Raises:
        ValueError: no such run, several and no name, a model that cannot be built, or
            files that do not fit together.
    """
    check_kind("directory", directory, (str, os.PathLike), "the path given to out")
    folder = Path(directory)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no directory.")
    found = checkpoints.names(folder)
    if not found:
        raise ValueError(f"{folder} holds no trained run: its training did not end.")
    if name is None and len(found) > 1:
        raise ValueError(
            f"{folder} holds {len(found)} runs: choose one of {', '.join(found)}."
        )
    if name is not None and name not in found:
        raise ValueError(
            f"{folder} holds no run {name!r}: choose one of {', '.join(found)}."
        )
    name = name or found[0]
    of = checkpoints.read(folder, name)
    described = of["model"]
    if model is None and not described["found_by_name"]:
        raise ValueError(
            f"run {name} trained a model that was given as an object: give it as model."
        )
    try:
        constants = described["normalization"]
        normalization = Normalization(constants["offset"], constants["scale"])
        shape = tuple(described["input_shape"])
        classes = described["num_classes"]
        built = _built(described["name"] if model is None else model, of, normalization)
        like = jax.eval_shape(built.init, jax.random.key(0))
        stacked = checkpoints.restore(folder, name, like, of["models"])
        path = folder / "config.json"
        return Loaded(
            name,
            built,
            stacked,
            of["run"],
            json.loads(path.read_text()) if path.exists() else {},
            _name(of["run"]["dataset"]),
            normalization,
            shape,
            classes,
            tuple(described.get("class_names") or map(str, range(classes))),
            [row for row in read_rows(folder / "runs.jsonl") if row["run"] == name],
        )
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"the files of run {name} in {folder} are damaged.") from error


def _name(described: str | Mapping[str, Any]) -> str:
    """The name of a described choice; earlier versions wrote nothing else."""
    name: str = described if isinstance(described, str) else described["name"]
    return name


def _settings(described: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a choice as it is described; JSON holds tuples as lists."""
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in described.items()
        if key != "name"
    }


def _built(
    model: Any, of: Mapping[str, Any], normalization: Normalization
) -> models.Model:
    """The model of a checkpoint, as it was trained."""
    if isinstance(model, models.Model):
        return model
    described = of["model"]
    choice = models.chosen(model)
    if not isinstance(model, Choice):
        choice = models.MODELS.choose(choice.entry, _settings(of["run"]["model"]))
    return models.build(
        choice,
        input_shape=tuple(described["input_shape"]),
        num_classes=described["num_classes"],
        normalization=normalization,
        activation=described["activation"],
        dtype=models.input_dtype(described["dtype"]),
    )
