"""The price of a run's privacy: noise that meets a target epsilon, or its epsilon."""

import dataclasses
import enum
import math
from collections.abc import Callable, Mapping
from typing import Any

from fedjax_private.aggregation.entry import SchemeEntry
from fedjax_private.choices import Choice
from fedjax_private.privacy.accounting import (
    CoarseGrid,
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
from fedjax_private.privacy.plan import PrivacyPlan
from fedjax_private.privacy.shares import MOST_BITS, SharedPlan, bits_for, on_grid
from fedjax_private.trust import Adversary, Trust

# How many standard deviations of noise the range of a sum holds. Sums of reals refuse
# values beyond their range: 8 are exceeded once in 10^15 draws. In exact sums a value
# beyond wraps, which costs one coordinate of one step.
REAL_DEVIATIONS, EXACT_DEVIATIONS = 8.0, 6.0

NEIGHBORS = Neighbors.ADD_REMOVE  # the relation between data sets, for one record


class Unit(enum.Enum):
    """What is protected: one record, or one client with all its records."""

    RECORD = "record"
    CLIENT = "client"


@dataclasses.dataclass(frozen=True)
class Terms:
    """Everything that the price of a run depends on.

    Attributes:
        epsilon: the target that noise is calibrated to.
        noise_multiplier: replaces the target; None where noise is calibrated.
        delta: in (0, 1).
        against: the adversary that the target holds against.
        mechanism: of noisy steps.
        clip_norm: bound on a contribution.
        sampling_probability: of a record in a step, or of a client in a round.
        rounds: of the run.
        steps: noisy steps in the whole run of the client that takes part most often.
        local_steps: noisy steps of a client in a round.
        clients: N, in all rounds together.
        cohort: clients of a round.
        full_participation: whether every client's upload arrives in every round.
        examples: the public number of all clients' training examples.
        size: values of an upload.
        trust: the trust model of released sums.
        scheme: the aggregation scheme; None without aggregation.
        federated: whether updates go to a server.
        signal_bound: the largest entry of a mean clipped gradient over the clip norm;
            None where clients do not share noise.
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
    full_participation: bool
    examples: int
    size: int
    trust: Trust
    scheme: Choice[SchemeEntry] | None
    federated: bool
    signal_bound: float | None

    @property
    def exact(self) -> bool:
        """Whether the scheme adds whole numbers mod 2^b."""
        return self.scheme is not None and self.scheme.entry.exact

    @property
    def deviations(self) -> float:
        """How many standard deviations of noise the range of a sum holds."""
        return EXACT_DEVIATIONS if self.exact else REAL_DEVIATIONS

    def calibrated(
        self, event_of: Callable[[float], Event], neighbors: Neighbors
    ) -> float:
        """Returns the given noise multiplier, or the least one that meets the target.

        Args:
            event_of: noise multiplier -> the event of the whole run.
            neighbors: the relation between neighbouring data sets.
        """
        if self.noise_multiplier is not None:
            return self.noise_multiplier
        return calibrate_noise_multiplier(event_of, self.epsilon, self.delta, neighbors)

    def priced(self, event: Event, neighbors: Neighbors) -> float:
        """Returns the epsilon of an event at `delta`."""
        books = RdpAccountant(neighbors=neighbors).compose(event)
        return books.spent(self.delta).epsilon

    def plan(self, noise_multiplier: float, examples: float) -> PrivacyPlan:
        """Returns the mechanism's plan.

        Args:
            noise_multiplier: of its noise.
            examples: the expected number of examples that a step samples from.
        """
        settings = MechanismSettings(
            self.sampling_probability,
            self.clip_norm,
            noise_multiplier,
            self.sampling_probability * examples,
            NEIGHBORS,
            self.steps,
        )
        return make_plan(self.mechanism, settings)

    def ranged(
        self, value_bound: float, sum_bound: float | None, bits: int | None
    ) -> Choice[SchemeEntry] | None:
        """Returns the scheme with this range where its settings give none.

        Args:
            value_bound: the largest absolute entry of an upload.
            sum_bound: the largest absolute entry of a sum; None for the scheme's.
            bits: of exact sums; None for the scheme's default.
        """
        if self.scheme is None:
            return None
        ranged = self.scheme.entry.ranged
        settings = ranged(self.scheme.settings, value_bound, sum_bound, bits)
        return dataclasses.replace(self.scheme, settings=settings)


@dataclasses.dataclass(frozen=True)
class Privacy:
    """The private part of a run and its price.

    Attributes:
        plan: the noise of clients or server; the algorithm is built from it.
        noise_multiplier: of the plan.
        steps: releases that the busiest client takes part in.
        steps_per_round: releases that a client takes part in, in one round.
        epsilon: for one unit, against outsiders.
        epsilon_insider: against insiders; None without other parties.
        unit: what is protected.
        neighbors: the relation that defines the unit.
        correlated: whether only the run as a whole has a price.
        event: (releases, adversary) -> their event.
        against: adversary -> its description; a single entry where all adversaries
            face the same noise.
        scheme: the aggregation scheme, with the range that noise needs.
        residues: whether uploads carry shares of a sum's noise.
        claimed: the epsilon by the paper's own analysis, where that differs.
        hidden_entry: the largest absolute entry, before noise, of an upload of a client
            of average size, where nobody may count what `value_bound` cuts off.
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
    hidden_entry: float | None = None

    def planned(self, adversary: Adversary) -> float:
        """Returns the planned epsilon against an adversary."""
        if adversary is Adversary.OUTSIDERS:
            return self.epsilon
        assert self.epsilon_insider is not None
        return self.epsilon_insider


def local_price(terms: Terms) -> Privacy:
    """Returns the price of local noise: every client adds all of it to its own steps.

    The number of examples of all clients together is public; that of one client is
    not, so all clients divide by the same expected batch.
    """
    examples = terms.examples / terms.clients
    noise = terms.calibrated(
        lambda noise: terms.plan(noise, examples).event(terms.steps), NEIGHBORS
    )
    plan = terms.plan(noise, examples)
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
        # Colluding clients know none of this noise, and learn no more than the server.
        epsilon if terms.federated else None,
        Unit.RECORD,
        NEIGHBORS,
        plan.correlated,
        lambda steps, adversary: plan.event(steps),
        {Adversary.OUTSIDERS: everybody},
        terms.scheme,
    )


