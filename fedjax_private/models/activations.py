"""Activations by name."""

from collections.abc import Mapping

import flax.linen as nn

from fedjax_private.models.entry import Activation
from fedjax_private.models.polynomial import POLYNOMIALS

# Name -> elementwise activation that `--activation` takes.
ACTIVATIONS: Mapping[str, Activation] = {
    "relu": nn.relu,
    "tanh": nn.tanh,
    # Papernot et al. 2021, "Tempered Sigmoid Activations for Deep Learning with
    # Differential Privacy": s sigmoid(T x) - o; tanh is (2, 2, 1).
    "tempered_sigmoid": lambda x: 1.58 * nn.sigmoid(3.0 * x) - 0.71,
    **POLYNOMIALS,
}
