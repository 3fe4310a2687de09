"""Wraps a model: its training loss averages over shifted copies of images."""

import dataclasses

import jax.numpy as jnp

from fedjax_private.choices import check_kind
from fedjax_private.models.model import Model
from fedjax_private.typing import Array, Params

# (down, right) in pixels: none, then the nearest first.
SHIFTS = (
    (0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1)
)  # fmt: skip


def augmented(model: Model, multiplicity: int) -> Model:
    """The same model, whose training loss averages over shifted copies of an image.

    Augmentation multiplicity (De, Berrada, Hayes, Smith, Balle 2022, "Unlocking
    High-Accuracy Differentially Private Image Classification through Scale"): a
    record's gradient is the mean over its copies, clipped afterwards, so that copies
    cost no privacy. Pixels that enter at an edge are zeros. It takes as many times the
    computation.

    Args:
        model: to be trained.
        multiplicity: number of `SHIFTS`, from 1, the image itself, to 9.

    Raises:
        ValueError: a number outside that range; or, when the loss is called, inputs
            other than (B, H, W, C).
    """
    form = "a Model, as models.for_dataset(model, dataset) returns"
    check_kind("model", model, Model, form)
    if not 1 <= multiplicity <= len(SHIFTS):
        raise ValueError(
            f"multiplicity must lie between 1 and {len(SHIFTS)}, got {multiplicity}."
        )
    if multiplicity == 1:
        return model

    def moved(inputs: Array, down: int, right: int) -> Array:
        height, width = inputs.shape[1:3]
        padded = jnp.pad(inputs, [(0, 0), (1, 1), (1, 1), (0, 0)])
        return padded[:, 1 - down : 1 - down + height, 1 - right : 1 - right + width]

    def loss(params: Params, inputs: Array, labels: Array) -> Array:
        if inputs.ndim != 4:
            raise ValueError(
                "shifted copies need images (B, H, W, C), got inputs of shape "
                f"{inputs.shape}: take multiplicity 1."
            )
        copies = [moved(inputs, *shift) for shift in SHIFTS[:multiplicity]]
        each = [model.loss(params, copy, labels) for copy in copies]
        return jnp.mean(jnp.stack(each), axis=0)

    return dataclasses.replace(model, loss=loss)
