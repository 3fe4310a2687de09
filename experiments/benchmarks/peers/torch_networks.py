"""The networks as PyTorch modules, and weights and images in PyTorch's layout."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TutorialCnn(nn.Module):
    """(B, 1, 28, 28) float32 -> logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 8, 2, padding=3)
        self.conv2 = nn.Conv2d(16, 32, 4, 2)
        self.dense1 = nn.Linear(512, 32)
        self.dense2 = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (B, 10) of a batch of images."""
        x = F.max_pool2d(F.relu(self.conv1(images)), 2, 1)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2, 1)
        x = x.flatten(1)
        return self.dense2(F.relu(self.dense1(x)))


class RoundCnn(nn.Module):
    """(B, 1, 28, 28) uint8 -> logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5, padding=2)
        self.conv2 = nn.Conv2d(16, 32, 5, padding=2)
        self.dense1 = nn.Linear(1568, 64)
        self.dense2 = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (B, 10) of a batch of images."""
        x = images.float() / 255
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.flatten(1)
        return self.dense2(F.relu(self.dense1(x)))


def from_jax(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of one model of `cases` as a `state_dict`.

    PyTorch's networks flatten (C, H, W), those of `cases` (H, W, C).
    """

    def named() -> Iterator[tuple[str, Tensor]]:
        channels = 1
        for name, layer in weights.items():
            kernel = torch.from_numpy(layer["kernel"])
            if kernel.ndim == 4:
                channels = kernel.shape[3]
                kernel = kernel.permute(3, 2, 0, 1)
            else:
                if name == "dense1":
                    kernel = kernel.unflatten(0, (-1, channels)).transpose(0, 1)
                    kernel = kernel.flatten(0, 1)
                kernel = kernel.T
            yield f"{name}.weight", kernel.contiguous().clone()
            yield f"{name}.bias", torch.from_numpy(layer["bias"]).clone()

    return dict(named())


def channels_last(images: Any) -> Tensor:
    """(..., H, W, 1) -> (..., 1, H, W), without a copy; often faster on CPUs."""
    return torch.from_numpy(images).movedim(-1, -3)


def channels_first(images: Any) -> Tensor:
    """(..., H, W, 1) -> (..., 1, H, W), with the strides of a new tensor.

    Opacus needs them. With one channel, its stride decides whether PyTorch computes
    with channels last; there Opacus 1.6.0 reads the inputs of a second convolution in
    the wrong order, and its clipped gradients are wrong.
    """
    return channels_last(images).clone(memory_format=torch.contiguous_format)


LAYOUTS = {"channels first": channels_first, "channels last": channels_last}
