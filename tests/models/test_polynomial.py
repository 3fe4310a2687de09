import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from numpy.polynomial import Polynomial, legendre

from fedjax_private import models
from fedjax_private.datasets import Normalization
from fedjax_private.models import from_flax, polynomial as poly
from fedjax_private.privacy.gradients.bookkeeping import bookkept_gradients
from fedjax_private.privacy.gradients.types import total_norms

pytestmark = pytest.mark.usefixtures("full_precision")

FUNCTIONS = {"relu": poly.relu, "sigmoid": poly.sigmoid, "tanh": np.tanh}
GRID = np.linspace(-1, 1, 20_001)


def images(size, seed=0):
    """Strokes: few pixels are bright, as in digits."""
    rng = np.random.default_rng(seed)
    bright = rng.integers(128, 256, (size, 28, 28, 1))
    drawn = rng.random((size, 28, 28, 1)) < 0.2
    return np.where(drawn, bright, 0).astype(np.uint8)


def pre_activations(module, params, inputs):
    """The outputs of the layers below the activations."""
    _, state = module.apply({"params": params}, inputs, capture_intermediates=True)
    layers = state["intermediates"]
    return [layers[name]["__call__"][0] for name in ("Conv_0", "Dense_0")]


def cnn(**options):
    module = models.PolynomialCnn(10, **options)
    return module, from_flax(module, (28, 28, 1), Normalization())


# Degree 2 on [-1, 1], by hand: the nodes of interpolation are 0 and +-sqrt(3)/2; the
# moments of ReLU are 1/2, 1/3, 1/4; the step function's line is 1/2 + 3/4 x.
RELU = {
    "chebyshev": (0, 1 / 2, 1 / np.sqrt(3)),
    "least_squares": (3 / 32, 1 / 2, 15 / 32),
    "derivative": (1 / 8, 1 / 2, 3 / 8),
}


@pytest.mark.parametrize("bound", [1.0, 0.25, 6.0])
@pytest.mark.parametrize("method", poly.METHODS)
def test_relu_of_degree_2_by_hand(method, bound):
    found = poly.coefficients(poly.relu, 2, bound, method)
    expected = np.array(RELU[method]) * bound ** (1.0 - np.arange(3))
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("degree", range(6))
@pytest.mark.parametrize("method", poly.METHODS)
def test_polynomials_are_their_own_approximations(method, degree):
    chosen = np.random.default_rng(degree).normal(size=degree + 1)
    found = poly.coefficients(Polynomial(chosen), degree, 3.0, method)
    np.testing.assert_allclose(found, chosen, atol=1e-9)


@pytest.mark.parametrize("bound", [1.0, 5.0])
@pytest.mark.parametrize("degree", [1, 3, 7, 14])
@pytest.mark.parametrize(("name", "pole"), [("tanh", np.pi / 2), ("sigmoid", np.pi)])
def test_chebyshev_keeps_the_bound_of_analytic_functions(name, pole, degree, bound):
    """Trefethen, "Approximation Theory and Approximation Practice", theorem 8.2."""
    found = poly.coefficients(FUNCTIONS[name], degree, bound, "chebyshev")
    error = np.abs(Polynomial(found)(bound * GRID) - FUNCTIONS[name](bound * GRID))
    # On an ellipse that ends short of the poles, the function is at most M.
    height = 0.9 * pole / bound
    rho = height + np.hypot(1, height)
    circle = rho * np.exp(1j * np.linspace(0, 2 * np.pi, 4001))
    ellipse = bound * (circle + 1 / circle) / 2
    values = np.tanh(ellipse) if name == "tanh" else 1 / (1 + np.exp(-ellipse))
    largest = np.abs(values).max()
    assert error.max() <= 4 * largest * rho**-degree / (rho - 1)


@pytest.mark.parametrize("degree", [2, 3, 6])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_least_squares_is_what_numpy_fits_and_no_method_is_closer(name, degree):
    function, x = FUNCTIONS[name], 4.0 * GRID
    found = {m: poly.coefficients(function, degree, 4.0, m) for m in poly.METHODS}
    fit = legendre.Legendre.fit(x, function(x), degree).convert(kind=Polynomial)
    # NumPy leaves out a last coefficient that rounds to zero.
    expected = np.pad(fit.coef, (0, degree + 1 - len(fit.coef)))
    np.testing.assert_allclose(found["least_squares"], expected, atol=2e-4)

    def distance(values, target):
        return np.sqrt(np.mean((values - target) ** 2))

    errors = {m: distance(Polynomial(c)(x), function(x)) for m, c in found.items()}
    assert errors["least_squares"] == min(errors.values())
    slopes = np.gradient(function(x), x)
    steep = {m: distance(Polynomial(c).deriv()(x), slopes) for m, c in found.items()}
    assert steep["derivative"] == min(steep.values())
    mean_error = np.mean(Polynomial(found["derivative"])(x) - function(x))
    assert abs(mean_error) < 1e-3


@pytest.mark.parametrize("name", models.POLYNOMIALS)
def test_activations_are_products_and_sums_and_fit_in_their_range(name):
    activation = models.ACTIVATIONS[name]
    x = jnp.linspace(-poly.BOUND, poly.BOUND, 101)
    program = jax.make_jaxpr(activation)(x)
    assert {eqn.primitive.name for eqn in program.eqns} <= {"add", "mul"}
    function, _, method = name.partition("_")
    if function == "square":
        expected = np.asarray(x, np.float64) ** 2
    else:
        degree = 2 if function == "relu" else 3
        fit = poly.coefficients(FUNCTIONS[function], degree, poly.BOUND, method)
        expected = Polynomial(fit)(np.asarray(x, np.float64))
        target = FUNCTIONS[function](np.asarray(x, np.float64))
        assert np.abs(expected - target).max() < 0.13 * poly.BOUND
    np.testing.assert_allclose(activation(x), expected, atol=1e-5)


