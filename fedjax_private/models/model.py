"""A model as three pure functions, and the zoo by name."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from fedjax_private.datasets.examples import Dataset, Normalization
from fedjax_private.models.cnn import FedAvgCnn, ShallowCnn, TutorialCnn
from fedjax_private.models.lowering import lowered
from fedjax_private.models.mlp import Mlp
from fedjax_private.models.polynomial import PENALTIES, POLYNOMIALS, PolynomialCnn
from fedjax_private.models.scattering import channels
from fedjax_private.typing import Array, LossFn, Params, PRNGKey

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "tanh": nn.tanh,
    # Papernot et al. 2021, "Tempered Sigmoid Activations for Deep Learning with
    # Differential Privacy": s sigmoid(T x) - o; tanh is (2, 2, 1).
    "tempered_sigmoid": lambda x: 1.58 * nn.sigmoid(3.0 * x) - 0.71,
    **POLYNOMIALS,
}

# On scattering features, not on images: see `scattered`. Its loss is convex, and few
# noisy steps are best begun at zero.
SCATTERING_LINEAR = "scattering_linear"

# For predictions on encrypted images; its activation is one of POLYNOMIALS.
POLYNOMIAL_CNN = "polynomial_cnn"

MODELS: Mapping[str, Callable[[int, Callable[[Array], Array]], nn.Module]] = {
    "tutorial_cnn": lambda classes, act: TutorialCnn(classes, act),
    "tutorial_cnn_gn": lambda classes, act: TutorialCnn(classes, act, normalized=True),
    "shallow_cnn": lambda classes, act: ShallowCnn(classes, act),
    "fedavg_cnn": lambda classes, act: FedAvgCnn(classes, act),
    "fedavg_cnn_small": lambda classes, act: FedAvgCnn(classes, act, (16, 32), 64),
    "mlp_2nn": lambda classes, act: Mlp(classes, (200, 200), act),
    "linear": lambda classes, act: Mlp(classes),
    SCATTERING_LINEAR: lambda classes, act: Mlp(classes, start=nn.initializers.zeros),
    POLYNOMIAL_CNN: lambda classes, act: PolynomialCnn(classes, act),
}


@dataclasses.dataclass(frozen=True)
class Model:
    """A classifier.

    Attributes:
        init: key -> params, a pytree of float32 arrays.
        apply: (params, inputs (B, H, W, C) uint8) -> logits (B, classes) float32. It
            normalises the images itself, so that data stays uint8 until then.
        loss: (params, inputs, labels (B,) int32) -> cross-entropy per example, (B,),
            and what the module sows into `polynomial.PENALTIES` for the example.
        network: (params, normalised inputs (B, H, W, C) float32) -> logits, layer by
            layer as in Flax: what has an encrypted form is read off it.
    """

    init: Callable[[PRNGKey], Params]
    apply: Callable[[Params, Array], Array]
    loss: LossFn
    network: Callable[[Params, Array], Array]


def from_flax(
    module: nn.Module, input_shape: tuple[int, ...], normalization: Normalization
) -> Model:
    """Wraps any Flax classifier without mutable state.

    Args:
        module: maps float32 inputs (B, *input_shape) to logits (B, classes).
        input_shape: shape of one image, (H, W, C).
        normalization: applied to the uint8 images first.
    """

    def init(key: PRNGKey) -> Params:
        return module.init(key, jnp.zeros((1, *input_shape), jnp.float32))["params"]

    def network(params: Params, inputs: Array) -> Array:
        logits: Array = module.apply({"params": params}, inputs)
        return logits

    @lowered
    def apply(params: Params, inputs: Array) -> Array:
        return network(params, normalization(inputs))

    @lowered
    def scored(params: Params, inputs: Array) -> tuple[Array, Any]:
        scores: tuple[Array, Any] = module.apply(
            {"params": params}, normalization(inputs), mutable=[PENALTIES]
        )
        return scores

    def loss(params: Params, inputs: Array, labels: Array) -> Array:
        logits, sown = scored(params, inputs)
        per_example: Array = optax.softmax_cross_entropy_with_integer_labels(
            logits, labels
        )
        for penalty in jax.tree.leaves(sown):
            per_example = per_example + penalty
        return per_example

    return Model(init, apply, loss, network)


def build(
    name: str,
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    normalization: Normalization,
    activation: str | None = None,
) -> Model:
    """Builds a model of the zoo.

    Args:
        name: of MODELS.
        input_shape: of one image, (H, W, C).
        num_classes: logits.
        normalization: applied to the uint8 images first.
        activation: of ACTIVATIONS; ReLU by default, or its like among polynomials.

    Raises:
        ValueError: unknown name or activation, or images too small for the model.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: --model takes {', '.join(MODELS)}.")
    if activation is None:
        activation = "relu_chebyshev" if name == POLYNOMIAL_CNN else "relu"
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"unknown activation {activation!r}: --activation takes "
            f"{', '.join(ACTIVATIONS)}."
        )
    if name == POLYNOMIAL_CNN and activation not in POLYNOMIALS:
        raise ValueError(
            f"{name} takes polynomials, not {activation!r}: --activation takes "
            f"{', '.join(POLYNOMIALS)}."
        )
    if name == SCATTERING_LINEAR and input_shape[-1] % channels():
        raise ValueError(
            f"{name} takes scattering features, not images of shape {input_shape}: "
            "give it models.scattered(dataset)."
        )
    module = MODELS[name](num_classes, ACTIVATIONS[activation])
    model = from_flax(module, input_shape, normalization)
    try:
        leaves = jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0)))
        fits = all(leaf.size for leaf in leaves)  # a layer with no inputs has none
    except (TypeError, ValueError, ZeroDivisionError):
        fits = False
    if not fits:
        raise ValueError(
            f"{name} cannot take images of shape {input_shape}: try --model=linear."
        )
    return model


