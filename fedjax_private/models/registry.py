"""Models by name, and models of the user's own."""

from collections.abc import Callable
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax import nnx

from fedjax_private.choices import Choice, Registry, check_kind
from fedjax_private.datasets.examples import Dataset, Normalization
from fedjax_private.models.activations import ACTIVATIONS
from fedjax_private.models.entry import ModelEntry
from fedjax_private.models.model import Model, wrapped
from fedjax_private.models.network import (
    Network,
    check_outputs,
    example_of,
    network_of,
)
from fedjax_private.models.own import adapted

_HERE = "fedjax_private.models"
MODELS: Registry[ModelEntry] = Registry(
    "model",
    ModelEntry,
    {
        "tutorial_cnn": f"{_HERE}.cnn:TUTORIAL_CNN",
        "tutorial_cnn_gn": f"{_HERE}.cnn:TUTORIAL_CNN_GN",
        "shallow_cnn": f"{_HERE}.cnn:SHALLOW_CNN",
        "fedavg_cnn": f"{_HERE}.cnn:FEDAVG_CNN",
        "fedavg_cnn_small": f"{_HERE}.cnn:FEDAVG_CNN_SMALL",
        "mlp_2nn": f"{_HERE}.mlp:MLP_2NN",
        "linear": f"{_HERE}.mlp:LINEAR",
        "scattering_linear": f"{_HERE}.scattering:SCATTERING_LINEAR",
        "polynomial_cnn": f"{_HERE}.polynomial:POLYNOMIAL_CNN",
    },
    adapted,
)


# The ways to name a model: of `MODELS` or module:attribute, an entry, an entry with
# settings, or what module:attribute may hold.
AnyModel: TypeAlias = (
    str
    | ModelEntry
    | Choice[ModelEntry]
    | nn.Module
    | nnx.Module
    | Callable[..., nn.Module | nnx.Module]
)


def chosen(model: AnyModel) -> Choice[ModelEntry]:
    """Returns the entry of a model, with its settings; see `build`."""
    return MODELS.choose(model)


def build(
    model: AnyModel,
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    normalization: Normalization,
    activation: str | None = None,
    dtype: npt.DTypeLike = np.float32,
) -> Model:
    """Builds a model for inputs of a shape.

    Args:
        model: a name of `MODELS` or module:attribute, an entry, an entry with settings,
            or a Flax module, linen or nnx; its class; or a function of input_shape and
            num_classes that returns one. Of nnx, classes and functions may take `rngs`,
            so that each key starts from other parameters; a module that is given, or
            made without `rngs`, starts from the parameters that it has.
        input_shape: of one example; (H, W, C) for an image.
        num_classes: number of logits.
        normalization: applied to stored inputs first.
        activation: a name of `ACTIVATIONS`; by default the entry's. Models that take no
            activation ignore it.
        dtype: of the module's inputs: float32, or int32 for token numbers.

    Raises:
        ValueError: an unknown model or activation, inputs that the model cannot take,
            a module with state other than its parameters or that draws random numbers,
            parameters that are not float32, other outputs than logits, or logits of an
            example that depend on the others of its batch, or on how many there are.
    """
    choice = chosen(model)
    entry, name = choice.entry, choice.name
    if activation is None:
        activation = entry.default_activation
    elif activation not in (known := entry.activations or ACTIVATIONS):
        raise ValueError(
            f"activation {activation!r} is none that model {name} takes: choose one of "
            f"{', '.join(known)}."
        )
    if np.dtype(dtype) == np.int32 and not entry.takes_tokens:
        raise ValueError(
            f"model {name} takes no token numbers, which whole numbers (int32) are "
            "here: choose a model that embeds them, or, if they are measurements, save "
            "them as floats and scale them by public constants, such as input_scale."
        )
    function = ACTIVATIONS[activation] if activation and entry.activations else None
    module = entry.build(input_shape, num_classes, function, choice.settings)
    example = example_of(input_shape, dtype)
    network = network_of(module, name, example)
    _check_sizes(name, network, input_shape, num_classes)
    if name not in MODELS.names:  # ours are tested
        check_outputs(network, name, example)
    return wrapped(network, normalization)


def _check_sizes(
    name: str, network: Network, input_shape: tuple[int, ...], num_classes: int
) -> None:
    """Raises ValueError where a network is no classifier of such inputs."""
    leaves, outputs = jax.tree.leaves(network.params_like), network.outputs_like
    if not all(leaf.size for leaf in leaves):  # a layer without inputs
        raise ValueError(
            f"model {name} cannot take inputs of shape {input_shape}: try model linear."
        )
    if not leaves:
        raise ValueError(
            f"model {name} has no parameters to train: hold them in layers, or as "
            "self.param or nnx.Param."
        )
    shape = getattr(outputs, "shape", type(outputs).__name__)
    if shape != (2, num_classes):
        raise ValueError(
            f"model {name} must return logits (B, {num_classes}), got {shape} for a "
            "batch of 2: end it in a layer of num_classes units."
        )
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise ValueError(
            f"model {name} must return logits of real numbers, got {outputs.dtype}."
        )


def input_dtype(stored: npt.DTypeLike) -> np.dtype[Any]:
    """The dtype of a module's inputs for stored ones: whole numbers stay as they are.

    Bytes and floats become float32 by normalisation.
    """
    return np.dtype(np.int32 if np.dtype(stored) == np.int32 else np.float32)


def for_dataset(
    model: AnyModel | Model,
    dataset: Dataset,
    *,
    activation: str | None = None,
) -> Model:
    """Builds a model for a data set's inputs and classes; see `build`.

    Args:
        model: as for `build`; a ready `Model` is returned as it is.
        dataset: as the model takes it; see `features`.
        activation: as for `build`.

    Raises:
        ValueError: see `build`; or what is given is no `Dataset`.
    """
    if isinstance(model, Model):
        return model
    form = "a Dataset, as datasets.load or from_arrays returns"
    check_kind("dataset", dataset, Dataset, form)
    inputs = dataset.train.inputs
    return build(
        model,
        input_shape=inputs.shape[1:],
        num_classes=dataset.num_classes,
        normalization=dataset.normalization,
        activation=activation,
        dtype=input_dtype(inputs.dtype),
    )


def features(model: AnyModel | Model, dataset: Dataset) -> Dataset:
    """The data set that a model is trained on: its features, where it has some.

    dataset = models.features("scattering_linear", datasets.load("mnist_5k"))
    model = models.for_dataset("scattering_linear", dataset)
    """
    if isinstance(model, Model):
        return dataset
    compute = chosen(model).entry.features
    return dataset if compute is None else compute(dataset)
