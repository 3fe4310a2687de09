"""NbAFL: clients noise their weights before the server averages them.

Wei, Li, Ding, Ma, Yang, Farokhi, Jin, Quek, Poor, "Federated Learning with Differential
Privacy: Algorithms and Performance Analysis", IEEE TIFS 15, 2020 (arXiv 1911.00222),
Algorithm 1. From the broadcast weights v, in each of T rounds, client i trains w_i, and

    uplink    u_i = w_i / max(1, |w_i| / C) + N(0, sigma_U^2 I),
    server    v <- sum_i p_i u_i + N(0, sigma_D^2 I),

with p_i = 1 / N, which the paper finds best for privacy. The paper's clients add a term
mu / 2 |w - v|^2 to their loss; here any `Trainer` will do.

Let c = sqrt(2 ln(1.25 / delta)), the least that the paper allows, m the size of the
smallest shard, and L <= T the exposures: uploads of one client that the adversary sees.
The paper sets

    sigma_U = c L (2C / m) / epsilon,
    sigma_D = 2 c C sqrt(T^2 - L^2 N) / (m N epsilon) if T > L sqrt(N), else 0.

This is the classical Gaussian mechanism, c Delta / e for e per release: e = epsilon / L
for an upload, with Delta = 2C / m; e = epsilon / T for a broadcast, with 2C / (m N),
less the variance sigma_U^2 / N that the mean of the uploads brings. Under random
scheduling of K of the N clients the paper counts a broadcast's e as amplified, e -> b e
with e^-e = 1 - K/N + (K/N) e^-(b e):

    sigma_D = 2 c C sqrt(T^2 / b^2 - L^2 K) / (m K epsilon) if T > epsilon / g, else 0,
    b = -(T / epsilon) ln(1 - N/K + (N/K) e^(-epsilon / T)),
    g = -ln(1 - K/N + (K/N) e^(-epsilon / (L sqrt(K)))).

The paper's text was not available. The formulas agree with two written accounts of it
(the report of github.com/SZU-AdvTech-2023/374-Federated-Learning-with-Differential-
Privacy-Algorithms-and-Performance-Analysis, and forestneo.top, 24 April 2023), those
without scheduling also with the code of github.com/ckinateder/flower-dp. Two facts were
derived anew: the formulas follow from the two lines of this paragraph, and K = N gives
those without scheduling. The paper's proofs were not seen.

Four steps of that argument do not hold, so this library takes no epsilon from it:
- 2C / m is the sensitivity of an average over the shard's examples, each of norm up to
  C. Trained weights are no such average: after several steps one record can move them
  anywhere in the ball, a move that clipping bounds by 2C and no less.
- c Delta / e gives (e, delta)-DP for e < 1 only (Dwork, Roth 2014, theorem A.1), which
  the paper states too; by those accounts its experiments have epsilons from 6 to 100.
- L releases at (epsilon / L, delta) compose to (epsilon, L delta), not to delta; and a
  client uploads in all rounds that schedule it, whatever L says.
- The amplification bounds one side of the likelihood ratio; the other side's bound,
  ln(1 + (K/N) (e^(b e) - 1)), is larger, and needs more noise.

Formal guarantees: `event(settings)`, T Gaussian mechanisms of sensitivity 2C, that is,
noise multiplier sigma_U / C under `Neighbors.REPLACE_ONE`, where "one record" is all
that one client holds. It holds against everybody, the server and all other clients
included, for any trainer, if the client adds its noise from a key that nobody else
knows; in real arithmetic (see `privacy.gaussian`). With the paper's noise this epsilon
is mostly too large to mean anything. The paper's own epsilon, which a run reports as
the claim, serves for comparison and is no guarantee.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from fedjax_private import choices
from fedjax_private.aggregation.types import Codec
from fedjax_private.algorithms.algorithm import Algorithm, client_phase, unpacker
from fedjax_private.algorithms.entry import AlgorithmEntry, Task
from fedjax_private.algorithms.prices import Privacy, Terms, Unit
from fedjax_private.choices import Settings, setting
from fedjax_private.clients.training import Trainer
from fedjax_private.clients.updates import ClientOutput, ClientUpdate, kept
from fedjax_private.datasets.clients import ClientData
from fedjax_private.privacy.accounting import Event, Gaussian, Neighbors, Repeated
from fedjax_private.privacy.clipping import norm_clipping
from fedjax_private.privacy.noise import add_noise, gaussian, noise_key
from fedjax_private.trust import Adversary
from fedjax_private.typing import Array, ClientKeys, ClientState, Params, PRNGKey

# Folded into a client's noise key for the noise of its upload. No step's number and no
# other use of that key reaches it.
UPLINK = 2**31 - 2


@dataclasses.dataclass(frozen=True)
class NbaflSettings:
    """The parameters that the paper's noise follows from.

    Attributes:
        clip_norm: C, the bound on the norm of a client's weights.
        epsilon: the paper's target over all exposures, positive. Infinity means no
            noise.
        delta: the paper's, in (0, 1).
        rounds: T.
        exposures: L, from 1 to T.
        clients: N.
        smallest_shard: m, the number of records of the smallest shard.
        cohort: K, clients that are drawn for each round (see `simulation.cohorts`);
            None for all N.

    Raises:
        ValueError: a value outside these ranges.
    """

    clip_norm: float
    epsilon: float
    delta: float
    rounds: int
    exposures: int
    clients: int
    smallest_shard: int
    cohort: int | None = None

    def __post_init__(self) -> None:
        choices.check(
            self,
            clip_norm=choices.positive,
            rounds=choices.at_least(1),
            clients=choices.at_least(1),
            smallest_shard=choices.at_least(1),
            exposures=choices.between(1, self.rounds),
            cohort=choices.between(1, self.clients),
        )
        if not self.epsilon > 0.0:
            raise ValueError(f"epsilon must be above 0, got {self.epsilon}.")
        if not 0.0 < self.delta < 1.0:
            raise ValueError(
                f"delta must lie strictly between 0 and 1, got {self.delta}."
            )

    @property
    def scheduled(self) -> int:
        """K, or N where all clients take part."""
        return self.clients if self.cohort is None else self.cohort


def uplink_noise(settings: NbaflSettings) -> float:
    """Returns sigma_U, the standard deviation of the noise in entries of uploads."""
    return settings.exposures * _one_exposure(settings)


def downlink_noise(settings: NbaflSettings) -> float:
    """Returns sigma_D, the standard deviation of the server's noise; often 0."""
    rounds, exposures, epsilon = settings.rounds, settings.exposures, settings.epsilon
    cohort, rate = settings.scheduled, settings.scheduled / settings.clients
    root = math.sqrt(cohort)
    if epsilon == math.inf:
        return 0.0
    # b is the factor by which sampling raises the epsilon that a broadcast may spend.
    # At epsilon / (L sqrt K), that of the uploads' own mean, no noise is missing.
    b = 1.0
    if cohort < settings.clients:
        if epsilon / rounds >= -math.log1p(
            rate * math.expm1(-epsilon / exposures / root)
        ):
            return 0.0
        b = -rounds / epsilon * math.log1p(math.expm1(-epsilon / rounds) / rate)
    missing = (rounds / b) ** 2 - exposures**2 * cohort
    return _one_exposure(settings) * math.sqrt(max(missing, 0.0)) / cohort