def test_the_penalty_by_hand():
    x = jnp.array([[[1.0, -2.0], [2.0, 0.0]], [[3.0, -5.0], [2.5, -2.25]]])
    found = poly.range_penalty(x, 2.0)
    np.testing.assert_allclose(found, [0.0, 1.0 + 9.0 + 0.25 + 0.0625])
    gradient = jax.grad(lambda x: poly.range_penalty(x, 2.0).sum())(x)
    expected = [[[0, 0], [0, 0]], [[2.0, -6.0], [1.0, -0.5]]]
    np.testing.assert_allclose(gradient, expected)


def test_the_loss_is_cross_entropy_and_the_weighted_penalty_of_each_example():
    module, model = cnn(bound=0.5, penalty_weight=0.25)
    params, inputs = model.init(jax.random.key(0)), images(6)
    labels = np.arange(6, dtype=np.int32)
    logits = model.apply(params, inputs)
    plain = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    first, second = pre_activations(module, params, Normalization()(inputs))
    assert first.shape == (6, 12, 12, 5) and second.shape == (6, 32)
    excess = sum(
        np.sum(np.maximum(np.abs(np.asarray(x, np.float64)) - 0.5, 0) ** 2, axis=1)
        for x in (first.reshape(6, -1), second)
    )
    assert excess.min() > 1e-3
    losses = model.loss(params, inputs, labels)
    np.testing.assert_allclose(losses, plain + 0.25 * excess, rtol=1e-5)
    alone = model.loss(params, inputs[2:3], labels[2:3])
    np.testing.assert_allclose(losses[2:3], alone, rtol=1e-5)
    _, free = cnn(bound=0.5, penalty_weight=0.0)
    np.testing.assert_allclose(free.loss(params, inputs, labels), plain, rtol=1e-6)


@pytest.mark.parametrize("activation", ["relu_chebyshev", "tanh_least_squares"])
def test_bookkeeping_equals_gradients_formed_one_by_one(activation):
    """So that clipping bounds what one example adds, its penalty included."""
    _, model = cnn(
        activation=models.ACTIVATIONS[activation], bound=0.5, penalty_weight=1.0
    )
    params, inputs = model.init(jax.random.key(1)), images(4)
    labels = np.arange(4, dtype=np.int32)
    factors = np.array([0.5, 0.0, 2.0, 1.0], np.float32)

    @jax.jit
    def kept(params):
        books = bookkept_gradients(model.loss, params, inputs, labels)
        return total_norms(books), books.weighted_sum(factors)

    norms, total = kept(params)
    gradient = jax.jit(jax.grad(lambda p, x, y: model.loss(p, x[None], y[None])[0]))
    each = [gradient(params, *example) for example in zip(inputs, labels, strict=True)]
    expected = [np.linalg.norm(ravel_pytree(gradient)[0]) for gradient in each]
    np.testing.assert_allclose(norms, expected, rtol=1e-4)
    expected = jax.tree.map(
        lambda *g: sum(f * x for f, x in zip(factors, g, strict=True)), *each
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        total,
        expected,
    )


@pytest.mark.parametrize("activation", models.POLYNOMIALS)
def test_nothing_blows_up_at_initialisation(activation):
    black, white = np.zeros((1, 28, 28, 1)), np.full((1, 28, 28, 1), 255)
    inputs = np.concatenate([images(8), black, white]).astype(np.uint8)
    model = models.build(
        "polynomial_cnn",
        input_shape=(28, 28, 1),
        num_classes=10,
        normalization=Normalization(),
        activation=activation,
    )
    for seed in range(4):
        logits = model.apply(model.init(jax.random.key(seed)), inputs)
        assert np.abs(logits).max() < 100


def test_a_prediction_is_what_has_an_encrypted_form():
    _, model = cnn(activation=models.ACTIVATIONS["relu_chebyshev"])
    program = jax.make_jaxpr(model.network)(
        model.init(jax.random.key(0)), jnp.zeros((1, 28, 28, 1))
    )
    found = {eqn.primitive.name for eqn in program.eqns}
    assert found == {"conv_general_dilated", "dot_general", "reshape", "add", "mul"}


def test_the_default_is_small_and_takes_polynomials_only():
    build = functools.partial(
        models.build,
        "polynomial_cnn",
        input_shape=(28, 28, 1),
        num_classes=10,
        normalization=Normalization(),
    )
    shapes = jax.eval_shape(build().init, jax.random.key(0))
    assert models.parameter_count(shapes) == 23_532
    with pytest.raises(
        ValueError, match=r"none that model polynomial_cnn takes: choose one of square"
    ):
        build(activation="tanh")


def test_the_penalty_shrinks_the_range_of_a_trained_model():
    inputs = images(64)
    labels = np.arange(64, dtype=np.int32) % 10

    def largest(weight):
        activation = models.ACTIVATIONS["relu_chebyshev"]
        module, model = cnn(activation=activation, bound=0.5, penalty_weight=weight)

        @jax.jit
        def step(params):
            gradient = jax.grad(lambda p: model.loss(p, inputs, labels).mean())(params)
            return jax.tree.map(lambda p, g: p - 0.05 * g, params, gradient)

        params = model.init(jax.random.key(0))
        for _ in range(60):
            params = step(params)
        found = pre_activations(module, params, Normalization()(inputs))
        return max(float(jnp.abs(x).max()) for x in found)

    free, held = largest(0.0), largest(0.3)
    assert held < 0.8 < 1.2 < free
