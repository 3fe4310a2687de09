"""Counts the bytes sent in a round, and the seconds of adding."""

import contextlib
import time
from collections.abc import Iterator, Sized


class Traffic:
    """The bytes over each kind of link in a round, and the seconds of adding."""

    def __init__(self) -> None:
        self._sizes: dict[str, list[int]] = {}
        self.seconds_add = 0.0

    def sent(self, link: str, message: bytes, attached: Sized | None = None) -> bytes:
        """Counts a message, with what is sent with it, and returns it."""
        size = len(message) + (len(attached) if attached is not None else 0)
        self._sizes.setdefault(link, []).append(size)
        return message

    def include(self, other: "Traffic") -> None:
        """Counts what another has counted, too."""
        for link, sizes in other._sizes.items():
            self._sizes.setdefault(link, []).extend(sizes)
        self.seconds_add += other.seconds_add

    def bytes_from(self, sender: str) -> int:
        """Returns the bytes of all messages from one kind of party."""
        links = (link for link in self._sizes if link.startswith(f"{sender} to "))
        return sum(sum(self._sizes[link]) for link in links)

    @contextlib.contextmanager
    def adding(self) -> Iterator[None]:
        """Counts the seconds inside the context as addition."""
        start = time.perf_counter()
        yield
        self.seconds_add += time.perf_counter() - start

    def per_message(self) -> dict[str, int]:
        """Returns the mean bytes of a message, for each kind of link."""
        return {link: round(sum(n) / len(n)) for link, n in self._sizes.items()}
