"""The benchmarked networks in plain JAX, for the `jax_*` peers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Network = Callable[[Any, jax.Array], jax.Array]


def tutorial_cnn(params: Any, images: jax.Array) -> jax.Array:
    """(B, 28, 28, 1) float32 -> logits (B, 10)."""
    x = _max_pool(jax.nn.relu(_conv(params["conv1"], images, 2, "SAME")), 2, 1)
    x = _max_pool(jax.nn.relu(_conv(params["conv2"], x, 2, "VALID")), 2, 1)
    return _dense_layers(params, x)


def round_cnn(params: Any, images: jax.Array) -> jax.Array:
    """(B, 28, 28, 1) uint8 -> logits (B, 10)."""
    x = images.astype(jnp.float32) / 255
    x = _max_pool(jax.nn.relu(_conv(params["conv1"], x, 1, "SAME")), 2, 2)
    x = _max_pool(jax.nn.relu(_conv(params["conv2"], x, 1, "SAME")), 2, 2)
    return _dense_layers(params, x)


def mean_loss(network: Network) -> Callable[[Any, jax.Array, jax.Array], jax.Array]:
    """(params, images, labels) -> the mean cross entropy of a batch."""

    def loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        chances = jax.nn.log_softmax(network(params, images))
        return -jnp.mean(jnp.take_along_axis(chances, labels[:, None], axis=1))

    return loss


def _conv(layer: Any, x: jax.Array, stride: int, padding: str) -> jax.Array:
    y = lax.conv_general_dilated(
        x,
        layer["kernel"],
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y + layer["bias"]


def _max_pool(x: jax.Array, size: int, stride: int) -> jax.Array:
    window, strides = (1, size, size, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, "VALID")


def _dense_layers(params: Any, x: jax.Array) -> jax.Array:
    x = x.reshape(x.shape[0], -1)
    x = x @ params["dense1"]["kernel"] + params["dense1"]["bias"]
    return jax.nn.relu(x) @ params["dense2"]["kernel"] + params["dense2"]["bias"]
