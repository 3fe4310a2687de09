"""The only import of OpenFHE: when it is first needed, and never in a forked child.

A child that was forked after OpenFHE was loaded repeats the random numbers of its
parent and its siblings. Where this file loaded OpenFHE, it remembers in which process.
Where other code loaded it before, the kernel must prove that this process has not been
forked: see `_executed`.
"""

import dataclasses
import functools
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from fedjax_private.encryption.errors import ForkedProcessError, OpenFHEUnavailable

# OpenFHE reads the number of its threads once, when it is loaded: one, unless the
# user's environment sets another. Our own threads fill the cores, each with its
# ciphertexts. OpenFHE's share the few moduli of one ciphertext and wait for one
# another, on busy cores for tens of milliseconds.
_OPENMP_THREADS = "OMP_NUM_THREADS"

# PF_FORKNOEXEC of Linux's include/linux/sched.h: set by every fork, cleared by exec.
_FORKED_WITHOUT_EXEC = 0x40


@dataclasses.dataclass(frozen=True)
class Backend:
    """OpenFHE, as one process loaded it.

    Attributes:
        openfhe: the module. Its classes have no type stubs, hence `Any`.
        process: the id of the process that first loaded it.
    """

    openfhe: Any
    process: int

    def check_process(self) -> None:
        """Raises ForkedProcessError in a forked child.

        OpenFHE seeds one random generator per thread, and a fork copies its state. Two
        children would encrypt with the same randomness, and the difference of two such
        ciphertexts is the difference of their plaintexts, for everyone to read.
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
        OpenFHEUnavailable: if the extension cannot be imported: on macOS, on Arm, with
            older C libraries, or under a Python for which there is no wheel.
        ForkedProcessError: if other code loaded OpenFHE before the first call, and this
            process may have been forked after that.
    """
    process = _loading_process()
    limited = _OPENMP_THREADS not in os.environ
    try:
        if limited:
            os.environ[_OPENMP_THREADS] = "1"
        module = importlib.import_module("openfhe")
    except (ImportError, OSError) as error:
        raise OpenFHEUnavailable(
            "encryption needs OpenFHE, whose wheels run on Linux x86-64 "
            "with CPython 3.10 (glibc 2.35 or newer) or 3.12 (glibc 2.38 or newer); "
            f"the plain arms run without it (the import failed with: {error})."
        ) from error
    finally:
        if limited:
            os.environ.pop(_OPENMP_THREADS, None)
    return Backend(module, process)


@functools.cache
def _loading_process() -> int:
    # Cached so that a forked child inherits its parent's answer and is detected.
    if _loaded() and not _executed():
        raise ForkedProcessError(
            "openfhe was imported by other code, and this process was forked, so its "
            "random numbers may repeat those of its parent; use threads, or start "
            "processes with the 'spawn' method."
        )
    return os.getpid()


def _loaded() -> bool:
    """Whether this process has OpenFHE's code, under whichever name."""
    if sys.modules.get("openfhe") is not None:
        return True
    try:
        mapped = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return False
    return any("openfhe" in os.path.basename(line).lower() for line in mapped)


def _executed() -> bool:
    """Whether this process began with exec, which leaves no memory of a parent.

    A process that runs under Linux has other flags too. A system that shows none at
    all, as some sandboxes do, proves nothing.
    """
    try:
        stat = Path("/proc/self/stat").read_text()
    except OSError:
        return False
    # The fields after the name, which is in brackets and may hold any character.
    flags = int(stat.rpartition(")")[2].split()[6])
    return flags != 0 and not flags & _FORKED_WITHOUT_EXEC


def interpreter() -> list[str]:
    """Returns the command that starts this interpreter again.

    OpenFHE's wheels may need newer C libraries than the system's. A process that runs
    with such libraries was started through their dynamic loader, and the command then
    begins with that loader.
    """
    path = Path("/proc/self/cmdline")
    command = path.read_text().split("\0") if path.exists() else []
    binary = os.path.realpath(sys.executable)
    if command and "ld-linux" in command[0] and binary in command:
        return command[: command.index(binary) + 1]
    return [sys.executable]
