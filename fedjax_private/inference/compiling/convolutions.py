"""Recognises convolutions by the pixels that their outputs depend on."""

import math

import numpy as np
import numpy.typing as npt

from fedjax_private.inference.compiling.circuit import Floats, Patches


def find_patches(
    matrix: Floats, input_shape: tuple[int, ...], output_shape: tuple[int, ...]
) -> Patches | None:
    """The windows of an affine map over images, or None if they cover whole images.

    Convolutions, pools and compositions of them have windows. Padding is the part of
    windows outside of the image.

    Args:
        matrix: (outputs, inputs), the outputs in the order of `output_shape`.
        input_shape: (H, W, C).
        output_shape: (windows down, windows right, maps); others have no windows.
    """
    if len(output_shape) != 3 or math.prod(output_shape) != len(matrix):
        return None
    used = (matrix != 0).reshape(*output_shape, *input_shape)
    down = _windows_along(used.any(axis=(1, 2, 4, 5)))  # (windows down, H)
    right = _windows_along(used.any(axis=(0, 2, 3, 5)))  # (windows right, W)
    if down is None or right is None:
        return None
    patches = Patches((down[0], right[0]), (down[1], right[1]), (down[2], right[2]))
    whole = down[0] >= input_shape[0] and right[0] >= input_shape[1]
    if whole or patches.grid(input_shape) != output_shape[:2]:
        return None
    return patches


def _windows_along(
    used: npt.NDArray[np.bool_],
) -> tuple[int, int, tuple[int, int]] | None:
    """Size, stride and padding of windows along one axis, or None.

    Args:
        used: (windows, pixels), whether a window's output depends on a pixel.
    """
    if not used.any(axis=1).all():
        return None
    count, size = used.shape
    first = used.argmax(axis=1)
    last = size - 1 - used[:, ::-1].argmax(axis=1)
    # The image may cut windows at its edges; those in between show the stride.
    steps = np.concatenate([np.diff(first), np.diff(last)])
    stride = int(steps.max(initial=1)) if count > 1 else 1
    if stride < 1:
        return None
    starts = stride * np.arange(count)
    before = max(int((starts - first).max()), 0)
    kernel = int((last - starts + before).max()) + 1
    after = max(int(starts[-1]) + kernel - before - size, 0)
    return kernel, stride, (before, after)
