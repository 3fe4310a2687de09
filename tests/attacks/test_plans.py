"""Hostile bytes in place of a plan: a client follows none of them."""

import dataclasses
import json

import pytest

from fedjax_private.encryption.errors import WireError
from fedjax_private.inference import plan
from fedjax_private.inference.evaluating.querier import Querier
from fedjax_private.inference.planning.public import PublicPlan
from tests.inference.networks import network as circuit_of_layers

pytestmark = pytest.mark.needs_openfhe


@pytest.fixture(scope="module")
def planned():
    return plan(circuit_of_layers(), packing="single", flooding_bits=4)


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
        Querier(changed)
