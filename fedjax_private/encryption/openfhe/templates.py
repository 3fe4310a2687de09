"""Reads and replaces the polynomials inside serialised OpenFHE objects.

OpenFHE never parses bytes from another party. Received residues are checked to be below
their primes and are then put into an object that OpenFHE itself serialised here.
"""

import dataclasses
import struct

import numpy as np

from fedjax_private.encryption.errors import UnexpectedLayoutError
from fedjax_private.encryption.math.rings import Residues, Ring

_PREFIX = struct.Struct("<Q")


@dataclasses.dataclass(frozen=True, eq=False)
class Template:
    """A serialised OpenFHE object, and the places of its residues.

    Attributes:
        data: the object, as OpenFHE serialised it.
        ring: the ring of its polynomials.
        starts: the first byte of each row of N residues, polynomial by polynomial.
    """

    data: bytes
    ring: Ring
    starts: tuple[int, ...]

    @classmethod
    def of(cls, data: bytes, ring: Ring, polynomials: int) -> "Template":
        """Returns the template of an object whose residues are uniform.

        A row of residues is N as a 64-bit number, then N words below the limb's prime.

        Raises:
            UnexpectedLayoutError: unless the rows are those of `polynomials`
                polynomials.
        """
        prefix = _PREFIX.pack(ring.dimension)
        starts: list[int] = []
        position = 0
        while (position := data.find(prefix, position)) >= 0:
            first, size = position + _PREFIX.size, 8 * ring.dimension
            if first + size <= len(data):
                modulus = ring.moduli[len(starts) % ring.limbs]
                largest = int(np.frombuffer(data, "<u8", ring.dimension, first).max())
                if modulus // 2 < largest < modulus:
                    starts.append(first)
                    position = first + size
                    continue
            position += 1
        if len(starts) != polynomials * ring.limbs:
            raise UnexpectedLayoutError(
                "this version of OpenFHE serialises polynomials differently from the "
                "tested ones: install the version that pyproject.toml names."
            )
        return cls(data, ring, tuple(starts))

    def filled(self, polynomials: Residues) -> bytes:
        """Returns the object with other polynomials (M, L, N)."""
        rows = np.ascontiguousarray(polynomials, "<u8").reshape(-1, self.ring.dimension)
        pieces: list[bytes | memoryview] = []
        view, end = memoryview(self.data), 0
        for start, row in zip(self.starts, rows, strict=True):
            pieces += [view[end:start], row.tobytes()]
            end = start + row.nbytes
        return b"".join((*pieces, view[end:]))

    def read(self, data: bytes) -> Residues:
        """Returns the polynomials (M, L, N) of another object of the same layout.

        Raises:
            UnexpectedLayoutError: if the object has another length.
        """
        if len(data) != len(self.data):
            raise UnexpectedLayoutError(
                f"OpenFHE serialised an object to {len(data)} bytes instead of the "
                f"usual {len(self.data)}: install the version that pyproject.toml "
                "names."
            )
        n = self.ring.dimension
        rows = [np.frombuffer(data, "<u8", n, start) for start in self.starts]
        return np.stack(rows).reshape(-1, self.ring.limbs, n)
