"""The type of algorithms: pure functions between which the round loop moves data."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from fedjax_private.aggregation.types import Codec
from fedjax_private.algorithms.forms import (
    check_client,
    check_codec,
    check_params,
    check_result,
)
from fedjax_private.clients.for_each import for_each_client
from fedjax_private.clients.updates import ClientUpdate
from fedjax_private.datasets.clients import ClientData
from fedjax_private.trust import Trust
from fedjax_private.typing import (
    Array,
    Broadcast,
    ClientKeys,
    ClientState,
    Metrics,
    Params,
    PRNGKey,
    ServerState,
)

# (server states (R, ...), client states, shards, client ids (C,), which run each client
# belongs to (C,), round number, root keys (R,)) -> (slots (C, S), metrics of each
# client, client states). R runs, such as seeds, go through as one program; usually one.
ClientPhase = Callable[
    [ServerState, ClientState, ClientData, Array, Array, Array, ClientKeys],
    tuple[Array, Metrics, ClientState],
]


def one_model(state: Any, client_states: ClientState) -> Params:
    """Returns `state.params` with a leading axis of 1, as `Algorithm.models` does."""
    return jax.tree.map(lambda leaf: leaf[None], state.params)


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """A federated algorithm, as the round loop runs it.

    Attributes:
        init: params -> server state.
        init_client: params -> the state of one client before its first round.
        client_phase: jitted; a chunk of clients -> their encoded updates. See
            `client_phase` below.
        server_phase: jitted; (server state, sum of slots (S,)) -> server state. None
            where clients send nothing ("without FL").
        models: (server state, client states) -> params with a leading axis over the
            run's models: one in federated learning, one for each client without.
            By default the server's `params`.
        trust: the trust model that its privacy assumes, and that the aggregation must
            have; None where privacy does not depend on the sums.
        tolerates_loss: whether rounds may lose uploads of clients that have trained.
    """

    init: Callable[[Params], ServerState]
    init_client: Callable[[Params], ClientState]
    client_phase: ClientPhase
    server_phase: Callable[[ServerState, Array], ServerState] | None
    models: Callable[[ServerState, ClientState], Params] = one_model
    trust: Trust | None = None
    tolerates_loss: bool = True


def client_phase(
    client_update: ClientUpdate,
    codec: Codec | None,
    backend: str = "auto",
    broadcast: Callable[[ServerState], Broadcast] = lambda state: state.params,
    update_like: Params | None = None,
) -> ClientPhase:
    """Returns the phase that maps a client function over a chunk and encodes updates.

    Keys are derived from (root, round, client id), so that a client's randomness
    depends neither on the chunk it is in nor on the backend, and no two clients or
    rounds share any.

    Args:
        client_update: one client.
        codec: encodes the packed vector; None where the client function encodes, or
            where nothing is sent.
        backend: see `for_each_client`.
        broadcast: server state -> the part of it that goes to the clients.
        update_like: shapes of an update; None for any.

    Raises:
        ValueError: the client function or the codec is something else; or, when a chunk
            is mapped, the client function returns something else.
    """
    check_client(client_update)
    if codec is not None:
        check_codec(codec)

    def one_client(
        shared: tuple[Broadcast, Array, ClientKeys],
        state: ClientState,
        data: ClientData,
        client_id: Array,
        run: Array,
    ) -> tuple[Array, Metrics, ClientState]:
        every_sent, round_number, every_root = shared
        sent, roots = jax.tree.map(lambda leaf: leaf[run], (every_sent, every_root))
        keys = ClientKeys(
            *(client_key(root, round_number, client_id) for root in roots)
        )
        result = client_update(sent, state, data, keys)
        check_result(result, state, update_like)
        output, state = result
        slots, _ = ravel_pytree(output.update)
        if codec is not None:
            # Folded in once more: a codec must not see the key of the batches.
            encode_key = jax.random.fold_in(keys.sampling, ENCODE)
            slots = codec.encode(encode_key, slots)
        return slots, output.metrics, state

    # The old state of a client is not needed once there is a new one.
    each = for_each_client(one_client, backend, donate=[0])

    def run(
        server_states: ServerState,
        client_states: ClientState,
        data: ClientData,
        ids: Array,
        runs: Array,
        round_number: Array,
        roots: ClientKeys,
    ) -> tuple[Array, Metrics, ClientState]:
        stateless = not jax.tree.leaves(server_states)
        sending = broadcast if stateless else jax.vmap(broadcast)
        shared = (sending(server_states), round_number, roots)
        slots, metrics, states = each(shared, client_states, data, ids, runs)
        return slots, metrics, states

    return run


def zeros_of(like: Params) -> Params:
    """Returns zeros of the shapes and types of a pytree's leaves."""
    return jax.tree.map(
        lambda leaf: jnp.zeros(np.shape(leaf), jnp.result_type(leaf)), like
    )


def unpacker(update_like: Params) -> Callable[[Array], Params]:
    """Returns packed vector -> update.

    Raises:
        ValueError: `update_like` holds something else than arrays or shapes.
    """
    check_params("params_like", update_like)
    return ravel_pytree(zeros_of(update_like))[1]


# Local steps fold in their own number, counted from 0; this lies beyond any of them.
ENCODE = 2**31 - 1


def round_key(root: PRNGKey, round_number: Array | int) -> PRNGKey:
    """Returns the key from which the keys of a round's clients are derived."""
    return jax.random.fold_in(root, round_number)


def client_key(
    root: PRNGKey, round_number: Array | int, client_id: Array | int
) -> PRNGKey:
    """Returns the key of one client in one round."""
    return jax.random.fold_in(round_key(root, round_number), client_id)
