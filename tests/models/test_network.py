"""Modules as pure functions: nnx beside its linen twin, and what is refused."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fedjax_private import models
from fedjax_private.datasets import Normalization
from fedjax_private.inference import compile_model
from fedjax_private.privacy import FlatClipping
from fedjax_private.privacy.gradients.sites import read_loss

SHAPE = (6, 6, 1)


def build(model, shape=SHAPE, **options):
    options = {"num_classes": 3, "normalization": Normalization()} | options
    return models.build(model, input_shape=shape, **options)


class Linen(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3))(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.GroupNorm(2)(x)
        return nn.Dense(self.num_classes)(x.reshape((len(x), -1)))


class Nnx(nnx.Module):
    """The same network."""

    def __init__(self, num_classes: int, *, rngs: nnx.Rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.GroupNorm(4, 2, rngs=rngs)
        self.dense = nnx.Linear(3 * 3 * 4, num_classes, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, deterministic=True, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv(x)), (2, 2), (2, 2))
        x = self.norm(x).reshape((len(x), -1))
        return self.dropout(self.dense(x))


NAMES = {"conv": "Conv_0", "norm": "GroupNorm_0", "dense": "Dense_0"}


@pytest.fixture(scope="module")
def twins():
    """A model of each kind, and their equal parameters."""
    linen, other = build(Linen(3)), build(Nnx)
    params = other.init(jax.random.key(1))
    return linen, {NAMES[name]: value for name, value in params.items()}, other, params


@pytest.fixture(scope="module")
def images():
    generator = np.random.default_rng(0)
    labels = np.arange(5, dtype=np.int32) % 3
    return generator.integers(0, 256, (5, *SHAPE), np.uint8), labels


def test_an_nnx_module_is_its_linen_twin(twins, images):
    linen, same, other, params = twins
    assert jax.tree.map(jnp.shape, same) == jax.tree.map(
        jnp.shape, linen.init(jax.random.key(0))
    )
    for function, arguments in (
        ("apply", images[:1]),
        ("network", (images[0] / np.float32(255),)),
        ("loss", images),
    ):
        got, want = (
            getattr(model, function)(values, *arguments)
            for model, values in ((other, params), (linen, same))
        )
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_its_gradients_are_clipped_by_the_same_book_keeping(twins, images):
    linen, same, other, params = twins
    sites = [
        [(site.eqn.primitive.name, site.data) for site in program.sites]
        for program in (
            read_loss(linen.loss, same, *images),
            read_loss(other.loss, params, *images),
        )
    ]
    assert sorted(sites[0]) == sorted(sites[1])
    assert len(sites[0]) >= 6
    valid = np.array([True, True, False, True, True])
    sums = [
        FlatClipping(0.3).summed(model.loss)(values, *images, valid, ())
        for model, values in ((linen, same), (other, params))
    ]
    renamed = {NAMES[name]: value for name, value in sums[1].items()}
    for got, want in zip(*map(jax.tree.leaves, (renamed, sums[0])), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_keys_choose_the_parameters_of_classes_and_instances_keep_theirs():
    def start(model, seed):
        return build(model).init(jax.random.key(seed))["dense"]["kernel"]

    def function(input_shape, num_classes, rngs):
        return Nnx(num_classes, rngs=rngs)

    for model in (Nnx, function):
        assert not np.array_equal(start(model, 0), start(model, 1))
        np.testing.assert_array_equal(start(model, 3), start(Nnx, 3))
    instance = Nnx(3, rngs=nnx.Rngs(7))
    for model in (instance, lambda input_shape, num_classes: instance):
        np.testing.assert_array_equal(start(model, 0), instance.dense.kernel[...])
        np.testing.assert_array_equal(start(model, 1), start(model, 0))


def test_lists_of_layers_and_constant_arrays():
    class Stack(nnx.Module):
        def __init__(self, input_shape, num_classes, rngs):
            layers = [
                nnx.Linear(4, 4, rngs=rngs),
                nnx.Linear(4, num_classes, rngs=rngs),
            ]
            self.layers = nnx.List(layers) if hasattr(nnx, "List") else layers
            self.constant = jnp.full(4, 2.0)

        def __call__(self, x):
            for layer in self.layers:
                x = layer(x * self.constant)
                self.constant = self.constant[:4]
            return x

    model = build(Stack, (4,), normalization=Normalization(0.0, 1.0))
    params = model.init(jax.random.key(0))
    assert models.parameter_count(params) == 4 * 5 + 5 * 3
    first, last = params["layers"]["0"], params["layers"]["1"]
    inputs = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    hidden = 2 * inputs @ first["kernel"] + first["bias"]
    expected = 2 * hidden @ last["kernel"] + last["bias"]
    np.testing.assert_allclose(model.apply(params, inputs), expected, rtol=1e-5)


def test_a_polynomial_nnx_network_is_compiled_for_encrypted_predictions():
    class Polynomial(nnx.Module):
        def __init__(self, num_classes, *, rngs):
            self.conv = nnx.Conv(1, 2, (3, 3), strides=2, rngs=rngs)
            self.dense = nnx.Linear(3 * 3 * 2, num_classes, rngs=rngs)

        def __call__(self, x):
            x = self.conv(x)
            x = 0.5 * x + 0.25 * x**2
            return self.dense(x.reshape((len(x), -1)))

    model = build(Polynomial)
    params = model.init(jax.random.key(0))
    sample = np.random.default_rng(0).uniform(size=(4, *SHAPE)).astype(np.float32)
    circuit = compile_model(model.network, params, SHAPE, sample=sample)
    want = model.network(params, sample)
    np.testing.assert_allclose(circuit.plain(sample), want, atol=1e-4)


# What is refused


class Wrapped(nn.Module):
    """Some layers and a linear classifier."""

    layers: tuple = ()
    options: dict = dataclasses.field(default_factory=dict)

    @nn.compact
    def __call__(self, x):
        x = x.reshape((len(x), -1))
        for layer in self.layers:
            x = layer(x)
        return nn.Dense(3, **self.options)(x)


class Trained(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(3)(x)


class Complex(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(3)(x.reshape((len(x), -1)))
        return x + self.param("shift", lambda key: jnp.zeros(3, jnp.complex64))


class Ending(nn.Module):
    function: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x):
        return self.function(nn.Dense(3)(x.reshape((len(x), -1))))


class Counting(nn.Module):
    @nn.compact
    def __call__(self, x):
        count = self.variable("calls", "count", lambda: jnp.zeros(()))
        count.value += 1
        return nn.Dense(3)(x.reshape((len(x), -1)))


class Random(nn.Module):
    @nn.compact
    def __call__(self, x):
        noise = jax.random.normal(self.make_rng("noise"), x.shape)
        return nn.Dense(3)((x + noise).reshape((len(x), -1)))


def nnx_with(layer):
    """A linear classifier after a layer, made of `rngs`."""

    class Flat(nnx.Module):
        def __init__(self, num_classes, *, rngs):
            self.layer = layer(rngs)
            self.dense = nnx.Linear(36, num_classes, rngs=rngs)

        def __call__(self, x):
            return self.dense(self.layer(x.reshape((len(x), -1))))

    return Flat


class Total(nnx.Variable):
    """State that is no parameter."""


class Keeping(nnx.Module):
    def __init__(self, rngs):
        self.total = Total(jnp.zeros(36))

    def __call__(self, x):
        return x


class Noisy(nnx.Module):
    def __init__(self, rngs):
        self.rngs = rngs

    def __call__(self, x):
        return x + jax.random.normal(self.rngs.params(), x.shape)


def centred(x):
    return x - x.mean(axis=0)


def by_place(x):
    return x * (1 + jnp.arange(len(x)))[:, None]


def behind(x):
    """Adds an example's predecessor, so that the first depends on no other."""
    return x + jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])


