"""`ModelEntry`: what a run knows of a model, such as its builder and settings."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

from fedjax_private.choices import Settings, check_call
from fedjax_private.datasets.examples import Dataset
from fedjax_private.models.network import AnyModule
from fedjax_private.typing import Array

Activation: TypeAlias = Callable[[Array], Array]


def check_images(name: str, shape: tuple[int, ...]) -> None:
    """Raises ValueError where the inputs of a model of images are none.

    Args:
        name: of the model.
        shape: of one input.
    """
    if len(shape) == 3:
        return
    grey = ", or, if they are grey images, add a last axis of 1" * (len(shape) == 2)
    raise ValueError(
        f"model {name} takes images (H, W, C), and the inputs have shape {shape}: give "
        f"model=linear or model=mlp_2nn{grey}."
    )


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """A classifier that can be built for any data set.

    Attributes:
        name: by which it is chosen.
        summary: one line for `--help` and for the documentation.
        build: (shape of one input, number of classes, activation or None, settings) ->
            Flax module, linen or nnx, that maps inputs (B, ...) to logits (B, classes)
            and has no state but its parameters; or a function with the keyword `rngs`
            that makes an nnx module. Raises ValueError where the shape does not fit.
        activations: names of `ACTIVATIONS` that it takes; empty if it takes none.
        default_activation: one of `activations`; None if there are none.
        features: data set -> the data set that it is trained on, with features for
            inputs; None if it is trained on the inputs themselves.
        augmentable: whether it can be trained on shifted copies of images; see
            `augmented`.
        settings: the class of its settings.
        takes_tokens: whether it can be trained on token numbers (int32), which are not
            scaled: it embeds them.
    """

    name: str
    summary: str
    build: Callable[[tuple[int, ...], int, Activation | None, Any], AnyModule]
    activations: tuple[str, ...] = ()
    default_activation: str | None = None
    features: Callable[[Dataset], Dataset] | None = None
    augmentable: bool = True
    settings: type[Settings] = Settings
    takes_tokens: bool = True

    def __post_init__(self) -> None:
        form = "a function (input shape, classes, activation, settings) -> module"
        check_call(f"build of model {self.name}", self.build, 4, form)
