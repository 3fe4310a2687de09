"""The plan of an encrypted evaluation: packing, ring, scales, noise and cost.

It takes the smallest ring that keeps scores within the wanted precision at 128 bits of
security, the noise on answers included. Where there is none, one sentence says why.
"""

import dataclasses
import math

from fedjax_private.inference.compiling.canonical import Program, canonical_form
from fedjax_private.inference.compiling.circuit import Circuit
from fedjax_private.inference.planning.costs import Cost, cost_of
from fedjax_private.inference.planning.errors import profiles_of
from fedjax_private.inference.planning.flooding import least_flooding_bits
from fedjax_private.inference.planning.layouts import BatchLayout, Layout
from fedjax_private.inference.planning.packings import (
    PACKINGS,
    PlanError,
    batch_layout,
    single_layout,
)
from fedjax_private.inference.planning.public import PublicPlan
from fedjax_private.inference.planning.rings import MODULUS_BITS, ring_choices, ring_of
from fedjax_private.inference.planning.rotations import Rotations, rotations_of
from fedjax_private.inference.planning.schedule import Schedule, answer_scale, schedules

# The largest evaluation keys, which a client sends once a session.
KEY_BYTES = 150 * 10**6

# The largest session: beyond it, weights encoded for one image would fill memory.
MEMORY_BYTES = 4 * 2**30

# Scores differ from plain ones by at most `precision`, this many deviations.
_DEVIATIONS = 4.0

# The default leakage about the weights, in nats, of all answers to one client.
LEAKAGE = 0.02


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """How a circuit is evaluated on encrypted images. Build with `plan`.

    Attributes:
        public: the part that clients get.
        schedule: scales and primes along the program.
        rotations: of single packing; None for batch packing.
        output_scale: the circuit's scores are the program's outputs times this.
        flooding_std: standard deviation of the noise on an answer, in the program's
            units, in the real part of a slot.
        cost: predicted cost of one request.
    """

    public: PublicPlan
    schedule: Schedule
    rotations: Rotations | None
    output_scale: float
    flooding_std: float
    cost: Cost

    @property
    def error_std(self) -> float:
        """Predicted deviation of a score from the plain one, noise included."""
        total = math.hypot(self.schedule.error_std, self.flooding_std)
        return total * self.output_scale


