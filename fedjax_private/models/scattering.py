"""Scattering features: fixed, public filters in place of a network's first layers.

Oyallon, Mallat, "Deep Roto-Translation Scattering for Object Classification", CVPR
2015; as features for differentially private linear models: Tramer, Boneh,
"Differentially Private Learning Needs Better Features (or Much More Data)", ICLR 2021.

For an image x, Morlet wavelets psi of scale 2^j and angle theta and a Gaussian phi of
scale 2^J, the coefficients are x * phi, |x * psi_1| * phi and ||x * psi_1| * psi_2| *
phi with j_2 > j_1, each sampled at every 2^J-th pixel.

Formal guarantees: the filters are fixed by the image's size, and a record's features
depend on that record alone; training on them has the privacy of training on the images.
"""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from fedjax_private.datasets.examples import Dataset, Examples, Normalization
from fedjax_private.models.entry import ModelEntry, check_images
from fedjax_private.models.mlp import Mlp
from fedjax_private.typing import Array

SCALES = 2  # J
ANGLES = 8  # L
# Of psi_0 in pixels, of its wave in radians a pixel, and of its slant; the values that
# the scattering literature uses throughout.
_WIDTH, _FREQUENCY, _SLANT = 0.8, 3 * math.pi / 4, 4 / ANGLES
_GROUPS = 27  # of channels, each normalised by itself; Tramer and Boneh's on MNIST
BATCH = 256  # images that are transformed at once

Filter = npt.NDArray[np.float32]


def channels(images: int = 1) -> int:
    """Coefficients at each place, for images of that many channels: 81 for one."""
    second = ANGLES**2 * SCALES * (SCALES - 1) // 2
    return images * (1 + SCALES * ANGLES + second)


