"""Fully connected networks."""

from collections.abc import Callable

import flax.linen as nn

from fedjax_private.typing import Array

_LECUN = nn.linear.default_kernel_init


class Mlp(nn.Module):
    """Dense layers on flattened inputs; no hidden layer makes it a linear classifier.

    `hidden=(200, 200)` is the 2NN of McMahan et al. 2017: 199,210 parameters on
    28x28x1 inputs and ten classes.
    """

    num_classes: int
    hidden: tuple[int, ...] = ()
    activation: Callable[[Array], Array] = nn.relu
    start: nn.initializers.Initializer = _LECUN  # of the last layer's kernel

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """(B, H, W, C) float32 -> logits (B, num_classes)."""
        x = inputs.reshape((inputs.shape[0], -1))
        for width in self.hidden:
            x = self.activation(nn.Dense(width)(x))
        return nn.Dense(self.num_classes, kernel_init=self.start)(x)
