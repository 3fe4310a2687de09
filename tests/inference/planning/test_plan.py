import dataclasses
import json

import numpy as np
import pytest

from fedjax_private.encryption.messages.wire import WireError
from fedjax_private.inference import plan
from fedjax_private.inference.compiling.circuit import Circuit, Patches
from fedjax_private.inference.evaluating.ckks import MODULUS_BITS, RingChoice, ckks_of
from fedjax_private.inference.evaluating.evaluator import Evaluator
from fedjax_private.inference.evaluating.flooding import leakage, least_flooding_bits
from fedjax_private.inference.evaluating.querier import Querier
from fedjax_private.inference.planning import plan as planning
from fedjax_private.inference.planning.layouts import PatchLayout, PeriodicLayout
from fedjax_private.inference.planning.packings import PlanError
from fedjax_private.inference.planning.public import PublicPlan
from fedjax_private.inference.planning.schedule import (
    Shape,
    schedules,
    squarings,
    top_bits,
)
from tests.inference.networks import (
    CUBIC,
    QUADRATIC,
    QUARTIC,
    SQUARE,
    activation,
    dense,
    images,
    multilayer,
    network,
)

pytestmark = pytest.mark.needs_openfhe


@pytest.fixture(scope="module")
def planned():
    return plan(network(), packing="single", flooding_bits=4)


# What is planned


@pytest.mark.parametrize("packing", ["single", "batch"])
@pytest.mark.parametrize("flooding_bits", [0, 4, 16, 24])
def test_error_is_within_the_precision(packing, flooding_bits):
    circuit = network()
    made = plan(circuit, packing=packing, flooding_bits=flooding_bits, precision=1e-2)
    assert 4 * made.error_std <= 1e-2 * (1 + 1e-9)
    evaluation = made.schedule.error_std
    assert made.flooding_std == pytest.approx(evaluation * 2**flooding_bits)
    choice = made.public.choice
    assert choice.bits_of(choice.limbs) <= MODULUS_BITS[choice.dimension]


def test_more_flooding_takes_a_larger_modulus():
    sizes = []
    for bits in (0, 8, 16, 24):
        choice = plan(network(), packing="single", flooding_bits=bits).public.choice
        sizes.append(choice.bits_of(choice.limbs))
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_a_coarser_precision_takes_a_smaller_modulus():
    fine, coarse = (
        plan(network(), packing="batch", flooding_bits=8, precision=p).public.choice
        for p in (1e-5, 1.0)
    )
    assert coarse.bits_of(coarse.limbs) < fine.bits_of(fine.limbs)


def test_flooding_follows_the_queries():
    few, many = (
        plan(multilayer((9, 4)), packing="single", queries=queries)
        for queries in (10, 10**8)
    )
    assert few.public.flooding_bits < many.public.flooding_bits
    for made in (few, many):
        assert made.leakage <= planning.LEAKAGE


def test_leakage_by_hand():
    # N / 2 over 4^f for each ciphertext.
    assert leakage(8192, 6, 1) == 1.0
    assert leakage(8192, 8, 16) == 1.0
    assert least_flooding_bits(8192, 1, 1.0) == 6
    assert least_flooding_bits(8192, 1, 0.9) == 7
    assert least_flooding_bits(8192, 1, 1e9) == 0


def test_auto_takes_what_answers_sooner():
    circuit = network()
    one = plan(circuit, images=1, queries=10**6, flooding_bits=4)
    many = plan(circuit, images=4000, queries=10**6, flooding_bits=4)
    assert one.public.packing == "single"
    assert many.public.packing == "batch"


def test_auto_takes_what_there_is():
    # More inputs than slots: batch only, even for one image.
    wide = Circuit((9000,), (dense("d", 2, 9000),)).measured(images((9000,), 4))
    assert plan(wide, images=1, queries=10**6).public.packing == "batch"


