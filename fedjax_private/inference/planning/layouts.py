"""Which number of an image each slot of a request's ciphertexts holds.

A layout is public. The client fills the slots by it, and the server places its weights
accordingly.
"""

import dataclasses
import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fedjax_private.inference.compiling.circuit import Patches

# (ciphertexts, slots): index into a flat image of the number in a slot; -1 for none.
Sources: TypeAlias = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class PatchLayout:
    """One image in sections of slots: one pixel of every window of a convolution.

    A section has a slot for every window and map, window by window. It holds the pixels
    at one offset in their windows, repeated for the maps. A convolution is then one
    product with weights and a sum over sections: no input is rotated. With as many
    copies as there are maps in one ciphertext, it is the convolution of LoLa's first
    layer (Brutzkus, Elisha, Gilad-Bachrach 2019, "Low Latency Privacy Preserving
    Inference"), in fewer ciphertexts.

    Attributes:
        patches: the windows.
        maps: outputs of the convolution at each window.
        sections: number of sections in one ciphertext.
    """

    patches: Patches
    maps: int
    sections: int

    def section(self, input_shape: tuple[int, ...]) -> int:
        """Slots of one section."""
        return math.prod(self.patches.grid(input_shape)) * self.maps

    def ciphertexts(self, input_shape: tuple[int, ...]) -> int:
        """Number of ciphertexts for one image."""
        offsets = math.prod(self.patches.kernel) * input_shape[-1]
        return -(-offsets // self.sections)

    def sources(self, input_shape: tuple[int, ...], slots: int) -> Sources:
        """Which number of the image each slot holds, (ciphertexts, slots)."""
        windows = self.patches.indices(input_shape)
        size = self.section(input_shape)
        sources = np.full((self.ciphertexts(input_shape), slots), -1, np.int64)
        for offset, pixels in enumerate(windows.T):
            row, section = divmod(offset, self.sections)
            place = slice(section * size, (section + 1) * size)
            sources[row, place] = np.repeat(pixels, self.maps)
        return sources


@dataclasses.dataclass(frozen=True)
class PeriodicLayout:
    """One image in one ciphertext, repeated until the slots are full.

    Attributes:
        period: slots from one copy to the next; a power of two.
    """

    period: int

    def ciphertexts(self, input_shape: tuple[int, ...]) -> int:
        """Number of ciphertexts for one image: 1."""
        return 1

    def sources(self, input_shape: tuple[int, ...], slots: int) -> Sources:
        """Which number of the image each slot holds, (1, slots)."""
        place = np.arange(slots) % self.period
        return np.where(place < math.prod(input_shape), place, -1)[None]


@dataclasses.dataclass(frozen=True)
class BatchLayout:
    """One image in each slot, one ciphertext for each number that the model reads.

    Attributes:
        used: indices into a flat image of the numbers that the model reads, ascending.
    """

    used: tuple[int, ...]

    def ciphertexts(self, input_shape: tuple[int, ...]) -> int:
        """Number of ciphertexts for any number of images up to that of slots."""
        return len(self.used)


Layout: TypeAlias = PatchLayout | PeriodicLayout | BatchLayout
