"""Where a request's numbers lie in the slots of its ciphertexts.

A layout is public, and both sides derive from it which number each slot holds: the
client fills the slots, the server places its weights accordingly.
"""

import dataclasses
import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fedjax_private.inference.compiling.circuit import Patches

# (ciphertexts, slots): which number of an image a slot holds; -1 for none.
Sources: TypeAlias = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class PatchLayout:
    """One image; each slot of a section holds one pixel of one window.

    A section has a slot for every window and map, window by window, and holds the
    windows' pixels at one offset, repeated for the maps. A convolution is then one
    product with weights and a sum over sections: no input is rotated. With as many
    copies as there are maps in one ciphertext, it is the convolution of LoLa's first
    layer (Brutzkus, Elisha, Gilad-Bachrach 2019, "Low Latency Privacy Preserving
    Inference"), in fewer ciphertexts.

    Attributes:
        patches: the windows.
        maps: outputs a window.
        sections: of one ciphertext.
    """

    patches: Patches
    maps: int
    sections: int

    def section(self, input_shape: tuple[int, ...]) -> int:
        """Slots of one section."""
        return math.prod(self.patches.grid(input_shape)) * self.maps

    def ciphertexts(self, input_shape: tuple[int, ...]) -> int:
        """How many an image takes."""
        offsets = math.prod(self.patches.kernel) * input_shape[-1]
        return -(-offsets // self.sections)

    def sources(self, input_shape: tuple[int, ...], slots: int) -> Sources:
        """The number in each slot."""
        windows = self.patches.indices(input_shape)
        size = self.section(input_shape)
        found = np.full((self.ciphertexts(input_shape), slots), -1, np.int64)
        for offset, pixels in enumerate(windows.T):
            row, section = divmod(offset, self.sections)
            place = slice(section * size, (section + 1) * size)
            found[row, place] = np.repeat(pixels, self.maps)
        return found


@dataclasses.dataclass(frozen=True)
class PeriodicLayout:
    """One image in one ciphertext, repeated.

    Attributes:
        period: slots until it begins again; a power of two.
    """

    period: int

    def ciphertexts(self, input_shape: tuple[int, ...]) -> int:
        """One."""
        del input_shape
        return 1

    def sources(self, input_shape: tuple[int, ...], slots: int) -> Sources:
        """The number in each slot."""
        place = np.arange(slots) % self.period
        return np.where(place < math.prod(input_shape), place, -1)[None]


@dataclasses.dataclass(frozen=True)
class BatchLayout:
    """One slot an image, one ciphertext for each number that the model looks at.

    Attributes:
        used: which numbers of an image these are, ascending.
    """

    used: tuple[int, ...]

    def ciphertexts(self, input_shape: tuple[int, ...]) -> int:
        """How many images, as many as there are slots, take."""
        del input_shape
        return len(self.used)


Layout: TypeAlias = PatchLayout | PeriodicLayout | BatchLayout


def power_of_two(count: int) -> int:
    """The least power of two that is not below `count`, at least 1."""
    return 1 << max(count - 1, 0).bit_length()


def sums(count: int) -> tuple[tuple[int, bool], ...]:
    """How to add `count` neighbours: (n, whole) adds the sum of the next n blocks.

    `whole` adds the sum so far, of n blocks, to itself n blocks on, so that it holds 2
    n; otherwise it is the first block that is added before a sum of n.
    """
    steps: list[tuple[int, bool]] = []
    so_far = 1
    for bit in bin(count)[3:]:
        steps.append((so_far, True))
        so_far *= 2
        if bit == "1":
            steps.append((1, False))
            so_far += 1
    return tuple(steps)


@dataclasses.dataclass(frozen=True)
class Diagonals:
    """A matrix's generalised diagonals, by baby and giant steps.

    Inputs repeat with a period p, outputs with h, both powers of two: slot t of
    diagonal k holds weight (t mod h, t + k mod p), and the sum of all diagonals times
    the inputs rotated by k is what blocks of h slots add up to (Juvekar,
    Vaikuntanathan, Chandrakasan 2018, "GAZELLE"). Baby and giant steps are Halevi and
    Shoup's: k = g B + b.

    Attributes:
        period: p.
        height: h, not below the outputs.
        block: B, a power of two.
        diagonals: which k have a weight that is not zero, ascending.
    """

    period: int
    height: int
    block: int
    diagonals: tuple[int, ...]

    @classmethod
    def of(cls, matrix: npt.NDArray[np.float64], period: int) -> "Diagonals":
        """The cheapest for a matrix (outputs, inputs), with inputs <= period."""
        height = power_of_two(len(matrix))
        rows, columns = np.nonzero(matrix)
        found = np.unique((columns - rows) % min(height, period))
        diagonals = tuple(int(k) for k in found) or (0,)
        blocks = [1 << i for i in range(min(height, period).bit_length())]
        made = [cls(period, height, block, diagonals) for block in blocks]
        return min(made, key=lambda m: len(m.babies) + 4 * len(m.giants))

    @property
    def babies(self) -> tuple[int, ...]:
        """Rotations of the inputs."""
        return tuple(sorted({k % self.block for k in self.diagonals}))

    @property
    def giants(self) -> tuple[int, ...]:
        """Rotations of sums of products."""
        return tuple(sorted({k - k % self.block for k in self.diagonals}))

    @property
    def doublings(self) -> tuple[int, ...]:
        """Rotations that add up the blocks of h slots in a period."""
        count = self.period // self.height
        return tuple(self.height << i for i in range(max(count, 1).bit_length() - 1))

    @property
    def rotations(self) -> set[int]:
        """All of them, 0 left out."""
        return {*self.babies, *self.giants, *self.doublings} - {0}

    def weights(
        self, matrix: npt.NDArray[np.float64], diagonal: int, slots: int
    ) -> npt.NDArray[np.float64]:
        """The weights (slots,) of a diagonal, turned back by its giant step."""
        place = np.arange(slots)
        rows, columns = place % self.height, (place + diagonal) % self.period
        inside = (rows < matrix.shape[0]) & (columns < matrix.shape[1])
        found = np.zeros(slots)
        found[inside] = matrix[rows[inside], columns[inside]]
        return np.roll(found, diagonal - diagonal % self.block)
