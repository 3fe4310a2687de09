"""From a training run's directory to what is served on encrypted inputs."""

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedjax_private import datasets, models, runs
from fedjax_private.inference import Circuit, UnsupportedLayerError, compile_model

# Images whose largest values bound those to come; see `Circuit.measured`.
SAMPLE = 500


@dataclasses.dataclass(frozen=True, eq=False)
class Served:
    """A trained model, and its encrypted form.

    Attributes:
        run: the run that trained it.
        circuit: normalised images -> logits; its bounds are public, and come from
            images of the test set, which stand for public ones.
    """

    run: runs.Loaded
    circuit: Circuit

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the logits, in order."""
        return tuple(str(label) for label in range(self.run.num_classes))

    def plain(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The model's logits in clear: (B, H, W, C) uint8 -> (B, classes) float32."""
        return self.run.predict(images)


def load_served(directory: Path, name: str | None = None) -> Served:
    """Reads what `python -m experiments.train` leaves behind, and compiles its model.

    Args:
        directory: as given to `--out`.
        name: which of its runs; needed where there are several.

    Raises:
        ValueError: see `runs.load`; several models in one run, or a model without an
            encrypted form (`UnsupportedLayerError`).
        DatasetError: the run's data set cannot be had; its images' sizes are needed.
    """
    run = runs.load(directory, name)
    entry = models.MODELS.find(run.spec["model"]["name"])
    if entry.features is not None:
        raise UnsupportedLayerError(
            f"model {entry.name} starts from features of the images, which have no "
            "encrypted form: train model polynomial_cnn."
        )
    params = run.params
    dataset = datasets.load(run.dataset, data_dir=run.spec["data_dir"])
    sample = dataset.normalization(dataset.test.inputs[:SAMPLE])
    circuit = compile_model(run.model.network, params, run.input_shape, sample=sample)
    return Served(run, circuit)
