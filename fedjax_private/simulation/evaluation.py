"""Accuracy and loss of one or many models on a common test set."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import NamedSharding, PartitionSpec

from fedjax_private.choices import check_kind
from fedjax_private.clients.for_each import CLIENT_AXIS, client_mesh
from fedjax_private.datasets.examples import Examples
from fedjax_private.models.model import Model
from fedjax_private.typing import Array, Params

# Images whose activations are held at once, over all devices.
BATCH = 500


class Evaluation(NamedTuple):
    """Means over the test set, one entry a model.

    Attributes:
        accuracy: (M,) float64.
        loss: (M,) float64.
        correct: (M, N) bool: which test example each model classifies rightly; None
            where nobody counted.
    """

    accuracy: npt.NDArray[np.float64]
    loss: npt.NDArray[np.float64]
    correct: npt.NDArray[np.bool_] | None = None


Evaluator = Callable[[Params], Evaluation]
EvaluatorFor = Callable[[Examples], Evaluator]


def evaluator(model: Model) -> EvaluatorFor:
    """Returns `examples -> (params with a leading model axis -> Evaluation)`.

    The test images are spread over all local devices once. Evaluators that share a
    `model` share compiled code.

    Raises:
        ValueError: an argument of another kind.
    """

    form = "a Model, as models.for_dataset(model, dataset) returns"
    check_kind("model", model, Model, form)
    mesh = client_mesh()
    spread = PartitionSpec(CLIENT_AXIS)

    # Every device sums over its own images and the host adds the devices' sums: without
    # a collective operation no device waits for another program.
    def sums(stack: Params, inputs: Array, labels: Array) -> tuple[Array, Array]:
        def one(params: Params) -> tuple[Array, Array]:
            logits = model.apply(params, inputs)
            known = labels >= 0
            right = jnp.argmax(logits, axis=-1) == labels
            losses = model.loss(params, inputs, jnp.maximum(labels, 0))
            return right, jnp.sum(jnp.where(known, losses, 0.0))

        right, loss = jax.lax.map(one, stack)
        return right, loss[None]

    spread_sums = jax.jit(
        jax.shard_map(
            sums,
            mesh=mesh,
            in_specs=(PartitionSpec(), spread, spread),
            out_specs=(PartitionSpec(None, CLIENT_AXIS), spread),
            check_vma=False,
        )
    )

    def for_examples(examples: Examples) -> Evaluator:
        form = "Examples, such as dataset.test: evaluate=evaluator(model)(dataset.test)"
        check_kind("examples", examples, Examples, form)
        sharding = NamedSharding(mesh, spread)
        size = min(BATCH, len(examples))
        size += -size % mesh.size
        batches = []
        for start in range(0, len(examples), size):
            inputs: Any = examples.inputs[start : start + size]
            labels = examples.labels[start : start + size]
            padding = size - len(labels)  # padded examples have the label -1
            inputs = np.pad(inputs, [(0, padding), *[(0, 0)] * (inputs.ndim - 1)])
            labels = np.pad(labels, (0, padding), constant_values=-1)
            batches.append(jax.device_put((inputs, labels), sharding))

        def evaluate(stack: Params) -> Evaluation:
            stack = jax.device_get(stack)
            if len({np.shape(leaf)[:1] for leaf in jax.tree.leaves(stack)}) != 1:
                raise ValueError(
                    "params must have a leading axis over models: give one model as "
                    "jax.tree.map(lambda leaf: leaf[None], params)."
                )
            parts = [spread_sums(stack, *batch) for batch in batches]
            right = [np.asarray(part[0]) for part in parts]
            loss = np.sum([np.asarray(part[1], np.float64) for part in parts], (0, 1))
            # The padding, which is never right, stands at the end.
            correct = np.concatenate(right, axis=1)[:, : len(examples)]
            return Evaluation(correct.mean(axis=1), loss / len(examples), correct)

        return evaluate

    return for_examples
