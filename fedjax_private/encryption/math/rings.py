"""Polynomials as arrays of residues: their sums, and their bits on the wire.

A ciphertext of any scheme is a few elements of R_q = Z_q[X] / (X^N + 1), with q a
product of word-sized primes. Ciphertexts are added by adding residues. This needs
neither a key nor OpenFHE, and no received ciphertext reaches OpenFHE unchecked.
"""

import dataclasses
import functools
import itertools
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.errors import WireError

# (..., L, N): for each of L primes q_l, the N residues of a polynomial mod q_l.
Residues: TypeAlias = npt.NDArray[np.uint64]

# The bits of a number are stored in planes of these widths; several values of a plane
# narrower than a byte share a byte.
_PLANES = (32, 16, 8, 4, 2, 1)
_WORD_BITS = 64
# Polynomials packed together, so that they fit the cache: 16, or more of few residues.
_BLOCK, _BLOCK_RESIDUES = 16, 2**16


@dataclasses.dataclass(frozen=True)
class Ring:
    """R_q, whose elements are given by residues modulo each prime.

    Attributes:
        dimension: N, the degree; a power of two, at least 8.
        moduli: the L primes whose product is q, each below 2^60.
    """

    dimension: int
    moduli: tuple[int, ...]

    @property
    def limbs(self) -> int:
        """L, the number of primes."""
        return len(self.moduli)

    @property
    def polynomial_bytes(self) -> int:
        """Bytes of one packed polynomial."""
        return sum(q.bit_length() for q in self.moduli) * self.dimension // 8

    @property
    def additions(self) -> int:
        """The most polynomials that 64-bit words can add up without a reduction."""
        return 2 ** (_WORD_BITS - max(q.bit_length() for q in self.moduli))

    @property
    def column(self) -> npt.NDArray[np.uint64]:
        """The moduli, (L, 1)."""
        return np.array(self.moduli, np.uint64)[:, None]

    def reduce(self, total: Residues) -> Residues:
        """Returns residues of a sum of at most `additions` polynomials."""
        return np.asarray(total % self.column)

    def add(self, left: Residues, right: Residues) -> Residues:
        """Returns the sums of pairs of polynomials (..., L, N)."""
        total = left + right
        # Where a sum is below its prime, the difference wraps around and is larger.
        return np.minimum(total, total - self.column, out=total)

    def pack(self, polynomials: Residues) -> bytes:
        """Returns polynomials (M, L, N) in M * polynomial_bytes bytes, without gaps."""
        packed = np.empty((len(polynomials), self.polynomial_bytes), np.uint8)
        for block in self._blocks(len(polynomials)):
            for limb, columns in enumerate(self._columns):
                values = np.ascontiguousarray(polynomials[block, limb], "<u8")
                _to_planes(values, self.moduli[limb], packed[block, columns])
        return packed.tobytes()

    def unpack(self, data: bytes | memoryview) -> Residues:
        """Returns the polynomials (M, L, N) in `data`.

        Raises:
            WireError: if the length is not a multiple of a polynomial's, or if a
                coefficient is not below its prime.
        """
        if not data or len(data) % self.polynomial_bytes:
            raise WireError(f"{len(data)} bytes do not hold whole polynomials.")
        rows = np.frombuffer(data, np.uint8).reshape(-1, self.polynomial_bytes)
        result = np.empty((len(rows), self.limbs, self.dimension), np.uint64)
        for block in self._blocks(len(rows)):
            for limb, columns in enumerate(self._columns):
                modulus, values = self.moduli[limb], result[block, limb]
                _from_planes(rows[block, columns], modulus, values)
                if values.max() >= modulus:
                    raise WireError("a coefficient is not below the modulus.")
        return result

    def _blocks(self, count: int) -> list[slice]:
        """Returns slices of `count` polynomials that are packed together."""
        size = max(_BLOCK, _BLOCK_RESIDUES // self.dimension)
        return [slice(i, i + size) for i in range(0, count, size)]

    @functools.cached_property
    def _columns(self) -> list[slice]:
        """The bytes of each limb's residues in a packed polynomial."""
        sizes = [q.bit_length() * self.dimension // 8 for q in self.moduli]
        ends = itertools.accumulate(sizes)
        return [slice(end - n, end) for n, end in zip(sizes, ends, strict=True)]


class RunningSum:
    """Adds polynomials up, and reduces their sum only when a word would overflow.

    Args:
        ring: the ring of the polynomials.
    """

    def __init__(self, ring: Ring) -> None:
        self._ring, self._added = ring, 0
        self._total: Residues | None = None

    def add(self, polynomials: Residues) -> None:
        """Adds polynomials (M, L, N), reduced, which may be changed afterwards."""
        if self._total is None:
            self._total, self._added = polynomials, 1
            return
        if self._added == self._ring.additions - 1:
            self._total, self._added = self._ring.reduce(self._total), 1
        self._total += polynomials
        self._added += 1

    @property
    def total(self) -> Residues:
        """The sum (M, L, N), reduced; of at least one addition."""
        assert self._total is not None
        return self._ring.reduce(self._total)


# A plane of whole bytes is a part of every word, which is copied without shifts. The
# narrower planes of a word lie in one byte, and eight bytes are shifted at once.


def _to_planes(values: Residues, modulus: int, packed: npt.NDArray[np.uint8]) -> None:
    """Writes the bits of `values` (M, N), lowest first, to `packed` (M, ...)."""
    several = _several(values.shape[1])
    for plane, shift, columns, mask in _layout(modulus, values.shape[1]):
        into, part = packed[:, columns], _part(values, plane, shift)
        if plane >= 8:
            into.view(part.dtype)[:] = part
            continue
        bits = np.ascontiguousarray(part).view(several) >> np.uint8(shift % 8)
        bits &= mask
        pieces = bits.reshape(len(bits), 8 // plane, -1)
        folded = pieces[:, 0].copy()
        for i in range(1, 8 // plane):
            folded |= pieces[:, i] << np.uint8(i * plane)
        into[:] = folded.view(np.uint8)


def _from_planes(packed: npt.NDArray[np.uint8], modulus: int, values: Residues) -> None:
    """Inverts `_to_planes`."""
    values[:] = 0
    several, byte = _several(values.shape[1]), np.zeros(values.shape, np.uint8)
    for plane, shift, columns, mask in _layout(modulus, values.shape[1]):
        piece = np.ascontiguousarray(packed[:, columns])
        part = _part(values, plane, shift)
        if plane >= 8:
            part[:] = piece.view(part.dtype)
            continue
        folded = piece.view(several)
        pieces = byte.view(several).reshape(len(byte), 8 // plane, -1)
        for i in range(8 // plane):
            bits = folded >> np.uint8(i * plane)
            bits &= mask
            pieces[:, i] |= bits << np.uint8(shift % 8)
        part[:] = byte


@functools.lru_cache(maxsize=64)
def _layout(modulus: int, count: int) -> tuple[tuple[int, int, slice, Any], ...]:
    """Returns a tuple for each plane of a row of `count` residues.

    It holds the plane's width, its lowest bit in a word, its bytes in the row, and the
    mask of its bits in each byte of `_several`.
    """
    start, shift, width, word = 0, 0, modulus.bit_length(), _several(count)
    layout = []
    for plane in _PLANES:
        if width & plane:
            end = start + plane * count // 8
            byte = 2**plane - 1 & 255
            mask = np.frombuffer(bytes([byte] * word.itemsize), word)[0]
            layout.append((plane, shift, slice(start, end), mask))
            start, shift = end, shift + plane
    return tuple(layout)


def _part(values: Residues, plane: int, shift: int) -> npt.NDArray[Any]:
    """Returns the part (M, N) of words that holds a plane, as a view."""
    bits = max(8, plane)
    parts = values.view(f"<u{bits // 8}").reshape(*values.shape, -1)
    return parts[..., shift // bits]


def _several(count: int) -> np.dtype[Any]:
    """Returns words of eight bytes; single bytes where a row's planes are shorter."""
    return np.dtype("u1" if count % _WORD_BITS else "u8")
