"""Central DP-SGD by clients that share its noise: the algorithm of `private_ai`.

Truex et al., "A Hybrid Approach to Privacy-Preserving Federated Learning", AISec 2019;
Malekzadeh et al., "Dopamine: Differentially Private Federated Learning on Medical
Data", 2021; parameter averaging as in De et al., "Unlocking High-Accuracy
Differentially Private Image Classification through Scale", 2022.

In each of T rounds every client k draws a Poisson sample B_k of its shard, with the
same q for all clients, and sends its clipped gradients with one share of the noise. The
server takes a step with the sum over the expected total batch q N:

    u_k = sum_{i in B_k} clip_C(grad l_i(x)) + N(0, sigma^2 C^2 / m)
    g   = (u_1 + ... + u_m) / q N
    x  <- x - step(g),    e.g. v <- beta v + g,  x <- x - eta v.

With m clients in the sum, g has the law of central DP-SGD's noisy gradient (Abadi et
al. 2016) on the union of the shards, for any m and any division of the records.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_private.aggregation.types import Codec
from fedjax_private.algorithms.algorithm import (
    Algorithm,
    client_phase,
    one_model,
    unpacker,
)
from fedjax_private.algorithms.entry import AlgorithmEntry, Task, Training
from fedjax_private.algorithms.fedopt import optimizer_of
from fedjax_private.algorithms.forms import check_codec, check_fit
from fedjax_private.algorithms.prices import shared_price
from fedjax_private.clients.training import optimized
from fedjax_private.clients.updates import sharing_noise
from fedjax_private.privacy.shares import SharedPlan
from fedjax_private.typing import Array, ClientState, LossFn, Params, PRNGKey


class DpSgdState(NamedTuple):
    """The model, the optimiser's state, the averaged model, and the steps taken."""

    params: Params
    optimizer: Any
    average: Params
    steps: Array


def distributed_dp_sgd(
    loss: LossFn,
    plan: SharedPlan,
    optimizer: optax.GradientTransformation | str,
    codec: Codec,
    params_like: Params,
    *,
    averaging: float = 0.0,
    backend: str = "auto",
) -> Algorithm:
    """Returns the algorithm that takes one noisy step a round.

    Args:
        loss: of each example.
        plan: of every client; it says how many shares of noise a sum holds.
        optimizer: applied to the noisy mean gradient.
        codec: of the aggregation. Shares that are integers are slots already, so its
            grid must then be the plan's; shares of reals are encoded by it.
        params_like: params or their shapes.
        averaging: decay of the exponential moving average of params that is evaluated,
            in [0, 1); it starts as min(averaging, (1 + t) / (10 + t)). 0 evaluates the
            last params.
        backend: see `for_each_client`.

    Formal guarantees: those of `SharedPlan`; optimiser and averaging are
    post-processing of the released sums.

    Raises:
        ValueError: averaging outside [0, 1), or an argument of another kind.
    """
    if not 0.0 <= averaging < 1.0:
        raise ValueError(f"averaging must lie in [0, 1), got {averaging}.")
    check_codec(codec)
    optimizer = optimizer_of(optimizer)
    unpack = unpacker(params_like)
    client = sharing_noise(loss, plan)

    def encode(key: PRNGKey, share: Array) -> Array:
        real = jnp.issubdtype(share.dtype, jnp.floating)
        return codec.encode(key, share) if real else share

    bound = plan.plan.clipping.bound

    def init(params: Params) -> DpSgdState:
        check_fit(params, params_like)
        average = params if averaging else ()
        return DpSgdState(params, optimizer.init(params), average, jnp.int32(0))

    @jax.jit
    def server_phase(state: DpSgdState, total: Array) -> DpSgdState:
        # A slot of 1 is C in every entry of the mean; see `SharedPlan.unit`.
        mean = codec.decode(total).astype(jnp.float32) * jnp.float32(bound)
        params, optimizer_state = optimized(
            optimizer, unpack(mean), state.optimizer, state.params
        )
        average = state.average
        if averaging:
            steps = state.steps.astype(jnp.float32)
            decay = jnp.minimum(averaging, (1 + steps) / (10 + steps))
            average = jax.tree.map(
                lambda old, new: decay * old + (1 - decay) * new, average, params
            )
        return DpSgdState(params, optimizer_state, average, state.steps + 1)

    def models(state: DpSgdState, client_states: ClientState) -> Params:
        if averaging:
            state = state._replace(params=state.average)
        return one_model(state, client_states)

    return Algorithm(
        init=init,
        init_client=plan.plan.init,
        client_phase=client_phase(client, Codec(encode, codec.decode), backend),
        server_phase=server_phase,
        models=models,
        trust=plan.trust,
    )


def _of_task(task: Task) -> Algorithm:
    return distributed_dp_sgd(
        task.model.loss,
        task.plan,
        task.step_optimizer(),
        task.sums,
        task.params_like,
        averaging=task.hyperparameters.averaging or 0.0,
        backend=task.backend,
    )


DISTRIBUTED_DP_SGD = AlgorithmEntry(
    "distributed_dp_sgd",
    "central DP-SGD whose noise all clients share, one step a round",
    _of_task,
    arms=("private_ai",),
    training=Training.SHARED,
    size=lambda parameters: parameters,
    price=lambda terms, settings: shared_price(terms),
)
