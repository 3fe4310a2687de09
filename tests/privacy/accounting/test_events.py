"""Events as values, the registry, refusals, and a research fork's mechanism."""

import dataclasses
import json
import math
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import fedjax_private.privacy.accounting as accounting
from fedjax_private.privacy.accounting import (
    Approximate,
    BandedMatrix,
    Composed,
    DistributedDiscreteGaussian,
    Event,
    Gaussian,
    Laplace,
    Neighbors,
    NoPrivacy,
    Poisson,
    Pure,
    RandomizedResponse,
    RdpAccountant,
    Repeated,
    Unsupported,
    WithoutReplacement,
    ZCdp,
    flatten,
    from_json,
    price,
    register,
    to_json,
)

ADD, REPLACE, ZERO = Neighbors.ADD_REMOVE, Neighbors.REPLACE_ONE, Neighbors.ZERO_OUT

EVERY_EVENT = [
    NoPrivacy(),
    Gaussian(1.3),
    Laplace(2),
    RandomizedResponse(0.25, 4),
    ZCdp(0.1),
    Pure(1.5),
    Composed((Gaussian(1.0), Pure(0.5))),
    Repeated(Laplace(3.0), 7),
    Poisson(250 / 60000, Gaussian(1.3)),
    WithoutReplacement(1000, 10, Gaussian(1.3)),
    BandedMatrix(2.0, (1.0, 0.5), 10, 3, 0.1),
    DistributedDiscreteGaussian(32, 4.5, 1000, 12.5),
    Approximate(Repeated(Gaussian(1.3), 3), 1e-12),
]


@dataclasses.dataclass(frozen=True)
class Stub(Event):
    rdp: float = 1.0


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda e: type(e).__name__)
def test_events_are_values(event):
    text = to_json(event)
    assert from_json(text) == event
    assert hash(from_json(text)) == hash(event)
    assert to_json(from_json(text)) == text
    assert "\n" not in text
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.anything = 1


def test_the_list_above_is_complete():
    defined = {
        value
        for value in vars(accounting.events).values()
        if isinstance(value, type) and issubclass(value, Event) and value is not Event
    }
    assert {type(event) for event in EVERY_EVENT} == defined


def test_int_float_and_numpy_settings_are_alike():
    assert Gaussian(1) == Gaussian(1.0) == Gaussian(np.float32(1))
    assert hash(Gaussian(1)) == hash(Gaussian(1.0))
    assert to_json(Gaussian(1)) == to_json(Gaussian(np.int64(1)))
    assert Repeated(Gaussian(1), np.int64(3)) == Repeated(Gaussian(1.0), 3)
    assert BandedMatrix(1, [1, 2], 3, 2) == BandedMatrix(1.0, (1.0, 2.0), 3, 2)
    assert Composed([Gaussian(1)]) == Composed((Gaussian(1),))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Gaussian(-1),
        lambda: Gaussian(math.nan),
        lambda: Gaussian(math.inf),
        lambda: Laplace(-0.1),
        lambda: RandomizedResponse(1.1, 2),
        lambda: RandomizedResponse(0.5, 0),
        lambda: RandomizedResponse(0.5, 2.5),
        lambda: ZCdp(-1),
        lambda: Pure(math.nan),
        lambda: Poisson(1.0001, Gaussian(1)),
        lambda: Poisson(-0.1, Gaussian(1)),
        lambda: WithoutReplacement(10, 11, Gaussian(1)),
        lambda: WithoutReplacement(0, 0, Gaussian(1)),
        lambda: Repeated(Gaussian(1), -1),
        lambda: Repeated(Gaussian(1), 1.5),
        lambda: BandedMatrix(1, (), 3, 1),
        lambda: BandedMatrix(1, (math.nan,), 3, 1),
        lambda: BandedMatrix(1, (1,), 3, 0),
        lambda: DistributedDiscreteGaussian(0, 1, 1, 1),
        lambda: Approximate(Gaussian(1), -1e-9),
        lambda: Approximate(Gaussian(1), 1.5),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(ValueError, match=r"must|more than"):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Poisson(0.1, 1.0),
        lambda: Repeated("Gaussian", 1),
        lambda: Composed((1,)),
        lambda: Approximate(1e-6, 1e-6),
        lambda: to_json(3),
    ],
)
def test_only_events_nest(make):
    with pytest.raises(TypeError, match="event was expected"):
        make()


@pytest.mark.parametrize(
    "text",
    ['{"type":"Nobody"}', "{}", "[]", '{"type":"Gaussian"}', '{"type":"Pure","x":1}'],
)
def test_unknown_json_is_refused(text):
    with pytest.raises(ValueError, match=r"registered|description|Gaussian|Pure"):
        from_json(text)


