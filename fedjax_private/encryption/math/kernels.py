"""Kernels of `polynomials`, compiled by XLA for the host. Only this file imports JAX.

`polynomials` imports it when it first computes. A process that only adds ciphertexts,
or reads and writes messages, needs no JAX.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np

from fedjax_private.encryption.errors import OpenFHEUnavailable
from fedjax_private.encryption.math.modular import lazy_product, reduced

# Experimental in JAX 0.6.
_enable_x64: Any = (
    jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
)


@contextlib.contextmanager
def x64() -> Iterator[None]:
    """Allows 64-bit words and transfers, whatever the caller's settings."""
    with (
        _enable_x64(True),
        jax.numpy_rank_promotion("allow"),
        jax.transfer_guard("allow"),
    ):
        yield


@functools.lru_cache(maxsize=64)
def on_host(modulus: int) -> jax.Array:
    """Returns the modulus as a scalar committed to the host.

    As an argument of a kernel it pins the whole computation to the host, whatever
    device the caller prefers. Under a mesh of other devices JAX raises an error.
    """
    return put(np.uint64(modulus))


def put(constant: Any) -> jax.Array:
    """Returns a constant of kernels, committed to the host."""
    with x64():
        return jax.device_put(constant, host())


def host() -> jax.Device:
    """Returns the only device that may multiply a secret key.

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
    """Returns rows (B, N) times a constant, or a polynomial (N,), modulo `modulus`."""
    return _reduced(lazy_product(rows, factors, quotients, modulus), modulus)


# Columns: each step of a transform is the same for all polynomials, so those of one
# place stand next to each other. XLA would transpose them at a third of NumPy's speed.


@jax.jit
def evaluate(columns: Any, powers: Any, quotients: Any, modulus: Any) -> Any:
    """Returns the values (N, B) of coefficients (N, B); `powers` (N,) of the root."""
    size = len(columns)
    # An odd power of the root is a power of its square times the root.
    x = lazy_product(columns, powers[:, None], quotients[:, None], modulus)
    half, step = size // 2, 2
    while half:
        stage = slice(0, half * step, step), None
        x = _butterflies(x, half, powers[stage], quotients[stage], modulus)
        half, step = half // 2, step * 2
    return _reduced(x, modulus)


@jax.jit
def interpolate(
    columns: Any, powers: Any, quotients: Any, last: Any, modulus: Any
) -> Any:
    """Returns the coefficients (N, B) of values; `last`: 1/N and its quotient."""
    x, size = columns, len(columns)
    blocks = size // 2
    while blocks:
        stage = slice(blocks, 2 * blocks), None, None
        half = size // 2 // blocks
        x = _butterflies(x, half, powers[stage], quotients[stage], modulus)
        blocks //= 2
    return _reduced(lazy_product(x, last[0], last[1], modulus), modulus)


def _butterflies(x: Any, half: int, powers: Any, quotients: Any, modulus: Any) -> Any:
    """Returns one step on x (N, B): sums of pairs, and differences times powers.

    Args:
        x: residues below 4 q, with N = blocks * 2 * half.
        half: the distance between the two elements of a pair.
        powers: broadcast against (blocks, half, B).
        quotients: the Shoup quotients of the powers.
        modulus: q, below 2^61.
    """
    pairs, four = x.reshape(-1, 2, half, x.shape[1]), modulus << np.uint64(2)
    total, difference = pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1] + four
    total = jnp.minimum(total, total - four)
    product = lazy_product(difference, powers, quotients, modulus)
    return jnp.stack([total, product], axis=1).reshape(x.shape)


def _reduced(values: Any, modulus: Any) -> Any:
    return reduced(values, modulus, jnp.minimum)
