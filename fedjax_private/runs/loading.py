"""One run from the library: train it, and load a finished one."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from fedjax_private import models
from fedjax_private.choices import Choice
from fedjax_private.datasets import Dataset, Normalization, load as load_dataset
from fedjax_private.runs import checkpoints
from fedjax_private.runs.directory import RunDirectory, read_rows
from fedjax_private.runs.environment import machine, versions
from fedjax_private.runs.preparation import Prepared, prepare
from fedjax_private.runs.spec import Spec
from fedjax_private.runs.training import Advance, train_together
from fedjax_private.typing import Params


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """A run that has been trained and recorded.

    Attributes:
        prepared: what was trained.
        directory: where everything is.
        row: the run's line of runs.jsonl.
        rows: a line a round, as in rounds.jsonl.
        models: params with a leading axis: one model, or one a client without FL.
    """

    prepared: Prepared
    directory: Path
    row: dict[str, Any]
    rows: list[dict[str, Any]]
    models: Params

    @property
    def params(self) -> Params:
        """The model's parameters; raises ValueError where there are several models."""
        return one_model(self.models)

    @property
    def model(self) -> models.Model:
        """The model as pure functions."""
        return self.prepared.model

    @property
    def accuracy(self) -> float | None:
        """On the test set, after the last round."""
        accuracy: float | None = self.row["accuracy"]
        return accuracy

    @property
    def epsilon(self) -> float | None:
        """What the run cost one unit, against outsiders; None without DP."""
        return self.prepared.privacy.epsilon if self.prepared.privacy else None

    @property
    def epsilon_insider(self) -> float | None:
        """The same against insiders; see `trust.Trust`."""
        privacy = self.prepared.privacy
        return privacy.epsilon_insider if privacy else None


def train(
    spec: Spec,
    *,
    out: str | Path,
    dataset: str | Dataset | None = None,
    model: Any = None,
    overwrite: bool = False,
    advance: Advance = lambda name, rounds: None,
) -> Result:
    """Checks, prices, trains and records one run.

    Args:
        spec: what is asked for.
        out: directory for all that the run leaves behind.
        dataset: name or data set, in place of the spec's.
        model: name, entry, Flax module, function (input shape, classes) -> module, or a
            ready `models.Model`, in place of the spec's.
        overwrite: replaces the run that `out` holds.
        advance: is told of every round.

    Raises:
        ValueError: settings that do not fit together, before any work; data that cannot
            be had; or training that cannot go on, such as values beyond encryption.
    """
    if isinstance(dataset, Dataset):
        spec = dataclasses.replace(spec, dataset=dataset.name)
    else:
        spec = dataclasses.replace(spec, dataset=dataset or spec.dataset)
        dataset = load_dataset(spec.dataset, data_dir=spec.data_dir)
    ready_model = model if isinstance(model, models.Model) else None
    if model is not None and ready_model is None:
        spec = dataclasses.replace(spec, model=models.chosen(model))
    if ready_model is None:
        dataset = models.features(spec.model_entry, dataset)
    ready = prepare(spec, dataset, ready_model)
    directory = RunDirectory.create(Path(out), overwrite=overwrite)
    directory.write_config(config("train", [ready]))
    (trained,) = train_together([ready], directory, advance)
    directory.add_run(trained.row)
    return Result(ready, directory.path, trained.row, trained.rounds, trained.models)


def config(command: str, ready: list[Prepared], **more: Any) -> dict[str, Any]:
    """The content of config.json: every setting, versions and the machine."""
    return {
        "command": command,
        **more,
        "runs": {
            each.spec.name: {
                "spec": each.spec.described(),
                "hyperparameters": dataclasses.asdict(each.hyperparameters),
                "sums": each.sums,
                "against": each.privacy
                and {a.value: words for a, words in each.privacy.against.items()},
            }
            for each in ready
        },
        "versions": versions(),
        "machine": machine(),
    }


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
    rows: list[dict[str, Any]]

    @property
    def params(self) -> Params:
        """The model's parameters; raises ValueError where there are several models."""
        return one_model(self.models)

    def predict(self, inputs: Any) -> npt.NDArray[np.float32]:
        """Logits (B, classes) of stored inputs (B, ...)."""
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
            of["run"]["dataset"],
            normalization,
            shape,
            described["num_classes"],
            [row for row in read_rows(folder / "runs.jsonl") if row["run"] == name],
        )
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"the files of run {name} in {folder} are damaged.") from error


def _built(
    model: Any, of: Mapping[str, Any], normalization: Normalization
) -> models.Model:
    """The model of a checkpoint, as it was trained."""
    if isinstance(model, models.Model):
        return model
    described = of["model"]
    choice = models.chosen(model)
    if not isinstance(model, Choice):
        settings = {
            key: tuple(value) if isinstance(value, list) else value  # as JSON holds it
            for key, value in of["run"]["model"].items()
            if key != "name"
        }
        choice = models.MODELS.choose(choice.entry, settings)
    return models.build(
        choice,
        input_shape=tuple(described["input_shape"]),
        num_classes=described["num_classes"],
        normalization=normalization,
        activation=described["activation"],
        dtype=models.input_dtype(described["dtype"]),
    )


def one_model(stacked: Params) -> Params:
    """The only model of params with a leading axis.

    Raises:
        ValueError: there are several, one of each client.
    """
    count = int(jax.tree.leaves(stacked)[0].shape[0])
    if count != 1:
        raise ValueError(
            f"the run has {count} models, one of each client: take one of `models`, or "
            "train another arm."
        )
    return jax.tree.map(lambda leaf: leaf[0], stacked)
