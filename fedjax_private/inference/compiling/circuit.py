"""Circuits: networks of affine maps and polynomials, as plain numbers.

`compiler` makes a circuit from a Flax model, `planning` finds encryption parameters for
it, and `Circuit.plain` evaluates it on inputs in clear, in float64, for comparison with
encrypted predictions.
"""

import dataclasses
import itertools
import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

# Bounds are the largest values on sample images times this.
_MARGIN = 2.0


@dataclasses.dataclass(frozen=True)
class Patches:
    """The geometry of a first convolution over (H, W, C) images.

    Attributes:
        kernel: rows and columns of a window.
        strides: steps between windows, down and right.
        padding: zeros before and after, for rows and for columns.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]

    def __post_init__(self) -> None:
        sizes = (*self.kernel, *self.strides)
        edges = tuple(itertools.chain(*self.padding))
        if min(sizes) < 1 or min(edges) < 0:
            raise ValueError(
                "kernel and strides must be positive and padding not negative, got "
                f"{self}."
            )

    def grid(self, input_shape: tuple[int, ...]) -> tuple[int, int]:
        """Numbers of windows, down and right.

        Raises:
            ValueError: if images are not (H, W, C), or no window fits.
        """
        if len(input_shape) != 3:
            raise ValueError(f"patches need images (H, W, C), got {input_shape}.")
        down, right = (
            (size + sum(edges) - window) // stride + 1
            for size, edges, window, stride in zip(
                input_shape[:2], self.padding, self.kernel, self.strides, strict=True
            )
        )
        if down < 1 or right < 1:
            raise ValueError(f"no window of {self.kernel} fits {input_shape}.")
        return down, right

    def indices(self, input_shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
        """The index in a flat image of each window's pixels; -1 in the padding.

        Args:
            input_shape: (H, W, C).

        Returns:
            (windows, kernel rows * kernel columns * C).
        """
        height, width, channels = input_shape
        grid = self.grid(input_shape)
        positions = [
            np.arange(count)[:, None] * stride + np.arange(window) - edges[0]
            for count, stride, window, edges in zip(
                grid, self.strides, self.kernel, self.padding, strict=True
            )
        ]
        rows = positions[0][:, None, :, None, None]
        columns = positions[1][None, :, None, :, None]
        indices = (rows * width + columns) * channels + np.arange(channels)
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        indices = np.where(np.broadcast_to(inside, indices.shape), indices, -1)
        return indices.reshape(math.prod(grid), -1).astype(np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class Affine:
    """The affine map x -> matrix x + bias on flat vectors.

    Attributes:
        name: of the layer in the model.
        matrix: (outputs, inputs) float64.
        bias: (outputs,) float64.
        patches: the windows, if this is a first convolution: each output depends on one
            window's pixels only. Outputs are then ordered as (windows, maps).

    Raises:
        ValueError: on construction, for other shapes or numbers that are not finite.
    """

    name: str
    matrix: Floats
    bias: Floats
    patches: Patches | None = None

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or self.bias.shape != self.matrix.shape[:1]:
            raise ValueError(
                f"{self.name}: matrix must be (outputs, inputs) and bias (outputs,), "
                f"got {self.matrix.shape} and {self.bias.shape}."
            )
        _check_numbers(self.name, self.matrix, self.bias)

    @property
    def inputs(self) -> int:
        """Numbers that it takes."""
        return int(self.matrix.shape[1])

    @property
    def outputs(self) -> int:
        """Numbers that it returns."""
        return len(self.bias)

    def __call__(self, inputs: Floats) -> Floats:
        """Maps (B, inputs) to (B, outputs)."""
        return inputs @ self.matrix.T + self.bias


@dataclasses.dataclass(frozen=True, eq=False)
class Polynomial:
    """A polynomial applied to each entry.

    Attributes:
        name: of the layer in the model.
        coefficients: (degree + 1, n) float64, ascending: column i is that of entry i.

    Raises:
        ValueError: on construction, for other shapes, a degree below 1, or numbers that
            are not finite.
    """

    name: str
    coefficients: Floats

    def __post_init__(self) -> None:
        if self.coefficients.ndim != 2 or len(self.coefficients) < 2:
            raise ValueError(
                f"{self.name}: coefficients must be (degree + 1, entries) of degree 1 "
                f"or more, got {self.coefficients.shape}."
            )
        _check_numbers(self.name, self.coefficients)

    @property
    def inputs(self) -> int:
        """Numbers that it takes."""
        return int(self.coefficients.shape[1])

    @property
    def outputs(self) -> int:
        """Numbers that it returns."""
        return self.inputs

    def __call__(self, inputs: Floats) -> Floats:
        """Maps (B, n) to (B, n)."""
        result = np.broadcast_to(self.coefficients[-1], inputs.shape)
        for row in self.coefficients[-2::-1]:
            result = result * inputs + row
        return np.asarray(result)


Layer: TypeAlias = Affine | Polynomial


@dataclasses.dataclass(frozen=True, eq=False)
class Circuit:
    """A network of affine maps and polynomials.

    Attributes:
        input_shape: of one image.
        layers: in order; each takes the outputs of the one before.
        bounds: largest expected absolute values, of the inputs and after each layer;
            scales are chosen by them. Empty until measured; see `measured`.
        spreads: root mean squares of the same values; errors are predicted by them.

    Raises:
        ValueError: on construction, if there is no layer, sizes do not fit, names
            repeat, or bounds and spreads are not one positive number for each.
    """

    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    bounds: tuple[float, ...] = ()
    spreads: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("a circuit has at least one layer.")
        size = self.inputs
        for layer in self.layers:
            if layer.inputs != size:
                raise ValueError(
                    f"{layer.name} takes {layer.inputs} values, but gets {size}."
                )
            size = layer.outputs
        if len(set(self.names)) < len(self.layers):
            raise ValueError(f"names of layers repeat: {', '.join(self.names)}.")
        if not self.bounds and not self.spreads:
            return
        for name in ("bounds", "spreads"):
            numbers = getattr(self, name)
            if len(numbers) != len(self.layers) + 1 or not all(
                0 < number < math.inf for number in numbers
            ):
                raise ValueError(
                    f"{name} must be {len(self.layers) + 1} positive numbers, got "
                    f"{numbers}."
                )

    @property
    def inputs(self) -> int:
        """Numbers in one image."""
        return math.prod(self.input_shape)

    @property
    def outputs(self) -> int:
        """Numbers in one result."""
        return self.layers[-1].outputs

    @property
    def names(self) -> tuple[str, ...]:
        """The layers' names."""
        return tuple(layer.name for layer in self.layers)

    def _values(self, inputs: npt.ArrayLike) -> list[Floats]:
        """The inputs, then the values after each layer, (B, n) each."""
        values = np.asarray(inputs, np.float64)
        if values.shape[1:] != self.input_shape:
            raise ValueError(
                f"inputs must be (B, {', '.join(map(str, self.input_shape))}), got "
                f"{values.shape}."
            )
        stages: list[Floats] = [values.reshape(len(values), -1)]
        for layer in self.layers:
            stages.append(layer(stages[-1]))
        return stages

    def plain(self, inputs: npt.ArrayLike) -> Floats:
        """Evaluates in clear: (B, *input_shape) -> (B, outputs) float64."""
        return self._values(inputs)[-1]

    def measured(self, sample: npt.ArrayLike) -> "Circuit":
        """The same circuit with bounds: twice the largest values on sample images.

        An image whose values exceed the bounds may decrypt to nonsense, so the sample
        should be like the images to come. It should be public, since clients can see
        the bounds.

        Args:
            sample: (B, *input_shape), at least one image.
        """
        stages = self._values(sample)
        bounds = (_MARGIN * max(float(np.abs(v).max()), 1e-6) for v in stages)
        spreads = (max(float(np.sqrt((v**2).mean())), 1e-7) for v in stages)
        return dataclasses.replace(self, bounds=tuple(bounds), spreads=tuple(spreads))

    def split(self, name: str) -> "tuple[Circuit, Circuit]":
        """The circuit up to and including a layer, and the circuit after it.

        Args:
            name: of the layer.

        Raises:
            ValueError: if there is no such layer, or it is the last.
        """
        if name not in self.names[:-1]:
            raise ValueError(
                f"no layer {name!r} to split after: choose one of "
                f"{', '.join(self.names[:-1]) or 'none'}."
            )
        end = self.names.index(name) + 1
        first = Circuit(
            self.input_shape,
            self.layers[:end],
            self.bounds[: end + 1],
            self.spreads[: end + 1],
        )
        rest = self.layers[end:], self.bounds[end:], self.spreads[end:]
        return first, Circuit((first.outputs,), *rest)


def _check_numbers(name: str, *arrays: Floats) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(f"{name}: a parameter is not finite.")
