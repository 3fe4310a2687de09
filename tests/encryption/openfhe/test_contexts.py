"""The rings that OpenFHE chooses for parameters."""

import math
from dataclasses import replace

import pytest

from fedjax_private.encryption.errors import UnexpectedLayoutError
from fedjax_private.encryption.openfhe import contexts
from fedjax_private.encryption.openfhe.contexts import ring_of
from fedjax_private.encryption.parameters import Scheme
from tests.encryption.openfhe.cases import GRID, parameters_of

pytestmark = pytest.mark.needs_openfhe


@pytest.mark.parametrize("scheme", list(Scheme))
def test_rings_have_the_sizes_that_the_parameters_say(scheme):
    for changes in [changes for kind, changes in GRID if kind is scheme]:
        parameters = parameters_of(scheme, **changes)
        ring = ring_of(parameters)
        assert ring.dimension == parameters.ring_dimension
        assert ring.limbs == len(parameters.limb_bits)
        assert ring.polynomial_bytes == parameters.polynomial_bytes
        bits = math.log2(math.prod(ring.moduli))
        assert bits == pytest.approx(parameters.modulus_bits, abs=0.01)
        assert all(q % (2 * ring.dimension) == 1 for q in ring.moduli)
        # Not a hair beyond the table of Bossuat et al. (2024), in whole numbers.
        most = {2048: 53, 4096: 106, 8192: 214}[ring.dimension]
        assert math.prod(ring.moduli) <= 2**most


@pytest.mark.parametrize("kind", list(Scheme))
def test_another_ring_than_the_expected_one_is_noticed(kind, monkeypatch):
    # A request of its own: rings are remembered.
    parameters = replace(parameters_of(kind, query_budget=7), limb_bits=(51,))
    context = contexts.context_for
    other = parameters_of(kind)
    monkeypatch.setattr(
        contexts, "context_for", lambda openfhe, _: context(openfhe, other)
    )
    with pytest.raises(UnexpectedLayoutError, match="OpenFHE chose a ring"):
        ring_of(parameters)
