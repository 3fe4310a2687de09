"""An append-only file of JSON lines that survives crashes, and client ids as text."""

import json
import os
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    import fcntl
except ImportError:  # not a POSIX system: files are not locked there
    fcntl = None  # type: ignore[assignment]

Ids = npt.NDArray[np.int64]


class Journal:
    """A file of lines that only grows; an appended line is on the disk on return."""

    def __init__(self, path: str) -> None:
        """Opens the file for this process alone; creates it if it does not exist.

        Raises:
            BlockingIOError: another process has it open.
        """
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        # At the end of the process too; every line is on the disk by then.
        self._closing = weakref.finalize(self, os.close, self._descriptor)
        try:
            self._lock()
            # The directory's entry must survive a crash too.
            folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except BaseException:
            self.close()
            raise

    def read(self) -> tuple[list[str], str]:
        """Returns all whole lines, and the text after the last line end."""
        with open(self._path, encoding="utf-8", errors="replace", newline="\n") as file:
            *lines, tail = file.read().split("\n")
        return lines, tail

    def append(self, text: str) -> None:
        """Writes text and a line end; returns once they are on the disk."""
        if not self._closing.alive:
            raise ValueError(f"{self._path} is closed.")
        data = (text + "\n").encode()
        while data:
            data = data[os.write(self._descriptor, data) :]
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Closes the file."""
        self._closing()

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"{self._path} is open elsewhere; two writers would not see each "
                "other's charges."
            ) from None
        except OSError:
            pass  # a file system without locks


def client_ids(clients: Sequence[int]) -> Ids:
    """Returns ids, sorted; raises ValueError for negative, broken or repeated ones."""
    given = np.asarray(clients)
    if given.size and (given.dtype.kind not in "iu" or given.min() < 0):
        raise ValueError("clients must hold whole numbers of 0 or more.")
    ids = np.unique(given.astype(np.int64))
    if ids.size != given.size:
        raise ValueError("clients must not hold an id twice.")
    return ids


def to_ranges(ids: Ids) -> str:
    """Returns sorted ids as text, such as '0-99,105'."""
    if not ids.size:
        return ""
    breaks = np.flatnonzero(np.diff(ids) != 1) + 1
    starts = ids[np.concatenate([[0], breaks])].tolist()
    ends = ids[np.concatenate([breaks - 1, [-1]])].tolist()
    pairs = zip(starts, ends, strict=True)
    return ",".join(f"{a}-{b}" if b > a else f"{a}" for a, b in pairs)


def from_ranges(ranges: str) -> Ids:
    """Returns the ids that `to_ranges` wrote."""
    pieces = [np.empty(0, dtype=np.int64)]
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        pieces.append(np.arange(int(first), int(last or first) + 1, dtype=np.int64))
    return np.concatenate(pieces)


def parse(line: str) -> dict[str, Any] | None:
    """Returns the entry that a line holds, or None if it holds no whole entry."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def readable(fragment: str) -> dict[str, Any]:
    """Returns the leading fields of a cut-off entry that are whole."""
    fields: dict[str, Any] = {}
    decoder = json.JSONDecoder()
    place = 1  # past the brace
    while fragment[:1] == "{":
        try:
            name, place = decoder.raw_decode(fragment, place)
            value, place = decoder.raw_decode(fragment, place + 1)
        except (json.JSONDecodeError, IndexError):
            break
        if place >= len(fragment):  # a number may go on past the cut
            break
        fields[name] = value
        place += 1
    return fields
