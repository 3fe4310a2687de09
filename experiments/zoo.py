"""Models of runs; runs that train the same one share it, and its compiled code."""

import functools
from typing import Any

import jax

from experiments.spec import Spec
from fedjax_private import models, simulation
from fedjax_private.datasets import Dataset


@functools.cache
def build_model(
    name: str,
    activation: str,
    augmentations: int,
    shape: tuple[int, ...],
    classes: int,
    normalization: Any,
) -> models.Model:
    """A model of the zoo; the same arguments give the same, so that code is shared."""
    model = models.build(
        name,
        input_shape=shape,
        num_classes=classes,
        normalization=normalization,
        activation=activation,
    )
    return models.augmented(model, augmentations)


def featured(dataset: Dataset, model: str) -> Dataset:
    """The data set as a model takes it: images, or features that it starts from."""
    if model == models.SCATTERING_LINEAR:
        return models.scattered(dataset)
    return dataset


def model_for(dataset: Dataset, spec: Spec) -> models.Model:
    """The model that a run trains."""
    hyper = spec.hyperparameters
    return build_model(
        spec.settings.training.model,
        hyper.activation,
        hyper.augmentations,
        dataset.train.inputs.shape[1:],
        dataset.num_classes,
        dataset.normalization,
    )


@functools.cache
def build_evaluator(model: models.Model) -> Any:
    """The model's evaluator; one per model, so that code is shared."""
    return simulation.evaluator(model)


def update_size(spec: Spec, dataset: Dataset) -> int:
    """Values of an update: the parameters, and the weight where clients have one."""
    model = model_for(dataset, spec)
    size = models.parameter_count(jax.eval_shape(model.init, jax.random.key(0)))
    if spec.shares_noise:
        return size
    return (2 * size if spec.algorithm == "scaffold" else size) + 1
