"""Masked vectors as bytes: exactly M bits a value, up to seven values of padding."""

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.errors import WireError
from fedjax_private.encryption.masking.seeds import Words

_GROUP = 8  # values whose bits beyond whole bytes fill whole bytes together


def word(bits: int) -> np.dtype[np.unsignedinteger]:
    """Returns the smallest type, little endian, whose arithmetic serves mod 2^bits."""
    return np.dtype("<u2" if bits <= 16 else "<u4" if bits <= 32 else "<u8")


def packed_size(values: int, bits: int) -> int:
    """Returns the bytes of a vector."""
    whole, rest = divmod(bits, 8)
    return whole * values + rest * -(-values // _GROUP)


def pack(vector: Words, bits: int) -> bytes:
    """Returns a vector's bytes; bits of a value above the lowest `bits` are dropped.

    First the lowest whole bytes of all values, value by value; then the other bits, in
    groups of eight values.
    """
    whole, rest = divmod(bits, 8)
    size, width = vector.size, vector.dtype.itemsize
    if whole == width:
        return vector.tobytes()
    low = np.ascontiguousarray(vector.view(np.uint8).reshape(size, width)[:, :whole])
    if not rest:
        return low.tobytes()
    high = np.zeros((-(-size // _GROUP), _GROUP), np.uint64)
    high.reshape(-1)[:size] = vector >> vector.dtype.type(8 * whole)
    high &= np.uint64((1 << rest) - 1)
    high <<= _shifts(rest)
    groups = np.bitwise_or.reduce(high, axis=1).astype("<u8")
    return low.tobytes() + groups.view(np.uint8).reshape(-1, 8)[:, :rest].tobytes()


def unpack(data: bytes | memoryview, values: int, bits: int) -> Words:
    """Returns the vector (values,) that `pack` wrote, of the type `word(bits)`.

    Raises:
        WireError: if there are more or fewer bytes, or the padding is not zero.
    """
    if len(data) != packed_size(values, bits):
        raise WireError(f"a masked vector of {len(data)} bytes.")
    whole, rest = divmod(bits, 8)
    kind = word(bits)
    if whole == kind.itemsize:
        return np.frombuffer(data, kind)
    vector = np.zeros(values, kind)
    raw = np.frombuffer(data, np.uint8)
    parts = vector.view(np.uint8).reshape(values, kind.itemsize)
    parts[:, :whole] = raw[: whole * values].reshape(values, whole)
    if rest:
        words = np.zeros((-(-values // _GROUP), 8), np.uint8)
        words[:, :rest] = raw[whole * values :].reshape(-1, rest)
        high = words.view("<u8") >> _shifts(rest)
        high &= np.uint64((1 << rest) - 1)
        if high.reshape(-1)[values:].any():
            raise WireError("a masked vector whose padding is not zero.")
        vector |= high.reshape(-1)[:values].astype(kind) << kind.type(8 * whole)
    return vector


def _shifts(rest: int) -> npt.NDArray[np.uint64]:
    return np.arange(0, _GROUP * rest, rest, dtype=np.uint64)
