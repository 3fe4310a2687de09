"""Virtual environments of the peers, made once and kept in the user's cache."""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
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


@dataclasses.dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Attributes:
        requirements: all of its packages, pinned.
        pythons: versions of CPython that it works with, best first.
        hints: requirement that pip may not find -> the way out.
    """

    requirements: tuple[str, ...]
    pythons: tuple[str, ...] = ("3.11", "3.12")
    hints: Mapping[str, str] = dataclasses.field(default_factory=dict)


# The local version label keeps pip from gigabytes of CUDA.
_TORCH = "torch==2.13.0+cpu"

ENVIRONMENTS: Mapping[str, Environment] = {
    "torch": Environment(
        (
            _TORCH,
            "opacus==1.6.0",
            "pfl==0.6.0",
            "absl-py==1.4.0",
            "attrs==23.2.0",
            "dill==0.4.1",
            "dm-tree==0.1.10",
            "dp-accounting==0.5.1",
            "filelock==4.2.12",
            "fsspec==2026.9.0",
            "jinja2==3.1.6",
            "markupsafe==3.0.4",
            "mpmath==1.3.0",
            "multiprocess==0.70.19",
            "networkx==3.6.1",
            "numpy==2.4.6",
            "opt-einsum==3.4.0",
            "packaging==25.0",
            "prv-accountant==0.2.0",
            "scipy==1.17.1",
            "setuptools==84.2.1",
            "sympy==1.14.0",
            "typing-extensions==4.16.0",
            "wheel==0.45.1",
            "wrapt==2.5.2",
        ),
        hints={
            _TORCH: "make PyTorch's CPU wheels known to pip, for example through "
            "PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS"
        },
    ),
    # JAX Privacy needs JAX 0.7.1 or newer; of four releases tried since, 0.9.2 ran the
    # naive private step fastest.
    "jax": Environment(
        (
            "jax==0.9.2",
            "jaxlib==0.9.2",
            "jax-privacy==2.0.0",
            "tenseal==0.3.18",
            "absl-py==2.5.1",
            "annotated-types==0.8.0",
            "attrs==23.2.0",
            "chex==0.1.92",
            "dm-tree==0.1.10",
            "dp-accounting==0.6.0",
            "ml-dtypes==0.6.0",
            "mpmath==1.4.1",
            "numpy==2.4.6",
            "opt-einsum==3.4.0",
            "optax==0.2.8",
            "pydantic==2.14.4",
            "pydantic-core==2.50.5",
            "scipy==1.17.1",
            "toolz==1.2.0",
            "typing-extensions==4.16.0",
            "typing-inspection==0.4.5",
            "wrapt==2.5.2",
        )
    ),
    # FedJAX calls jax.tree_map, which JAX 0.6 no longer has.
    "fedjax": Environment(
        (
            "fedjax==0.0.17",
            "jax==0.5.3",
            "jaxlib==0.5.3",
            "absl-py==2.5.1",
            "certifi==2026.10.18",
            "charset-normalizer==3.5.2",
            "dm-haiku==0.0.17",
            "idna==3.20",
            "jmp==0.0.4",
            "ml-dtypes==0.6.0",
            "msgpack==1.2.4",
            "numpy==2.4.6",
            "opt-einsum==3.4.0",
            "optax==0.2.8",
            "requests==2.34.2",
            "scipy==1.17.1",
            "tabulate==0.10.0",
            "urllib3==2.8.0",
        )
    ),
}


def python(name: str, say: Callable[[str], None] = lambda text: None) -> Path:
    """The Python of an environment; makes the environment if it is missing.

    Args:
        name: a key of `ENVIRONMENTS`.
        say: is told before an environment is made, which takes a while.

    Raises:
        PeerUnavailable: no suitable interpreter, a cache that cannot be written, or
            pip fails.
    """
    environment = ENVIRONMENTS[name]
    interpreter, version = _interpreter(name, environment.pythons)
    content = "\n".join((version, *environment.requirements))
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    folder = _cache() / f"{name}-{digest}"
    executable = folder / "bin" / "python"
    try:
        with _locked(folder):
            if not ((folder / COMPLETE).exists() and executable.exists()):
                say(f"installing the {name} peers into {folder}")
                _make(name, environment, interpreter, folder)
    except OSError as error:
        raise PeerUnavailable(
            f"the {name} peers cannot be installed in {folder} ({error}): set "
            "XDG_CACHE_HOME to a directory with room."
        ) from error
    return executable


def clean_environ() -> dict[str, str]:
    """This process's variables, without those that affect another Python."""
    return {k: v for k, v in os.environ.items() if not k.startswith(_DROPPED)}


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "fedjax_private" / "peers"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Held by one process at a time, which makes the environment."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _interpreter(name: str, versions: tuple[str, ...]) -> tuple[str, str]:
    """An interpreter that can make virtual environments, and its full version."""
    for version in versions:
        for candidate in _candidates(version):
            full = _version(candidate)
            if full and full.startswith(f"{version}."):
                return candidate, full
    raise PeerUnavailable(
        f"the {name} peers need CPython {' or '.join(versions)} with its venv module, "
        f"and none was found: put python{versions[0]} on PATH."
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


def _make(name: str, environment: Environment, interpreter: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    requirements = folder / "requirements.txt"
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    try:
        done = _run([interpreter, "-m", "venv", str(folder)], LOOK_SECONDS)
        if done.returncode == 0:
            requirements.write_text("\n".join(environment.requirements) + "\n")
            options = ["--disable-pip-version-check", "-r", str(requirements)]
            done = _run([*pip, *options], INSTALL_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise PeerUnavailable(
            f"installing the {name} peers took more than {error.timeout:.0f} s: run it "
            "again with a faster network."
        ) from None
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise PeerUnavailable(_failure(name, environment, done.stderr))
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


def _failure(name: str, environment: Environment, stderr: str) -> str:
    """One sentence on what pip or venv wrote."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    last = (errors or lines or ["no message"])[-1]
    last = last.removeprefix("ERROR:").strip().rstrip(".")
    for requirement, hint in environment.hints.items():
        if any(requirement in line for line in errors):
            return f"pip does not find {requirement} for the {name} peers: {hint}."
    return (
        f"the {name} peers could not be installed ({last}): check that pip can reach a "
        "package index."
    )
