"""Convolutional networks. No BatchNorm: it mixes the examples of a batch, so that no
per-example gradient exists to be clipped."""

from collections.abc import Callable

import flax.linen as nn

from fedjax_private.typing import Array

Activation = Callable[[Array], Array]


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

    Clipped to C, an example moves a linear layer's answer to its like by C times the
    size of its features, and noise moves it by as much times sigma: how many features
    there are does not matter, how well they separate classes does. That is why linear
    models on good features serve DP-SGD so well (Tramer and Boneh 2021, "Differentially
    Private Learning Needs Better Features (or Much More Data)"), and why this one, all
    of which is trained, has a single layer below, sampled at every pixel. Features are
    normalised channel by channel within an image (Ulyanov, Vedaldi, Lempitsky 2016,
    "Instance Normalization"), so that no example's are larger than another's, and few
    steps are best begun at zero.

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
