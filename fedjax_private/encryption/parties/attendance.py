"""Which key holders answer the server in a round of a simulation."""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

# Keeps these draws apart from others of the same seed.
_HOLDERS = 3

# More messages than a round has.
ALWAYS = 2**31


@dataclasses.dataclass(frozen=True)
class DropOut:
    """The draw of the holders that vanish, which repeats with its seed.

    Attributes:
        probability: that a holder vanishes from a round before it decrypts, and again
            before each time that it is asked to stand in for others, in [0, 1).
        seed: of the run.
    """

    probability: float = 0.0
    seed: int = 0

    def answers(self, round_number: int, holders: Iterable[int]) -> dict[int, int]:
        """Returns how many messages each holder answers in a round, then no more."""
        numbers = list(holders)
        if not self.probability:
            return dict.fromkeys(numbers, ALWAYS)
        generator = np.random.default_rng([self.seed, _HOLDERS, round_number])
        counts = generator.geometric(self.probability, len(numbers)) - 1
        return dict(zip(numbers, counts.tolist(), strict=True))


NOBODY = DropOut()  # nobody vanishes


class Attendance:
    """The holders that still answer in a round.

    Args:
        answers: holder -> the messages that it answers; others answer all.
    """

    def __init__(self, answers: Mapping[int, int]) -> None:
        self._left = dict(answers)

    def answers(self, holder: int) -> bool:
        """Whether a holder answers the message that it gets now."""
        left = self._left.get(holder, ALWAYS)
        self._left[holder] = max(0, left - 1)
        return left > 0
