"""What the privacy of a run costs: noise that meets a target, and epsilon."""

import dataclasses
import enum
import math
from collections.abc import Callable, Mapping
from typing import Any

from fedjax_private.aggregation.entry import SchemeEntry
from fedjax_private.choices import Choice
from fedjax_private.privacy.accounting import (
    Event,
    Neighbors,
    RdpAccountant,
    calibrate_noise_multiplier,
)
from fedjax_private.privacy.mechanisms.mechanism import (
    Mechanism,
    MechanismSettings,
    make_plan,
)
from fedjax_private.privacy.plan import Plan, PrivacyPlan
from fedjax_private.privacy.shares import SharedPlan, bits_for, on_grid, shared
from fedjax_private.trust import Adversary, Trust

# Standard deviations of noise that fit into the range of a sum. Sums of reals refuse
# what lies beyond, so that it must be as good as impossible: 8 are passed once in 10^15
# draws. In exact sums an entry beyond wraps, and costs its one coordinate a step.
REAL_DEVIATIONS, EXACT_DEVIATIONS = 8.0, 6.0


class Unit(enum.Enum):
    """What is hidden: the presence of one record, or of one client with all it has."""

    RECORD = "record"
    CLIENT = "client"


@dataclasses.dataclass(frozen=True)
class Terms:
    """What a price depends on.

    Attributes:
        epsilon: the target that noise is calibrated to.
        noise_multiplier: given in place of a target; None where there is one.
        delta: in (0, 1).
        against: the adversary that the target is for.
        mechanism: of noisy steps.
        clip_norm: bound on a contribution.
        sampling_probability: of a record in a step, or of a client in a round.
        rounds: of the run.
        steps: steps of the client that takes part most often, in the whole run.
        local_steps: of these, in a round.
        clients: N, in all rounds together.
        cohort: clients of a round.
        whole: whether every client's upload arrives in every round.
        examples: the public number of all clients' training examples.
        size: values of an upload.
        trust: who is trusted with what.
        scheme: how uploads are summed; None where nothing is.
        federated: whether there is anybody else who takes part.
        signal_bound: the largest entry of a mean clipped gradient over the clip norm.
    """

    epsilon: float
    noise_multiplier: float | None
    delta: float
    against: Adversary
    mechanism: Choice[Mechanism]
    clip_norm: float
    sampling_probability: float
    rounds: int
    steps: int
    local_steps: int
    clients: int
    cohort: int
    whole: bool
    examples: int
    size: int
    trust: Trust
    scheme: Choice[SchemeEntry] | None
    federated: bool
    signal_bound: float | None

    def calibrated(
        self, event_of: Callable[[float], Event], neighbors: Neighbors
    ) -> float:
        """The noise multiplier that was given, or the least one that meets the target.

        Args:
            event_of: noise multiplier -> what the whole run costs.
            neighbors: the relation that defines the unit.
        """
        if self.noise_multiplier is not None:
            return self.noise_multiplier
        return calibrate_noise_multiplier(event_of, self.epsilon, self.delta, neighbors)

    def priced(self, event: Event, neighbors: Neighbors) -> float:
        """The epsilon of an event at `delta`."""
        return RdpAccountant(neighbors=neighbors).compose(event).epsilon(self.delta)


@dataclasses.dataclass(frozen=True)
class Privacy:
    """What is private about a run, and what it costs.

    Attributes:
        plan: what clients, or the server, do; the algorithm is made from it.
        noise_multiplier: that the plan was made with.
        steps: releases that the busiest client takes part in.
        steps_per_round: of these, in a round.
        epsilon: what they cost one unit, against outsiders.
        epsilon_insider: against insiders; None where nobody else takes part.
        unit: what is hidden.
        neighbors: the relation that defines it.
        correlated: whether only the run as a whole has a price.
        event: (releases, adversary) -> what they cost.
        against: adversary -> who that is, in words; one entry where all adversaries
            face the same.
        scheme: how uploads are summed, with the range that noise asks for.
        residues: whether uploads are noisy integers mod 2^b.
        claimed: the epsilon that the algorithm's paper claims, where that differs.
    """

    plan: Any
    noise_multiplier: float
    steps: int
    steps_per_round: int
    epsilon: float
    epsilon_insider: float | None
    unit: Unit
    neighbors: Neighbors
    correlated: bool
    event: Callable[[int, Adversary], Event] = dataclasses.field(compare=False)
    against: Mapping[Adversary, str] = dataclasses.field(compare=False)
    scheme: Choice[SchemeEntry] | None = None
    residues: bool = False
    claimed: float | None = None

    def planned(self, adversary: Adversary) -> float:
        """The epsilon that was planned against an adversary."""
        if adversary is Adversary.OUTSIDERS:
            return self.epsilon
        assert self.epsilon_insider is not None
        return self.epsilon_insider


