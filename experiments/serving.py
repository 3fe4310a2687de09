"""From a training run's directory to what is served on encrypted images."""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from fedjax_private import models, simulation
from fedjax_private.datasets import Dataset, Normalization, load
from fedjax_private.inference.compiling.circuit import Circuit
from fedjax_private.inference.compiling.compiler import (
    UnsupportedLayerError,
    compile_model,
)
from fedjax_private.typing import Params

# Images whose largest values bound those to come; see `Circuit.measured`.
SAMPLE = 500


@dataclasses.dataclass(frozen=True, eq=False)
class Served:
    """A trained model, and its encrypted form.

    Attributes:
        name: of the run that trained it.
        circuit: normalised images -> logits; its bounds are public, and come from
            images of the test set, which stand for public ones.
        dataset: the name of the data set.
        normalization: of stored pixels, public: clients apply it before they encrypt.
        classes: names of the logits, in order.
        model: in clear, to compare with; `model.apply` normalises by itself.
        params: of one model, without an axis over models.
    """

    name: str
    circuit: Circuit
    dataset: str
    normalization: Normalization
    classes: tuple[str, ...]
    model: models.Model
    params: Params

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one image, (H, W, C)."""
        return self.circuit.input_shape

    def plain(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The model's logits in clear: (B, H, W, C) uint8 -> (B, classes) float32."""
        return np.asarray(self.model.apply(self.params, images))


def load_served(directory: Path, name: str | None = None) -> Served:
    """Reads what `python -m experiments.train` leaves behind, and compiles its model.

    Args:
        directory: as given to `--out`.
        name: which of its checkpoints; needed where there are several.

    Raises:
        ValueError: no such run, several checkpoints and no name, several models in one
            checkpoint, files that do not fit together, or a model without an encrypted
            form (`UnsupportedLayerError`).
        DatasetError: the run's data set cannot be had; its images' shape is needed.
    """
    trained, checkpoint = _trained(directory), _checkpoint(directory, name)
    if models.MODELS.find(trained.model).features is not None:
        raise UnsupportedLayerError(
            f"{trained.model} has no encrypted form, since scattering takes absolute "
            f"values of the images: train --model=polynomial_cnn."
        )
    dataset = load(trained.dataset, data_dir=trained.data_dir)
    model = models.for_dataset(trained.model, dataset, activation=trained.activation)
    return served(checkpoint, model, dataset)


def served(checkpoint: Path, model: models.Model, dataset: Dataset) -> Served:
    """Compiles the model that a run has left in a checkpoint; see `load_served`."""
    params = _restored(checkpoint, model)
    circuit = compile_model(
        model.network,
        params,
        dataset.test.inputs.shape[1:],
        sample=dataset.normalization(dataset.test.inputs[:SAMPLE]),
    )
    return Served(
        checkpoint.name,
        circuit,
        dataset.name,
        dataset.normalization,
        tuple(str(label) for label in range(dataset.num_classes)),
        model,
        params,
    )


class _Trained(NamedTuple):
    """What of config.json decides the model."""

    dataset: str
    data_dir: str | None
    model: str
    activation: str


def _trained(directory: Path) -> _Trained:
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text())
        data, training = config["settings"]["data"], config["settings"]["training"]
        # As it was used, whatever the tuned tables say by now. One run trains one
        # model, so that all its arms and client counts agree.
        activation = training["activation"] or next(
            values["activation"]
            for by_clients in config["arms"].values()
            for values in by_clients.values()
        )
        return _Trained(
            data["dataset"], data["data_dir"], training["model"], activation
        )
    except FileNotFoundError:
        raise ValueError(
            f"{directory} holds no run: --model takes the directory that "
            "python -m experiments.train --out=DIR wrote."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        raise ValueError(
            f"{path} is not of experiments.train or experiments.sweep: train with "
            "--out=DIR and give that directory."
        ) from None


def _checkpoint(directory: Path, name: str | None) -> Path:
    """The directory of one model's parameters."""
    folder = directory / "checkpoints"
    found = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    if not found:
        raise ValueError(
            f"{directory} holds no checkpoint: its training did not end; run it again."
        )
    if name is None and len(found) > 1:
        raise ValueError(
            f"{directory} holds {len(found)} checkpoints: choose one of "
            f"{', '.join(found)}."
        )
    if name is not None and name not in found:
        raise ValueError(
            f"{directory} holds no checkpoint {name!r}: choose of {', '.join(found)}."
        )
    return folder / (name or found[0])


def _restored(checkpoint: Path, model: models.Model) -> Params:
    # Runs are named arm-clients-partition-seed; arm local keeps a model a client.
    arm, clients, _, _ = checkpoint.name.rsplit("-", 3)
    if arm.split("-")[-1] == "local" and clients != "1":
        raise ValueError(
            f"checkpoint {checkpoint.name} holds {clients} models, one of each client: "
            "serve a run of another arm, or train with --clients=1."
        )
    one = jax.eval_shape(model.init, jax.random.key(0))
    stacked = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), one
    )
    try:
        params = simulation.restore(checkpoint, stacked)
    except ValueError as error:
        raise ValueError(
            f"checkpoint {checkpoint.name} does not fit the model of its config.json: "
            "train again."
        ) from error
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], params)