class Scanning(nn.Module):
    """Scans over the batch, as its axes are named wrongly."""

    @nn.compact
    def __call__(self, x):
        x = nn.RNN(nn.SimpleCell(4), time_major=True)(x.reshape((len(x), 6, 6)))
        return nn.Dense(3)(x.reshape((len(x), -1)))


def needy(*, rngs, width):
    raise AssertionError


RANDOM = "draws random numbers.*Dropout deterministic=True"
REFUSED = {
    "linen BatchNorm": (
        Wrapped((nn.BatchNorm(),)),
        "keeps state in batch_stats.*by GroupNorm",
    ),
    "linen BatchNorm, frozen": (
        Wrapped((nn.BatchNorm(use_running_average=True),)),
        "batch_stats.*GroupNorm",
    ),
    "linen Dropout": (Wrapped((nn.Dropout(0.5),)), RANDOM),
    "linen Dropout, on": (Wrapped((nn.Dropout(0.5, deterministic=False),)), RANDOM),
    "linen noise": (Random(), RANDOM),
    "linen state": (Counting(), "keeps state in calls.*leave out other state"),
    "linen argument": (Trained(), "missing 1 required.*'train'.*inputs alone"),
    "linen half precision": (
        Wrapped(options={"param_dtype": jnp.bfloat16}),
        "parameter Dense_0/bias of bfloat16.*param_dtype=jnp.float32",
    ),
    "linen complex": (Complex(), "parameter shift of complex64"),
    "linen across examples": (Wrapped((centred,)), "from the others of its batch"),
    "linen predecessor": (Ending(behind), "from the others of its batch"),
    "linen scan": (Scanning(), "from the others of its batch"),
    "linen cumulated": (
        Wrapped((lambda x: jnp.cumsum(x, axis=0),)),
        "or from its place among them",
    ),
    "linen size": (Ending(lambda x: x * len(x)), "from their number"),
    "linen place": (Ending(by_place), "from its place among them"),
    "linen squeezed": (
        Ending(lambda x: x.squeeze()),
        "from their number or .*reach over axis 0",
    ),
    "linen pairs": (
        Ending(lambda x: x.reshape((min(len(x), 2), 3))),
        r"cannot take a batch of 3 \(.*try model linear",
    ),
    "linen softmax": (Ending(nn.softmax), "returns probabilities.*leave out the softm"),
    "linen sigmoid": (Ending(nn.sigmoid), "returns probabilities, and the loss takes"),
    "nnx softmax": (
        lambda input_shape, num_classes: nnx.Sequential(
            lambda x: x.reshape((len(x), -1)),
            nnx.Linear(36, num_classes, rngs=nnx.Rngs(0)),
            nnx.softmax,
        ),
        "returns probabilities",
    ),
    "nnx BatchNorm": (
        nnx_with(lambda rngs: nnx.BatchNorm(36, rngs=rngs)),
        "keeps state in BatchStat.*by GroupNorm",
    ),
    "nnx Dropout": (nnx_with(lambda rngs: nnx.Dropout(0.5, rngs=rngs)), RANDOM),
    "nnx noise": (nnx_with(Noisy), RANDOM),
    "nnx state": (nnx_with(Keeping), "keeps state in Total"),
    "nnx across examples": (nnx_with(lambda rngs: centred), "from the others"),
    "nnx outputs": (
        lambda input_shape, num_classes: nnx.Linear(1, 7, rngs=nnx.Rngs(0)),
        r"must return logits \(B, 3\), got \(2, 6, 6, 7\).*num_classes units",
    ),
    "nnx inputs": (nnx.Linear(5, 3, rngs=nnx.Rngs(0)), r"cannot take.*\(6, 6, 1\)"),
    "nnx without parameters": (
        nnx.Sequential(lambda x: x.reshape((len(x), -1))[:, :3]),
        "no parameters to train.*nnx.Param",
    ),
    "nnx constructor": (nnx.Linear, "'in_features'; name a function"),
    "function of other arguments": (needy, "model needy: .*name a function"),
    "function of no module": (lambda input_shape, num_classes, rngs: 3, "got int"),
    "module's class returned": (
        lambda input_shape, num_classes: Wrapped,
        "must return a Flax module, got",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_is_one_sentence(case):
    model, words = REFUSED[case]
    with pytest.raises(ValueError, match=words) as caught:
        build(model)
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    "model",
    [
        Wrapped((nn.Dropout(0.5, deterministic=True), nn.LayerNorm())),
        Wrapped((nn.Dropout(0.0, deterministic=False),)),
        Wrapped(options={"dtype": jnp.bfloat16}),
        nnx_with(lambda rngs: nnx.Dropout(0.5, deterministic=True)),
        Ending(nn.tanh),
        Ending(nn.log_softmax),
    ],
)
def test_layers_that_do_nothing_random_and_other_ends_pass(model):
    model = build(model)
    params = model.init(jax.random.key(0))
    logits = model.apply(params, np.ones((2, *SHAPE), np.uint8))
    assert (logits.shape, logits.dtype) == ((2, 3), jnp.float32)
