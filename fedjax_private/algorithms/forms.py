"""Checks the forms of client functions, their results, codecs and parameters."""

from typing import Any

import jax
import numpy as np

from fedjax_private.aggregation.types import Codec
from fedjax_private.choices import check_call, check_kind, shown
from fedjax_private.clients.training import Trainer
from fedjax_private.clients.updates import ClientOutput
from fedjax_private.typing import ClientState

_CLIENT = (
    "a function (broadcast, state, shard, keys) -> (ClientOutput, state), such as "
    "clients.federated(trainer, weight) returns"
)


def check_codec(codec: Any) -> None:
    """Raises ValueError unless it is a codec; an aggregation has one."""
    form = "the codec of an aggregation, such as sums.codec"
    check_kind("codec", codec, Codec, form)


def check_client(client_update: Any) -> None:
    """Raises ValueError unless it is a function of four arguments."""
    if isinstance(client_update, Trainer):  # callable or not, the usual mistake
        raise ValueError(f"client_update must be {_CLIENT}, got a Trainer.")
    check_call("client_update", client_update, 4, _CLIENT)


def check_result(result: Any, state: ClientState, update_like: Any) -> None:
    """Raises ValueError unless a client function returned what it must.

    Args:
        result: must be (ClientOutput, state).
        state: that it was given; the next one has the same form.
        update_like: shapes of the update; None for any.
    """
    if not (
        isinstance(result, tuple)
        and len(result) == 2
        and isinstance(result[0], ClientOutput)
    ):
        raise ValueError(
            "a client function must return (ClientOutput(update, metrics), state), got "
            f"{shown(result)}."
        )
    output, following = result
    if (wrong := misfit(state, following)) is not None:
        raise ValueError(
            "a client function must return a state of the form that it was given: "
            f"{wrong}."
        )
    if update_like is not None and (wrong := misfit(update_like, output.update)):
        raise ValueError(f"a client's update does not fit its algorithm: {wrong}.")


def misfit(like: Any, got: Any) -> str | None:
    """Returns in which way a pytree has another form; None if it has the same.

    Args:
        like: arrays or shapes.
        got: arrays or shapes.
    """
    wanted, found = _shapes(like), _shapes(got)
    for path, shape in wanted.items():
        if path not in found:
            return f"{path} is missing"
        if found[path] != shape:
            return f"{path} has shape {found[path]}, not {shape}"
    surplus = found.keys() - wanted.keys()
    return f"{min(surplus)} is not expected" if surplus else None


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        f"array {jax.tree_util.keystr(path)}".rstrip(): np.shape(leaf)
        for path, leaf in leaves
    }


def check_params(name: str, params: Any) -> None:
    """Raises ValueError unless it is a pytree of arrays, numbers or shapes."""
    for leaf in jax.tree.leaves(params):
        check_kind(
            name,
            leaf,
            (jax.Array, np.ndarray, np.generic, float, jax.ShapeDtypeStruct),
            "params or their shapes, as model.init returns",
        )


def check_fit(params: Any, params_like: Any) -> None:
    """Raises ValueError unless params have the shapes that an algorithm takes."""
    if (wrong := misfit(params_like, params)) is not None:
        raise ValueError(
            f"params do not fit the algorithm's params_like: {wrong}; make the "
            "algorithm for the same model."
        )
