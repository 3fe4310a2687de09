import jax
import numpy as np
import pytest

from fedjax_private import models
from fedjax_private.datasets import Normalization
from fedjax_private.models.augmentation import SHIFTS


def linear(shape):
    return models.from_flax(models.Mlp(3), shape, Normalization())


def moved(images, down, right):
    """By hand: every pixel that stays in the picture, zeros elsewhere."""
    result = np.zeros_like(images)
    height, width = images.shape[1:3]
    for y in range(height):
        for x in range(width):
            if 0 <= y - down < height and 0 <= x - right < width:
                result[:, y, x] = images[:, y - down, x - right]
    return result


@pytest.mark.parametrize("multiplicity", [1, 2, 5, 9])
def test_the_loss_is_the_mean_over_shifted_copies(multiplicity):
    model = linear((5, 4, 2))
    params = model.init(jax.random.key(0))
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 2), np.uint8)
    labels = np.array([0, 2, 1], np.int32)
    losses = [
        model.loss(params, moved(images, *shift), labels)
        for shift in SHIFTS[:multiplicity]
    ]
    augmented = models.augmented(model, multiplicity)
    np.testing.assert_allclose(
        augmented.loss(params, images, labels), np.mean(losses, axis=0), rtol=1e-5
    )
    assert augmented.apply is model.apply


def test_shifts_are_those_of_a_pixel_and_differ():
    assert SHIFTS[0] == (0, 0)
    assert sorted(SHIFTS) == [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]


def test_bad_numbers_and_inputs():
    model = linear((4,))
    for multiplicity in (0, 10):
        with pytest.raises(ValueError, match="multiplicity must lie between 1 and 9"):
            models.augmented(model, multiplicity)
    params = model.init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"images \(B, H, W, C\), got.*\(2, 4\)"):
        models.augmented(model, 2).loss(
            params, np.zeros((2, 4), np.uint8), np.zeros(2, np.int32)
        )
