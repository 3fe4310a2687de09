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
