import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private.datasets.examples import Normalization
from fedjax_private.inference.compiling.circuit import Affine, Patches, Polynomial
from fedjax_private.inference.compiling.compiler import compile_model
from fedjax_private.inference.compiling.primitives import UnsupportedLayerError
from fedjax_private.models.cnn import FedAvgCnn, TutorialCnn
from fedjax_private.models.registry import build

pytestmark = pytest.mark.usefixtures("full_precision")

SHAPE = (10, 10, 2)


def cubic(x):
    return 0.1 + 0.5 * x + 0.2 * x**2 - 0.05 * x**3


def flat(x):
    return x.reshape((x.shape[0], -1))


class Network(nn.Module):
    """Any function of layers, so that each test says what its network is."""

    layers: tuple

    @nn.compact
    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def conv(features, size=3, **options):
    return lambda x: nn.Conv(features, (size, size), **options)(x)


def dense(features, **options):
    return lambda x: nn.Dense(features, **options)(x)


def pool(size=2, stride=2, padding="VALID"):
    def pooled(x):
        return nn.avg_pool(x, (size, size), (stride, stride), padding)

    return pooled


SUPPORTED = {
    "linear": (flat, dense(5)),
    "dense": (flat, dense(8), jnp.square, dense(6), jnp.square, dense(5)),
    "convolution": (conv(3, 5, strides=2, padding="VALID"), cubic, flat, dense(5)),
    "same padding": (conv(3), jnp.square, flat, dense(5)),
    "stride and same": (conv(2, 4, strides=3), cubic, flat, dense(5)),
    "pool": (conv(3), pool(), jnp.square, flat, dense(5)),
    "pool after the polynomial": (conv(3), jnp.square, pool(3, 2), flat, dense(5)),
    "padded pool": (conv(3), pool(3, 2, "SAME"), jnp.square, flat, dense(5)),
    "two convolutions": (conv(2), cubic, conv(3, strides=2), cubic, flat, dense(5)),
    "dilated": (conv(2, kernel_dilation=2), jnp.square, flat, dense(5)),
    "grouped": (conv(4, feature_group_count=2), jnp.square, flat, dense(5)),
    "no bias": (conv(2, use_bias=False), jnp.square, flat, dense(5, use_bias=False)),
    "mean over space": (conv(4), jnp.square, lambda x: x.mean(axis=(1, 2)), dense(5)),
    "polynomial first": (jnp.square, flat, dense(5)),
    "polynomial last": (flat, dense(5), cubic),
    "fourth power": (flat, dense(4), lambda x: x**4, dense(5)),
    "product of two": (flat, dense(4), lambda x: (x + 1.0) * (2.0 * x - 0.5), dense(5)),
    "quotient by a constant": (flat, dense(4), lambda x: (x / 3.0 - 1) ** 2, dense(5)),
    "slices": (lambda x: x[:, 1:9:2, ::-1], flat, dense(5)),
    "transposed": (lambda x: x.transpose(0, 3, 1, 2), flat, dense(5)),
    "joined": (
        lambda x: jnp.concatenate([flat(x[:, :3]), 0.5 * flat(x[:, 3:6])], axis=1),
        dense(5),
    ),
    "sum of branches without polynomials": (
        flat,
        lambda x: nn.Dense(4)(x) + nn.Dense(4)(2.0 * x),
        jnp.square,
        dense(5),
    ),
    "zero padding": (
        lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0))),
        conv(2, padding="VALID"),
        flat,
        dense(5),
    ),
    "constant padding": (
        lambda x: jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)), constant_values=0.7),
        flat,
        dense(5),
    ),
    "dropout at evaluation": (
        flat,
        lambda x: nn.Dropout(0.5, deterministic=True)(x),
        dense(5),
    ),
    "rematerialised": (flat, lambda x: nn.remat(nn.Dense)(5)(x)),
    "jitted": (flat, jax.jit(jnp.square), dense(5)),
    "custom derivative": (flat, dense(4), lambda x: custom(x), dense(5)),
}


@jax.custom_jvp
def custom(x):
    return x * x + 1.0


custom.defjvp(lambda primals, tangents: (custom(*primals), tangents[0]))


def trained(layers, shape=SHAPE):
    """A module with random parameters, biases included, and images."""
    module, random = Network(tuple(layers)), np.random.default_rng(0)
    images = random.uniform(-1, 1, (9, *shape)).astype(np.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images[:1])

    def drawn(leaf):
        scale = 1 / np.sqrt(max(np.prod(leaf.shape[:-1]), 1))
        return jnp.asarray(scale * random.normal(size=leaf.shape), jnp.float32)

    return module, jax.tree.map(drawn, shapes), images


def assert_equal(circuit, apply, params, images):
    expected = np.asarray(apply(params, images))
    found = circuit.plain(images)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * max(np.abs(expected).max(), 1.0)


@pytest.mark.parametrize("name", SUPPORTED)
def test_a_circuit_computes_what_its_module_does(name):
    module, params, images = trained(SUPPORTED[name])
    circuit = compile_model(module.apply, params, SHAPE, sample=images)
    assert_equal(circuit, module.apply, params, images)
    other = np.random.default_rng(5).uniform(-1, 1, (4, *SHAPE)).astype(np.float32)
    assert_equal(circuit, module.apply, params, other)