def test_images_too_large_for_few_patches_are_repeated_instead():
    patches = Patches((5, 5), (1, 1), ((2, 2), (2, 2)))
    small = network(shape=(8, 8, 1), patches=patches, maps=2)
    large = network(shape=(14, 14, 1), patches=patches, maps=18)
    layouts = [
        plan(circuit, packing="single", flooding_bits=0).public.layout
        for circuit in (small, large)
    ]
    assert isinstance(layouts[0], PatchLayout)
    assert isinstance(layouts[1], PeriodicLayout)


def test_a_wrong_claim_of_patches_is_not_believed():
    circuit = network()
    first = dataclasses.replace(
        circuit.layers[0], matrix=np.ones_like(circuit.layers[0].matrix)
    )
    circuit = dataclasses.replace(circuit, layers=(first, *circuit.layers[1:]))
    circuit = circuit.measured(images(circuit.input_shape))
    made = plan(circuit, packing="single", flooding_bits=0, precision=1.0)
    assert isinstance(made.public.layout, PeriodicLayout)


@pytest.mark.parametrize("packing", ["single", "batch"])
def test_the_dry_run_predicts_sizes_exactly_and_costs_positively(packing):
    circuit = multilayer((7, 4, 3))
    made = plan(circuit, packing=packing, flooding_bits=2, queries=10**6)
    public, cost = made.public, made.prediction
    querier = Querier.create(public)
    keys = querier.evaluation_keys()
    assert len(keys) == public.evaluation_keys_bytes
    request = querier.encrypt(images((7,), 1))
    assert len(request) == public.request_bytes
    evaluator = Evaluator(circuit, made)
    evaluator.load_keys(keys)
    assert len(evaluator.evaluate(request)) == public.answer_bytes
    assert cost.client_seconds > 0
    assert cost.server_seconds > 0
    assert cost.memory_bytes > 2**20
    report = made.report()
    for fact in (packing, str(public.choice.dimension), "nats", "evaluation keys"):
        assert fact in report


# What cannot be planned


def deep(count):
    layers = tuple(activation(f"p{i}", SQUARE, 3) for i in range(count))
    return Circuit((3,), layers).measured(images((3,)))


NO_PLANS = {
    "no bounds": (
        lambda: (Circuit((3,), (dense("d", 2, 3),)), {}),
        "no bounds",
    ),
    "too deep": (lambda: (deep(13), {}), "too deep"),
    "precision": (
        lambda: (multilayer((9, 4, 3)), {"precision": 1e-9, "flooding_bits": 100}),
        "coarser precision",
    ),
    "too many inputs": (
        lambda: (
            Circuit((9000,), (dense("d", 2, 9000),)).measured(images((9000,), 4)),
            {"packing": "single"},
        ),
        "more than the 8192 slots",
    ),
    "too many outputs": (
        lambda: (
            Circuit((2,), (dense("d", 9000, 2),)).measured(images((2,), 4)),
            {"packing": "single"},
        ),
        "use --packing=batch",
    ),
    "queries below a batch": (
        lambda: (multilayer((9, 4)), {"packing": "batch", "queries": 10}),
        "use --packing=single",
    ),
    "packing": (lambda: (multilayer((9, 4)), {"packing": "double"}), "--packing takes"),
    "flooding": (lambda: (multilayer((9, 4)), {"flooding_bits": -1}), "flooding_bits"),
    "precision of nothing": (
        lambda: (multilayer((9, 4)), {"precision": 0.0}),
        "precision must be",
    ),
    "nan": (
        lambda: (multilayer((9, 4)), {"precision": float("nan")}),
        "precision must be",
    ),
    "no queries": (lambda: (multilayer((9, 4)), {"queries": 0}), "must be positive"),
    "no images": (lambda: (multilayer((9, 4)), {"images": 0}), "must be positive"),
}


