"""Labelled images in memory: the form that every source of data is brought into."""

import dataclasses
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import jax

# (N, H, W, C): images as stored, 0..255, not normalised; or features of such, float32.
Images = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]  # (N,), 0 .. num_classes - 1
Indices = npt.NDArray[np.int64]  # positions in an `Examples`

_Array = TypeVar("_Array", npt.NDArray[np.generic], "jax.Array")


class DatasetError(ValueError):
    """A data set that cannot be had; the message is one sentence with the ways out."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """Labelled images, or features of images; see `models.scattered`.

    Attributes:
        inputs: (N, H, W, C), uint8 for images and float32 for features.
        labels: int32 (N,).

    Raises:
        ValueError: other shapes or dtypes, or lengths that differ.
    """

    inputs: Images
    labels: Labels

    def __post_init__(self) -> None:
        if self.inputs.ndim != 4 or self.inputs.dtype not in (np.uint8, np.float32):
            raise ValueError(
                "inputs must be uint8 or float32 (N, H, W, C), got "
                f"{self.inputs.dtype} {self.inputs.shape}."
            )
        if self.labels.shape != self.inputs.shape[:1] or self.labels.dtype != np.int32:
            raise ValueError(
                f"labels must be int32 ({len(self.inputs)},), got "
                f"{self.labels.dtype} {self.labels.shape}."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.integer]) -> "Examples":
        """The examples at `indices` (M,), in that order, copied."""
        return Examples(self.inputs[indices], self.labels[indices])


@dataclasses.dataclass(frozen=True)
class Normalization:
    """Maps stored pixels to what a model sees: `(inputs - offset) / scale`.

    The constants are public: they follow from the file format (a byte holds 0..255) or
    are typed in by whoever runs the experiment. They are never computed from the
    training images, as the usual "subtract the mean, divide by the standard deviation"
    is: mean and deviation are functions of private records, so every client would
    release them through the model's inputs, outside of any clipping, noise and
    accounting, and the stated epsilon would not cover them.

    Attributes:
        offset: subtracted first, in units of a stored pixel.
        scale: divides second; not 0. The defaults map 0..255 to [0, 1].
    """

    offset: float = 0.0
    scale: float = 255.0

    def __post_init__(self) -> None:
        if not np.isfinite([self.offset, self.scale]).all() or self.scale == 0:
            raise ValueError(
                "normalisation needs a finite offset and a finite scale other than 0, "
                f"got offset={self.offset} and scale={self.scale}."
            )

    def __call__(self, inputs: _Array) -> _Array:
        """float32 of the shape of `inputs`, uint8 (...): NumPy, JAX, or traced."""
        return (inputs.astype(np.float32) - np.float32(self.offset)) / np.float32(
            self.scale
        )


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A training set, its test set, and the public facts about them.

    Attributes:
        name: what `load` was asked for.
        train: the examples that are dealt to clients.
        test: examples that nothing but the final evaluation may touch.
        num_classes: labels lie in 0 .. num_classes - 1.
        normalization: public constants; see `Normalization`.
    """

    name: str
    train: Examples
    test: Examples
    num_classes: int
    normalization: Normalization = Normalization()

    def __post_init__(self) -> None:
        if self.train.inputs.shape[1:] != self.test.inputs.shape[1:]:
            raise DatasetError(
                f"{self.name}: training images are {self.train.inputs.shape[1:]} and "
                f"test images {self.test.inputs.shape[1:]} (height, width, channels)."
            )
        for split, examples in (("training", self.train), ("test", self.test)):
            labels = examples.labels
            if not len(labels):
                raise DatasetError(f"{self.name}: the {split} set is empty.")
            if labels.min() < 0 or labels.max() >= self.num_classes:
                raise DatasetError(
                    f"{self.name}: {split} labels run from {labels.min()} to "
                    f"{labels.max()}, outside 0..{self.num_classes - 1}."
                )


def split_validation(
    examples: Examples, fraction: float, seed: int
) -> tuple[Examples, Examples]:
    """Sets a stratified part aside, for choosing hyper-parameters.

    Each class gives its share of the `round(fraction * N)` validation examples, up to
    rounding by largest remainders, drawn without replacement.

    Args:
        examples: usually a data set's training set.
        fraction: of the examples, in (0, 1).
        seed: of the draw; the same seed gives the same split.

    Returns:
        `(train, validation)`, disjoint, together all examples, each in the original
        order.

    Raises:
        ValueError: a fraction outside (0, 1), or one that leaves either part empty.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the validation fraction must be in (0, 1), got {fraction}.")
    size = round(fraction * len(examples))
    if not 0 < size < len(examples):
        raise ValueError(
            f"a validation fraction of {fraction} leaves a part of the "
            f"{len(examples)} examples empty."
        )
    chosen = stratified(examples.labels, size, np.random.default_rng(seed))
    rest = np.setdiff1d(np.arange(len(examples)), chosen, assume_unique=True)
    return examples.take(rest), examples.take(chosen)


def stratified(
    labels: npt.NDArray[np.integer],
    size: int,
    rng: np.random.Generator | np.random.RandomState,
) -> Indices:
    """Draws `size` of the positions of `labels` (N,), each class by its share; sorted.

    Shares are rounded by `apportion`. Needs `0 <= size <= N`.
    """
    classes, counts = np.unique(labels, return_counts=True)
    chosen: list[Indices] = [
        rng.permutation(np.flatnonzero(labels == label))[:share]
        for label, share in zip(classes, apportion(size, counts), strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def apportion(total: int, weights: npt.ArrayLike) -> Indices:
    """Splits an integer in proportion to weights, by largest remainders.

    Args:
        total: what to split, >= 0.
        weights: (K,), >= 0, with a positive sum.

    Returns:
        int64 (K,) that sums to `total`, each entry within 1 of its exact share. Ties
        go to the lower index.
    """
    weights = np.asarray(weights, np.float64)
    exact = total * (weights / weights.sum())
    shares: Indices = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(shares - exact, kind="stable")
    shares[by_remainder[: total - shares.sum()]] += 1
    return shares
