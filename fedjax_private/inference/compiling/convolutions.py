"""Convolutions, recognised by which pixels their outputs depend on."""

import math

import numpy as np
import numpy.typing as npt

from fedjax_private.inference.compiling.circuit import Floats, Patches


def find_patches(
    matrix: Floats, input_shape: tuple[int, ...], output_shape: tuple[int, ...]
) -> Patches | None:
    """The windows of an affine map over images, or None where there are none smaller.

    Convolutions, pools and what is composed of them have such windows; padding is what
    lies outside of the image.

    Args:
        matrix: (outputs, inputs), outputs in order of `output_shape`.
        input_shape: (H, W, C).
        output_shape: (windows down, windows right, maps), or anything else.
    """
    if len(output_shape) != 3 or math.prod(output_shape) != len(matrix):
        return None
    support = (matrix != 0).reshape(*output_shape, *input_shape)
    rows = support.any(axis=(1, 2, 4, 5))  # (windows down, H)
    columns = support.any(axis=(0, 2, 3, 5))  # (windows right, W)
    down, right = _window(rows), _window(columns)
    if down is None or right is None:
        return None
    patches = Patches((down[0], right[0]), (down[1], right[1]), (down[2], right[2]))
    whole = down[0] >= input_shape[0] and right[0] >= input_shape[1]
    if whole or patches.grid(input_shape) != output_shape[:2]:
        return None
    return patches


def _window(touched: npt.NDArray[np.bool_]) -> tuple[int, int, tuple[int, int]] | None:
    """Size, stride and padding along an axis: (windows, pixels) to what explains it."""
    if not touched.any(axis=1).all():
        return None
    count, size = touched.shape
    first = touched.argmax(axis=1)
    last = size - 1 - touched[:, ::-1].argmax(axis=1)
    # Windows at the edges may be cut; those in between tell the stride.
    steps = np.concatenate([np.diff(first), np.diff(last)])
    stride = int(steps.max(initial=1)) if count > 1 else 1
    if stride < 1:
        return None
    places = stride * np.arange(count)
    before = max(int((places - first).max()), 0)
    kernel = int((last - places + before).max()) + 1
    after = max(int(places[-1]) + kernel - before - size, 0)
    return kernel, stride, (before, after)