def test_affine_layers_are_one_map_and_named():
    layers = SUPPORTED["pool"]
    module, params, images = trained(layers)
    circuit = compile_model(module.apply, params, SHAPE, sample=images)
    kinds = [type(layer) for layer in circuit.layers]
    assert kinds == [Affine, Polynomial, Affine]
    assert circuit.names == ("Conv_0", "polynomial_0", "Dense_0")
    assert circuit.bounds == circuit.measured(images).bounds


@pytest.mark.parametrize(
    ("layers", "patches"),
    [
        (
            (conv(3, 5, strides=2, padding="VALID"),),
            Patches((5, 5), (2, 2), ((0, 0), (0, 0))),
        ),
        ((conv(3, 3),), Patches((3, 3), (1, 1), ((1, 1), (1, 1)))),
        # A 3x3 convolution and a 2x2 pool are a 4x4 convolution of stride 2.
        ((conv(3, 3), pool()), Patches((4, 4), (2, 2), ((1, 1), (1, 1)))),
        ((flat, dense(4)), None),
    ],
)
def test_windows_of_the_first_layer_are_found(layers, patches):
    module, params, images = trained((*layers, jnp.square, flat, dense(5)))
    circuit = compile_model(module.apply, params, SHAPE, sample=images)
    assert circuit.layers[0].patches == patches


def test_a_kernel_of_zeros_has_no_windows():
    module, params, images = trained(SUPPORTED["convolution"])
    params = jax.tree.map(jnp.zeros_like, params)
    circuit = compile_model(module.apply, params, SHAPE, sample=images)
    assert circuit.layers[0].patches is None
    assert_equal(circuit, module.apply, params, images)


@pytest.mark.parametrize("activation", ["square", "tanh_least_squares"])
def test_the_model_of_the_zoo(activation):
    model = build(
        "polynomial_cnn",
        input_shape=(28, 28, 1),
        num_classes=10,
        normalization=Normalization(),
        activation=activation,
    )
    params = model.init(jax.random.key(0))
    raw = np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1)).astype(np.uint8)
    images = np.asarray(Normalization()(raw), np.float32)
    circuit = compile_model(model.network, params, (28, 28, 1), sample=images)
    assert_equal(circuit, lambda p, x: model.apply(p, raw), params, images)
    assert circuit.layers[0].patches == Patches((5, 5), (2, 2), ((0, 0), (0, 0)))


# What has no encrypted form


UNSUPPORTED = {
    "max pool": (
        (lambda x: nn.max_pool(x, (2, 2), (2, 2)), flat, dense(5)),
        r"max pooling.*average pooling",
    ),
    "relu": ((flat, dense(4), nn.relu, dense(5)), r"ReLU.*activation such as square"),
    "tanh": ((flat, dense(4), nn.tanh, dense(5)), r"tanh.*activation"),
    "sigmoid": ((flat, dense(4), nn.sigmoid, dense(5)), r"sigmoid.*activation"),
    "gelu": ((flat, dense(4), nn.gelu, dense(5)), r"has no encrypted form"),
    "elu": ((flat, dense(4), nn.elu, dense(5)), r"has no encrypted form"),
    "absolute value": ((flat, dense(4), jnp.abs, dense(5)), r"absolute.*a square"),
    "softmax": ((flat, dense(5), nn.softmax), r"logits without softmax"),
    "group norm": (
        (conv(4), lambda x: nn.GroupNorm(2)(x), flat, dense(5)),
        r"GroupNorm_0 has no encrypted form.*without normalization",
    ),
    "layer norm": (
        (flat, dense(4), lambda x: nn.LayerNorm()(x)),
        r"LayerNorm_0.*without normalization",
    ),
    "quotient": ((flat, dense(4), lambda x: 1.0 / (x + 9.0)), r"has no encrypted form"),
    "residual over a polynomial": (
        (flat, dense(4), lambda x: x + nn.Dense(4)(x * x)),
        r"branch.*one sequence of layers",
    ),
    "attention": ((flat, dense(4), lambda x: x @ (x.T @ x)), r"no encrypted form"),
    "loop": (
        (flat, lambda x: jax.lax.fori_loop(0, 3, lambda _, y: y * x, x)),
        r"has no encrypted form",
    ),
    "comparison": (
        (flat, lambda x: jnp.where(x > 0, x, 0.0), dense(5)),
        r"has no encrypted form",
    ),
    "no image": ((lambda x: jnp.ones((1, 5)),), r"does not depend on the images"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_unsupported_layer_is_named_with_an_alternative(name):
    layers, message = UNSUPPORTED[name]
    module, params, images = trained(layers)
    with pytest.raises(UnsupportedLayerError, match=message):
        compile_model(module.apply, params, SHAPE, sample=images)


@pytest.mark.parametrize("module", [TutorialCnn(10), FedAvgCnn(10, features=(4, 4))])
def test_networks_that_are_not_polynomial(module):
    images = np.zeros((2, 28, 28, 1), np.float32)
    params = module.init(jax.random.key(0), images[:1])
    with pytest.raises(UnsupportedLayerError, match="ReLU"):
        compile_model(module.apply, params, (28, 28, 1), sample=images)


def test_a_layer_too_wide_to_compile():
    images = np.zeros((1, 200, 200, 1), np.float32)
    with pytest.raises(UnsupportedLayerError, match="too many to compile"):
        compile_model(lambda p, x: flat(x), {}, images.shape[1:], sample=images)


def test_a_model_is_not_its_network():
    with pytest.raises(ValueError, match=r"such as model.network, got dict"):
        compile_model({}, {}, (4,), sample=np.zeros((1, 4)))
