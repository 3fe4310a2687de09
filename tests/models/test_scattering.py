"""Scattering coefficients against plain convolutions, and what they may depend on."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private import models
from fedjax_private.datasets import Dataset, Examples, Normalization
from fedjax_private.models import scattering

pytestmark = pytest.mark.usefixtures("full_precision")

ANGLES = np.arange(8) * np.pi / 8
features_of = jax.jit(scattering.scattering)


def drawn(height, width, depth=1, count=3, seed=0):
    """Soft blobs, hard edges and a little noise, in [0, 1]."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    images = np.zeros((count, height, width, depth))
    for image, channel in itertools.product(range(count), range(depth)):
        for _ in range(3):
            at = generator.uniform(0.2, 0.8, 2) * (height, width)
            distance = (y - at[0]) ** 2 + (x - at[1]) ** 2
            images[image, :, :, channel] += np.exp(-distance / 8)
        slope = generator.normal(size=2)
        edge = slope @ [height / 2, width / 2]
        images[image, :, :, channel] += slope[0] * y + slope[1] * x > edge
    images += 0.05 * generator.random(images.shape)
    return (images / images.max()).astype(np.float32)


def wavelet(size, scale, angle):
    """The transform of a Morlet wavelet, or of the Gaussian where there is no angle."""
    offsets = [(np.arange(n) + n // 2) % n - n // 2 for n in size]
    total, window = np.zeros(size, complex), np.zeros(size)
    for tile in itertools.product(range(-3, 4), repeat=2):
        y = offsets[0][:, None] + tile[0] * size[0]
        x = offsets[1][None, :] + tile[1] * size[1]
        along = y * np.cos(angle or 0) + x * np.sin(angle or 0)
        across = x * np.cos(angle or 0) - y * np.sin(angle or 0)
        width, slant = 0.8 * 2**scale, 1.0 if angle is None else 0.5
        bell = np.exp(-(along**2 + (slant * across) ** 2) / (2 * width**2))
        bell *= slant / (2 * np.pi * width**2)
        window += bell
        total += bell * np.exp(0 if angle is None else 0.75j * np.pi / 2**scale * along)
    if angle is not None:
        total -= window * total.sum() / window.sum()
    return np.fft.fft2(total)


def direct(image):
    """(H, W) -> (h, w, 81): all at full resolution, sampled at the very end."""
    height, width = image.shape
    size = [4 * (-(-side // 4) + 2) for side in image.shape]
    places = [(4, size[0] - 4 - height), (4, size[1] - 4 - width)]
    padded = np.pad(image.astype(float), places, mode="symmetric")
    low = wavelet(size, 1, None)
    waves = [[wavelet(size, scale, angle) for angle in ANGLES] for scale in (0, 1)]

    def passed(values, kernel):
        return np.fft.ifft2(np.fft.fft2(values) * kernel)

    first = [[np.abs(passed(padded, psi)) for psi in scale] for scale in waves]
    second = [np.abs(passed(one, psi)) for one in first[0] for psi in waves[1]]
    paths = [padded, *first[0], *first[1], *second]
    averaged = [passed(path, low).real[4:-4:4, 4:-4:4] for path in paths]
    return np.stack(averaged, axis=-1)


@pytest.mark.parametrize(
    ("shape", "features"), [((28, 28, 1), (7, 7, 81)), ((30, 25, 3), (8, 7, 243))]
)
def test_coefficients_are_those_of_plain_convolutions(shape, features):
    images = drawn(*shape)
    found = np.asarray(features_of(images))
    assert found.shape == (3, *features)
    assert scattering.shape(*shape) == features
    for image, ours in zip(images, found, strict=True):
        right = np.concatenate([direct(plane) for plane in image.T.swapaxes(1, 2)], -1)
        # What differs is what folds over where moduli are sampled before the end.
        error = np.abs(ours - right)
        assert error.max() < 5e-3
        for first in range(0, features[-1], 81):
            for order in (slice(0, 1), slice(1, 17), slice(17, 81)):
                own = error[..., first : first + 81][..., order]
                whole = right[..., first : first + 81][..., order]
                assert own.mean() < 0.02 * np.abs(whole).mean()


def test_a_constant_image_has_its_mean_only():
    (found,) = np.asarray(features_of(np.full((1, 28, 28, 1), 0.7, np.float32)))
    np.testing.assert_allclose(found[..., 0], 0.7, rtol=1e-3)
    assert np.abs(found[..., 1:]).max() < 1e-5


def test_a_shift_moves_features_less_than_the_image():
    margin = [(0, 0), (5, 5), (5, 5), (0, 0)]
    images = np.pad(drawn(18, 18), margin)
    moved = np.roll(images, 1, axis=2)

    def change(one, other):
        axes = (1, 2, 3)
        return np.sqrt(((one - other) ** 2).sum(axes) / (one**2).sum(axes))

    features = [np.asarray(features_of(each)) for each in (images, moved)]
    assert np.all(change(*features) < 0.6 * change(images, moved))


def test_groups_have_mean_zero_and_variance_one():
    generator = np.random.default_rng(0)
    scale = generator.uniform(1, 50, (4, 1, 1, 81))
    features = scale * generator.normal(size=(4, 7, 7, 81)) + 3 * scale
    for groups in (9, 27):
        found = np.asarray(scattering.normalized(jnp.float32(features), groups))
        grouped = found.reshape(4, 49, groups, 81 // groups)
        np.testing.assert_allclose(grouped.mean(axis=(1, 3)), 0, atol=1e-4)
        np.testing.assert_allclose(grouped.var(axis=(1, 3)), 1, atol=1e-3)
    nothing = scattering.normalized(jnp.zeros((1, 7, 7, 81)))
    np.testing.assert_array_equal(nothing, 0.0)


@pytest.fixture(scope="module")
def dataset():
    generator = np.random.default_rng(0)

    def examples(count):
        inputs = generator.integers(0, 256, (count, 12, 10, 1), np.uint8)
        return Examples(inputs, np.arange(count, dtype=np.int32) % 3)

    return Dataset("noise", examples(6), examples(2), 3, Normalization())


def test_features_of_a_record_depend_on_no_other(dataset, monkeypatch):
    monkeypatch.setattr(scattering, "BATCH", 4)  # two batches, the second padded
    found = models.scattered(dataset)
    assert found.train.inputs.shape == (6, 3, 3, 81)
    assert found.train.inputs.dtype == np.float32
    np.testing.assert_array_equal(found.train.labels, dataset.train.labels)
    for changed in (1, 5):
        inputs = dataset.train.inputs.copy()
        inputs[changed] = 255 - inputs[changed]
        other = dataclasses.replace(
            dataset, train=Examples(inputs, dataset.train.labels)
        )
        again = models.scattered(other).train.inputs
        pairs = zip(found.train.inputs, again, strict=True)
        same = [np.array_equal(*pair) for pair in pairs]
        assert same == [record != changed for record in range(6)]
    alone = features_of(dataset.normalization(dataset.train.inputs[5:]))
    alone = scattering.normalized(alone)[0]
    np.testing.assert_allclose(found.train.inputs[5], alone, atol=1e-4)


def test_a_linear_model_starts_at_zero_on_features_and_takes_no_images(dataset):
    features = models.features("scattering_linear", dataset)
    model = models.for_dataset("scattering_linear", features)
    params = model.init(jax.random.key(0))
    assert models.parameter_count(params) == 3 * (3 * 3 * 81 + 1)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(params))
    inputs, labels = features.test.inputs, features.test.labels
    np.testing.assert_allclose(model.loss(params, inputs, labels), np.log(3), rtol=1e-6)
    gradient = jax.grad(lambda p: model.loss(p, inputs, labels).sum())(params)
    # Of the class that is right: (1/3 - 1) x, with the features as they are.
    kernel = np.asarray(gradient["Dense_0"]["kernel"])
    probabilities = np.eye(3)[labels] - 1 / 3
    right = -np.einsum("np,nc->pc", inputs.reshape(2, -1), probabilities)
    np.testing.assert_allclose(kernel, right, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"models\.features"):
        models.for_dataset("scattering_linear", dataset)


def test_the_entry_starts_from_features_of_images():
    entry = models.MODELS.find("scattering_linear")
    assert entry.features is models.scattered
    assert not entry.augmentable
    examples = Examples(np.zeros((2, 5), np.uint8), np.zeros(2, np.int32))
    with pytest.raises(ValueError, match=r"takes images.*have shape \(5,\)"):
        models.features(entry, Dataset("vectors", examples, examples, 2))
