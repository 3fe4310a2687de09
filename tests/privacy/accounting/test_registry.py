"""The registry of prices: counts, refusals, and errors of registered prices."""

import dataclasses
import math
import re

import pytest

from fedjax_private.privacy.accounting import (
    Approximate,
    BandedMatrix,
    Composed,
    DistributedDiscreteGaussian,
    Event,
    Gaussian,
    Neighbors,
    Poisson,
    Pure,
    RandomizedResponse,
    RdpAccountant,
    Repeated,
    Unsupported,
    WithoutReplacement,
    flatten,
    price,
    register,
)
from tests.privacy.accounting.every_event import EVERY_EVENT

ADD, REPLACE, ZERO = Neighbors.ADD_REMOVE, Neighbors.REPLACE_ONE, Neighbors.ZERO_OUT


@dataclasses.dataclass(frozen=True)
class Stub(Event):
    rdp: float = 1.0


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