def plan(
    circuit: Circuit,
    *,
    packing: str = "auto",
    images: int = 1,
    precision: float = 1e-2,
    flooding_bits: int | None = None,
    queries: int = 10**4,
) -> Plan:
    """Plans the encrypted evaluation of a circuit.

    Args:
        circuit: with bounds; see `Circuit.measured`.
        packing: `single`, `batch`, or `auto`: whichever is predicted to answer
            `images` sooner.
        images: how many a client usually asks about at a time; for `auto`.
        precision: largest acceptable error of a score: four standard deviations.
        flooding_bits: log2 of the noise on answers over the evaluation's; see
            `flooding`. By default the fewest bits that keep what all answers to one
            client reveal of the weights, besides scores, within a divergence of
            `LEAKAGE` nats: a statistical distance of 0.1.
        queries: images that one client may ask about.

    Raises:
        PlanError: if there is no plan.
        OpenFHEUnavailable: if OpenFHE cannot be imported.
    """
    if packing not in ("auto", *PACKINGS):
        raise PlanError(f"packing must be auto, single or batch, got {packing!r}.")
    if flooding_bits is not None and not 0 <= flooding_bits <= 128:
        raise PlanError(f"flooding_bits must be 0 to 128, got {flooding_bits}.")
    if not 1e-9 <= precision <= 1e9:
        raise PlanError(f"precision must be 1e-9 to 1e9, got {precision:g}.")
    if images < 1 or not 1 <= queries < 2**32:
        raise PlanError("images and queries must be positive, and queries below 2^32.")
    try:
        program = canonical_form(circuit)
    except ValueError as error:
        raise PlanError(str(error)) from error
    plans: list[Plan] = []
    reasons: list[str] = []
    for kind in PACKINGS if packing == "auto" else (packing,):
        try:
            plans.append(
                _plan(circuit, program, kind, precision, flooding_bits, queries)
            )
        except PlanError as error:  # noqa: PERF203
            reasons.append(str(error))
    if not plans:
        raise PlanError(" ".join(reasons))

    def seconds(candidate: Plan) -> float:
        requests = -(-images // candidate.public.images_per_request)
        return requests * candidate.cost.seconds

    return min(plans, key=seconds)


def _plan(
    circuit: Circuit,
    program: Program,
    packing: str,
    precision: float,
    wanted_bits: int | None,
    queries: int,
) -> Plan:
    deep = True
    for dimension in MODULUS_BITS:
        slots = dimension // 2
        flooding_bits = wanted_bits
        if flooding_bits is None:
            batch = packing == "batch"
            answers = queries // slots * circuit.outputs if batch else queries
            flooding_bits = least_flooding_bits(dimension, max(answers, 1), LEAKAGE)
        allowed = precision / _DEVIATIONS / math.hypot(1.0, 2.0**flooding_bits)
        allowed /= program.output_scale
        layout: Layout
        rotations: Rotations | None = None
        if packing == "batch":
            layout = batch_layout(program)
        else:
            try:
                layout = single_layout(circuit, program, dimension)
            except PlanError:
                if dimension < max(MODULUS_BITS):
                    continue
                raise
            rotations = rotations_of(program, layout, circuit.input_shape, slots)
        profiles = profiles_of(program, rotations)
        for choice in ring_choices(dimension):
            every = list(schedules(choice, profiles))
            deep = deep and not every
            precise = [s for s in every if s.error_std <= allowed]
            if precise:
                # Fewer primes at the early steps are less to compute.
                best = min(precise, key=lambda s: sum(t.limbs for t in s.stages))
                return _checked_plan(
                    circuit, program, layout, rotations, best, flooding_bits, queries
                )
    if deep:
        raise PlanError(
            f"the network is too deep for {packing} packing: its products do not fit "
            f"{max(MODULUS_BITS.values())} bits, the most at 128 bits of security; use "
            "fewer layers or polynomials of lower degree."
        )
    raise PlanError(
        f"{packing} packing cannot keep scores within {precision:g} under "
        f"{flooding_bits} bits of flooding: use a coarser precision, less flooding, or "
        "a network whose scores have a smaller range."
    )


def _checked_plan(
    circuit: Circuit,
    program: Program,
    layout: Layout,
    rotations: Rotations | None,
    schedule: Schedule,
    flooding_bits: int,
    queries: int,
) -> Plan:
    choice, moduli = schedule.choice, ring_of(schedule.choice).moduli
    degrees = [step.degree for step in program.steps]
    scale = answer_scale(schedule, degrees, moduli) / program.output_scale
    try:
        public = PublicPlan(
            choice=choice,
            moduli=moduli,
            input_shape=circuit.input_shape,
            outputs=circuit.outputs,
            layout=layout,
            input_scale=program.input_scale,
            encoding_bits=schedule.input_bits,
            answer_scale=scale,
            rotations=rotations.all if rotations else (),
            period=rotations.period if rotations else choice.slots,
            flooding_bits=flooding_bits,
            queries=queries,
        )
    except ValueError as error:
        raise PlanError(
            "the network has more inputs, outputs or rotations than a plan may ask of "
            "a client: use a smaller one."
        ) from error
    if queries < public.images_per_request:
        raise PlanError(
            f"a request of batch packing asks about {public.images_per_request} "
            f"images, more than the {queries} allowed: use packing='single'."
        )
    if public.evaluation_keys_bytes > KEY_BYTES:
        raise PlanError(
            f"single packing of this network takes {len(public.rotations)} rotations "
            f"and {public.evaluation_keys_bytes / 1e6:.0f} MB of evaluation keys, "
            f"more than {KEY_BYTES / 1e6:.0f}: use packing='batch', fewer layers, or "
            "less flooding."
        )
    cost = cost_of(program, schedule, rotations, public.request_ciphertexts)
    if cost.memory_bytes > MEMORY_BYTES:
        raise PlanError(
            f"{public.packing} packing of this network takes "
            f"{cost.memory_bytes / 2**30:.1f} GiB a session, more than "
            f"{MEMORY_BYTES / 2**30:.0f}: use the other packing, or a narrower network."
        )
    flooding_std = schedule.error_std * 2.0**flooding_bits
    return Plan(public, schedule, rotations, program.output_scale, flooding_std, cost)


def program_of(circuit: Circuit, plan: Plan) -> Program:
    """The program that a plan of this circuit evaluates.

    Raises:
        ValueError: if the plan was made for another circuit.
    """
    program = canonical_form(circuit)
    public, layout = plan.public, plan.public.layout
    if (
        public.input_shape != circuit.input_shape
        or public.outputs != circuit.outputs
        or len(program.steps) != len(plan.schedule.stages)
        or program.input_scale != public.input_scale
        or program.output_scale != plan.output_scale
    ):
        raise ValueError("the plan was made for another circuit.")
    if not isinstance(layout, BatchLayout):
        return program
    # Columns of weights for the numbers that are sent.
    first, *rest = program.steps
    first = dataclasses.replace(first, matrix=first.matrix[:, list(layout.used)])
    return dataclasses.replace(program, steps=(first, *rest))