def _one_exposure(settings: NbaflSettings) -> float:
    """Returns c (2C / m) / epsilon: the noise of an upload that spends all epsilon."""
    c = math.sqrt(2.0 * math.log(1.25 / settings.delta))
    return c * 2.0 * settings.clip_norm / settings.smallest_shard / settings.epsilon


def event(settings: NbaflSettings, uploads: int | None = None) -> Event:
    """Returns the event of one client's uploads, under `Neighbors.REPLACE_ONE`.

    Args:
        settings: whose uplink noise each upload carries.
        uploads: by default T, the most that a client can send.
    """
    count = settings.rounds if uploads is None else uploads
    return Repeated(Gaussian(uplink_noise(settings) / settings.clip_norm), count)


class NbaflState(NamedTuple):
    """The server's state: weights, secret key of the downlink noise, rounds so far.

    The key reveals the noise, so the state must not leave the server.
    """

    params: Params
    key: PRNGKey
    round: Array


def noising_client(trainer: Trainer, settings: NbaflSettings) -> ClientUpdate:
    """Returns the client function that trains, clips its weights and noises them.

    The update is `{"params": u_i / K}`, (P,) in `ravel_pytree` order. There are no
    metrics: nothing else may leave a client. Weights that are not finite count as zero.
    The client's state is that of its trainer's mechanism.

    Formal guarantees: one event of `event(settings)` a round, for keys that are fresh.
    """
    clip = norm_clipping(settings.clip_norm)
    stddev, share = uplink_noise(settings), jnp.float32(1.0 / settings.scheduled)

    def client_update(
        broadcast: Params, state: ClientState, data: ClientData, keys: ClientKeys
    ) -> tuple[ClientOutput, ClientState]:
        start = trainer.init(broadcast)._replace(mechanism=state)
        trained, _ = trainer.run(start, data, keys)
        weights, _ = ravel_pytree(trained.params)
        key = jax.random.fold_in(keys.noise, UPLINK)
        noise = gaussian(key, weights.shape, stddev)
        noisy = add_noise(clip(weights), noise)
        return ClientOutput({"params": share * noisy}, {}), trained.mechanism

    return client_update


