"""Names of the values that pass between parts of the library."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax

Array: TypeAlias = jax.Array

# A typed JAX key (jax.random.key), or a batch of them.
PRNGKey: TypeAlias = jax.Array

# A pytree of float32 arrays: the weights of a Flax model.
Params: TypeAlias = Any

# The server's message to every client of a round: params, and what an algorithm adds,
# such as a control variate or a clip norm.
Broadcast: TypeAlias = Any

# A client's state between rounds; `()` for a stateless one.
ClientState: TypeAlias = Any

# The server's state between rounds.
ServerState: TypeAlias = Any

# Sums over the examples that a client trained on; empty in DP arms.
Metrics: TypeAlias = Mapping[str, Array]

# (params, inputs (B, ...), labels (B,)) -> the loss of each example, (B,) float32.
LossFn: TypeAlias = Callable[[Params, Array, Array], Array]


class ClientKeys(NamedTuple):
    """The two sources of randomness of one client in one round.

    `sampling` may be known: it comes from the simulation's seed and orders the batches
    of training without privacy. `noise` must stay secret: it draws the noise and the
    samples of private training: 64 bits from the operating system unless a noise seed
    is given.
    """

    sampling: PRNGKey
    noise: PRNGKey
