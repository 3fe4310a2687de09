"""Virtual environments of the peers, made once and kept in the user's cache."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

COMPLETE = ".complete"
INSTALL_SECONDS = 1800
LOOK_SECONDS = 60

# Prefixes of the variables that must not leak from this process into another Python.
_DROPPED = (
    "PYTHON",
    "VIRTUAL_ENV",
    "JAX_",
    "XLA_",
    "OMP_",
    "MKL_",
    "KMP_",
    "OPENBLAS_NUM",
    "PFL_",
)


class PeerUnavailable(RuntimeError):
    """A peer cannot run here; one sentence says why, and the way out."""


PYTHONS = ("3.11", "3.12")  # versions of CPython that all of them work with, best first

# Environment -> all of its packages, pinned, as a file for pip.
REQUIREMENTS = {
    path.stem: path for path in Path(__file__).with_name("requirements").glob("*.txt")
}

# Requirement that pip may not find -> the way out.
HINTS = {
    "torch==2.13.0+cpu": "make PyTorch's CPU wheels known to pip, for example through "
    "PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS"
}


def python(name: str, say: Callable[[str], None]) -> Path:
    """The Python of an environment; makes the environment if it is missing.

    Args:
        name: a key of `REQUIREMENTS`.
        say: is told before an environment is made, which takes a while.

    Raises:
        PeerUnavailable: no suitable interpreter, a cache that cannot be written, or
            pip fails.
    """
    interpreter, version = _interpreter(name)
    content = "\n".join((version, *requirements(name)))
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / "fedjax_private" / "peers" / f"{name}-{digest}"
    executable = folder / "bin" / "python"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not ((folder / COMPLETE).exists() and executable.exists()):
                say(f"installing the {name} peers into {folder}")
                _make(name, interpreter, folder)
    except OSError as error:
        raise PeerUnavailable(
            f"the {name} peers cannot be installed in {folder} ({error}): set "
            "XDG_CACHE_HOME to a directory with room."
        ) from error
    return executable


def requirements(name: str) -> list[str]:
    """The packages of an environment."""
    lines = REQUIREMENTS[name].read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def clean_environ() -> dict[str, str]:
    """This process's variables, without those that affect another Python."""
    return {k: v for k, v in os.environ.items() if not k.startswith(_DROPPED)}


def _interpreter(name: str) -> tuple[str, str]:
    """An interpreter that can make virtual environments, and its full version."""
    for version in PYTHONS:
        for candidate in _candidates(version):
            full = _version(candidate)
            if full and full.startswith(f"{version}."):
                return candidate, full
    raise PeerUnavailable(
        f"the {name} peers need CPython {' or '.join(PYTHONS)} with its venv module, "
        f"and none was found: put python{PYTHONS[0]} on PATH."
    )


def _candidates(version: str) -> Iterator[str]:
    if on_path := shutil.which(f"python{version}"):
        yield on_path
    versions = Path.home() / ".pyenv" / "versions"
    yield from map(str, sorted(versions.glob(f"{version}*/bin/python"), reverse=True))
    yield sys.executable


def _version(interpreter: str) -> str | None:
    """The full version of an interpreter; None if it cannot be used."""
    program = (
        "import ensurepip, platform, venv;"
        "print(platform.python_implementation(), platform.python_version())"
    )
    try:
        done = _run([interpreter, "-I", "-c", program], LOOK_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    implementation, _, version = done.stdout.strip().partition(" ")
    usable = done.returncode == 0 and implementation == "CPython"
    return version if usable else None


def _make(name: str, interpreter: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    options = ["--disable-pip-version-check", "-r", str(REQUIREMENTS[name])]
    try:
        done = _run([interpreter, "-m", "venv", str(folder)], LOOK_SECONDS)
        if done.returncode == 0:
            done = _run([*pip, *options], INSTALL_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise PeerUnavailable(
            f"installing the {name} peers took more than {error.timeout:.0f} s: run it "
            "again with a faster network."
        ) from None
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise PeerUnavailable(_failure(name, done.stderr))
    (folder / COMPLETE).touch()


def _run(command: list[str], seconds: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=clean_environ(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )


def _failure(name: str, stderr: str) -> str:
    """One sentence on what pip or venv wrote."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    last = (errors or lines or ["no message"])[-1]
    last = last.removeprefix("ERROR:").strip().rstrip(".")
    for requirement, hint in HINTS.items():
        if any(requirement in line for line in errors):
            return f"pip does not find {requirement} for the {name} peers: {hint}."
    return (
        f"the {name} peers could not be installed ({last}): check that pip can reach a "
        "package index."
    )
