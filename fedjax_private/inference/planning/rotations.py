"""Which rotations the affine maps of single packing take, and the weights they meet."""

import dataclasses

import numpy as np

from fedjax_private.inference.compiling.canonical import Program
from fedjax_private.inference.compiling.circuit import Floats
from fedjax_private.inference.planning.layouts import PatchLayout, PeriodicLayout


def power_of_two(count: int) -> int:
    """The least power of two that is at least `count`, and at least 1."""
    return 1 << max(count - 1, 0).bit_length()


def addition_chain(count: int) -> tuple[tuple[int, bool], ...]:
    """The steps that add `count` neighbouring blocks of slots.

    Step (n, True) rotates the sum of n blocks by n blocks and adds it to itself: it now
    holds 2 n blocks. Step (n, False), with n = 1, rotates the sum by one block and adds
    the first block.
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
        height: h, at least the number of outputs.
        block: B, a power of two.
        diagonals: those k that have a weight other than zero, ascending.
    """

    period: int
    height: int
    block: int
    diagonals: tuple[int, ...]

    @classmethod
    def of(cls, matrix: Floats, period: int) -> "Diagonals":
        """The cheapest diagonals of a matrix (outputs, inputs), inputs <= period."""
        height = power_of_two(len(matrix))
        rows, columns = np.nonzero(matrix)
        filled = np.unique((columns - rows) % min(height, period))
        diagonals = tuple(int(k) for k in filled) or (0,)
        blocks = [1 << i for i in range(min(height, period).bit_length())]
        candidates = [cls(period, height, block, diagonals) for block in blocks]
        return min(candidates, key=lambda c: len(c.babies) + 4 * len(c.giants))

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
        """All rotations other than 0."""
        return {*self.babies, *self.giants, *self.doublings} - {0}

    def weights(self, matrix: Floats, diagonal: int, slots: int) -> Floats:
        """The weights (slots,) of a diagonal, rotated back by its giant step."""
        place = np.arange(slots)
        rows, columns = place % self.height, (place + diagonal) % self.period
        inside = (rows < matrix.shape[0]) & (columns < matrix.shape[1])
        weights = np.zeros(slots)
        weights[inside] = matrix[rows[inside], columns[inside]]
        return np.roll(weights, diagonal - diagonal % self.block)


@dataclasses.dataclass(frozen=True)
class Rotations:
    """The rotations of a whole program.

    Attributes:
        section: slots in a section of the first layer; 0 without sections.
        sections: number of sections in a ciphertext, which are added up.
        period: slots until the last step's outputs repeat.
        diagonals: one for each step; None for a first step in sections.
    """

    section: int
    sections: int
    period: int
    diagonals: tuple[Diagonals | None, ...]

    @property
    def all(self) -> tuple[int, ...]:
        """Every rotation that needs a key, ascending."""
        steps: set[int] = set()
        if self.section:
            steps |= {n * self.section for n, _ in addition_chain(self.sections)}
        for diagonals in self.diagonals:
            steps |= diagonals.rotations if diagonals else set()
        return tuple(sorted(steps))


def rotations_of(
    program: Program,
    layout: PatchLayout | PeriodicLayout,
    input_shape: tuple[int, ...],
    slots: int,
) -> Rotations:
    """The rotations that evaluate a program on inputs in a layout."""
    steps, section, sections = program.steps, 0, 1
    diagonals: list[Diagonals | None] = []
    if isinstance(layout, PatchLayout):
        # Slots after the first section hold partial sums, and meet weights of zero.
        section, sections = layout.section(input_shape), layout.sections
        steps, period = steps[1:], slots
        diagonals.append(None)
    else:
        period = layout.period
    for step in steps:
        after = Diagonals.of(step.matrix, period)
        diagonals.append(after)
        period = after.height
    return Rotations(section, sections, period, tuple(diagonals))
