"""Vectors to rows of plaintext slots and back, for every scheme. NumPy only.

The last row is padded with zeros. The padding is encrypted like every other entry and
is dropped after decryption, together with the noise on it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.parameters import Parameters, SumRequest

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# (R, slots): complex128 or float64 in CKKS, int64 in exact schemes.
Rows = npt.NDArray[Any]

# `quantization.NOT_FINITE`, which is not imported because it needs JAX.
_NOT_FINITE = np.iinfo(np.int32).min


def check_vector(client: int, vector: npt.NDArray[Any], request: SumRequest) -> None:
    """Refuses a vector that must not be encrypted, in the client.

    Args:
        client: its number, for messages.
        vector: (values,), as for `pack`.
        request: what is to be summed.

    Raises:
        ValueError: if an entry is not finite or stands for such a one, or is beyond the
            declared bound; with residues there is none.
    """
    # The extrema propagate NaN, and an infinity is one of them.
    least, most = vector.min(initial=0), vector.max(initial=0)
    if least == _NOT_FINITE or not np.isfinite([least, most]).all():
        raise ValueError(
            f"client {client}: the vector has an entry that is not finite, which "
            "cannot be encrypted; the training has probably diverged: give a lower "
            "learning_rate."
        )
    whole, largest = request.scheme.exact, max(float(most), -float(least))
    bound = (1 << request.bits - 1) - 1 if whole else request.value_bound
    if not request.residues and largest > bound:
        raise ValueError(
            f"client {client}: the vector has an entry of absolute value {largest:g}, "
            f"beyond the declared bound of {bound:g}: encode vectors with the codec of "
            "the aggregation, which cuts such entries off."
        )


def pack(vector: npt.NDArray[Any], parameters: Parameters) -> Rows:
    """Returns a vector (values,) as rows of slots.

    Args:
        vector: floats for CKKS, two in a slot with complex packing; signed whole
            numbers for exact schemes, one in a lane. A row is a sum of these times
            powers of two, mod t, so that the rows of a sum of vectors depend on the
            true sum only, and on no carry of a single vector.
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
    most = (1 << request.bits - 1) - 1
    if request.residues:  # noise has no bound; below this nothing overflows
        most = 1 << 62 - parameters.lane_bits * (parameters.lanes - 1)
    if vector.min() < -most or vector.max() > most:
        raise ValueError(
            f"whole numbers to be added lie within +-{most}, got {vector.min()} to "
            f"{vector.max()}: encode vectors with the aggregation's codec."
        )
    shape = parameters.rows, parameters.lanes, parameters.slots
    lanes: npt.NDArray[Any] = padded.reshape(shape)
    rows = lanes[:, 0].copy()
    for lane in range(1, parameters.lanes):
        rows += lanes[:, lane] << parameters.lane_bits * lane
    return np.asarray(rows % parameters.plaintext_modulus)


def unpack(rows: Rows, parameters: Parameters) -> FloatArray | IntArray:
    """Returns the vector (values,) that rows of slots hold.

    Exact sums come as signed whole numbers: true sums, or residues mod 2^b in
    [-2^(b-1), 2^(b-1)).

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
    # Half a lane more in every lane makes all digits positive, and still fits t.
    half = 1 << parameters.lane_bits - 1
    shifts = parameters.lane_bits * np.arange(parameters.lanes)
    shifted = (rows + int((half << shifts).sum())) % parameters.plaintext_modulus
    lanes = (shifted[:, None, :] >> shifts[:, None] & 2 * half - 1) - half
    total = np.asarray(lanes.reshape(-1)[: request.values])
    if request.residues:
        half = 1 << request.bits - 1
        total = (total + half & 2 * half - 1) - half
    return total