def shared_price(terms: Terms, counted: int | None = None) -> Privacy:
    """Returns the price of noise that the clients of each released sum share.

    Each client adds a share of variance sigma^2 C^2 / counted. The range of the sums
    follows from the noise.

    Args:
        terms: of a run whose clients take one step a round.
        counted: how many shares add up to the noise multiplier sigma; by default as
            many as the target's adversary faces.

    Raises:
        ValueError: the terms exclude each other.
    """
    scheme = _check_shared(terms)
    trust, against = terms.trust, terms.against
    counted = counted or trust.shares(against)
    of_upload: float | None = getattr(scheme.settings, "value_bound", None)
    # Settings without a bound of sums have one for both.
    of_sum: float | None = getattr(scheme.settings, "sum_bound", of_upload)
    bits: int | None = getattr(scheme.settings, "quantization_bits", None)
    # The mean of clipped gradients over the expected batch has no entry beyond 1,
    # unless many more are drawn than expected.
    signal = terms.signal_bound if terms.exact else 1.25
    assert signal is not None  # given wherever clients share noise
    if of_upload is not None:
        signal = min(signal, terms.cohort * of_upload)

    def plan_of(noise: float, grid_bits: int | None = None) -> SharedPlan:
        examples = terms.examples / terms.clients * terms.cohort
        plan = terms.plan(noise / math.sqrt(counted), examples)
        if grid_bits is not None:
            bound = bound_of(noise, plan.expected_batch_size)
            plan = on_grid(plan, terms.size, bound, grid_bits)
        return SharedPlan(plan, trust, of_upload)

    def bound_of(noise: float, batch: float) -> float:
        """The largest entry of a sum, in units of the clip norm over the batch."""
        spread = terms.deviations * noise * math.sqrt(terms.cohort / counted)
        return of_sum or max(of_upload or 0.0, signal + spread / batch)

    def calibrated(grid_bits: int | None = None) -> float:
        return terms.calibrated(
            lambda noise: plan_of(noise, grid_bits).event(terms.steps, against),
            NEIGHBORS,
        )

    noise = calibrated()
    plan = plan_of(noise)
    batch = plan.plan.expected_batch_size
    if terms.exact:
        # Fixed before the second search, where epsilon must not jump with them.
        bits = bits or bits_for(bound_of(noise, batch), batch, terms.size)
        noise, plan = _priced_on_grid(scheme, bits, calibrated, plan_of, terms)
    if plan.correlated and not terms.full_participation:
        raise ValueError(
            f"mechanism={terms.mechanism.name} correlates noise over rounds, so every "
            "client must take part in each of them: leave out cohort and drop_out."
        )
    bound = bound_of(noise, batch)
    outsiders, insiders = (
        terms.priced(plan.event(terms.steps, adversary), NEIGHBORS)
        for adversary in (Adversary.OUTSIDERS, Adversary.INSIDERS)
    )
    reading = " and read single uploads" if trust.insiders_read_uploads else ""
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
        {
            Adversary.OUTSIDERS: (
                "the world and the server, who see the released sums only, with at "
                f"least {trust.uploads} noise shares in each"
            ),
            Adversary.INSIDERS: (
                "the server together with all clients but "
                f"{trust.honest_clients} of every {trust.uploads} in a sum, who follow "
                "the protocol and subtract their own noise shares from the released "
                f"sums{reading}"
            ),
        },
        terms.ranged(bound, bound, bits or bits_for(bound, batch, terms.size)),
        residues=True,
        # Of the mean of clipped gradients over the batch of all clients of a round.
        hidden_entry=1 / terms.cohort,
    )