def for_dataset(name: str, dataset: Dataset, *, activation: str | None = None) -> Model:
    """Builds a model of the zoo for a data set's images and classes; see `build`."""
    return build(
        name,
        input_shape=dataset.train.inputs.shape[1:],
        num_classes=dataset.num_classes,
        normalization=dataset.normalization,
        activation=activation,
    )


# (down, right) in pixels: none, then the nearest first.
SHIFTS = (
    (0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1)
)  # fmt: skip


def augmented(model: Model, multiplicity: int) -> Model:
    """The same model, whose training loss averages over shifted copies of an image.

    Augmentation multiplicity (De, Berrada, Hayes, Smith, Balle 2022, "Unlocking
    High-Accuracy Differentially Private Image Classification through Scale"): a
    record's gradient is the mean over its copies, clipped afterwards, so that copies
    cost no privacy. Pixels that enter at an edge are zeros. It takes as many times the
    computation.

    Args:
        model: to be trained.
        multiplicity: how many of `SHIFTS`, from 1, the image itself, to 9.

    Raises:
        ValueError: a number outside that range.
    """
    if not 1 <= multiplicity <= len(SHIFTS):
        raise ValueError(
            f"--augmentations must lie between 1 and {len(SHIFTS)}, got {multiplicity}."
        )
    if multiplicity == 1:
        return model

    def moved(inputs: Array, down: int, right: int) -> Array:
        height, width = inputs.shape[1:3]
        padded = jnp.pad(inputs, [(0, 0), (1, 1), (1, 1), (0, 0)])
        return padded[:, 1 - down : 1 - down + height, 1 - right : 1 - right + width]

    def loss(params: Params, inputs: Array, labels: Array) -> Array:
        copies = [moved(inputs, *shift) for shift in SHIFTS[:multiplicity]]
        each = [model.loss(params, copy, labels) for copy in copies]
        return jnp.mean(jnp.stack(each), axis=0)

    return dataclasses.replace(model, loss=loss)


def parameter_count(params: Params) -> int:
    """Number of scalars in a pytree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
