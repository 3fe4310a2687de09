"""Norms and sums by book-keeping against gradients that are formed one by one."""

import dataclasses
import logging

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings, strategies as st
from jax.flatten_util import ravel_pytree

from fedjax_private import models
from fedjax_private.datasets import Normalization
from fedjax_private.models.lowering import lowered
from fedjax_private.privacy.gradients import parts
from fedjax_private.privacy.gradients.bookkeeping import bookkept_gradients
from fedjax_private.privacy.gradients.sums import formed_gradients

pytestmark = pytest.mark.usefixtures("full_precision")


def agree(loss, params, inputs, labels, rtol=2e-5):
    """Norms and sums are those of the formed gradients, by array and by example."""
    factors = jnp.linspace(0.5, 1.5, len(inputs)).at[0].set(0.0)
    by_array = factors * jnp.linspace(1, 2, len(jax.tree.leaves(params)))[:, None]

    def run(found):
        sums = [found.weighted_sum(f) for f in (factors, by_array)]
        return found.norms, [ravel_pytree(total)[0] for total in sums]

    @jax.jit
    def both(*batch):
        kept = bookkept_gradients(loss, *batch)
        return run(kept), run(formed_gradients(loss)(*batch))

    (norms, sums), (right, totals) = both(params, inputs, labels)
    largest = float(jnp.max(right)) or 1.0
    np.testing.assert_allclose(norms, right, rtol=rtol, atol=rtol * largest)
    for ours, theirs in zip(sums, totals, strict=True):
        scale = float(jnp.abs(theirs).max()) or 1.0
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * scale)