def test_flatten_keeps_every_count():
    event = Composed(
        (Repeated(Composed((Gaussian(1), Repeated(Pure(1), 3))), 5), Gaussian(1.0))
    )
    assert flatten(event, 2) == {Gaussian(1): 12, Pure(1): 30}
    assert flatten(Repeated(Gaussian(1), 0)) == {}


@pytest.mark.parametrize(
    ("event", "neighbors", "sentence"),
    [
        (
            RandomizedResponse(0.5, 2),
            ADD,
            "supported relations are REPLACE_ONE, ZERO_OUT",
        ),
        (
            WithoutReplacement(10, 1, Gaussian(1)),
            ADD,
            "supported relations are REPLACE_ONE",
        ),
        (
            WithoutReplacement(10, 1, Gaussian(1)),
            ZERO,
            "supported relations are REPLACE",
        ),
        (Poisson(0.1, RandomizedResponse(0.5, 2)), ADD, "supported relations"),
        (Poisson(0.1, BandedMatrix(1, (1,), 2, 1)), ADD, "sampling_probability"),
        (
            Poisson(0.1, Repeated(BandedMatrix(1, (1,), 2, 1), 2)),
            ADD,
            "sampling_probability",
        ),
        (
            Poisson(0.1, WithoutReplacement(10, 1, Gaussian(1))),
            REPLACE,
            "Poisson samples of Poisson samples are supported",
        ),
        (BandedMatrix(1, (1, 2), 9, 1), ADD, "must not grow"),
        (BandedMatrix(1, (1, 0.5), 9, 1, 0.1), ADD, "at least the number of bands"),
        (DistributedDiscreteGaussian(2, 0.4, 3, 1), ADD, "0.5 or more"),
        (Approximate(Stub(), 1e-9), ADD, "no registered price"),
        (Stub(), ADD, "no registered price"),
    ],
)
def test_refusals_say_what_is_supported(event, neighbors, sentence):
    books = RdpAccountant(neighbors=neighbors)
    with pytest.raises(Unsupported, match=re.escape(sentence)):
        books.compose(event)
    assert books.events == {}  # nothing was entered


FAILING = Approximate(Gaussian(1.0), 1e-9)


@pytest.mark.parametrize(
    ("event", "neighbors"),
    [
        (Poisson(0.5, FAILING), ADD),
        (Poisson(1.0, FAILING), ADD),
        (Poisson(0.5, Poisson(0.5, FAILING)), ADD),
        (Poisson(0.5, Composed((Gaussian(1.0), Repeated(FAILING, 2)))), ADD),
        (WithoutReplacement(10, 1, FAILING), REPLACE),
        (WithoutReplacement(10, 10, FAILING), REPLACE),
        (Approximate(FAILING, 1e-9), ADD),
        (Approximate(Repeated(FAILING, 3), 0.0), ADD),
        (Approximate(Poisson(0.5, FAILING), 1e-9), ADD),
    ],
    ids=str,
)
def test_no_event_hides_a_failure_of_another(event, neighbors):
    for run in (event, Repeated(event, 2), Composed((Gaussian(1.0), event))):
        books = RdpAccountant(neighbors=neighbors)
        with pytest.raises(Unsupported, match="Approximate has no registered price"):
            books.compose(run)
        assert books.events == {}


def test_every_event_has_a_price_under_the_relations_it_claims():
    priced = {
        type(event): [n.name for n in Neighbors if _has_price(event, n)]
        for event in EVERY_EVENT
    }
    everywhere = ["ADD_REMOVE", "REPLACE_ONE", "ZERO_OUT"]
    expected = dict.fromkeys(priced, everywhere)
    expected[RandomizedResponse] = ["REPLACE_ONE", "ZERO_OUT"]
    expected[WithoutReplacement] = ["REPLACE_ONE"]
    expected[Approximate] = []  # only the accountant's books count its failures
    assert priced == expected


def _has_price(event, neighbors):
    try:
        price(event, [2.0], neighbors)
    except Unsupported:
        return False
    return True


def test_wrong_prices_are_errors_never_zero():
    register(Stub, lambda event, orders, neighbors, price: event.rdp * orders)
    with pytest.raises(ValueError, match="negative or undefined"):
        RdpAccountant(neighbors=ADD).compose(Stub(-1.0))
    with pytest.raises(ValueError, match="negative or undefined"):
        RdpAccountant(neighbors=ADD).compose(Stub(math.nan))
    register(Stub, lambda event, orders, neighbors, price: 1.0)
    with pytest.raises(ValueError, match="shape"):
        RdpAccountant(neighbors=ADD).compose(Stub(2.0))


