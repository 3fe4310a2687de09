"""Truex et al.: DP-SGD whose noise shrinks with the number of trusted parties.

Truex, Baracaldo, Anwar, Steinke, Ludwig, Zhang, Zhou, "A Hybrid Approach to
Privacy-Preserving Federated Learning", AISec 2019 (arXiv 1812.03224). Of n parties at
least t are honest and do not collude. Each party encrypts its answer to a query of
sensitivity S, with a part of the noise that local DP would need. Any tbar parties, one
more than can collude, decrypt the sum of the answers together:

    r_i  = Q(D_i) + N(0, sigma^2 S^2 / (t - 1) I),
    sum_i r_i   carries in all   n sigma^2 S^2 / (t - 1),
    tbar = n - t + 1.

Here the query is a step of DP-SGD, S is the clip norm C, and the server steps with the
released sum over the expected batch q N; see `distributed_dp_sgd` for the rest.

The paper counts sigma. Colluding parties know n - t shares of the noise at most, and so
face t shares, sigma sqrt(t / (t - 1)); everybody else faces all n, sigma sqrt(n / (t -
1)). The number t - 1 leaves out one honest party's share, presumably that of the
attacked party, but no adversary knows that share either: dividing by t would do. With
4 parties and t = 3, a claimed epsilon of 2.9 is about 1.97 against outsiders. The rest
of this library divides by the number of shares that an adversary does not know
(`privacy.shared`). Only this file follows the paper's rule. A run reports all three
numbers: sigma's is its claim.

Only the first page of the paper was available. The two rules, t - 1 and n - t + 1, are
from memory; together they agree with one public reimplementation
(github.com/Kausta/dp-fl-sc-client), which divides each party's noise by the root of
n - tbar. The paper's reason for t - 1, its training by several steps and its
experiments could not be checked.

Changed, and why:
- One release a step. The paper's parties, as far as remembered, train a network by
  several noisy steps, each with a reduced share, before they send their models. Their
  argument is about a sum of answers, and a model after several steps is no sum of
  bounded answers: each later step depends on earlier ones, whose noise in the party's
  own model is one share only. The privacy of that is unknown, and it is not offered.
- The scheme is CKKS or exact sums under a shared key in place of threshold Paillier.
  Where parties hold key shares, all of them decrypt, and a quorum replaces those that
  are absent; it must be a majority, as `check_quorum` requires, and at least tbar.
- Parties sample with a common q and divide by the public q N, where the paper averages
  models: for one step the two differ in the parties' weights only.

Formal guarantees: for a record of an honest party, n rounds are `SharedPlan.event(n,
adversary)`, with the noise multipliers above: against outsiders, who see the released
sums only, and against insiders, the server and all parties but t, as long as these are
too few to decrypt. `truex_plan` refuses a trust model where they are enough. The
claimed epsilon is a guarantee too, as it counts less noise than there is.
"""

import dataclasses
import math
from collections.abc import Callable

import optax

from fedjax_private.aggregation.types import Codec
from fedjax_private.algorithms.algorithm import Algorithm
from fedjax_private.algorithms.distributed_dp_sgd import distributed_dp_sgd
from fedjax_private.algorithms.entry import AlgorithmEntry, Task, Training
from fedjax_private.algorithms.prices import Privacy, Terms, shared_price
from fedjax_private.choices import Settings
from fedjax_private.privacy.accounting import Event
from fedjax_private.privacy.plan import PrivacyPlan
from fedjax_private.privacy.shares import SharedPlan
from fedjax_private.trust import Adversary, Trust
from fedjax_private.typing import LossFn, Params


def truex_plan(
    make: Callable[[float], PrivacyPlan], noise_multiplier: float, trust: Trust
) -> SharedPlan:
    """Returns a plan with the paper's shares: sigma / sqrt(t - 1) for each party.

    Args:
        make: noise multiplier -> plan, whose expected batch size is that of all parties
            together.
        noise_multiplier: sigma, which the paper's epsilon counts.
        trust: n is `trust.uploads`, t `trust.honest_clients`; the paper's has key
            holders, of which a quorum of max(tbar, floor(n / 2) + 1) decrypts.

    Raises:
        ValueError: t outside 2..n; insiders read uploads under this trust model; or the
            plan is none that parties can share.
    """
    _check_trust(trust)
    return SharedPlan(make(noise_multiplier / math.sqrt(_counted(trust))), trust)


def _check_trust(trust: Trust) -> None:
    parties, honest = trust.uploads, trust.honest_clients
    if not 2 <= honest <= parties:
        raise ValueError(
            f"honest must lie between 2 and the {parties} parties, as noise is divided "
            f"by honest - 1, got {honest}: with fewer use `privacy.shared`."
        )
    if trust.insiders_read_uploads:
        raise ValueError(
            "trust lets colluding parties decrypt single uploads, which one share of "
            "the noise protects: let a key authority decrypt, or give a "
            "recovery_threshold (or server=semi_honest) with which at least "
            f"{parties - honest + 1} parties must collude for that."
        )


def _counted(trust: Trust) -> int:
    """Returns t - 1, the number of noise shares that the paper counts."""
    return trust.honest_clients - 1


def claimed_event(plan: SharedPlan, steps: int) -> Event:
    """Returns the event that the paper counts: t - 1 shares of noise in each sum.

    Args:
        plan: from `truex_plan`.
        steps: one a round.
    """
    noise = plan.plan.noise.summed(_counted(plan.trust))
    return noise.event(plan.plan.sampler, steps)


def truex(
    loss: LossFn,
    plan: SharedPlan,
    optimizer: optax.GradientTransformation | str,
    codec: Codec,
    params_like: Params,
    *,
    backend: str = "auto",
) -> Algorithm:
    """Returns the algorithm that takes one noisy step of all parties a round.

    Args:
        loss: of each example.
        plan: from `truex_plan`.
        optimizer: applied to the noisy mean gradient; the paper's is
            `server_optimizer("sgd", eta)`.
        codec: of the aggregation, whose vectors have the params' size.
        params_like: params or their shapes.
        backend: see `for_each_client`.

    Formal guarantees: those of the module.

    Raises:
        ValueError: the plan's trust model is none of `truex_plan`.
    """
    _check_trust(plan.trust)
    return distributed_dp_sgd(
        loss, plan, optimizer, codec, params_like, backend=backend
    )


def _price(terms: Terms, settings: Settings) -> Privacy:
    """Returns the price of shares by the paper's rule; its own count is the claim."""
    _check_trust(terms.trust)
    if terms.noise_multiplier is not None and terms.against is Adversary.INSIDERS:
        raise ValueError(
            "epsilon_against has no effect: algorithm=truex counts a given "
            "noise_multiplier by its own rule; leave out one of the two."
        )
    privacy = shared_price(terms, _counted(terms.trust))
    claim = claimed_event(privacy.plan, terms.steps)
    return dataclasses.replace(privacy, claimed=terms.priced(claim, privacy.neighbors))


def _of_task(task: Task) -> Algorithm:
    return truex(
        task.model.loss,
        task.plan,
        task.step_optimizer(),
        task.sums,
        task.params_like,
        backend=task.backend,
    )


TRUEX = AlgorithmEntry(
    "truex",
    "DP-SGD whose noise is divided by t - 1 honest parties (Truex et al. 2019)",
    _of_task,
    arms=("private_ai",),
    training=Training.SHARED,
    size=lambda parameters: parameters,
    defaults={"averaging": None},
    price=_price,
)
