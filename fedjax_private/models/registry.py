"""Models by name, and models of the user's own."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from fedjax_private.choices import Choice, Registry
from fedjax_private.datasets.examples import Dataset, Normalization
from fedjax_private.models.activations import ACTIVATIONS
from fedjax_private.models.entry import Activation, ModelEntry
from fedjax_private.models.model import PENALTIES, Model, from_flax


@dataclasses.dataclass(frozen=True)
class _OwnModule:
    """The `build` of a user's module, its class, or a function that makes it.

    A value with equality: entries of one attribute are equal, so that runs share
    compiled code.
    """

    name: str
    attribute: Any

    def __hash__(self) -> int:  # modules with lists in their fields have none
        return hash(self.name)

    def __call__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        activation: Activation | None,
        settings: Any,
    ) -> nn.Module:
        attribute: Any = self.attribute
        if isinstance(attribute, nn.Module):
            return attribute
        if not isinstance(attribute, type):
            module = attribute(input_shape, num_classes)
        else:
            fields = {field.name for field in dataclasses.fields(attribute)}
            sizes = {"num_classes": num_classes} if "num_classes" in fields else {}
            try:
                module = attribute(**sizes)
            except TypeError as error:
                raise ValueError(
                    f"model {self.name}: {error}; name a function of input_shape and "
                    "num_classes that returns the module."
                ) from error
        if not isinstance(module, nn.Module):
            raise ValueError(
                f"model {self.name} must return a Flax module, got "
                f"{type(module).__name__}."
            )
        return module


def _adapted(name: str, attribute: Any) -> ModelEntry:
    """The entry of a user's Flax module, its class, or a function that makes it."""
    is_class = isinstance(attribute, type)
    if not (issubclass(attribute, nn.Module) if is_class else callable(attribute)):
        raise ValueError(
            f"model {name} must be a ModelEntry, a Flax module, its class, or a "
            f"function of input_shape and num_classes, got {attribute!r}."
        )
    return ModelEntry(name, name, _OwnModule(name, attribute))


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
    _adapted,
)


# The ways to name a model: of `MODELS` or module:attribute, an entry, an entry with
# settings, or what module:attribute may hold.
AnyModel: TypeAlias = (
    str | ModelEntry | Choice[ModelEntry] | nn.Module | Callable[..., nn.Module]
)


def chosen(model: AnyModel) -> Choice[ModelEntry]:
    """The entry of a model, with its settings; see `build` for what names one."""
    if not isinstance(model, str | ModelEntry | Choice):
        model = _adapted(getattr(model, "__name__", type(model).__name__), model)
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
            or a Flax module, its class, or a function of input_shape and num_classes
            that returns one.
        input_shape: of one example; (H, W, C) for an image.
        num_classes: number of logits.
        normalization: applied to stored inputs first.
        activation: a name of `ACTIVATIONS`; by default the entry's. Models that take no
            activation ignore it.
        dtype: of the module's inputs: float32, or int32 for token numbers.

    Raises:
        ValueError: an unknown model or activation, inputs that the model cannot take,
            a module with state other than its parameters, or other outputs than logits.
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
    function = ACTIVATIONS[activation] if activation and entry.activations else None
    module = entry.build(input_shape, num_classes, function, choice.settings)
    _check(name, module, input_shape, num_classes, dtype)
    return from_flax(module, input_shape, normalization, dtype)


def _check(
    name: str,
    module: nn.Module,
    input_shape: tuple[int, ...],
    num_classes: int,
    dtype: npt.DTypeLike,
) -> None:
    """Raises where a module is no classifier of such inputs."""
    logits: Any
    variables: Any
    inputs = jax.ShapeDtypeStruct((2, *input_shape), jnp.dtype(dtype))
    unfit = f"model {name} cannot take inputs of shape {input_shape}"
    try:
        logits, variables = jax.eval_shape(
            module.init_with_output, jax.random.key(0), inputs
        )
    except (TypeError, ValueError, ZeroDivisionError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(f"{unfit} ({reason}): try model linear.") from error
    state = set(variables) - {"params", "intermediates", PENALTIES}
    if state:
        raise ValueError(
            f"model {name} keeps state in {', '.join(sorted(state))}, and only "
            "parameters are trained: replace BatchNorm by GroupNorm or LayerNorm."
        )
    leaves = jax.tree.leaves(variables.get("params", {}))
    if not all(leaf.size for leaf in leaves):  # a layer without inputs
        raise ValueError(f"{unfit}: try model linear.")
    if not leaves:
        raise ValueError(f"model {name} has no parameters to train.")
    if getattr(logits, "shape", None) != (2, num_classes):
        raise ValueError(
            f"model {name} must return logits (B, {num_classes}), got "
            f"{getattr(logits, 'shape', type(logits).__name__)} for a batch of 2."
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
    """
    if isinstance(model, Model):
        return model
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
