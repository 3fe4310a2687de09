"""Circuits with random weights, and both sides of a session in one process."""

import itertools

import numpy as np

from fedjax_private.inference import plan
from fedjax_private.inference.compiling.circuit import (
    Affine,
    Circuit,
    Patches,
    Polynomial,
)
from fedjax_private.inference.evaluating.evaluator import Evaluator
from fedjax_private.inference.evaluating.querier import Querier
from fedjax_private.inference.planning.public import PublicPlan

# By degree, ascending coefficients; the squares and more general ones.
SQUARE = (0.0, 0.0, 1.0)
QUADRATIC = (0.1, 0.5, 0.2)
CUBIC = (0.05, 0.7, 0.1, -0.05)
QUARTIC = (0.2, 0.5, 0.1, 0.1, 0.05)


def images(shape, count=64, seed=1):
    """Floats in [0, 1], (count, *shape)."""
    return np.random.default_rng(seed).uniform(0, 1, (count, *shape))


def activation(name, coefficients, size):
    return Polynomial(name, np.outer(coefficients, np.ones(size)))


def dense(name, outputs, inputs, seed=0):
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(outputs, inputs)) / np.sqrt(inputs)
    return Affine(name, matrix, 0.3 * random.normal(size=outputs))


def convolution(name, shape, patches, maps, seed=0):
    """The matrix of a convolution with one kernel a map."""
    random = np.random.default_rng(seed)
    indices = patches.indices(shape)
    kernels = random.normal(size=(maps, indices.shape[1])) / np.sqrt(indices.shape[1])
    matrix = np.zeros((len(indices) * maps, int(np.prod(shape))))
    for window, pixels in enumerate(indices):
        inside = pixels >= 0
        matrix[window * maps : (window + 1) * maps, pixels[inside]] = kernels[:, inside]
    bias = np.tile(0.3 * random.normal(size=maps), len(indices))
    return Affine(name, matrix, bias, patches)


def network(
    shape=(10, 10, 1), patches=None, maps=3, hidden=12, outputs=5, powers=SQUARE
):
    """Convolution, polynomial, dense, polynomial, dense."""
    patches = patches or Patches((3, 3), (2, 2), ((0, 0), (0, 0)))
    first = convolution("conv", shape, patches, maps)
    layers = (
        first,
        activation("first", powers, first.outputs),
        dense("hidden", hidden, first.outputs, 1),
        activation("second", powers, hidden),
        dense("scores", outputs, hidden, 2),
    )
    return Circuit(shape, layers).measured(images(shape))


def multilayer(sizes, powers=SQUARE):
    """Dense layers with polynomials between them."""
    layers = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        layers.append(dense(f"dense{number}", outputs, inputs, number))
        if number < len(sizes) - 2:
            layers.append(activation(f"act{number}", powers, outputs))
    shape = (sizes[0],)
    return Circuit(shape, tuple(layers)).measured(images(shape))


class Session:
    """A client and a server that has its keys."""

    def __init__(self, circuit, *, score_noise=0.0, **options):
        self.circuit = circuit
        self.plan = plan(circuit, **{"queries": 10**6, "flooding_bits": 4, **options})
        self.public = PublicPlan.from_bytes(self.plan.public.to_bytes())
        self.querier = Querier(self.public)
        self.evaluator = Evaluator(circuit, self.plan, score_noise=score_noise)
        self.keys = self.querier.evaluation_keys()
        self.evaluator.load_keys(self.keys)

    def ask(self, inputs):
        answer = self.evaluator.evaluate(self.querier.encrypt(inputs))
        return self.querier.decrypt(answer, len(inputs))
