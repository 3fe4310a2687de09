"""What XLA compiles of `arithmetic`, and where it runs. JAX is imported here only.

Nobody imports this file but `arithmetic`, when it first computes: what only adds
ciphertexts, or reads and writes messages, needs no JAX.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np

from fedjax_private.encryption.math.modular import lazy_product
from fedjax_private.encryption.openfhe.backend import OpenFHEUnavailable

# JAX 0.6 has it among its experiments.
_enable_x64: Any = (
    jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
)


@contextlib.contextmanager
def words() -> Iterator[None]:
    """Arrays of 64-bit words, whatever the caller's settings."""
    with (
        _enable_x64(True),
        jax.numpy_rank_promotion("allow"),
        jax.transfer_guard("allow"),
    ):
        yield


@functools.lru_cache(maxsize=64)
def on_the_host(modulus: int) -> jax.Array:
    """An argument that has its place, where the whole computation then is.

    Whatever device the caller prefers; under a mesh of other devices JAX refuses.
    """
    with words():
        return jax.device_put(np.uint64(modulus), host())


def host() -> jax.Device:
    """The device that may multiply a secret key.

    Raises:
        OpenFHEUnavailable: if JAX was told to leave the host out.
    """
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise OpenFHEUnavailable(
            "encrypted aggregation computes with keys on the host, which JAX_PLATFORMS "
            "leaves out: let it name cpu too, as in JAX_PLATFORMS=cuda,cpu."
        ) from error


@jax.jit
def multiply(rows: Any, factors: Any, quotients: Any, modulus: Any) -> Any:
    """(B, N) times a constant, or a polynomial (N,), modulo `modulus`."""
    product = lazy_product(rows, factors, quotients, modulus)
    return jnp.minimum(product, product - modulus)


@jax.jit
def evaluate(rows: Any, powers: Any, quotients: Any, modulus: Any) -> Any:
    """Values (B, N) by coefficients (B, N); `powers` (N,) are the root's."""
    # Rows last: every step is the same for all of them, next to one another in memory.
    x, size = rows.T, rows.shape[1]
    # Odd powers of the root are its square's powers times it: decimation in frequency.
    x = lazy_product(x, powers[:, None], quotients[:, None], modulus)
    half, step = size // 2, 2
    while half:
        here = slice(0, half * step, step), None
        x = _butterflies(x, half, powers[here], quotients[here], modulus)
        half, step = half // 2, step * 2
    return jnp.minimum(x, x - modulus).T


@jax.jit
def interpolate(rows: Any, powers: Any, quotients: Any, last: Any, modulus: Any) -> Any:
    """Coefficients (B, N) by values; `last` is the inverse of N and its quotient."""
    x, size = rows.T, rows.shape[1]
    blocks = size // 2
    while blocks:
        here = slice(blocks, 2 * blocks), None, None
        x = _butterflies(x, size // 2 // blocks, powers[here], quotients[here], modulus)
        blocks //= 2
    x = lazy_product(x, last[0], last[1], modulus)
    return jnp.minimum(x, x - modulus).T


def _butterflies(x: Any, half: int, powers: Any, quotients: Any, modulus: Any) -> Any:
    """One step on x (N, M), residues below 2 q: sums, and differences times powers.

    Args:
        x: N = blocks * 2 * half.
        half: how far apart the two of a pair are.
        powers: that broadcast against (blocks, half, M).
        quotients: theirs.
        modulus: q.
    """
    pairs, double = x.reshape(-1, 2, half, x.shape[1]), modulus + modulus
    total, difference = pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1] + double
    total = jnp.minimum(total, total - double)
    product = lazy_product(difference, powers, quotients, modulus)
    return jnp.stack([total, product], axis=1).reshape(x.shape)
