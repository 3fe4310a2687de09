"""The clients' data as one pytree with a client axis."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from fedjax_private.choices import check_kind
from fedjax_private.datasets.examples import Examples

Array = npt.NDArray[Any] | jax.Array  # NumPy on the host, JAX in a client phase


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClientData:
    """K clients' examples, padded to a common length; a pytree of three arrays.

    One client, as a vmapped client function sees it, is the same type without the
    leading axis: inputs (N_max, ...), labels and mask (N_max,).

    Attributes:
        inputs: (K, N_max, ...), of the examples' dtype; zeros where `mask` is False.
            Images stay uint8 until the client phase normalises them, a quarter of the
            memory.
        labels: int32 (K, N_max); zeros where `mask` is False.
        mask: bool (K, N_max); True for a real example. A client's real examples come
            first.
    """

    inputs: Array
    labels: Array
    mask: Array

    def take(self, client_ids: npt.ArrayLike | jax.Array) -> "ClientData":
        """The clients at `client_ids` (C,): the same type with leading axis C.

        Raises:
            IndexError: an id outside -K .. K - 1, where the arrays are NumPy's (JAX
                clamps it instead).
        """
        ids = (
            client_ids if isinstance(client_ids, jax.Array) else np.asarray(client_ids)
        )
        return ClientData(self.inputs[ids], self.labels[ids], self.mask[ids])


def client_data(
    examples: Examples, parts: Sequence[npt.NDArray[np.integer]]
) -> ClientData:
    """Gathers each client's examples and pads them with zeros to a common length.

    Compiled code is specific to N_max, and the largest client's size changes with the
    seed, the scheme and its parameters. Rounded up to a power of two, a few lengths
    serve a whole sweep, so that its runs share compilations. The price is memory: less
    than twice that of the largest client, for every client.

    Args:
        examples: usually a training set.
        parts: for each client the positions of its examples, (n_k,) integers; see
            `partition`. An empty part gives a client whose mask is all False.

    Returns:
        NumPy arrays on the host; `jax.device_put` moves them.

    Raises:
        ValueError: no clients, or a position outside the examples.
    """
    check_kind("examples", examples, Examples, "Examples, such as dataset.train")
    if not len(parts):
        raise ValueError("client data needs at least one client, got no parts.")
    largest = max(len(part) for part in parts)
    length = 1 << max(largest - 1, 0).bit_length()
    inputs = np.zeros(
        (len(parts), length, *examples.inputs.shape[1:]), examples.inputs.dtype
    )
    labels = np.zeros((len(parts), length), np.int32)
    mask = np.zeros((len(parts), length), np.bool_)
    for client, part in enumerate(parts):
        if len(part) and not 0 <= np.min(part) <= np.max(part) < len(examples):
            raise ValueError(
                f"client {client} has positions from {np.min(part)} to "
                f"{np.max(part)}, outside the {len(examples)} examples."
            )
        inputs[client, : len(part)] = examples.inputs[part]
        labels[client, : len(part)] = examples.labels[part]
        mask[client, : len(part)] = True
    return ClientData(inputs, labels, mask)
