"""Client-level DP-FedAvg: it hides whether a client takes part at all.

McMahan, Ramage, Talwar, Zhang, "Learning Differentially Private Recurrent Language
Models", ICLR 2018, Algorithm 1 with the estimator of a fixed denominator. In each round
every one of N clients joins the cohort C by itself with probability q. A client that
joins trains y_k from the global model x, and its difference as a whole is clipped to
norm S; a trusted server adds Gaussian noise to the sum:

    d_k = (y_k - x) min(1, S / |y_k - x|),
    x <- x + (sum_{k in C} d_k + N(0, z^2 S^2 I)) / (q W).

All clients have the weight w_k = 1, so that W = N; weights by records would make the
sum of weights a private fact. The denominator is the public, expected cohort: with one
client more or less the sum moves by S at most. A mean over the clients that really
joined would move by more, and would show their number. The mean difference is already
noisy, so it may go through any server optimiser (post-processing); SGD with learning
rate 1 is the formula above.

The noise is central: before it adds noise, the server sees the differences in the
clear, or their exact sum where the aggregation is encrypted, and is trusted with them.
Noise split over the clients is another mechanism, with a price of its own where not all
shares arrive, and not offered here.

Every round schedules all clients, and each client's secret key decides inside the
client phase whether it joins. Other clients contribute zero; where clients run one
after another, they do not train either.

Formal guarantees: n rounds are `ClientLevelPlan.event(n)`, n Poisson-sampled Gaussian
mechanisms on a sum of clipped differences, where "one record" is one client with all it
holds and neighbours differ in a client's presence (`Neighbors.ADD_REMOVE`). They hold
against everybody who sees the global models of all rounds, other clients included, but
not against the server. Conditions: the server keeps secret the differences, its key and
the clients that joined; noise keys are 64 bits from the operating system; arithmetic is
real (see `privacy.gaussian`), sums without error included; and the codec adds at
most `ClientLevelPlan.rounding` to the norm of a client's vector.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from fedjax_private import choices
from fedjax_private.aggregation.entry import SchemeEntry
from fedjax_private.aggregation.types import Codec
from fedjax_private.algorithms.algorithm import Algorithm, client_phase, unpacker
from fedjax_private.algorithms.entry import AlgorithmEntry, Task
from fedjax_private.algorithms.fedopt import optimizer_of
from fedjax_private.algorithms.forms import check_fit
from fedjax_private.algorithms.prices import Privacy, Terms, Unit
from fedjax_private.choices import Choice, Settings
from fedjax_private.clients.training import Trainer, optimized
from fedjax_private.clients.updates import ClientOutput, ClientUpdate, kept
from fedjax_private.datasets.clients import ClientData
from fedjax_private.privacy.accounting import Event, Neighbors, NoPrivacy, Repeated
from fedjax_private.privacy.clipping import norm_clipping
from fedjax_private.privacy.noise import GaussianNoise, noise_key
from fedjax_private.privacy.sampling import PoissonSampling
from fedjax_private.quantization import Grid
from fedjax_private.trust import Adversary
from fedjax_private.typing import Array, ClientKeys, ClientState, Params, PRNGKey

# Folded into a client's noise key to decide whether it joins. No step's number and no
# other use of that key reaches it.
JOINING = 2**31 - 3


@dataclasses.dataclass(frozen=True)
class ClientLevelPlan:
    """Clipping, noise and sampling of clients, and the event that they cost.

    Attributes:
        clip_norm: S, the bound on one client's difference; positive and finite.
        noise_multiplier: z, the noise's standard deviation over S; 0 or more.
        sampling_probability: q, with which a client joins a round; in (0, 1].
        clients: W, the public number of clients, over which the estimate is a mean. It
            is the same for neighbours, which have one client more or less.
        rounding: the most that the codec adds to the norm of a client's difference; 0
            where sums take differences as they are. The sensitivity is S plus this.

    Raises:
        ValueError: a value outside these ranges.
    """

    clip_norm: float
    noise_multiplier: float
    sampling_probability: float
    clients: int
    rounding: float = 0.0
    neighbors: ClassVar[Neighbors] = Neighbors.ADD_REMOVE

    def __post_init__(self) -> None:
        choices.check(
            self,
            clip_norm=choices.positive,
            noise_multiplier=choices.not_negative,
            sampling_probability=choices.probability,
            clients=choices.at_least(1),
            rounding=choices.not_negative,
        )

    @property
    def expected_cohort(self) -> float:
        """q W, the public number that a noisy sum is divided by."""
        return self.sampling_probability * self.clients

    def event(self, rounds: int) -> Event:
        """Returns the event of so many rounds for any one client, under `neighbors`."""
        sampler = PoissonSampling(self.sampling_probability)
        sensitivity = (self.clip_norm + self.rounding) / self.clip_norm
        noise = GaussianNoise(self.noise_multiplier / sensitivity)
        return noise.event(sampler, rounds)

    def release(self, key: PRNGKey, total: Array) -> Array:
        """Returns the noisy mean (P,) float32 of a sum (P,) of clipped differences.

        `key` must be secret, and fresh in every round.
        """
        noise = GaussianNoise(self.noise_multiplier)
        noisy, _ = noise.add(key, total, self.clip_norm, ())
        return noisy / jnp.float32(self.expected_cohort)


class ClientLevelState(NamedTuple):
    """The server's state: model, optimiser's state, secret noise key, rounds so far.

    The key reveals the noise, so the state must not leave the server.
    """

    params: Params
    optimizer: Any
    key: PRNGKey
    round: Array


def joining_client(trainer: Trainer, plan: ClientLevelPlan) -> ClientUpdate:
    """Returns the client function that sends its clipped difference, or zeros.

    The client joins with the plan's probability. The update is `{"delta": d_k}`, (P,)
    in `ravel_pytree` order. There are no metrics: nothing else may leave a client. Its
    state is that of its trainer's mechanism, and stays where the client does not join.

    Formal guarantees: the update's norm is at most `plan.clip_norm`, up to rounding far
    below the margin that is kept; one client's update depends on no other client.
    """
    clip = norm_clipping(plan.clip_norm)
    tickets = 2**32
    winning = int(plan.sampling_probability * tickets)  # the lowest join

    def client_update(
        broadcast: Params, state: ClientState, data: ClientData, keys: ClientKeys
    ) -> tuple[ClientOutput, ClientState]:
        before, _ = ravel_pytree(broadcast)

        def present() -> tuple[Array, ClientState]:
            start = trainer.init(broadcast)._replace(mechanism=state)
            trained, _ = trainer.run(start, data, keys)
            after, _ = ravel_pytree(trained.params)
            return clip(after - before), trained.mechanism

        def absent() -> tuple[Array, ClientState]:
            return jnp.zeros_like(before), state

        if winning == tickets:  # which no uint32 equals
            delta, state = present()
        else:
            key = jax.random.fold_in(keys.noise, JOINING)
            ticket = jax.random.bits(key, (), jnp.uint32)
            joins = ticket < jnp.uint32(winning)
            delta, state = jax.lax.cond(joins, present, absent)
        return ClientOutput({"delta": delta}, {}), state

    return client_update


def dp_fedavg(
    trainer: Trainer,
    plan: ClientLevelPlan,
    optimizer: optax.GradientTransformation | str,
    codec: Codec,
    params_like: Params,
    *,
    server_key: Callable[[], PRNGKey] = lambda: noise_key(None),
    backend: str = "auto",
) -> Algorithm:
    """Returns the algorithm of client-level DP-FedAvg.

    Schedule all clients in every round. A schedule of some lets the same clients join,
    as far as it has them.

    Args:
        trainer: local training, private or not.
        plan: clipping, noise, sampling, and what they cost.
        optimizer: applied to the negative noisy mean difference; the paper's is
            `server_optimizer("sgd", 1.0)`.
        codec: of the aggregation, whose vectors have the params' size.
        params_like: params or their shapes, by which vectors are unpacked.
        server_key: called by every `init`; returns the root key of a run's noise, which
            must differ from the run's other keys. The default takes 64 bits from the
            operating system; `noise_key(seed, "server")` makes a simulation repeatable.
        backend: see `for_each_client`.
    """
    optimizer = optimizer_of(optimizer)
    unpack = unpacker(params_like)

    def init(params: Params) -> ClientLevelState:
        check_fit(params, params_like)
        state = optimizer.init(params)
        return ClientLevelState(params, state, server_key(), jnp.int32(0))

    @jax.jit
    def server_phase(state: ClientLevelState, total: Array) -> ClientLevelState:
        key = jax.random.fold_in(state.key, state.round)
        mean = plan.release(key, codec.decode(total).astype(jnp.float32))
        params, optimizer_state = optimized(
            optimizer, unpack(-mean), state.optimizer, state.params
        )
        return ClientLevelState(params, optimizer_state, state.key, state.round + 1)

    return Algorithm(
        init=init,
        init_client=kept(trainer),
        client_phase=client_phase(joining_client(trainer, plan), codec, backend),
        server_phase=server_phase,
    )


# The part of the clip norm that the rounding of exact sums adds at most, where their
# bits are derived and 24 are enough.
MOST_ROUNDING = 0.01


def _scheme(terms: Terms) -> tuple[Choice[SchemeEntry] | None, float]:
    """Returns the scheme, and how much its codec adds to the norm of a difference.

    A difference must fit into the range, so that none is cut off: how many were would
    be a fact about clients. The server adds its noise after the sum, so the sum of all
    differences must fit, too: one that wraps would move by more than the sensitivity.
    """
    clients, norm = terms.clients, terms.clip_norm
    bound = norm * (1 + MOST_ROUNDING)
    most = math.sqrt(terms.size) * bound / (norm * MOST_ROUNDING)
    bits = min(24, 1 + math.ceil(math.log2(most + 1)))
    scheme = terms.ranged(bound, clients * bound, bits)
    if scheme is None:
        return None, 0.0
    settings, step = scheme.settings, 0.0
    if terms.exact:
        step = Grid(settings.quantization_bits, settings.value_bound).step
    for name, needed, what in (
        ("value_bound", norm + step, "a client's difference"),
        ("sum_bound", clients * (norm + step), f"the sum of {clients} differences"),
    ):
        given = getattr(settings, name, None)
        if given is not None and given < needed:
            raise ValueError(
                f"{name} must be at least {needed:g}, which {what} may reach, got "
                f"{given:g}."
            )
    # Randomised rounding moves every entry by less than a grid step.
    return scheme, math.sqrt(terms.size) * step


def _price(terms: Terms, settings: Settings) -> Privacy:
    """Returns the price of central noise, against everybody but the server."""
    if terms.against is Adversary.INSIDERS:
        raise ValueError(
            "epsilon_against=insiders cannot be met by algorithm=dp_fedavg, whose "
            "server is trusted: leave it out, or choose another algorithm."
        )
    scheme, rounding = _scheme(terms)

    def plan_of(noise: float) -> ClientLevelPlan:
        return ClientLevelPlan(
            terms.clip_norm,
            noise,
            terms.sampling_probability,
            terms.clients,
            rounding,
        )

    neighbors = ClientLevelPlan.neighbors
    noise = terms.calibrated(
        lambda noise: plan_of(noise).event(terms.rounds), neighbors
    )
    plan = plan_of(noise)

    def event(rounds: int, adversary: Adversary) -> Event:
        if adversary is Adversary.INSIDERS:  # the server is among them
            return Repeated(NoPrivacy(), rounds)
        return plan.event(rounds)

    return Privacy(
        plan,
        noise,
        terms.rounds,
        1,
        terms.priced(plan.event(terms.rounds), neighbors),
        math.inf,
        Unit.CLIENT,
        neighbors,
        False,
        event,
        {
            Adversary.OUTSIDERS: (
                "everyone who sees the global models of all rounds, other clients "
                "included, but not the server, which is trusted"
            ),
            Adversary.INSIDERS: (
                "the server, which sees clients' differences, or their exact sum, "
                "before it adds noise"
            ),
        },
        scheme,
    )


def _of_task(task: Task) -> Algorithm:
    return dp_fedavg(
        task.trainer(),
        task.plan,
        task.server_optimizer(),
        task.sums,
        task.params_like,
        server_key=lambda: noise_key(*task.server_noise),
        backend=task.backend,
    )


DP_FEDAVG = AlgorithmEntry(
    "dp_fedavg",
    "clipped differences, noise at a trusted server (McMahan et al. 2018); unit: one "
    "client",
    _of_task,
    arms=("fl_dp", "private_ai_local"),
    size=lambda parameters: parameters,
    price=_price,
    samples_clients=True,
    takes_client=True,
    server_noise=True,
    defaults={"clip_norm": 1.0, "sampling_probability": 1.0},
)
