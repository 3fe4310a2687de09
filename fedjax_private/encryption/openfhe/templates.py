"""Serialised OpenFHE objects whose polynomials are replaced.

OpenFHE never parses a byte of another party's: what comes from outside are residues,
checked to be below their primes, put into objects that OpenFHE itself serialised here.
"""

import dataclasses
import struct

import numpy as np

from fedjax_private.encryption.math.rings import Residues, Ring

_PREFIX = struct.Struct("<Q")


class UnexpectedLayoutError(RuntimeError):
    """OpenFHE serialises otherwise than every version that was tested."""


@dataclasses.dataclass(frozen=True, eq=False)
class Mould:
    """An object of OpenFHE's, and where its residues are.

    Attributes:
        data: what OpenFHE serialised.
        ring: of its polynomials.
        starts: where each row of N residues begins, polynomial by polynomial.
    """

    data: bytes
    ring: Ring
    starts: tuple[int, ...]

    @classmethod
    def of(cls, data: bytes, ring: Ring, polynomials: int) -> "Mould":
        """Finds the rows of residues in an object whose residues are uniform.

        A row is N as a 64-bit number, then N words below the limb's prime.

        Raises:
            UnexpectedLayoutError: unless there are as many as `polynomials` have.
        """
        prefix = _PREFIX.pack(ring.dimension)
        starts: list[int] = []
        at = 0
        while (at := data.find(prefix, at)) >= 0:
            first, size = at + _PREFIX.size, 8 * ring.dimension
            if first + size <= len(data):
                modulus = ring.moduli[len(starts) % ring.limbs]
                largest = int(np.frombuffer(data, "<u8", ring.dimension, first).max())
                if modulus // 2 < largest < modulus:
                    starts.append(first)
                    at = first + size
                    continue
            at += 1
        if len(starts) != polynomials * ring.limbs:
            raise UnexpectedLayoutError(
                "this version of OpenFHE serialises polynomials otherwise than the "
                "tested ones do: install the version that pyproject.toml names."
            )
        return cls(data, ring, tuple(starts))

    def filled(self, polynomials: Residues) -> bytes:
        """The object with other polynomials (M, L, N)."""
        rows = np.ascontiguousarray(polynomials, "<u8").reshape(-1, self.ring.dimension)
        pieces: list[bytes | memoryview] = []
        view, end = memoryview(self.data), 0
        for start, row in zip(self.starts, rows, strict=True):
            pieces += [view[end:start], row.tobytes()]
            end = start + row.nbytes
        return b"".join((*pieces, view[end:]))

    def read(self, data: bytes) -> Residues:
        """The polynomials (M, L, N) of an object of the same kind.

        Raises:
            UnexpectedLayoutError: if it has another length.
        """
        if len(data) != len(self.data):
            raise UnexpectedLayoutError(
                f"OpenFHE made {len(data)} bytes where {len(self.data)} are usual."
            )
        n = self.ring.dimension
        rows = [np.frombuffer(data, "<u8", n, start) for start in self.starts]
        return np.stack(rows).reshape(-1, self.ring.limbs, n)
