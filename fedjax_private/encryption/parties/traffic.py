"""Counts the bytes sent in a round, and the seconds of adding."""

import contextlib
import time
from collections.abc import Iterator


class Traffic:
    """The bytes over each kind of link in a round, and the seconds of adding."""

    def __init__(self) -> None:
        self._sizes: dict[str, list[int]] = {}
        self.seconds_add = 0.0

    def sent(self, link: str, message: bytes) -> bytes:
        """Counts a message and returns it."""
        self._sizes.setdefault(link, []).append(len(message))
        return message

    @contextlib.contextmanager
    def adding(self) -> Iterator[None]:
        """Counts the seconds inside the context as addition."""
        start = time.perf_counter()
        yield
        self.seconds_add += time.perf_counter() - start

    def per_message(self) -> dict[str, int]:
        """Returns the mean bytes of a message, for each kind of link."""
        return {link: round(sum(n) / len(n)) for link, n in self._sizes.items()}
