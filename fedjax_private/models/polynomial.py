"""Networks of polynomials, which homomorphic encryption can evaluate.

Ciphertexts can be added and multiplied. A layer therefore has an encrypted form if it
is a polynomial of its inputs, and its degree determines the levels that it costs.
Squares are the cheapest activation (Gilad-Bachrach et al. 2016, "CryptoNets: Applying
Neural Networks to Encrypted Data with High Throughput and Accuracy"). Polynomials that
are fitted to ReLU, sigmoid and tanh on an interval replace these functions (Hesamifard,
Takabi, Ghasemi 2017, "CryptoDL: Deep Neural Networks over Encrypted Data"); a penalty
keeps their inputs in the interval.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from numpy.polynomial import Chebyshev, Legendre, Polynomial

from fedjax_private.models.entry import Activation, ModelEntry, check_images
from fedjax_private.models.network import PENALTIES
from fedjax_private.typing import Array

Floats: TypeAlias = npt.NDArray[np.float64]
# Of a float64 array, elementwise.
Function: TypeAlias = Callable[[Any], Any]

# The activations below are fitted on [-BOUND, BOUND].
BOUND = 2.0
# Nodes of the quadrature on either half of an interval.
_NODES = 128


def relu(x: Floats) -> Floats:
    """max(x, 0)."""
    return np.maximum(x, 0.0)


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), for x of any size."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def _chebyshev(function: Function, degree: int, bound: float) -> Polynomial:
    fit = Chebyshev.interpolate(function, degree, domain=[-bound, bound])
    return fit.convert(kind=Polynomial)


def _quadrature() -> tuple[Floats, Floats]:
    """Nodes and weights on [-1, 1]; exact also for functions with a kink at 0."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    halves = 0.5 * (nodes + 1.0)
    return np.concatenate([-halves, halves]), np.tile(0.5 * weights, 2)


def _least_squares(function: Function, degree: int, bound: float) -> Polynomial:
    nodes, weights = _quadrature()
    basis = np.polynomial.legendre.legvander(nodes, degree)  # (nodes, degree + 1)
    inner = (weights * function(bound * nodes)) @ basis
    fit = Legendre(inner * (np.arange(degree + 1) + 0.5), domain=[-bound, bound])
    return fit.convert(kind=Polynomial)


def _derivative(function: Function, degree: int, bound: float) -> Polynomial:
    # <f', P_k> = f P_k at the ends - <f, P_k'>: the derivative itself is not needed.
    nodes, weights = _quadrature()
    values = function(bound * nodes)
    low, high = function(np.array([-bound, bound]))
    slopes = []
    for k in range(degree):
        basis = Legendre.basis(k)
        inner = high - low * (-1.0) ** k - weights @ (values * basis.deriv()(nodes))
        slopes.append((k + 0.5) * inner)
    scaled = Legendre(slopes or [0.0]).integ()  # of x / bound
    missing = 0.5 * weights @ (values - scaled(nodes))
    fit = Legendre((scaled + missing).coef, domain=[-bound, bound])
    return fit.convert(kind=Polynomial)


METHODS: Mapping[str, Callable[[Function, int, float], Polynomial]] = {
    "chebyshev": _chebyshev,
    "least_squares": _least_squares,
    "derivative": _derivative,
}


def coefficients(function: Function, degree: int, bound: float, method: str) -> Floats:
    """A polynomial in place of a function on [-bound, bound].

    The methods are those that CryptoDL compares:

    - `chebyshev` interpolates at the degree + 1 Chebyshev points of the first kind;
    - `least_squares` has the smallest mean squared error on the interval;
    - `derivative` integrates the polynomial of degree - 1 whose mean squared distance
      to the function's derivative is smallest; the constant makes the mean error zero.

    Args:
        function: of a float64 array, elementwise; continuous, and smooth but for a kink
            at 0.
        degree: not negative.
        bound: positive and finite.
        method: of `METHODS`.

    Returns:
        Ascending powers of x, (degree + 1,) float64.
    """
    fit = METHODS[method](function, degree, bound).coef
    return np.pad(fit, (0, degree + 1 - len(fit)))


