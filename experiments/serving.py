"""Loads a trained run, and compiles its model for encrypted inputs."""

import dataclasses
from pathlib import Path

from fedjax_private import models, runs
from fedjax_private.inference import Circuit, UnsupportedLayerError, compile_model

# Images that the bounds of a circuit are measured on; see `Circuit.measured`.
SAMPLE = 500


@dataclasses.dataclass(frozen=True, eq=False)
class Served:
    """A trained model, and its encrypted form.

    Attributes:
        run: the run that trained it.
        circuit: normalised images -> logits. Its bounds are public; they are measured
            on images of the test set, which stand for public ones.
    """

    run: runs.Loaded
    circuit: Circuit


def load_served(directory: Path, name: str | None = None) -> Served:
    """The model of a finished run, compiled.

    Args:
        directory: of the command that trained it.
        name: of the run; needed where there are several.

    Raises:
        ValueError: as `runs.load` does; a run of several models, or a model without an
            encrypted form (`UnsupportedLayerError`).
        DatasetError: the run's data set cannot be loaded, whose images give the bounds.
    """
    run = runs.load(directory, name)
    entry = models.MODELS.find(run.spec["model"]["name"])
    if entry.features is not None:
        raise UnsupportedLayerError(
            f"model {entry.name} starts from features of the images, which have no "
            "encrypted form: train polynomial_cnn."
        )
    params = run.params
    dataset = run.load_dataset()
    sample = dataset.normalization(dataset.test.inputs[:SAMPLE])
    circuit = compile_model(run.model.network, params, run.input_shape, sample=sample)
    return Served(run, circuit)
