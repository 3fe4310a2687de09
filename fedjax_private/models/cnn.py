"""Convolutional networks, without BatchNorm.

It mixes the examples of a batch, so that no per-example gradient exists to be clipped.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from fedjax_private.models.activations import ACTIVATIONS
from fedjax_private.models.entry import Activation, ModelEntry, check_images
from fedjax_private.typing import Array


class TutorialCnn(nn.Module):
    """The small CNN of the DP-SGD tutorials of TensorFlow Privacy and Opacus.

    26,010 parameters on 28x28x1 inputs and ten classes, and 96 more with group
    normalisation (4 groups) after each convolution.
    """

    num_classes: int
    activation: Activation = nn.relu
    normalized: bool = False

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """(B, H, W, C) float32 -> logits (B, num_classes)."""

        def activated(x: Array) -> Array:
            return self.activation(nn.GroupNorm(4)(x) if self.normalized else x)

        x = activated(nn.Conv(16, (8, 8), strides=2)(inputs))
        x = nn.max_pool(x, (2, 2), (1, 1))
        x = activated(nn.Conv(32, (4, 4), strides=2, padding="VALID")(x))
        x = nn.max_pool(x, (2, 2), (1, 1))
        x = x.reshape((x.shape[0], -1))
        x = self.activation(nn.Dense(32)(x))
        return nn.Dense(self.num_classes)(x)


class FedAvgCnn(nn.Module):
    """The MNIST CNN of McMahan et al. 2017 ("Communication-Efficient Learning").

    1,663,370 parameters on 28x28x1 inputs and ten classes; 114,314 with a quarter of
    the width, `features=(16, 32)` and `hidden=64`.
    """

    num_classes: int
    activation: Activation = nn.relu
    features: tuple[int, ...] = (32, 64)
    hidden: int = 512

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """(B, H, W, C) float32 -> logits (B, num_classes)."""
        x = inputs
        for features in self.features:
            x = self.activation(nn.Conv(features, (5, 5))(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape((x.shape[0], -1))
        x = self.activation(nn.Dense(self.hidden)(x))
        return nn.Dense(self.num_classes)(x)


class ShallowCnn(nn.Module):
    """One convolution and a linear classifier, for training with few, noisy steps.

    An example clipped to C moves a linear layer's answer to similar examples by C times
    the size of its features. Noise moves it by sigma times as much. The number of
    features does not matter; their separation of classes does. Linear models on good
    features therefore suit DP-SGD (Tramer and Boneh 2021, "Differentially Private
    Learning Needs Better Features (or Much More Data)"). In this model all layers are
    trained: a single one below the classifier, sampled at every pixel. Features are
    normalised channel by channel within an image (Ulyanov, Vedaldi, Lempitsky 2016,
    "Instance Normalization"), so that all examples have features of equal size. The
    classifier starts at zero, which suits few steps.

    8,650 parameters on 28x28x1 inputs and ten classes.
    """

    num_classes: int
    activation: Activation = nn.relu
    features: int = 16

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """(B, H, W, C) float32 -> logits (B, num_classes)."""

        def normalized(x: Array) -> Array:
            return nn.GroupNorm(self.features, use_bias=False, use_scale=False)(x)

        x = self.activation(normalized(nn.Conv(self.features, (7, 7))(inputs)))
        x = normalized(nn.max_pool(x, (4, 4), (4, 4)))
        x = x.reshape((x.shape[0], -1))
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros)(x)


def _entry(
    name: str, summary: str, network: Callable[[int, Any], nn.Module]
) -> ModelEntry:
    def build(
        shape: tuple[int, ...], classes: int, activation: Any, settings: Any
    ) -> nn.Module:
        check_images(name, shape)
        return network(classes, activation)

    return ModelEntry(
        name, summary, build, tuple(ACTIVATIONS), "relu", takes_tokens=False
    )


TUTORIAL_CNN = _entry(
    "tutorial_cnn",
    "the CNN of DP-SGD tutorials; 26,010 parameters on MNIST",
    TutorialCnn,
)
TUTORIAL_CNN_GN = _entry(
    "tutorial_cnn_gn",
    "tutorial_cnn with group normalisation; 26,106 parameters on MNIST",
    lambda classes, activation: TutorialCnn(classes, activation, normalized=True),
)
SHALLOW_CNN = _entry(
    "shallow_cnn",
    "one convolution, for few and noisy steps; 8,650 parameters on MNIST",
    ShallowCnn,
)
FEDAVG_CNN = _entry(
    "fedavg_cnn",
    "the CNN of FedAvg; 1,663,370 parameters on MNIST",
    FedAvgCnn,
)
FEDAVG_CNN_SMALL = _entry(
    "fedavg_cnn_small",
    "fedavg_cnn with a quarter of the width; 114,314 parameters on MNIST",
    lambda classes, activation: FedAvgCnn(classes, activation, (16, 32), 64),
)
