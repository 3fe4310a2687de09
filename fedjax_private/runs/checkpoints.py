"""Models on disk, through Orbax."""

from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from fedjax_private.typing import Params


def save(directory: Path, params: Params) -> None:
    """Writes a pytree of arrays to a new directory, complete or not at all.

    Raises:
        ValueError: the directory exists.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(directory.absolute(), jax.tree.map(np.asarray, params))


def restore(directory: Path, params_like: Params) -> Params:
    """Reads what `save` wrote.

    Args:
        directory: as given to `save`.
        params_like: a pytree of arrays or shapes that the checkpoint must match, for
            instance `jax.eval_shape(model.init, jax.random.key(0))`.

    Raises:
        ValueError: the checkpoint has another structure or other shapes.
        FileNotFoundError: there is none.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        params: Params = checkpointer.restore(directory.absolute(), params_like)
    return params