def test_registering_again_replaces_the_price():
    register(Stub, lambda event, orders, neighbors, price: orders)
    assert price(Stub(), [2.0], ADD) == 2.0
    register(Stub, lambda event, orders, neighbors, price: 3 * orders)
    assert price(Stub(), [2.0], ADD) == 6.0


def test_what_can_not_be_registered():
    def rdp(event, orders, neighbors, price):
        return orders

    @dataclasses.dataclass
    class Thawed:
        pass

    class Bare(Event):
        pass

    Impostor = dataclasses.make_dataclass("Gaussian", [], bases=(Event,), frozen=True)
    for event_type in (Thawed, Bare, 3):
        with pytest.raises(TypeError):
            register(event_type, rdp)
    with pytest.raises(ValueError, match="already registered"):
        register(Impostor, rdp)
    with pytest.raises(ValueError, match="accountant alone"):
        register(Repeated, rdp)


def test_orders_must_be_above_one():
    for orders in ([1.0], [0.5, 2.0], [math.inf], [math.nan], 2.0):
        with pytest.raises(ValueError, match="above 1"):
            price(Gaussian(1), orders, ADD)
    with pytest.raises(TypeError, match="Neighbors"):
        price(Gaussian(1), [2.0], "add_remove")


def readme_example():
    folder = pathlib.Path(accounting.__file__).parent
    text = (folder / "README.md").read_text()
    [block] = re.findall(r"```python\n# my_mechanism.py\n(.*?)```", text, re.DOTALL)
    return block


def test_a_fork_registers_its_mechanism_in_a_file_of_its_own(tmp_path):
    """The README's file, unchanged: priced, composed, calibrated, sampled, kept."""
    source = readme_example()
    assert len([line for line in source.splitlines() if line.strip()]) < 30
    (tmp_path / "my_mechanism.py").write_text(source)
    script = """
import json, math, numpy as np
from my_mechanism import GumbelCount
from fedjax_private.privacy.accounting import *
from scipy import integrate, stats
result = {}
exact = []
for shift in (0.5, -0.5):
    p, q = stats.gumbel_r(shift), stats.gumbel_r(0)
    f = lambda x: math.exp(1.7 * p.logpdf(x) - 0.7 * q.logpdf(x))
    exact.append(math.log(integrate.quad(f, -20, 200, limit=500)[0]) / 0.7)
result["exact"] = max(exact)
result["priced"] = price(GumbelCount(2.0), [1.7], Neighbors.ADD_REMOVE)[0]
def epsilon(event, n=Neighbors.ADD_REMOVE):
    return RdpAccountant(neighbors=n).compose(event).spent(1e-5).epsilon
run = Repeated(GumbelCount(20.0), 10)
result["composed"] = epsilon(run)
result["sampled"] = epsilon(Repeated(Poisson(0.01, GumbelCount(20.0)), 10))
result["round_trip"] = epsilon(from_json(to_json(run)))
make = lambda s: Repeated(GumbelCount(s), 10)
scale = calibrate_noise_multiplier(make, 1.0, 1e-5, Neighbors.REPLACE_ONE)
result["calibrated"] = epsilon(make(scale), Neighbors.REPLACE_ONE)
ledger = Ledger(None, Neighbors.ADD_REMOVE)
ledger.charge(clients=[1], round_number=0, event=run, fingerprint="f", digest="d")
result["ledger"] = ledger.epsilon(1e-5)
print(json.dumps(result))
"""
    output = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={"PYTHONPATH": f"{tmp_path}:{_root()}", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(output.stdout)
    assert result["priced"] == pytest.approx(result["exact"], rel=1e-6)
    assert result["ledger"] == result["composed"] == result["round_trip"]
    assert 0 < result["sampled"] < result["composed"]
    assert 0.999 <= result["calibrated"] <= 1.0


def test_importable_alone():
    """Neither JAX nor matplotlib, nor our own packages that need them."""
    script = (
        "import sys, fedjax_private.privacy.accounting as a\n"
        "for name in a.__all__: getattr(a, name)\n"
        "print([m for m in ('jax', 'matplotlib', 'flax', 'optax', 'openfhe')"
        " if m in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(_root()), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert output.stdout.strip() == "[]"


def _root():
    return pathlib.Path(accounting.__file__).parents[3]


def test_public_claims_state_their_guarantees():
    for name in ("RdpAccountant", "Ledger", "price", "register", "fingerprint"):
        assert "Formal guarantees:" in getattr(accounting, name).__doc__, name
    for module in (accounting.accountant, accounting.calibration, accounting.ledger):
        text = pathlib.Path(module.__file__).read_text()
        assert "Formal guarantees:" in text
