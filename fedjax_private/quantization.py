"""Reals to an integer grid and back, and arithmetic mod 2^b."""

import dataclasses

import jax
import jax.numpy as jnp

from fedjax_private.typing import Array, PRNGKey


@dataclasses.dataclass(frozen=True)
class Grid:
    bits: int
    sum_bound: float

    @property
    def step(self) -> float:
        return self.sum_bound / ((1 << self.bits - 1) - 1)


def quantize(key: PRNGKey, vector: Array, grid: Grid) -> Array:
    most = (1 << grid.bits - 1) - 1
    scaled = jnp.clip(vector / grid.step, -most, most)
    low = jnp.floor(scaled)
    up = jax.random.uniform(key, vector.shape) < scaled - low
    return low.astype(jnp.int32) + up.astype(jnp.int32)


def to_unsigned(integers: Array, bits: int) -> Array:
    return integers & ((1 << bits) - 1)


def dequantize(total: Array, grid: Grid) -> Array:
    half = 1 << grid.bits - 1
    wrapped = ((jnp.asarray(total).astype(jnp.int32) + half) & (2 * half - 1)) - half
    return wrapped * jnp.float32(grid.step)
