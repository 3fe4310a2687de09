import pytest

from fedjax_private.inference import plan
from fedjax_private.inference.compiling.circuit import Circuit
from fedjax_private.inference.evaluating.evaluator import Evaluator
from fedjax_private.inference.evaluating.querier import Querier
from fedjax_private.inference.planning import plan as planning
from fedjax_private.inference.planning.flooding import leakage
from fedjax_private.inference.planning.packings import PlanError
from fedjax_private.inference.planning.rings import MODULUS_BITS
from tests.inference.networks import (
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
    for made, answers in ((few, 10), (many, 10**8)):
        public = made.public
        spent = leakage(public.choice.dimension, public.flooding_bits, answers)
        assert spent <= planning.LEAKAGE


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


@pytest.mark.parametrize("packing", ["single", "batch"])
def test_sizes_are_predicted_exactly(packing):
    circuit = multilayer((7, 4, 3))
    made = plan(circuit, packing=packing, flooding_bits=2, queries=10**6)
    public = made.public
    querier = Querier(public)
    keys = querier.evaluation_keys()
    assert len(keys) == public.evaluation_keys_bytes
    request = querier.encrypt(images((7,), 1))
    assert len(request) == public.request_bytes
    evaluator = Evaluator(circuit, made)
    evaluator.load_keys(keys)
    assert len(evaluator.evaluate(request)) == public.answer_bytes


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
        "use packing='batch'",
    ),
    "queries below a batch": (
        lambda: (multilayer((9, 4)), {"packing": "batch", "queries": 10}),
        "use packing='single'",
    ),
    "packing": (lambda: (multilayer((9, 4)), {"packing": "double"}), "packing must be"),
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