def _priced_on_grid(
    scheme: Choice[SchemeEntry],
    bits: int,
    calibrated: Callable[[int], float],
    plan_of: Callable[[float, int], SharedPlan],
    terms: Terms,
) -> tuple[float, SharedPlan]:
    """Returns the noise multiplier on a grid of so many bits, and its plan.

    Raises:
        ValueError: the grid is too coarse for the price of a share.
    """
    try:
        noise = calibrated(bits)
        plan = plan_of(noise, bits)
        for adversary in (Adversary.OUTSIDERS, Adversary.INSIDERS):
            terms.priced(plan.event(terms.steps, adversary), NEIGHBORS)
    except CoarseGrid as error:
        ways = ["more quantization_bits"] if bits < MOST_BITS else []
        bounds = ("value_bound", "sum_bound")
        given = (n for n in bounds if getattr(scheme.settings, n, None) is not None)
        ways += [f"a smaller {name}" for name in given]
        raise ValueError(
            f"quantization_bits={bits} makes a grid too coarse for the noise that "
            "clients share, whose price is known only where a share has a deviation of "
            f"half a grid step or more: give {', '.join([*ways, 'or more noise'])}."
        ) from error
    return noise, plan


def _check_shared(terms: Terms) -> Choice[SchemeEntry]:
    """Returns the scheme, if noise can be shared under it and can meet its target."""
    trust, scheme = terms.trust, terms.scheme
    if terms.local_steps != 1:
        raise ValueError(
            "shared noise covers one step a released sum: give local_steps=1 or "
            f"noise=local, got {terms.local_steps} steps."
        )
    if scheme is None or not scheme.entry.protects(scheme.settings):
        raise ValueError(
            "protect=False lets released sums reveal the key, which hides every share "
            "of the noise: leave it out, or give noise=local."
        )
    if terms.against is Adversary.INSIDERS and trust.insiders_read_uploads:
        raise ValueError(
            "epsilon_against=insiders cannot be met where insiders read uploads "
            f"({trust.decryptor.value} decrypt, {trust.honest_clients} of "
            f"{trust.uploads} clients are honest): choose another encryption, or "
            "raise honest_clients or recovery_threshold."
        )
    return scheme
