import pytest

from fedjax_private.inference import plan
from fedjax_private.inference.planning.public import PublicPlan
from tests.inference.networks import multilayer, network

pytestmark = pytest.mark.needs_openfhe


@pytest.mark.parametrize("packing", ["single", "batch"])
def test_public_plans_come_back(packing):
    public = plan(network(), packing=packing, flooding_bits=0, queries=10**6).public
    again = PublicPlan.from_bytes(public.to_bytes())
    assert again == public
    assert again.digest == public.digest
    periodic = plan(multilayer((9, 4)), packing="single", flooding_bits=0).public
    assert PublicPlan.from_bytes(periodic.to_bytes()) == periodic
    assert periodic.digest != public.digest