def shape(height: int, width: int, depth: int) -> tuple[int, int, int]:
    """(H, W, C) of an image -> (H / 4, W / 4, 81 C), of its features, rounded up."""
    step = 2**SCALES
    return -(-height // step), -(-width // step), channels(depth)


def _gabor(
    size: tuple[int, int], width: float, angle: float, frequency: float, slant: float
) -> npt.NDArray[np.complex128]:
    """A Gaussian window times a plane wave, wrapped around, of integral about 1."""
    turn = np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    curve = turn @ np.diag([1.0, slant**2]) @ turn.T / (2 * width**2)
    total = np.zeros(size, np.complex128)
    for down in (-2, -1, 0, 1, 2):
        for right in (-2, -1, 0, 1, 2):
            y, x = np.meshgrid(
                np.arange(size[0]) + down * size[0],
                np.arange(size[1]) + right * size[1],
                indexing="ij",
            )
            window = curve[0, 0] * y * y + 2 * curve[0, 1] * y * x + curve[1, 1] * x * x
            wave = frequency * (y * math.cos(angle) + x * math.sin(angle))
            total += np.exp(-window + 1j * wave)
    return total * slant / (2 * math.pi * width**2)


@functools.lru_cache(maxsize=8)
def _filters(size: tuple[int, int]) -> tuple[Filter, tuple[Filter, ...]]:
    """phi (H, W) and, for each scale, psi (L, H, W), as real Fourier transforms."""

    def transformed(kernel: npt.NDArray[np.complex128]) -> Filter:
        # Even windows have real transforms.
        return np.real(np.fft.fft2(kernel)).astype(np.float32)

    phi = _gabor(size, _WIDTH * 2 ** (SCALES - 1), 0.0, 0.0, 1.0)
    waves = []
    for scale in range(SCALES):
        width, frequency = _WIDTH * 2**scale, _FREQUENCY / 2**scale
        turned = []
        for number in range(ANGLES):
            angle = number * math.pi / ANGLES
            wave = _gabor(size, width, angle, frequency, _SLANT)
            window = _gabor(size, width, angle, 0.0, _SLANT)
            # No answer to a constant image.
            turned.append(transformed(wave - window * (wave.sum() / window.sum())))
        waves.append(np.stack(turned))
    return transformed(phi), tuple(waves)


def _sampled(spectrum: Array, step: int) -> Array:
    """The inverse transform of (..., H, W), at every `step`-th pixel only."""
    *outer, height, width = spectrum.shape
    parts = spectrum.reshape(*outer, step, height // step, step, width // step)
    return jnp.fft.ifft2(parts.mean(axis=(-4, -2)))


def scattering(images: Array) -> Array:
    """(B, H, W, C) float32 -> coefficients (B, H / 4, W / 4, 81 C), not normalised.

    Images are reflected at their edges and padded to a multiple of 4 pixels. The 81 are
    one coefficient of order 0, 16 of order 1 and 64 of order 2.
    """
    batch, height, width, depth = images.shape
    step = 2**SCALES
    out = shape(height, width, depth)
    size = (step * (out[0] + 2), step * (out[1] + 2))
    low, waves = _filters(size)
    planes = jnp.moveaxis(images, 3, 1).reshape(batch * depth, height, width)
    below, right = size[0] - step - height, size[1] - step - width
    places = [(0, 0), (step, below), (step, right)]
    planes = jnp.pad(planes, places, mode="symmetric")

    def averaged(spectrum: Array, taken: int) -> Array:
        """phi after (B, ..., H, W) at every `taken`-th pixel -> (B, paths, h, w)."""
        folded = low.reshape(taken, size[0] // taken, taken, size[1] // taken)
        smooth = _sampled(spectrum * folded.mean(axis=(0, 2)), step // taken).real
        inner = smooth[..., 1 : 1 + out[0], 1 : 1 + out[1]]
        return inner.reshape(len(planes), -1, *out[:2]) * taken**2

    spectrum = jnp.fft.fft2(planes)
    orders = [averaged(spectrum, 1)]
    first = []
    for scale, wave in enumerate(waves):
        modulus = jnp.abs(_sampled(spectrum[:, None] * wave, 2**scale))
        first.append(jnp.fft.fft2(modulus))
        orders.append(averaged(first[-1], 2**scale))
    for scale, moduli in enumerate(first):
        for later in range(scale + 1, SCALES):
            taken = 2**scale
            wave = waves[later].reshape(
                ANGLES, taken, size[0] // taken, taken, size[1] // taken
            )
            passed = moduli[:, :, None] * (wave.mean(axis=(1, 3)) * taken**2)
            modulus = jnp.abs(_sampled(passed, 2**later // taken))
            orders.append(averaged(jnp.fft.fft2(modulus), 2**later))
    features = jnp.concatenate(orders, axis=1)  # (B C, 81, h, w)
    features = features.reshape(batch, -1, *out[:2])
    return jnp.moveaxis(features, 1, 3)


def normalized(features: Array, groups: int = _GROUPS) -> Array:
    """Group normalisation (B, h, w, c): mean 0, variance 1 in each image and group."""
    batch, height, width, depth = features.shape
    grouped = features.reshape(batch, height * width, groups, depth // groups)
    mean = grouped.mean(axis=(1, 3), keepdims=True)
    variance = grouped.var(axis=(1, 3), keepdims=True)
    return ((grouped - mean) / jnp.sqrt(variance + 1e-5)).reshape(features.shape)


def scattered(dataset: Dataset) -> Dataset:
    """The data set with normalised features (N, H / 4, W / 4, 81 C) as inputs.

    They are computed once, and take 16 KB an image of 28 x 28 pixels.

    Raises:
        ValueError: the inputs are no images (N, H, W, C).
    """
    check_images("scattering_linear", dataset.train.inputs.shape[1:])

    @jax.jit
    def features_of(images: Array) -> Array:
        return normalized(scattering(dataset.normalization(images)))

    def transformed(examples: Examples) -> Examples:
        parts = []
        for first in range(0, len(examples), BATCH):
            images = examples.inputs[first : first + BATCH]
            # One shape, one compilation.
            padded = np.pad(images, [(0, BATCH - len(images)), *[(0, 0)] * 3])
            parts.append(np.asarray(features_of(padded))[: len(images)])
        return dataclasses.replace(examples, inputs=np.concatenate(parts))

    return dataclasses.replace(
        dataset,
        train=transformed(dataset.train),
        test=transformed(dataset.test),
        normalization=Normalization(0.0, 1.0),
    )


def _linear(
    shape: tuple[int, ...], classes: int, activation: Any, settings: Any
) -> nn.Module:
    if len(shape) != 3 or shape[-1] % channels():
        raise ValueError(
            "scattering_linear takes scattering features, not inputs of shape "
            f"{shape}: give it models.features(model, dataset)."
        )
    # The loss is convex. Few noisy steps are best begun at zero.
    return Mlp(classes, start=nn.initializers.zeros)


SCATTERING_LINEAR = ModelEntry(
    "scattering_linear",
    "a linear classifier on scattering features; 39,700 parameters on MNIST",
    _linear,
    features=scattered,
    augmentable=False,
)