def activation_of(coefficients: npt.ArrayLike) -> Activation:
    """The elementwise activation with these coefficients, ascending.

    It consists of products with constants, products of powers, and sums.

    Args:
        coefficients: (degree + 1,), at least two.
    """
    constant, slope, *others = (float(c) for c in np.asarray(coefficients, np.float64))

    def activation(x: Array) -> Array:
        result, power = constant + slope * x, x
        for coefficient in others:
            power = power * x
            result = result + coefficient * power
        return result

    return activation


def square(x: Array) -> Array:
    """x^2, as in CryptoNets."""
    return x * x


# By name. ReLU is even apart from its linear part: degree 2, one level. Sigmoid and
# tanh are odd apart from a constant: degree 3, two levels.
POLYNOMIALS: Mapping[str, Activation] = {
    "square": square,
    **{
        f"relu_{method}": activation_of(coefficients(relu, 2, BOUND, method))
        for method in METHODS
    },
    "sigmoid_least_squares": activation_of(
        coefficients(sigmoid, 3, BOUND, "least_squares")
    ),
    "tanh_least_squares": activation_of(
        coefficients(np.tanh, 3, BOUND, "least_squares")
    ),
}


def range_penalty(x: Array, bound: float) -> Array:
    """The sum of squared excesses over [-bound, bound] per example: (B, ...) -> (B,).

    It is zero, and has no gradient, for an example whose values all lie inside.
    """
    excess = jnp.maximum(jnp.abs(x) - bound, 0.0)
    return jnp.sum(jnp.square(excess), axis=range(1, x.ndim))


class PolynomialCnn(nn.Module):
    """Convolution, polynomial, dense, polynomial, dense: five levels with degree 2.

    The shape of CryptoNets and of LoLa (Brutzkus, Elisha, Gilad-Bachrach 2019, "Low
    Latency Privacy Preserving Inference"), narrower: every map and every unit costs
    encrypted products. 23,532 parameters on 28x28x1 inputs and ten classes.

    Attributes:
        num_classes: logits.
        activation: elementwise, a polynomial.
        features: maps of the convolution, 5x5 with stride 2 and no padding.
        hidden: units of the dense layer.
        bound: pre-activations outside [-bound, bound] are penalised, so that fitted
            activations are used where they fit and encrypted values keep their range.
        penalty_weight: of `range_penalty`, summed over both activations, in an
            example's loss. The penalty depends on that example alone, so that clipping
            bounds it too.
    """

    num_classes: int
    activation: Activation = square
    features: int = 5
    hidden: int = 32
    bound: float = BOUND
    penalty_weight: float = 0.1

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """(B, H, W, C) float32 -> logits (B, num_classes)."""
        x = nn.Conv(self.features, (5, 5), strides=2, padding="VALID")(inputs)
        x = self._activated(x).reshape((x.shape[0], -1))
        x = self._activated(nn.Dense(self.hidden)(x))
        return nn.Dense(self.num_classes)(x)

    def _activated(self, x: Array) -> Array:
        # Predictions do not ask for it.
        if self.penalty_weight and self.is_mutable_collection(PENALTIES):
            penalty = self.penalty_weight * range_penalty(x, self.bound)
            self.sow(PENALTIES, "range", penalty)
        return self.activation(x)


def _build(
    shape: tuple[int, ...], classes: int, activation: Any, settings: Any
) -> nn.Module:
    check_images("polynomial_cnn", shape)
    return PolynomialCnn(classes, activation)


POLYNOMIAL_CNN = ModelEntry(
    "polynomial_cnn",
    "for predictions on encrypted images; 23,532 parameters on MNIST",
    _build,
    tuple(POLYNOMIALS),
    "relu_chebyshev",
    takes_tokens=False,
)
