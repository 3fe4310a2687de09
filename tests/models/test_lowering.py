"""Convolution and pooling on CPUs against XLA's own, values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fedjax_private.models.lowering import lowered

pytestmark = pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="other platforms run XLA's own"
)


def primitives(function, *arguments):
    """Names of the equations of a function, those of inner functions included."""
    return {
        word.split("[")[0]
        for line in str(jax.make_jaxpr(function)(*arguments)).splitlines()
        for word in line.split()
    }


def agree(function, *arguments, replaced):
    """Values and gradients of the lowered function equal the plain one's."""
    fast = lowered(function)
    assert replaced in primitives(function, *arguments)
    assert replaced not in primitives(fast, *arguments)

    def with_gradients(f):
        squared = jax.grad(lambda *a: jnp.sum(f(*a) ** 2), (0, 1))
        return jax.jit(lambda *a: (f(*a), squared(*a)))(*arguments)

    ours, theirs = map(jax.tree.leaves, map(with_gradients, (fast, function)))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(
    ("padding", "strides", "dilation"),
    [
        ("SAME", (2, 2), (1, 1)),
        ("SAME", (2, 3), (1, 1)),
        ("VALID", (1, 1), (1, 1)),
        ("VALID", (1, 2), (2, 3)),
        (((2, 1), (0, 3)), (2, 1), (1, 1)),
    ],
)
def test_convolution(padding, strides, dilation):
    kernel, inputs = normal(1, 4, 3, 3, 5), normal(0, 2, 11, 9, 3)

    def convolution(kernel, inputs):
        return lax.conv_general_dilated(
            inputs,
            kernel,
            strides,
            padding,
            rhs_dilation=dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    agree(convolution, kernel, inputs, replaced="conv_general_dilated")


@pytest.mark.parametrize("rank", [1, 3])
def test_convolution_over_other_numbers_of_axes(rank):
    layer = nn.Conv(4, (3,) * rank, strides=2)
    inputs = normal(0, 2, *(6 + i for i in range(rank)), 3)
    params = layer.init(jax.random.key(1), inputs)
    agree(layer.apply, params, inputs, replaced="conv_general_dilated")


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv(4, (3, 3), feature_group_count=2),
        nn.Conv(4, (3, 3), input_dilation=2, padding=((1, 1), (1, 1))),
        nn.ConvTranspose(4, (3, 3), strides=(2, 2)),
    ],
)
def test_other_convolutions_stay_as_they_are(layer):
    inputs = normal(0, 1, 9, 9, 4)
    params = layer.init(jax.random.key(1), inputs)
    np.testing.assert_allclose(
        lowered(layer.apply)(params, inputs), layer.apply(params, inputs), rtol=1e-6
    )


@pytest.mark.parametrize("pool", [nn.max_pool, nn.avg_pool])
@pytest.mark.parametrize(
    ("strides", "padding"), [((1, 1), "VALID"), ((2, 2), "VALID"), ((2, 1), "SAME")]
)
def test_pooling(pool, strides, padding):
    def pooled(scale, inputs):
        return scale * pool(inputs, (2, 3), strides, padding)

    name = "reduce_window_max" if pool is nn.max_pool else "reduce_window_sum"
    agree(pooled, jnp.float32(1.5), normal(0, 2, 7, 8, 3), replaced=name)


def test_one_kernel_a_client():
    layer = nn.Conv(4, (3, 3))
    inputs = normal(0, 3, 2, 6, 6, 2)
    params = jax.vmap(layer.init, (0, None))(
        jax.random.split(jax.random.key(1), 3), inputs[0]
    )
    mapped = jax.jit(jax.vmap(lowered(layer.apply)))(params, inputs)
    assert "conv_general_dilated" not in primitives(
        jax.vmap(lowered(layer.apply)), params, inputs
    )
    np.testing.assert_allclose(
        mapped, jax.vmap(layer.apply)(params, inputs), rtol=1e-4, atol=1e-5
    )


def test_one_image_that_is_not_finite_leaves_the_others_alone():
    layer = nn.Conv(4, (3, 3))
    inputs = normal(0, 3, 6, 6, 2)
    params = layer.init(jax.random.key(1), inputs)
    broken = inputs.at[1, 0, 0, 0].set(jnp.nan)

    def network(params, x):
        return nn.max_pool(layer.apply(params, x), (2, 2))

    fast = jax.jit(lowered(network))
    clean, hurt = fast(params, inputs), fast(params, broken)
    np.testing.assert_array_equal(clean[jnp.array([0, 2])], hurt[jnp.array([0, 2])])
    assert np.isnan(hurt[1]).any()
