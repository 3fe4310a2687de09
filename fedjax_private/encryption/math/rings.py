"""Polynomials as arrays of residues: their sums, and their bits on the wire.

A ciphertext of any scheme is a few elements of R_q = Z_q[X] / (X^N + 1), with q a
product of word-sized primes. Ciphertexts are added by adding residues. This needs
neither a key nor OpenFHE, and no received ciphertext reaches OpenFHE unchecked.
"""

import dataclasses
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.errors import WireError

# (..., L, N): for each of L primes q_l, the N residues of a polynomial mod q_l.
Residues: TypeAlias = npt.NDArray[np.uint64]

# The bits of a number are stored in planes of these widths; several values of a plane
# narrower than a byte share a byte.
_PLANES = (32, 16, 8, 4, 2, 1)
_WORD_BITS = 64
_BLOCK = 16  # polynomials packed together, so that they fit the cache


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
        for block in _blocks(len(polynomials)):
            planes = [
                plane
                for limb, q in enumerate(self.moduli)
                for plane in _planes(polynomials[block, limb], q.bit_length())
            ]
            np.concatenate(planes, axis=1, out=packed[block])
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
        for block in _blocks(len(rows)):
            start = 0
            for limb, q in enumerate(self.moduli):
                width = q.bit_length()
                end = start + width * self.dimension // 8
                values = _from_planes(rows[block, start:end], width, self.dimension)
                if (values >= q).any():
                    raise WireError("a coefficient is not below the modulus.")
                result[block, limb] = values
                start = end
        return result


def _blocks(count: int) -> list[slice]:
    """Returns slices of `_BLOCK` polynomials each."""
    return [slice(i, i + _BLOCK) for i in range(0, count, _BLOCK)]


def _planes(values: Residues, width: int) -> list[npt.NDArray[np.uint8]]:
    """Returns the bits of `values` (M, N), lowest first, as byte arrays (M, ...)."""
    halves = np.ascontiguousarray(values, "<u8").view("<u4").reshape(*values.shape, 2)
    planes: list[npt.NDArray[np.uint8]] = []
    shift = 0
    for plane in _PLANES:
        if not width & plane:
            continue
        bits = halves[..., shift // 32] >> np.uint32(shift % 32)
        shift += plane
        if plane >= 8:
            # Truncation keeps the bits of the plane.
            words = bits.astype(f"<u{plane // 8}")
            planes.append(words.view(np.uint8).reshape(len(values), -1))
            continue
        folded = np.zeros((len(values), values.shape[1] * plane // 8), np.uint8)
        small = (bits & np.uint32(2**plane - 1)).astype(np.uint8)
        for i, part in enumerate(np.split(small, 8 // plane, axis=1)):
            folded |= part << np.uint8(i * plane)
        planes.append(folded)
    return planes


def _from_planes(rows: npt.NDArray[np.uint8], width: int, count: int) -> Residues:
    """Inverts `_planes`: (M, width * count / 8) bytes to (M, count)."""
    # 32-bit arithmetic on each half moves half as much memory.
    halves = np.zeros((len(rows), count, 2), "<u4")
    start, shift = 0, 0
    for plane in _PLANES:
        if not width & plane:
            continue
        end = start + plane * count // 8
        piece = np.ascontiguousarray(rows[:, start:end])
        if plane >= 8:
            bits = piece.view(f"<u{plane // 8}").astype("<u4")
        else:
            mask = np.uint8(2**plane - 1)
            parts = [piece >> np.uint8(i) & mask for i in range(0, 8, plane)]
            bits = np.concatenate(parts, axis=1).astype("<u4")
        if shift % 32:
            bits <<= np.uint32(shift % 32)
        halves[..., shift // 32] |= bits
        start, shift = end, shift + plane
    return halves.view("<u8")[..., 0]