NEIGHBORS = Neighbors.ADD_REMOVE  # of one record

# Splits a plan's noise: (multiplier -> plan, multiplier, trust, adversary) -> shares.
Split = Callable[[Callable[[float], PrivacyPlan], float, Trust, Adversary], SharedPlan]


def local_price(terms: Terms) -> Privacy:
    """Every client adds all of the noise to each of its own steps.

    The number of examples of all clients together is taken as public; a client's own
    is not, so all divide by the same expected batch.
    """
    plan_of = _plans(terms, terms.examples / terms.clients)

    def event_of(noise: float) -> Event:
        return plan_of(noise).event(terms.steps)

    noise = terms.calibrated(event_of, NEIGHBORS)
    plan = plan_of(noise)
    epsilon = terms.priced(plan.event(terms.steps), NEIGHBORS)
    everybody = "the world, the server and all other clients together"
    if not terms.federated:
        everybody = "everyone but whoever holds the data"
    return Privacy(
        plan,
        noise,
        terms.steps,
        terms.local_steps,
        epsilon,
        # Those who collude can subtract nothing, and learn no more than the server.
        epsilon if terms.federated else None,
        Unit.RECORD,
        NEIGHBORS,
        plan.correlated,
        lambda steps, adversary: plan.event(steps),
        {Adversary.OUTSIDERS: everybody},
        terms.scheme,
    )


def shared_price(terms: Terms, split: Split = shared) -> Privacy:
    """Clients share the noise of each released sum, whose range follows from it.

    Args:
        terms: of the run, whose clients take one step a round.
        split: divides the noise over the uploads of a sum.

    Raises:
        ValueError: the terms cannot be kept together.
    """
    _check_shared(terms)
    scheme, trust, against = terms.scheme, terms.trust, terms.against
    assert scheme is not None
    per_client = terms.examples / terms.clients
    plan_of = _sharable(_plans(terms, per_client * terms.cohort), terms)

    def calibrated(
        shared_plan: Callable[[float], SharedPlan],
    ) -> tuple[float, SharedPlan]:
        noise = terms.calibrated(
            lambda noise: shared_plan(noise).event(terms.steps, against), NEIGHBORS
        )
        return noise, shared_plan(noise)

    noise, plan = calibrated(lambda noise: split(plan_of, noise, trust, against))
    batch = plan.plan.expected_batch_size
    bits: int | None = getattr(scheme.settings, "quantization_bits", None)
    if scheme.entry.exact:
        # Fixed before the second search, in which epsilon must not jump with them.
        grid_bits = bits or bits_for(_bound(terms, noise, batch), batch, terms.size)
        bits = grid_bits

        def gridded(noise: float) -> SharedPlan:
            bound = _bound(terms, noise, batch)

            def share(multiplier: float) -> PrivacyPlan:
                return on_grid(plan_of(multiplier), terms.size, bound, grid_bits)

            return split(share, noise, trust, against)

        noise, plan = calibrated(gridded)
    if plan.correlated and not terms.whole:
        raise ValueError(
            f"mechanism={terms.mechanism.name} correlates noise over rounds, in all of "
            "which every client must take part: leave out cohort and drop_out."
        )
    bound = _bound(terms, noise, batch)
    bits = bits or bits_for(bound, batch, terms.size)
    settings = scheme.entry.ranged(scheme.settings, bound, bits)
    outsiders, insiders = (
        terms.priced(plan.event(terms.steps, adversary), NEIGHBORS)
        for adversary in (Adversary.OUTSIDERS, Adversary.INSIDERS)
    )
    return Privacy(
        plan,
        noise,
        terms.steps,
        terms.local_steps,
        outsiders,
        insiders,
        Unit.RECORD,
        NEIGHBORS,
        plan.correlated,
        plan.event,
        {adversary: _who(adversary, trust) for adversary in Adversary},
        dataclasses.replace(scheme, settings=settings),
        residues=scheme.entry.exact,
    )


