import numpy as np
import pytest

from fedjax_private.encryption.errors import WireError
from fedjax_private.inference.planning.public import HEADER
from tests.inference.networks import Session, images, network

pytestmark = pytest.mark.needs_openfhe


@pytest.fixture(scope="module", params=["single", "batch"])
def session(request):
    return Session(network(), packing=request.param)


def test_a_client_sends_as_many_bytes_as_the_plan_says(session):
    public = session.public
    assert len(session.keys) == public.evaluation_keys_bytes
    request = session.querier.encrypt(images(public.input_shape, 1))
    assert len(request) == public.request_bytes


def test_images_that_would_overflow_are_refused(session):
    shape = session.circuit.input_shape
    for value in (np.nan, np.inf, 2 * session.public.input_scale):
        inputs = np.zeros((1, *shape))
        inputs.flat[3] = value
        with pytest.raises(ValueError, match="normalise them"):
            session.querier.encrypt(inputs)
    for wrong in (np.zeros(shape), np.zeros((0, *shape)), np.zeros((1, 3))):
        with pytest.raises(ValueError, match="images must be"):
            session.querier.encrypt(wrong)


def test_slots_are_those_that_decrypt_reads(session):
    inputs = images(session.public.input_shape, 1)
    answer = session.evaluator.evaluate(session.querier.encrypt(inputs))
    slots = session.querier.slots(answer[HEADER.size :])
    scores = session.querier.decrypt(answer, 1)
    if session.public.packing == "batch":
        np.testing.assert_array_equal(slots[:, 0].real, scores[0])
    else:
        np.testing.assert_array_equal(slots[0, : scores.shape[1]].real, scores[0])
    with pytest.raises(WireError):
        session.querier.slots(answer[HEADER.size : -1])
