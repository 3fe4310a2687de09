"""Vectors to rows of plaintext slots and back, for every scheme. NumPy only.

The last row is padded with zeros. The padding is encrypted like every other entry and
is dropped after decryption, together with the noise on it.
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
        vector: floats for CKKS, two in a slot with complex packing; whole numbers in
            [0, 2^b) for exact schemes, one in a lane.
        parameters: the parameters of the sums.

    Raises:
        ValueError: if the vector has another shape, or if an exact scheme gets numbers
            that are not whole or out of range.
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
    padded = np.zeros(
        parameters.rows * parameters.values_per_ciphertext,
        np.int64 if request.scheme.exact else np.float64,
    )
    padded[: vector.size] = vector
    if not request.scheme.exact:
        dtype = np.complex128 if request.complex_packing else np.float64
        return padded.view(dtype).reshape(parameters.rows, parameters.slots)
    if padded.min() < 0 or padded.max() >= 1 << request.bits:
        raise ValueError(
            f"whole numbers to be added lie in [0, 2^{request.bits}), got "
            f"{padded.min()} to {padded.max()}."
        )
    shape = parameters.rows, parameters.lanes, parameters.slots
    lanes: npt.NDArray[Any] = padded.reshape(shape)
    rows = lanes[:, 0].copy()
    for lane in range(1, parameters.lanes):
        rows |= lanes[:, lane] << parameters.lane_bits * lane
    return rows


def unpack(rows: Rows, parameters: Parameters) -> FloatArray | IntArray:
    """Returns the vector (values,) that rows of slots hold.

    Exact sums come as whole numbers mod 2^b, in [0, 2^b): their carries end in the
    upper bits of the lane, which are dropped.

    Raises:
        ValueError: if the shape of the rows does not belong to such a vector.
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