def _who(adversary: Adversary, trust: Trust) -> str:
    """Who an adversary is, where clients share noise."""
    if adversary is Adversary.OUTSIDERS:
        return (
            "the world and the server, who see the released sums only, with at least "
            f"{trust.uploads} noise shares in each"
        )
    return (
        "the server together with all clients but "
        f"{trust.honest_clients} of every {trust.uploads} in a sum, who subtract "
        "their own noise shares from the released sums"
        + (" and read single uploads" if trust.insiders_read_uploads else "")
    )


def _check_shared(terms: Terms) -> None:
    """Raises ValueError where noise cannot be shared, or its target not be met."""
    trust, scheme = terms.trust, terms.scheme
    if terms.local_steps != 1:
        raise ValueError(
            "shared noise covers one step a released sum: give local_steps=1 or "
            f"noise=local, got {terms.local_steps} steps."
        )
    if scheme is None or not scheme.entry.protects(scheme.settings):
        raise ValueError(
            "protect=False lets a released sum tell of the key that hides every share "
            "of the noise: leave it out, or give noise=local."
        )
    if terms.against is Adversary.INSIDERS and trust.insiders_read_uploads:
        raise ValueError(
            "epsilon_against=insiders cannot be met where insiders read uploads "
            f"({trust.decryptor.value} decrypt, {trust.honest_clients} of "
            f"{trust.uploads} clients are honest): choose another encryption, or "
            "raise honest_clients or recovery_threshold."
        )


def _bound(terms: Terms, noise_multiplier: float, batch: float) -> float:
    """The largest entry of a sum of shares, in units of the clip norm over the batch.

    The mean of clipped gradients over the expected batch has no entry beyond 1, unless
    many more are drawn than expected. Noise is that of all shares of a cohort, which
    may be more than the adversary is priced by.
    """
    scheme = terms.scheme
    assert scheme is not None
    given: float | None = getattr(scheme.settings, "value_bound", None)
    signal = terms.signal_bound if scheme.entry.exact else 1.25
    assert signal is not None  # in the table of every arm that shares noise
    deviations = EXACT_DEVIATIONS if scheme.entry.exact else REAL_DEVIATIONS
    shares = terms.cohort / terms.trust.shares(terms.against)
    noise = deviations * noise_multiplier * math.sqrt(shares) / batch
    return given or signal + noise


def _sharable(
    plan_of: Callable[[float], Plan], terms: Terms
) -> Callable[[float], PrivacyPlan]:
    """The same, where it makes plans whose noise can be shared."""

    def private(multiplier: float) -> PrivacyPlan:
        plan = plan_of(multiplier)
        if not isinstance(plan, PrivacyPlan):
            raise ValueError(
                f"mechanism={terms.mechanism.name} makes no PrivacyPlan, whose noise "
                "clients could share: use noise=local."
            )
        return plan

    return private


def _plans(terms: Terms, examples: float) -> Callable[[float], Plan]:
    """Noise multiplier -> the mechanism's plan, for so many examples on average."""
    batch = terms.sampling_probability * examples

    def plan_of(noise_multiplier: float) -> Plan:
        return make_plan(
            terms.mechanism,
            MechanismSettings(
                terms.sampling_probability,
                terms.clip_norm,
                noise_multiplier,
                batch,
                NEIGHBORS,
                terms.steps,
            ),
        )

    return plan_of
