"""Fully connected networks."""

import flax.linen as nn

from fedjax_private.models.activations import ACTIVATIONS
from fedjax_private.models.entry import Activation, ModelEntry
from fedjax_private.typing import Array

_LECUN = nn.linear.default_kernel_init


class Mlp(nn.Module):
    """Dense layers on flattened inputs; no hidden layer makes it a linear classifier.

    `hidden=(200, 200)` is the 2NN of McMahan et al. 2017: 199,210 parameters on
    28x28x1 inputs and ten classes.
    """

    num_classes: int
    hidden: tuple[int, ...] = ()
    activation: Activation = nn.relu
    start: nn.initializers.Initializer = _LECUN  # of the last layer's kernel

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """(B, ...) float32 -> logits (B, num_classes)."""
        x = inputs.reshape((inputs.shape[0], -1))
        for width in self.hidden:
            x = self.activation(nn.Dense(width)(x))
        return nn.Dense(self.num_classes, kernel_init=self.start)(x)


MLP_2NN = ModelEntry(
    "mlp_2nn",
    "two hidden layers of 200 units; 199,210 parameters on MNIST",
    lambda shape, classes, activation, settings: Mlp(classes, (200, 200), activation),
    tuple(ACTIVATIONS),
    "relu",
    takes_tokens=False,
)
LINEAR = ModelEntry(
    "linear",
    "a linear classifier; 7,850 parameters on MNIST",
    lambda shape, classes, activation, settings: Mlp(classes),
    takes_tokens=False,
)
