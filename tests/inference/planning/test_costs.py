import pytest

from fedjax_private.inference import plan
from fedjax_private.inference.planning.costs import sections_seconds
from tests.inference.networks import multilayer

pytestmark = pytest.mark.needs_openfhe


@pytest.mark.parametrize("packing", ["single", "batch"])
def test_wider_networks_cost_more(packing):
    small, large = (
        plan(multilayer(sizes), packing=packing, flooding_bits=2, queries=10**6).cost
        for sizes in ((7, 4, 3), (7, 40, 3))
    )
    assert 0 < small.seconds < large.seconds
    assert 2**20 < small.memory_bytes < large.memory_bytes


def test_more_ciphertexts_and_more_sections_take_longer():
    assert sections_seconds(2, 4, 7) < sections_seconds(3, 4, 7)
    assert sections_seconds(2, 4, 7) < sections_seconds(2, 5, 7)
