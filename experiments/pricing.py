"""What a run's privacy costs: the noise that meets a target, and epsilon."""

import dataclasses
import math
from collections.abc import Callable

from experiments.arms import ARMS
from experiments.spec import Spec
from experiments.tuned import DEFAULT_EPSILON
from fedjax_private import aggregation
from fedjax_private.privacy import (
    MechanismSettings,
    Plan,
    PrivacyPlan,
    SharedPlan,
    bits_for,
    mechanism,
    on_grid,
    shared,
)
from fedjax_private.privacy.accounting import (
    Event,
    Neighbors,
    RdpAccountant,
    calibrate_noise_multiplier,
)
from fedjax_private.trust import Adversary

NEIGHBORS = Neighbors.ADD_REMOVE

# Standard deviations of noise that fit into the range of a sum. CKKS refuses what lies
# beyond, so that it must be as good as impossible: 8 are passed once in 10^15 draws. In
# exact sums an entry beyond wraps, and costs its one coordinate a step.
CKKS_DEVIATIONS, EXACT_DEVIATIONS = 8.0, 6.0


@dataclasses.dataclass(frozen=True)
class Privacy:
    """What is private about a run, and what it costs.

    Attributes:
        plan: of every client.
        noise_multiplier: that the plan was made with.
        steps: noisy steps of the client that takes part most often.
        epsilon: what they cost its records, against outsiders.
        epsilon_insider: against insiders; None where nobody else takes part.
    """

    plan: Plan | SharedPlan
    noise_multiplier: float
    steps: int
    epsilon: float
    epsilon_insider: float | None


def _calibrated(spec: Spec, steps: int, event_of: Callable[[float], Event]) -> float:
    """The noise multiplier that was given, or the one that meets the target."""
    privacy = spec.settings.privacy
    if privacy.noise_multiplier is not None:
        return privacy.noise_multiplier
    return calibrate_noise_multiplier(
        event_of, privacy.epsilon or DEFAULT_EPSILON, privacy.delta, NEIGHBORS
    )


def _epsilon(spec: Spec, event: Event) -> float:
    books = RdpAccountant(neighbors=NEIGHBORS).compose(event)
    return books.epsilon(spec.settings.privacy.delta)


def local_privacy(spec: Spec, steps: int, examples: float) -> Privacy:
    """Every client adds all of its own noise; shards have a mean size of `examples`.

    The number of examples of all clients together is taken as public; a client's own
    is not, so all divide by the same expected batch.
    """
    plan_of = _plan_of(spec, steps, examples)
    noise = _calibrated(spec, steps, lambda noise: plan_of(noise).event(steps))
    plan = plan_of(noise)
    epsilon = _epsilon(spec, plan.event(steps))
    # Those who collude can subtract nothing, and learn no more than the server does.
    insider = epsilon if ARMS[spec.arm].federated else None
    return Privacy(plan, noise, steps, epsilon, insider)


def shared_privacy(
    spec: Spec, steps: int, examples: float, size: int
) -> tuple[Privacy, aggregation.Options]:
    """Clients share the noise of each sum, whose range follows from it.

    Args:
        spec: the run.
        steps: noisy steps in all, one a released sum.
        examples: that a round's clients hold together, on average.
        size: P, the values of an update.

    Raises:
        ValueError: the settings cannot be kept together.
    """
    against = _check_shared(spec)
    plan_of, trust = _private_plan(_plan_of(spec, steps, examples), spec), spec.trust

    def calibrated(
        shared_plan: Callable[[float], SharedPlan],
    ) -> tuple[float, SharedPlan]:
        noise = _calibrated(
            spec, steps, lambda noise: shared_plan(noise).event(steps, against)
        )
        return noise, shared_plan(noise)

    noise, plan = calibrated(lambda noise: shared(plan_of, noise, trust, against))
    batch = plan.plan.expected_batch_size
    bits = spec.settings.encryption.quantization_bits
    if "exact" in spec.settings.encryption.encryption:
        # Fixed before the second search, in which epsilon must not jump with them.
        bits = bits or bits_for(_bound(spec, noise, batch), batch, size)

        def gridded(noise: float) -> SharedPlan:
            bound = _bound(spec, noise, batch)

            def share(multiplier: float) -> PrivacyPlan:
                return on_grid(plan_of(multiplier), size, bound, bits)

            return shared(share, noise, trust, against)

        noise, plan = calibrated(gridded)
    if plan.correlated and (
        spec.cohort < spec.clients or spec.settings.training.drop_out
    ):
        raise ValueError(
            f"--mechanism={spec.settings.privacy.mechanism} correlates noise over "
            "rounds, in all of which every client must take part: leave out --cohort "
            "and --drop_out."
        )
    costs = [_epsilon(spec, plan.event(steps, adversary)) for adversary in Adversary]
    bound = _bound(spec, noise, batch)
    options = dataclasses.replace(
        spec.settings.encryption.options,
        value_bound=bound,
        quantization_bits=bits or bits_for(bound, batch, size),
        residues="exact" in spec.settings.encryption.encryption,
    )
    return Privacy(plan, noise, steps, *costs), options


