"""Sessions of all schemes refuse the same inputs with the same sentences."""

import contextlib

import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private.aggregation.inputs import check_clients, check_numbers, check_round
from fedjax_private.encryption.messages.wire import FIRST_EDGE
from tests.aggregation.sums import made

# The codecs of these give whole numbers.
EXACT = ["masks", "exact", "openfhe", "processes"]
KINDS = [*EXACT, "selective", "none", "ckks"]


def aggregation_of(kind):
    arguments = {
        "openfhe": ("exact", 2, 4, {"arithmetic": "openfhe", "server": "semi_honest"}),
        "processes": ("exact", 2, 4, {"processes": True}),
        "selective": ("ckks", 2, 4),
    }.get(kind, (kind, 2, 4))
    mask = np.array([True, False, True, False]) if kind == "selective" else None
    return made(*arguments, encrypted=mask)


@pytest.fixture(scope="module", params=KINDS)
def opened(request):
    """A kind, its aggregation, and the numbers of its rounds."""
    kind = request.param
    if kind not in ("none", "masks"):
        pytest.importorskip("openfhe")
    aggregation = aggregation_of(kind)
    with contextlib.ExitStack() as stack:
        if hasattr(aggregation, "close"):
            stack.callback(aggregation.close)
        yield kind, aggregation


@pytest.mark.needs_openfhe
def test_sessions_check_rounds_clients_and_dtypes(opened):
    kind, aggregation = opened
    for number in (-1, 2**64, 1.5, 1.0, True, None, "1"):
        with pytest.raises(ValueError, match=r"^round_number must be a whole"):
            aggregation.open(number)
    session = aggregation.open(np.int64(3))
    dtype = np.int32 if kind in EXACT else np.float32
    slots = np.ones((2, 4), dtype)
    for clients in ([0, 1.7], [0, -1], [0, FIRST_EDGE], [0, True], [0, None]):
        with pytest.raises(ValueError, match=r"^clients must be whole numbers"):
            session.add(np.array(clients, object), slots)
    for clients in (np.array([0.2, 1.7]), np.array([False, True])):
        with pytest.raises(ValueError, match=r"^clients must be whole numbers"):
            session.add(clients, slots)
    with pytest.raises(ValueError, match=r"^clients must be a list"):
        session.add(np.array([[0, 1]]), slots)
    refused = [bool, complex, object, str]
    for other in [*refused, np.float32, float] if kind in EXACT else refused:
        with pytest.raises(ValueError, match=r"^slots must be (whole|real) numbers"):
            session.add(np.arange(2), slots.astype(other))
    with pytest.raises(ValueError, match="declared"):
        session.add(np.arange(3), slots)
    # Nothing of what was refused is in the sum.
    session.add(np.array([0, FIRST_EDGE - 1], np.uint64), slots)
    total, report = session.release()
    np.testing.assert_allclose(total, 2, atol=1e-2)
    assert report.uploads == 2
    if kind in EXACT:
        assert (report.max_error, report.wrapped) == (0.0, 0)


def test_lost_clients_are_checked_too():
    session = made("masks", 2, 4).open(0)
    with pytest.raises(ValueError, match=r"clients must be .* got 1\.7"):
        session.lose(np.array([1.7]))


def test_what_stands_for_a_number_is_taken():
    assert check_round(np.uint64(2**64 - 1)) == 2**64 - 1
    assert check_round(jnp.int32(3)) == 3
    assert check_clients(jnp.arange(3)) == check_clients(range(3)) == [0, 1, 2]
    assert check_clients([]) == check_clients(np.zeros(0)) == []
    assert check_clients([FIRST_EDGE - 1, 5]) == [FIRST_EDGE - 1, 5]
    for dtype in (np.int8, np.uint64):
        check_numbers(np.ones((1, 1), dtype), whole=True)
    check_numbers(np.ones((1, 1), np.float16), whole=False)
