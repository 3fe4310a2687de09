"""Masked vectors as bytes: exactly M bits a value, up to seven values of padding."""

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.errors import WireError
from fedjax_private.encryption.masking.seeds import Words

_GROUP = 8  # values whose bits beyond whole bytes fill whole bytes together
# Bytes of a value that NumPy has a type for, which it converts fast.
_NATIVE = {1: "<u1", 2: "<u2", 4: "<u4", 8: "<u8"}


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
    if whole in _NATIVE:
        low = vector.astype(_NATIVE[whole], copy=False)  # drops the high bytes
    else:
        parts = vector.view(np.uint8).reshape(size, width)
        low = np.ascontiguousarray(parts[:, :whole])
    if not rest:
        return low.tobytes()
    high = np.zeros(-(-size // _GROUP) * _GROUP, np.uint8)
    high[:size] = vector >> vector.dtype.type(8 * whole)
    groups = high.view("<u8")
    for lane in (8, 16, 32):  # two lanes become one, without the gap between their bits
        bits_of_lane = rest * lane // 8
        kept = _lanes(2 * lane, bits_of_lane)
        upper = groups >> np.uint64(lane) & kept
        groups = groups & kept | upper << np.uint64(bits_of_lane)
    return low.tobytes() + groups.view(np.uint8).reshape(-1, 8)[:, :rest].tobytes()


def unpack(data: bytes | memoryview, values: int, bits: int) -> Words:
    """Returns the vector (values,) that `pack` wrote, of the type `word(bits)`.

    Raises:
        WireError: if there are more or fewer bytes, or the padding is not zero.
    """
    if len(data) != packed_size(values, bits):
        raise WireError(f"a masked vector of {len(data)} bytes.")
    whole, rest = divmod(bits, 8)
    kind, raw = word(bits), np.frombuffer(data, np.uint8)
    low = raw[: whole * values]
    if whole in _NATIVE:
        vector = low.view(_NATIVE[whole]).astype(kind, copy=bool(rest))
    else:
        vector = np.zeros(values, kind)
        parts = vector.view(np.uint8).reshape(values, kind.itemsize)
        parts[:, :whole] = low.reshape(values, whole)
    if rest:
        padded = np.zeros((-(-values // _GROUP), _GROUP), np.uint8)
        padded[:, :rest] = raw[whole * values :].reshape(-1, rest)
        groups = padded.view("<u8")
        for lane in (32, 16, 8):
            bits_of_lane = rest * lane // 8
            kept = _lanes(2 * lane, bits_of_lane)
            upper = groups >> np.uint64(bits_of_lane) & kept
            groups = groups & kept | upper << np.uint64(lane)
        high = groups.view(np.uint8).reshape(-1)
        if high[values:].any():
            raise WireError("a masked vector whose padding is not zero.")
        vector |= high[:values].astype(kind) << kind.type(8 * whole)
    return vector


def _lanes(width: int, bits: int) -> npt.NDArray[np.uint64]:
    """Returns a word whose lanes of `width` bits have their lowest `bits` set."""
    lanes = range(0, 64, width)
    return np.array([sum((1 << bits) - 1 << lane for lane in lanes)], np.uint64)
