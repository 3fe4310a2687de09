"""Labelled examples in memory: the form that every source returns."""

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import jax

# (N, ...), as stored: bytes such as pixels 0..255, floats, or token numbers.
Inputs = npt.NDArray[np.uint8] | npt.NDArray[np.float32] | npt.NDArray[np.int32]
Labels = npt.NDArray[np.int32]  # (N,), 0 .. num_classes - 1
Indices = npt.NDArray[np.int64]  # positions in an `Examples`

_Array = TypeVar("_Array", npt.NDArray[np.generic], "jax.Array")


class DatasetError(ValueError):
    """A data set cannot be loaded; the message is one sentence with the ways out."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """Labelled inputs of any shape.

    Arrays of other dtypes are cast, so that no dtype needs thought: inputs as stated
    below, labels and clients from whole numbers and booleans of any width. See
    `datasets.from_arrays` for labels that are text.

    Attributes:
        inputs: (N, ...): uint8 for images (N, H, W, C), float32 for features, int32 for
            token numbers. Other floats and booleans become float32, other whole numbers
            int32.
        labels: int32 (N,), class numbers from 0.
        clients: int32 (N,), numbers from 0 of the clients that the data name; None
            where they name none. See the partition `natural`.

    Raises:
        ValueError: values that are no numbers, not finite, or out of range of the
            dtype; no leading axis, or lengths that differ.
    """

    inputs: Inputs
    labels: Labels
    clients: Labels | None = None

    def __post_init__(self) -> None:
        inputs = _cast_inputs(np.asarray(self.inputs))
        object.__setattr__(self, "inputs", inputs)
        for name in ("labels", "clients"):
            value = getattr(self, name)
            if name == "labels" or value is not None:
                numbers = _cast_numbers(name, np.asarray(value), len(inputs))
                object.__setattr__(self, name, numbers)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.integer]) -> "Examples":
        """The examples at `indices` (M,), in that order, copied."""
        clients = None if self.clients is None else self.clients[indices]
        return Examples(self.inputs[indices], self.labels[indices], clients)


def _cast_inputs(inputs: npt.NDArray[Any]) -> Inputs:
    """The inputs as uint8, float32 or int32, all finite; see `Examples`."""
    if inputs.ndim < 1 or inputs.dtype.kind not in "buif":
        raise ValueError(
            "inputs must be an array (N, ...) of numbers, got "
            f"{inputs.dtype} {inputs.shape}: turn text into numbers first, or read a "
            "table with text by csv:FILE."
        )
    if inputs.dtype == np.uint8:
        return inputs
    if inputs.dtype.kind in "ui":
        return _as_int32("inputs", inputs)
    with np.errstate(over="ignore"):  # said below
        floats: npt.NDArray[np.float32] = inputs.astype(np.float32, copy=False)
    # The extremes of an array with NaN are NaN; they take no memory, as a mask would.
    if floats.size and not np.isfinite([floats.min(), floats.max()]).all():
        wrong = ~np.isfinite(floats)
        place = tuple(map(int, np.argwhere(wrong)[0]))
        column = f", column {', '.join(map(str, place[1:]))}" if place[1:] else ""
        raise ValueError(
            f"inputs hold {int(wrong.sum())} values that are missing (NaN), infinite "
            f"or beyond float32, the first in example {place[0]}{column} (counted from "
            "0): fill them in or leave these examples out."
        )
    return floats


def _cast_numbers(name: str, values: npt.NDArray[Any], count: int) -> Labels:
    """Labels, or clients' numbers, as int32; see `Examples`."""
    if values.shape != (count,) or values.dtype.kind not in "bui":
        text = values.dtype.kind in "SUOT"
        way = (
            f"give {name} that are text to datasets.from_arrays, which numbers them"
            if text
            else "one whole number an example is wanted"
        )
        raise ValueError(
            f"{name} must be whole numbers or booleans ({count},), got {values.dtype} "
            f"{values.shape}: {way}."
        )
    return _as_int32(name, values)


def _as_int32(name: str, values: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    limits = np.iinfo(np.int32)
    if values.size and not (
        limits.min <= int(values.min()) <= int(values.max()) <= limits.max
    ):
        raise ValueError(
            f"{name} run from {values.min()} to {values.max()}, out of range of int32."
        )
    return values.astype(np.int32, copy=False)


@dataclasses.dataclass(frozen=True)
class Normalization:
    """Maps stored inputs to a model's inputs: `(inputs - offset) / scale`.

    The constants are public: they follow from the file format (a byte holds 0..255) or
    are typed in by whoever runs the experiment. They are never computed from the
    training images, as the usual "subtract the mean, divide by the standard deviation"
    is: mean and deviation are functions of private records, so every client would
    release them through the model's inputs, outside of any clipping, noise and
    accounting, and the stated epsilon would not cover them.

    Token numbers (int32) are returned unchanged.

    Attributes:
        offset: subtracted first, in units of the stored inputs.
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
        """uint8 or float32 (...) -> float32 (...), of NumPy or JAX, or traced."""
        if inputs.dtype == np.int32:
            return inputs
        return (inputs.astype(np.float32) - np.float32(self.offset)) / np.float32(
            self.scale
        )


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A training set, its test set, and the public facts about them.

    Attributes:
        name: for rows and messages; from built-in sources, the name given to `load`.
        train: the examples that are dealt to clients.
        test: examples for the final evaluation alone.
        num_classes: labels lie in 0 .. num_classes - 1.
        normalization: public constants; see `Normalization`.
        class_names: of classes 0, 1, ... in words; None where they have only numbers.
        client_names: of the named clients 0, 1, ... of train and test, as
            `Examples.clients` numbers them; None where they have only numbers.
        looked_up: a sentence for each fact, other than the classes and the clients'
            names, that was taken from the records and that no epsilon covers; runs with
            DP warn of it.
    """

    name: str
    train: Examples
    test: Examples
    num_classes: int
    normalization: Normalization = Normalization()
    class_names: tuple[str, ...] | None = None
    client_names: tuple[str, ...] | None = None
    looked_up: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise DatasetError(
                f"{self.name}: class_names has {len(self.class_names)} names for "
                f"{self.num_classes} classes."
            )
        train, test = (
            f"{split.inputs.dtype} {split.inputs.shape[1:]}"
            for split in (self.train, self.test)
        )
        if train != test:
            raise DatasetError(
                f"{self.name}: training inputs are {train} and test inputs {test}."
            )
        for split, examples in (("training", self.train), ("test", self.test)):
            labels = examples.labels
            if not len(labels):
                raise DatasetError(f"{self.name}: the {split} set is empty.")
            if labels.min() < 0 or labels.max() >= self.num_classes:
                raise DatasetError(
                    f"{self.name}: {split} labels run from {labels.min()} to "
                    f"{labels.max()}, outside 0..{self.num_classes - 1}: "
                    "datasets.from_arrays numbers classes."
                )
            if examples.clients is not None and examples.clients.min() < 0:
                raise DatasetError(
                    f"{self.name}: {split} clients run from {examples.clients.min()}; "
                    "they are numbered from 0."
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
