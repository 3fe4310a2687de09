"""Threads for ciphertexts. Never forked processes: see `openfhe.backend.Backend`."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")

# The most ciphertexts in one task: the largest batch of `math.polynomials`.
_SPAN = 64


@dataclasses.dataclass(frozen=True)
class Workers:
    """Threads that share work on ciphertexts. OpenFHE releases the GIL.

    Attributes:
        executor: the threads, or None to work in the calling thread.
        count: the number of threads.
    """

    executor: Executor | None = None
    count: int = 1

    @classmethod
    def start(cls, count: int | None = None) -> "Workers":
        """Returns `count` threads; by default, one for each usable core.

        They end when nothing refers to the result any more.

        Raises:
            ValueError: if `count` is less than one.
        """
        if count is None:
            affine = hasattr(os, "sched_getaffinity")
            count = len(os.sched_getaffinity(0)) if affine else os.cpu_count() or 1
        if count < 1:
            raise ValueError(f"count must be at least one worker, got {count}.")
        if count == 1:
            return cls()
        return cls(ThreadPoolExecutor(count, "ciphertexts"), count)

    def map(self, function: Callable[[int], _T], count: int) -> list[_T]:
        """Returns `[function(0), ..., function(count - 1)]`, computed in parallel.

        Each thread takes every `self.count`-th index in one task, because a ciphertext
        takes less than a millisecond and a task costs a tenth of that.
        """
        if self.executor is None or count < 2:
            return [function(index) for index in range(count)]

        def every_nth(first: int) -> Sequence[_T]:
            return [function(index) for index in range(first, count, self.count)]

        results: list[_T | None] = [None] * count
        shares = self.executor.map(every_nth, range(min(self.count, count)))
        for first, share in enumerate(shares):
            results[first :: self.count] = share
        return results  # type: ignore[return-value]  # every index is filled

    def spans(self, count: int, ciphertexts: int = 1) -> list[slice]:
        """Returns slices that split `count` items of some ciphertexts each into tasks.

        Threads wait for one another between calls to NumPy and OpenFHE, so tasks are as
        large as pays off, of equal size, and as many for every thread.
        """
        most = max(1, _SPAN // ciphertexts)
        turns = max(1, -(-count // (most * self.count)))
        size = max(1, -(-count // (turns * self.count)))
        return [
            slice(first, min(first + size, count)) for first in range(0, count, size)
        ]


IN_THIS_THREAD = Workers()