def _check_shared(spec: Spec) -> Adversary:
    """Whom epsilon is met against; raises ValueError where noise cannot be shared."""
    trust, hyper = spec.trust, spec.hyperparameters
    if hyper.noisy_steps != 1:
        raise ValueError(
            "shared noise covers one step a released sum: give --local_steps=1 or "
            f"--noise=local, got {hyper.local_steps} steps."
        )
    if not spec.settings.encryption.protect:
        raise ValueError(
            "--noprotect lets a released sum tell of the key that hides every share "
            "of the noise: leave it out, or give --noise=local."
        )
    against = Adversary(spec.settings.privacy.epsilon_against)
    if against is Adversary.INSIDERS and trust.insiders_read_uploads:
        raise ValueError(
            "--epsilon_against=insiders cannot be met where insiders read uploads "
            f"({trust.decryptor.value} decrypt, {trust.honest_clients} of "
            f"{trust.uploads} clients are honest): choose another --encryption, or "
            "raise --honest_clients or --recovery_threshold."
        )
    return against


def _bound(spec: Spec, noise_multiplier: float, batch: float) -> float:
    """The largest entry of a sum of shares, in units of the clip norm over the batch.

    The mean of clipped gradients over the expected batch has no entry beyond 1, unless
    many more are drawn than expected. Noise is that of all shares of a cohort, which
    may be more than the adversary is priced by.
    """
    config, hyper = spec.settings.encryption, spec.hyperparameters
    exact = "exact" in config.encryption
    signal = hyper.signal_bound if exact else 1.25
    assert signal is not None  # in the table of every arm that shares noise
    deviations = EXACT_DEVIATIONS if exact else CKKS_DEVIATIONS
    against = Adversary(spec.settings.privacy.epsilon_against)
    shares = spec.cohort / spec.trust.shares(against)
    noise = deviations * noise_multiplier * math.sqrt(shares) / batch
    return config.value_bound or signal + noise


def _private_plan(
    plan_of: Callable[[float], Plan], spec: Spec
) -> Callable[[float], PrivacyPlan]:
    """The same, where it makes plans whose noise can be shared."""

    def private(multiplier: float) -> PrivacyPlan:
        plan = plan_of(multiplier)
        if not isinstance(plan, PrivacyPlan):
            raise ValueError(
                f"--mechanism={spec.settings.privacy.mechanism} makes no PrivacyPlan, "
                "whose noise clients could share: use --noise=local."
            )
        return plan

    return private


def _plan_of(spec: Spec, steps: int, examples: float) -> Callable[[float], Plan]:
    """Noise multiplier -> the mechanism's plan, for so many examples on average."""
    hyper, name = spec.hyperparameters, spec.settings.privacy.mechanism
    probability, clip_norm = hyper.sampling_probability, hyper.clip_norm
    assert probability is not None and clip_norm is not None  # in every DP arm's table
    make, batch = mechanism(name), probability * examples

    def plan_of(noise_multiplier: float) -> Plan:
        plan = make(
            MechanismSettings(
                probability, clip_norm, noise_multiplier, batch, NEIGHBORS, steps
            )
        )
        if not isinstance(plan, Plan):
            raise ValueError(
                f"--mechanism={name} made {plan!r}, which is no privacy plan."
            )
        if plan.neighbors is not NEIGHBORS:
            raise ValueError(
                f"--mechanism={name} is for {plan.neighbors}; runs are accounted under "
                f"{NEIGHBORS}."
            )
        return plan

    return plan_of


def event(plan: Plan | SharedPlan, steps: int, adversary: Adversary) -> Event:
    """What steps under a plan cost; with local noise, the same against everybody."""
    if isinstance(plan, SharedPlan):
        return plan.event(steps, adversary)
    return plan.event(steps)


def in_words(spec: Spec, adversary: Adversary) -> str:
    """Whom an epsilon of a run is against."""
    if not ARMS[spec.arm].federated:
        return "everyone but whoever holds the data"
    if not spec.shares_noise:
        return "the world, the server and all other clients together"
    trust = spec.trust
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
