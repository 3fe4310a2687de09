"""Sets up the process: devices, the compilation cache, what versions are in use."""

import importlib.metadata
import os
import platform
from pathlib import Path

from fedjax_private import __version__

PACKAGES = (
    "fedjax-private",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "tensorflow-datasets",
    "openfhe",
    "numpy",
)


def start(*, keep_compiled: bool = True) -> None:
    """Call before JAX is first used.

    One XLA device per CPU core, and JAX's persistent compilation cache in the user's
    cache directory, so that a second command compiles next to nothing.

    Args:
        keep_compiled: False leaves that cache alone, where compilation is measured.
    """
    import jax

    from fedjax_private.clients import use_all_cores

    use_all_cores()
    if not keep_compiled:
        return
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    jax.config.update(
        "jax_compilation_cache_dir", str(Path(root) / "fedjax_private" / "xla")
    )
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def versions() -> dict[str, str | None]:
    """Versions of the interpreter and of the packages that a result depends on."""
    installed = {d.name: d.version for d in importlib.metadata.distributions()}
    found = {name: installed.get(name) for name in PACKAGES}
    # Of the code that runs: metadata of an editable installation may be older.
    found["fedjax-private"] = __version__
    return {"python": platform.python_version(), **found}


def machine() -> dict[str, str | int]:
    """What the run ran on."""
    import jax

    return {
        "platform": platform.platform(),
        "backend": jax.default_backend(),
        "devices": jax.local_device_count(),
        "device_kind": jax.local_devices()[0].device_kind,
    }