def nbafl(
    trainer: Trainer,
    settings: NbaflSettings,
    codec: Codec,
    params_like: Params,
    *,
    server_key: Callable[[], PRNGKey] = lambda: noise_key(None),
    backend: str = "auto",
) -> Algorithm:
    """Returns the algorithm, with `settings.scheduled` clients in every round.

    The server sees no count: in a round of fewer clients the sum is no mean.

    Args:
        trainer: local training; the paper's is SGD with a proximal term.
        settings: the paper's parameters.
        codec: of the aggregation, whose vectors have the params' size.
        params_like: params or their shapes, by which vectors are unpacked.
        server_key: called by every `init`; returns the root key of a run's downlink
            noise, which must differ from the run's other keys. The default takes
            64 bits from the operating system; `noise_key(seed, "server")` makes a
            simulation repeatable.
        backend: see `for_each_client`.
    """
    unpack = unpacker(params_like)
    stddev = downlink_noise(settings)

    def init(params: Params) -> NbaflState:
        return NbaflState(params, server_key(), jnp.int32(0))

    @jax.jit
    def server_phase(state: NbaflState, total: Array) -> NbaflState:
        key = jax.random.fold_in(state.key, state.round)
        mean = codec.decode(total).astype(jnp.float32)
        noisy = add_noise(mean, gaussian(key, mean.shape, stddev))
        return NbaflState(unpack(noisy), state.key, state.round + 1)

    return Algorithm(
        init=init,
        init_client=kept(trainer),
        client_phase=client_phase(noising_client(trainer, settings), codec, backend),
        server_phase=server_phase,
        tolerates_loss=False,
    )


@dataclasses.dataclass(frozen=True)
class NbaflChoices(Settings):
    """Settings of NbAFL in a run."""

    nbafl_claim: float | None = setting(
        None,
        "the paper's epsilon, from which noise follows in place of a target",
        choices.positive,
        replaces=("epsilon", "noise_multiplier"),
    )
    exposures: int | None = setting(
        None,
        "L, uploads of a client that the adversary sees (default: all rounds)",
        choices.at_least(1),
    )


def _price(terms: Terms, asked: NbaflChoices) -> Privacy:
    """Returns the price by `event`, of noise that meets the target or a given claim.

    The size of the smallest shard is a fact about the records; the public mean size
    takes its place.
    """
    if asked.nbafl_claim is not None and terms.noise_multiplier is not None:
        raise ValueError("give nbafl_claim or noise_multiplier, not both.")

    def settings_of(epsilon: float) -> NbaflSettings:
        return NbaflSettings(
            terms.clip_norm,
            epsilon,
            terms.delta,
            terms.rounds,
            asked.exposures or terms.rounds,
            terms.clients,
            max(1, terms.examples // terms.clients),
            terms.cohort,
        )

    if asked.nbafl_claim is None:
        noise = terms.calibrated(
            lambda noise: Repeated(Gaussian(noise), terms.steps), Neighbors.REPLACE_ONE
        )
        # The noise is inversely proportional to the paper's epsilon.
        unit = uplink_noise(settings_of(1.0)) / terms.clip_norm
        settings = settings_of(unit / noise if noise else math.inf)
    else:
        settings = settings_of(asked.nbafl_claim)
    stddev = uplink_noise(settings)
    epsilon = terms.priced(event(settings, terms.steps), Neighbors.REPLACE_ONE)
    # Of an upload divided by K, and of the sum of K; exact sums have all their carries.
    cohort, spread = settings.scheduled, terms.deviations * stddev
    of_upload = (terms.clip_norm + spread) / cohort
    of_sum = None if terms.exact else terms.clip_norm + spread / math.sqrt(cohort)
    return Privacy(
        settings,
        stddev / terms.clip_norm,
        terms.steps,
        1,
        epsilon,
        epsilon,
        Unit.CLIENT,
        Neighbors.REPLACE_ONE,
        False,
        lambda rounds, adversary: event(settings, rounds),
        {Adversary.OUTSIDERS: "the world, the server and all other clients together"},
        terms.ranged(of_upload, of_sum, None),
        claimed=settings.epsilon,
    )


def _of_task(task: Task) -> Algorithm:
    return nbafl(
        task.trainer(),
        task.plan,
        task.sums,
        task.params_like,
        server_key=lambda: noise_key(*task.server_noise),
        backend=task.backend,
    )


NBAFL = AlgorithmEntry(
    "nbafl",
    "clients clip and noise their weights (Wei et al. 2020); unit: one client",
    _of_task,
    arms=("fl_dp", "private_ai_local"),
    size=lambda parameters: parameters,
    price=_price,
    tolerates_loss=False,
    takes_client=True,
    server_noise=True,
    defaults={"clip_norm": 5.0},
    ignores=("server_optimizer", "server_learning_rate", "epsilon_against"),
    settings=NbaflChoices,
)