def classifier(module, input_shape, form=lowered, inputs=None, size=5):
    """A Flax classifier's loss, parameters and a random batch."""
    if inputs is None:
        inputs = jax.random.normal(jax.random.key(1), (size, *input_shape))
    labels = jnp.arange(len(inputs)) % 3
    params = module.init(jax.random.key(0), inputs)
    # Flax starts biases at zero and scales at one, where mistakes can hide.
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    leaves = [
        x + 0.3 * jax.random.normal(key, x.shape)
        for x, key in zip(leaves, keys, strict=True)
    ]
    apply = form(module.apply)

    def loss(params, inputs, labels):
        logits = apply(params, inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    return loss, jax.tree.unflatten(tree, leaves), inputs, labels


def stack(*layers):
    return nn.Sequential([*layers, lambda x: x.reshape(len(x), -1), nn.Dense(3)])


LAYERS = {
    "dense": ((7,), lambda: (nn.Dense(5), nn.tanh)),
    "dense_without_bias": ((7,), lambda: (nn.Dense(5, use_bias=False), nn.tanh)),
    "dense_on_a_sequence": ((4, 3), lambda: (nn.Dense(5), nn.relu)),
    "dense_general": ((4, 3), lambda: (nn.DenseGeneral((2, 3), axis=(-2, -1)),)),
    "conv": ((8, 8, 2), lambda: (nn.Conv(4, (3, 3)), nn.relu)),
    "strides": ((9, 8, 2), lambda: (nn.Conv(4, (3, 2), strides=(2, 3)),)),
    "valid": ((9, 8, 2), lambda: (nn.Conv(4, (3, 3), padding="VALID"),)),
    "explicit": ((5, 5, 2), lambda: (nn.Conv(4, (3, 3), padding=((2, 0), (1, 3))),)),
    "circular": ((6, 6, 2), lambda: (nn.Conv(4, (3, 3), padding="CIRCULAR"),)),
    "groups": ((6, 6, 4), lambda: (nn.Conv(6, (3, 3), feature_group_count=2),)),
    "depthwise": ((6, 6, 4), lambda: (nn.Conv(4, (3, 3), feature_group_count=4),)),
    "dilation": ((9, 9, 2), lambda: (nn.Conv(4, (3, 3), kernel_dilation=2),)),
    "conv_1d": ((9, 2), lambda: (nn.Conv(4, (3,)),)),
    "conv_3d": ((5, 4, 6, 2), lambda: (nn.Conv(3, (3, 2, 3)),)),
    "transposed": ((5, 5, 2), lambda: (nn.ConvTranspose(3, (3, 3), strides=(2, 2)),)),
    "group_norm": ((6, 6, 4), lambda: (nn.Conv(4, (3, 3)), nn.GroupNorm(2), nn.relu)),
    "layer_norm": ((4, 6), lambda: (nn.Dense(6), nn.LayerNorm())),
    "pools": (
        (8, 8, 2),
        lambda: (
            nn.Conv(4, (3, 3)),
            lambda x: nn.max_pool(x, (2, 2), (2, 2)),
            lambda x: nn.avg_pool(x, (2, 2), (1, 1)),
        ),
    ),
    "prelu": ((7,), lambda: (nn.Dense(5), nn.PReLU())),
    "weight_norm": ((7,), lambda: (nn.WeightNorm(nn.Dense(5)),)),
    "attention": ((5, 4), lambda: (nn.MultiHeadDotProductAttention(2),)),
    "scan": ((6, 3), lambda: (nn.RNN(nn.GRUCell(4)),)),
    "remat": ((7,), lambda: (nn.remat(nn.Dense)(5), nn.tanh)),
    "batch_of_kernels": ((4, 3), lambda: (nn.Einsum((4, 3, 5), "btc,tcf->btf"),)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(name):
    shape, layers = LAYERS[name]
    agree(*classifier(stack(*layers()), shape))


@pytest.mark.parametrize("name", ["conv", "strides", "groups", "dilation", "pools"])
def test_convolutions_as_they_stand_on_accelerators(name):
    shape, layers = LAYERS[name]
    agree(*classifier(stack(*layers()), shape, form=lambda apply: apply))


@pytest.mark.parametrize("name", models.MODELS.names)
def test_every_built_in_model(name):
    generator, shape = np.random.default_rng(0), (28, 28, 1)
    inputs = generator.integers(0, 256, (4, *shape), np.uint8)
    if models.MODELS.find(name).features is not None:
        shape = (7, 7, 81)
        inputs = generator.normal(size=(4, *shape)).astype(np.float32)
    model = models.build(
        name, input_shape=shape, num_classes=10, normalization=Normalization()
    )
    labels = np.array([3, 1, 4, 1], np.int32)
    agree(model.loss, model.init(jax.random.key(0)), inputs, labels)


class Tied(nn.Module):
    """A table whose rows are looked up and, transposed, make the logits."""

    @nn.compact
    def __call__(self, tokens):
        table = nn.Embed(9, 4)
        x = nn.tanh(nn.Dense(4)(table(tokens).mean(1)))
        return table.attend(x)


class Twice(nn.Module):
    """One layer used twice."""

    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(6)
        return nn.Dense(3)(nn.tanh(layer(nn.tanh(layer(x)))))


TOKENS = jnp.array(
    [[1, 1, 2, 1], [0, 8, 0, 8], [3, 4, 5, 6], [7, 7, 7, 7], [2, 0, 2, 1]]
)


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (Tied(), TOKENS),
        (Twice(), jax.random.normal(jax.random.key(3), (5, 6))),
        (nn.Sequential([nn.Embed(9, 4), stack(nn.Dense(5), nn.tanh)]), TOKENS),
        (nn.Sequential([nn.Embed(9, 4), stack()]), jnp.repeat(TOKENS, 3, axis=1)),
    ],
    ids=["tied", "twice", "embedding", "long"],
)
def test_shared_parameters_and_look_ups(module, inputs):
    agree(*classifier(module, None, inputs=inputs))


def test_the_gradients_of_an_embedding_are_not_formed():
    """A table too large to be held once an example: 8 x 400,000 x 64 x 4 bytes."""
    module = nn.Sequential([nn.Embed(400_000, 64), stack()])
    tokens = jnp.arange(24).reshape(8, 3) * 1000
    params = jax.eval_shape(module.init, jax.random.key(0), tokens)

    def loss(params, inputs, labels):
        return module.apply(params, inputs)[:, 0] * labels

    def run(params):
        found = bookkept_gradients(loss, params, tokens, jnp.ones(8))
        return found.weighted_sum(1 / total(found.norms))

    def total(norms):
        return jnp.sqrt(jnp.sum(norms**2, 0))

    shapes = [
        var.aval.shape
        for eqn in jax.make_jaxpr(run)(params).eqns
        for var in eqn.outvars
    ]
    assert max(np.prod(shape) for shape in shapes) <= 400_000 * 64


@dataclasses.dataclass(frozen=True)
class Layer:
    """One random layer, and how it changes the shape (height, width, channels)."""

    kind: str
    size: int
    stride: int
    features: int
    bias: bool

    def build(self):
        window, strides = (self.size, self.size), (self.stride, self.stride)
        match self.kind:
            case "conv":
                return nn.Conv(self.features, window, strides, use_bias=self.bias)
            case "dense":
                return nn.Dense(self.features, use_bias=self.bias)
            case "norm":
                return nn.LayerNorm(use_bias=self.bias)
            case "pool":
                return lambda x: nn.max_pool(x, window, strides, "SAME")
            case _:
                return nn.tanh


layers = st.builds(
    Layer,
    kind=st.sampled_from(["conv", "dense", "norm", "pool", "tanh"]),
    size=st.integers(1, 3),
    stride=st.integers(1, 2),
    features=st.integers(1, 4),
    bias=st.booleans(),
)


@pytest.mark.slow
@settings(max_examples=10, deadline=None, derandomize=True)
@given(network=st.lists(layers, max_size=4), height=st.integers(1, 7))
def test_random_networks(network, height):
    module = stack(*(layer.build() for layer in network))
    agree(*classifier(module, (height, 5, 2), size=3), rtol=1e-4)


def test_gradients_that_are_not_finite_are_reported_and_left_out():
    loss, params, inputs, labels = classifier(
        stack(nn.Conv(4, (3, 3)), nn.relu, nn.Dense(5)), (6, 6, 2)
    )
    factors = jnp.array([1.0, 0.5, 0.0, 2.0, 1.0])
    books = jax.jit(lambda x: bookkept_gradients(loss, params, x, labels).norms)
    total = jax.jit(
        lambda x: ravel_pytree(
            bookkept_gradients(loss, params, x, labels).weighted_sum(factors)
        )[0]
    )
    for bad in (jnp.nan, jnp.inf, 1e38):
        broken = inputs.at[2, 1, 1, 0].set(bad)
        finite = np.isfinite(books(broken)).all(axis=0)
        np.testing.assert_array_equal(finite, [True, True, False, True, True])
        with_it, without = total(broken), total(inputs)
        np.testing.assert_array_equal(with_it, without)


@pytest.mark.parametrize("size", [1e-37, 1e-25, 1.0, 1e25, 1e37, 3e38])
def test_a_norm_is_right_where_squares_leave_float32(size):
    """|a| = size, |d| = 1 / size: their squares are 0 or inf, their product is 1.

    Where even 1 / size is flushed to zero, the norm may be too, or not finite, but
    then nothing of the gradient is left either.
    """

    def loss(params, inputs, labels):
        return inputs @ params * labels

    inputs = jnp.array([[0.6, 0.8]]) * jnp.float32(size)
    labels = jnp.array([1 / size], jnp.float32)
    norms, gradient = jax.jit(
        lambda x, y: (
            (found := bookkept_gradients(loss, jnp.zeros(2), x, y)).norms,
            found.weighted_sum(jnp.ones(1)),
        )
    )(inputs, labels)
    right = np.linalg.norm(np.asarray(gradient, np.float64))
    np.testing.assert_allclose(norms, [[right]], rtol=1e-5)
    assert size == 3e38 or right == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("size", [1e20, 1e30, 3e38])
def test_no_huge_gradient_looks_small(size):
    """XLA may turn a division by 3e38 into a product with a reciprocal of zero."""
    books = jax.jit(
        lambda x: (
            bookkept_gradients(
                lambda p, x, y: x @ p * y, jnp.zeros(3), x, jnp.ones(2)
            ).norms
        )
    )
    norms = np.asarray(books(jnp.array([[1.0, 2.0, size], [1.0, 2.0, 2.0]])))
    assert norms[0, 0] >= 0.99 * size
    assert norms[0, 1] == pytest.approx(3.0)


def test_an_unusual_layer_is_named_once(caplog):
    """No other test raises data to the power of a parameter."""

    def loss(params, inputs, labels):
        return (1 + jnp.sum(inputs**2, axis=1)) ** params * labels

    batch = jnp.float32(0.5), jnp.ones((5, 3)), jnp.ones(5)
    with caplog.at_level(logging.INFO, logger="fedjax_private"):
        for _ in range(2):
            jax.eval_shape(lambda *b: bookkept_gradients(loss, *b).norms, *batch)
    assert [record.message for record in caplog.records].count(
        "per-example gradients through pow are formed whole"
    ) == 1


def test_a_planted_fault_is_found(monkeypatch):
    """Norms that forget a layer's input would clip by the wrong factor."""
    loss, *batch = classifier(stack(nn.Dense(5), nn.tanh), (7,))
    agree(loss, *batch)
    monkeypatch.setattr(parts, "scaled_norms", lambda x: jnp.ones(len(x)))
    with pytest.raises(AssertionError):
        agree(loss, *batch)