@pytest.mark.parametrize("name", NO_PLANS)
def test_there_is_no_plan(name):
    make, message = NO_PLANS[name]
    circuit, options = make()
    with pytest.raises(PlanError, match=message):
        plan(circuit, **options)


def test_more_inputs_than_a_small_ring_has_slots_take_the_larger():
    wide = Circuit((5000,), (dense("d", 2, 5000),)).measured(images((5000,), 4))
    made = plan(wide, packing="single", flooding_bits=0)
    assert made.public.choice.slots == 8192


def test_as_deep_as_there_is_room():
    # One product a layer, and the other ring.
    made = plan(deep(5), packing="batch", flooding_bits=0, precision=1.0)
    assert made.public.choice.dimension == 16384


def test_keys_that_are_too_large(monkeypatch):
    monkeypatch.setattr(planning, "KEY_BYTES", 10**6)
    with pytest.raises(PlanError, match="MB of evaluation keys"):
        plan(network(), packing="single", flooding_bits=0)


def test_memory_that_is_too_large(monkeypatch):
    monkeypatch.setattr(planning, "MEMORY_BYTES", 2**20)
    with pytest.raises(PlanError, match="GiB a session"):
        plan(multilayer((9, 4)), packing="single", flooding_bits=0)


def test_a_plan_serves_its_own_circuit_only(planned):
    other = network(outputs=6)
    with pytest.raises(ValueError, match="another circuit"):
        Evaluator(other, planned)
    rescaled = network().measured(images((10, 10, 1), seed=8))
    with pytest.raises(ValueError, match="another circuit"):
        Evaluator(rescaled, planned)
    with pytest.raises(ValueError, match="score_noise"):
        Evaluator(network(), planned, score_noise=-1.0)


# Rings and scales


@pytest.mark.parametrize(
    "numbers",
    [(4096, 30, 30, 3), (8192, 30, 30, 8), (8192, 32, 30, 3), (8192, 30, 30, 1)],
)
def test_rings_that_are_not_known_to_be_secure(numbers):
    with pytest.raises(ValueError, match="no secure ring"):
        RingChoice(*numbers)


def test_every_modulus_is_within_the_published_table():
    for dimension, most in {8192: 214, 16384: 430}.items():
        assert MODULUS_BITS[dimension] == most
    made = plan(network(), packing="batch", flooding_bits=0).public
    assert made.ring.modulus_bits < MODULUS_BITS[made.choice.dimension] + 0.1
    assert ckks_of(made.choice).ring == made.ring


def shape(degree):
    return Shape(degree, 1.0, 16, True, True, 1.0, 0.2)


@pytest.mark.parametrize("degrees", [(0,), (2, 0), (3, 0), (4, 2, 0), (2, 2, 2, 0)])
def test_scales_fit_their_moduli(degrees):
    choice = RingChoice(16384, 30, 30, 14)
    found = list(schedules(choice, [shape(degree) for degree in degrees]))
    assert found
    for made in found:
        limbs, bits = choice.limbs, made.input_bits
        for degree, weights, stage in zip(
            degrees, made.weight_bits, made.stages, strict=True
        ):
            assert stage.limbs == limbs
            assert bits + weights == pytest.approx(stage.product_bits)
            assert stage.product_bits + 1 <= choice.bits_of(limbs)
            dropped = stage.limbs - stage.limbs_after
            assert stage.scale_bits == pytest.approx(stage.product_bits - 30 * dropped)
            assert stage.limbs_after <= stage.sum_limbs <= stage.limbs
            limbs = stage.limbs_after - squarings(degree)
            bits = top_bits(degree, stage.scale_bits, 30)
            assert bits + 1 <= choice.bits_of(limbs)
        assert limbs == 2


def test_too_few_primes_hold_nothing():
    choice = RingChoice(8192, 30, 30, 3)
    assert not list(schedules(choice, [shape(2), shape(2), shape(0)]))


