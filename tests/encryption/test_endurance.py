"""Long trainings: what is kept from round to round."""

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fedjax_private.encryption.parameters import Scheme, SumRequest
from tests.encryption.fixtures import sum_request

pytestmark = pytest.mark.needs_openfhe

ROUNDS, WARM = 500, 100
REQUESTS = {
    "exact": SumRequest(Scheme.EXACT, 2000, 3),
    "ckks": sum_request(Scheme.CKKS, 2000, 3, query_budget=25),
}


def resident():
    """Bytes of memory that the process occupies, OpenFHE's included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return 4096 * pages


def memory():
    gc.collect()
    return tracemalloc.get_traced_memory()[0], resident()


@pytest.mark.parametrize("kind", REQUESTS)
def test_memory_stays_flat_over_500_rounds(network, kind):
    net = network(REQUESTS[kind], least=1)
    vectors = net.vectors()
    rotations = 0
    tracemalloc.start()
    try:
        for index in range(ROUNDS):
            if index == WARM:
                before = memory()
            if net.authority.used_up:
                net.rotate()
                rotations += 1
            uploads = vectors[: 1 + index % 3]
            total = net.sum(uploads)
            if index % 50 == 0:
                net.assert_sum(total, uploads)
        after = memory()
    finally:
        tracemalloc.stop()
    assert rotations == (0 if kind == "exact" else ROUNDS // 25 - 1)
    # A ciphertext a round would be 20 MB; the authority keeps the number of each round.
    assert after[0] - before[0] < 150_000
    assert after[1] - before[1] < 5_000_000
    assert np.isfinite(total).all()
