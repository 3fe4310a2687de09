"""Vectors to rows of plaintext slots and back. NumPy only, any scheme.

What fills a last row up is zero, is encrypted like everything else, and is dropped
after decryption together with the noise on it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.parameters import Parameters

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# (R, slots): complex128 or float64 in CKKS, int64 in exact schemes.
Rows = npt.NDArray[Any]


def pack(vector: npt.NDArray[Any], parameters: Parameters) -> Rows:
    """Returns a vector (values,) as rows of slots.

    Args:
        vector: floats for CKKS, two of them in a slot where packing is complex; whole
            numbers in [0, 2^b) for exact schemes, one a lane.
        parameters: of the sums.

    Raises:
        ValueError: if the vector has another shape, or what should be whole numbers is
            of another type or out of range.
    """
    request = parameters.request
    if vector.shape != (request.values,):
        raise ValueError(
            f"a vector of shape {vector.shape} where ({request.values},) was declared."
        )
    if request.scheme.exact and vector.dtype.kind not in "iu":
        raise ValueError(
            f"exact schemes add whole numbers, got {vector.dtype}: quantise first."
        )
    filled = np.zeros(
        parameters.rows * parameters.values_per_ciphertext,
        np.int64 if request.scheme.exact else np.float64,
    )
    filled[: vector.size] = vector
    if not request.scheme.exact:
        kind = np.complex128 if request.complex_packing else np.float64
        return filled.view(kind).reshape(parameters.rows, parameters.slots)
    if filled.min() < 0 or filled.max() >= 1 << request.bits:
        raise ValueError(
            f"whole numbers to be added lie in [0, 2^{request.bits}), got "
            f"{filled.min()} to {filled.max()}."
        )
    shape = parameters.rows, parameters.lanes, parameters.slots
    lanes: npt.NDArray[Any] = filled.reshape(shape)
    rows = lanes[:, 0].copy()
    for lane in range(1, parameters.lanes):
        rows |= lanes[:, lane] << parameters.lane_bits * lane
    return rows


def unpack(rows: Rows, parameters: Parameters) -> FloatArray | IntArray:
    """Returns the vector (values,) that rows of slots hold.

    Exact sums come as whole numbers mod 2^b, in [0, 2^b): carries end in the lane's
    upper bits, and are cut off there.

    Raises:
        ValueError: if the rows are not those of a vector of that size.
    """
    if rows.shape != (parameters.rows, parameters.slots):
        raise ValueError(
            f"rows of shape {rows.shape} where "
            f"{(parameters.rows, parameters.slots)} were expected."
        )
    request = parameters.request
    if not request.scheme.exact:
        values = np.ascontiguousarray(rows).view(np.float64)
        return values.reshape(-1)[: request.values].copy()
    shifts = parameters.lane_bits * np.arange(parameters.lanes)
    lanes = rows[:, None, :] >> shifts[:, None] & (1 << request.bits) - 1
    return np.asarray(lanes.reshape(-1)[: request.values])
