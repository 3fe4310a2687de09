"""What several peers compute, as NumPy arrays: data, weights, constants.

Runs in the peers' environments: imports NumPy and the standard library only.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

IMAGE = (28, 28, 1)
CLASSES = 10

# Suite `clients`.
CLIP_NORM = 1.0
NOISE_MULTIPLIER = 1.1
CLIENT_LEARNING_RATE = 0.1

# Suite `round`.
ROUND_LEARNING_RATE = 0.05
SERVER_LEARNING_RATE = 1.0

# Layer -> shape of its kernel, (height, width, in, out) or (in, out); every layer has a
# bias.
TUTORIAL_CNN = {
    "conv1": (8, 8, 1, 16),
    "conv2": (4, 4, 16, 32),
    "dense1": (512, 32),
    "dense2": (32, CLASSES),
}
ROUND_CNN = {
    "conv1": (5, 5, 1, 16),
    "conv2": (5, 5, 16, 32),
    "dense1": (1568, 64),
    "dense2": (64, CLASSES),
}

# {layer: {"kernel": array, "bias": array}}
Parameters = dict[str, dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class ClientsCase:
    """One local step of every client; each client has weights of its own.

    Attributes:
        clients: how many.
        batch: examples a client.
        model: "tutorial_cnn".
        private: whether each example's gradient is clipped, and noise added.
    """

    clients: int
    batch: int
    model: str
    private: bool

    def __post_init__(self):
        if self.model != "tutorial_cnn":
            raise ValueError(f"model must be tutorial_cnn for peers, got {self.model}.")

    def parameters(self) -> Parameters:
        """Starting weights; every array has a leading axis of clients."""
        return weights(TUTORIAL_CNN, (self.clients,))

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Normalised images (K, B, 28, 28, 1) float32 and labels (K, B) int32."""
        rng = np.random.default_rng(0)
        shape = (self.clients, self.batch)
        images = rng.standard_normal((*shape, *IMAGE), np.float32)
        return images, rng.integers(0, CLASSES, shape, np.int32)


@dataclasses.dataclass(frozen=True)
class RoundCase:
    """One round of federated averaging.

    Attributes:
        clients: how many, all of which take part.
        examples: of each client.
        batch: examples a step; must divide `examples`, since libraries treat a
            remainder differently.
        epochs: passes of each client over its shuffled examples.
    """

    clients: int
    examples: int
    batch: int
    epochs: int

    def __post_init__(self):
        if self.examples % self.batch:
            raise ValueError(
                f"batch must divide the {self.examples} examples, got {self.batch}."
            )

    def parameters(self) -> Parameters:
        """The server's starting weights."""
        return weights(ROUND_CNN)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Images (K, N, 28, 28, 1) uint8 and labels (K, N) int32."""
        rng = np.random.default_rng(0)
        shape = (self.clients, self.examples)
        images = rng.integers(0, 256, (*shape, *IMAGE), np.uint8)
        return images, rng.integers(0, CLASSES, shape, np.int32)


def weights(
    shapes: Mapping[str, tuple[int, ...]], leading: tuple[int, ...] = ()
) -> Parameters:
    """LeCun normal kernels and zero biases.

    Args:
        shapes: layer -> shape of its kernel.
        leading: axes before these.
    """
    rng = np.random.default_rng(1)

    def kernel(shape: tuple[int, ...]) -> np.ndarray:
        values = rng.standard_normal((*leading, *shape), np.float32)
        return values / np.float32(np.sqrt(np.prod(shape[:-1])))

    return {
        name: {
            "kernel": kernel(shape),
            "bias": np.zeros((*leading, shape[-1]), np.float32),
        }
        for name, shape in shapes.items()
    }
