"""OpenFHE, imported here only and when somebody asks for it; and never in a fork."""

import contextlib
import dataclasses
import functools
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class OpenFHEUnavailable(RuntimeError):
    """Nothing can be encrypted here: no OpenFHE, or no device of the host's."""


class ForkedProcessError(RuntimeError):
    """OpenFHE was asked to work in a forked child of the process that loaded it."""


@dataclasses.dataclass(frozen=True)
class Backend:
    """OpenFHE as loaded by one process.

    Attributes:
        openfhe: the module. Its classes have no type stubs, hence `Any`.
        process: id of the process that loaded it first.
    """

    openfhe: Any
    process: int

    def check_process(self) -> None:
        """Raises ForkedProcessError in a forked child.

        OpenFHE seeds one random generator per thread, and a fork copies its state:
        two children would encrypt with the same randomness, and the difference of two
        such ciphertexts is the difference of their plaintexts, for everyone to read.
        """
        if os.getpid() != self.process:
            raise ForkedProcessError(
                "OpenFHE was loaded before this process was forked, so its random "
                "numbers repeat those of the parent; use threads, or start processes "
                "with the 'spawn' method."
            )


def load() -> Backend:
    """Returns OpenFHE.

    Raises:
        OpenFHEUnavailable: if the extension cannot be imported: another Python than
            those its wheels are built for, macOS, Arm, or older C libraries.
    """
    try:
        with _one_openmp_thread():
            module = importlib.import_module("openfhe")
    except (ImportError, OSError) as error:
        raise OpenFHEUnavailable(
            "encrypted aggregation needs OpenFHE, whose wheels run on Linux x86-64 "
            "with CPython 3.10 (glibc 2.35 or newer) or 3.12 (glibc 2.38 or newer); "
            f"the plain arms run without it (the import failed with: {error})."
        ) from error
    return Backend(module, _loading_process())


@contextlib.contextmanager
def _one_openmp_thread() -> Iterator[None]:
    """Has OpenFHE do without OpenMP, unless the user's environment says otherwise.

    Our own threads fill the cores, each with a ciphertext; OpenFHE's, which share the
    few moduli of one, wait for one another, on busy cores for tens of milliseconds. It
    reads the number once, as it is loaded, and takes no later limit.
    """
    name = "OMP_NUM_THREADS"
    if name in os.environ:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]


@functools.cache
def _loading_process() -> int:
    # Cached on purpose: a forked child inherits the answer, which is how it is caught.
    return os.getpid()


def interpreter() -> list[str]:
    """The command that starts this interpreter again.

    More than its path where the dynamic loader was named on the command line, to run
    with other C libraries than the system's.
    """
    path = Path("/proc/self/cmdline")
    words = path.read_text().split("\0") if path.exists() else []
    binary = os.path.realpath(sys.executable)
    if words and "ld-linux" in words[0] and binary in words:
        return words[: words.index(binary) + 1]
    return [sys.executable]