@pytest.mark.parametrize("powers", [QUADRATIC, CUBIC, QUARTIC])
def test_levels_of_activations(powers):
    # A degree of 2 takes one product after the other, one of 3 or 4 takes two.
    assert squarings(len(powers) - 1) == (0 if len(powers) == 3 else 1)


# Plans on the wire


@pytest.mark.parametrize("packing", ["single", "batch"])
def test_public_plans_come_back(packing):
    public = plan(network(), packing=packing, flooding_bits=0, queries=10**6).public
    again = PublicPlan.from_bytes(public.to_bytes())
    assert again == public
    assert again.digest == public.digest
    periodic = plan(multilayer((9, 4)), packing="single", flooding_bits=0).public
    assert PublicPlan.from_bytes(periodic.to_bytes()) == periodic
    assert periodic.digest != public.digest


CHANGES = [
    ("version", 2),
    ("moduli", [5, 7]),
    ("moduli", "abc"),
    ("input_shape", []),
    ("input_shape", [2**30, 1, 1]),
    ("input_shape", [-1, 10, 1]),
    ("input_shape", [True, 10, 1]),
    ("outputs", 0),
    ("outputs", 10**9),
    ("outputs", 5.0),
    ("input_scale", 0.0),
    ("input_scale", float("nan")),
    ("answer_scale", float("inf")),
    ("answer_scale", 1),
    ("encoding_bits", 1e9),
    ("rotations", [0]),
    ("rotations", [5, 3]),
    ("rotations", [10**9]),
    ("rotations", list(range(1, 1000))),
    ("period", 1),
    ("period", 10**9),
    ("flooding_bits", -1),
    ("queries", 0),
    ("layout", None),
    ("layout", {"kind": "Other"}),
    ("layout", {"kind": "PeriodicLayout", "period": 3}),
    ("layout", {"kind": "PeriodicLayout", "period": 0}),
    ("layout", {"kind": "BatchLayout", "used": []}),
    ("layout", {"kind": "BatchLayout", "used": [10**6]}),
    ("layout", {"kind": "BatchLayout", "used": [3, 3]}),
    ("layout.maps", 0),
    ("layout.maps", 10**9),
    ("layout.sections", 10**9),
    ("layout.patches", {}),
    ("layout.patches.kernel", [0, 3]),
    ("layout.patches.kernel", [3]),
    ("layout.patches.kernel", [10**6, 10**6]),
    ("layout.patches.strides", [0, 0]),
    ("layout.patches.padding", [[10**9, 0], [0, 0]]),
    ("choice", {}),
    ("choice.dimension", 1024),
    ("choice.limbs", 100),
    ("choice.limb_bits", 60),
]


@pytest.mark.parametrize(("where", "value"), CHANGES)
def test_changed_plans_are_refused(planned, where, value):
    fields = json.loads(planned.public.to_bytes())
    *path, last = where.split(".")
    target = fields
    for name in path:
        target = target[name]
    target[last] = value
    with pytest.raises(WireError, match="not a plan"):
        PublicPlan.from_bytes(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"9" * 9999, b"[" * 9999, b"x" * 2**21, 7],
)
def test_other_bytes_are_no_plans(data):
    with pytest.raises(WireError):
        PublicPlan.from_bytes(data)


def test_missing_and_unknown_fields_are_refused(planned):
    fields = json.loads(planned.public.to_bytes())
    for name in fields:
        rest = {k: v for k, v in fields.items() if k != name}
        with pytest.raises(WireError):
            PublicPlan.from_bytes(json.dumps(rest).encode())
    with pytest.raises(WireError):
        PublicPlan.from_bytes(json.dumps({**fields, "more": 1}).encode())


def test_a_client_takes_no_primes_but_its_own(planned):
    moduli = planned.public.moduli
    changed = dataclasses.replace(
        planned.public, moduli=(moduli[0], *reversed(moduli[1:]))
    )
    with pytest.raises(WireError, match="other primes"):
        Querier.create(changed)
