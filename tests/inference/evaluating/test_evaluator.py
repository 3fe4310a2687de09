import numpy as np
import pytest

from fedjax_private.inference.compiling.circuit import Circuit, Patches, Polynomial
from fedjax_private.inference.planning.layouts import PatchLayout
from fedjax_private.inference.planning.public import REQUEST
from tests.inference.networks import (
    CUBIC,
    QUADRATIC,
    QUARTIC,
    Session,
    activation,
    dense,
    images,
    multilayer,
    network,
)

pytestmark = pytest.mark.needs_openfhe


SAME = Patches((3, 3), (2, 2), ((0, 1), (0, 1)))


def assert_close(session, scores, inputs):
    """Scores are those in clear, to the error that was predicted."""
    expected = session.circuit.plain(inputs)
    assert scores.shape == expected.shape
    error = scores - expected
    assert np.abs(error).max() < 6 * session.plan.error_std
    if error.size > 50:
        # Noise was added, of the size that was planned.
        assert error.std() > session.plan.error_std / 2


CIRCUITS = {
    "squares": lambda: network(),
    "completed squares": lambda: network(powers=QUADRATIC),
    "cubic": lambda: multilayer((12, 8, 4), CUBIC),
    "quartic": lambda: multilayer((9, 6, 4), QUARTIC),
    "degree 7": lambda: multilayer((6, 5, 3), (0.1, 0.9, 0, 0.1, 0.0, 0.05, 0, 0.02)),
    "padded convolution": lambda: network(patches=SAME),
    "channels": lambda: network(shape=(6, 7, 2), maps=2),
    "affine": lambda: multilayer((20, 7)),
    "wider than the input": lambda: multilayer((5, 40, 17, 3)),
    "one output": lambda: multilayer((30, 1)),
    "sixteen outputs": lambda: multilayer((33, 16)),
    "polynomial last": lambda: Circuit(
        (8,), (dense("d", 6, 8), activation("p", QUADRATIC, 6))
    ).measured(images((8,))),
    "polynomial first": lambda: Circuit(
        (8,), (activation("p", QUADRATIC, 8), dense("d", 6, 8))
    ).measured(images((8,))),
    "each entry its own": lambda: Circuit(
        (6,),
        (
            Polynomial("p", np.random.default_rng(0).uniform(0.5, 1, (4, 6))),
            dense("d", 4, 6),
        ),
    ).measured(images((6,))),
}


@pytest.mark.parametrize("packing", ["single", "batch"])
@pytest.mark.parametrize("name", CIRCUITS)
def test_encrypted_scores_are_those_in_clear(name, packing):
    circuit = CIRCUITS[name]()
    session = Session(circuit, packing=packing)
    count = 1 if packing == "single" else 37
    inputs = images(circuit.input_shape, count, seed=7)
    assert_close(session, session.ask(inputs), inputs)


def test_several_requests_of_one_session():
    session = Session(network(), packing="single")
    for seed in range(3):
        inputs = images(session.circuit.input_shape, 1, seed=seed)
        assert_close(session, session.ask(inputs), inputs)


def test_a_full_batch():
    session = Session(multilayer((7, 4, 3)), packing="batch")
    inputs = images((7,), session.public.images_per_request, seed=3)
    assert_close(session, session.ask(inputs), inputs)


def test_pixels_without_weights_are_not_sent():
    # Stride 2 leaves the last row and column of an even image out.
    session = Session(network(), packing="batch")
    assert session.public.request_ciphertexts == 9 * 9
    inputs = images(session.circuit.input_shape, 3, seed=3)
    other = inputs.copy()
    other[:, -1], other[:, :, -1] = 0.9, 0.1
    assert_close(session, session.ask(other), inputs)


def test_a_convolution_is_laid_out_in_patches():
    session = Session(network(), packing="single")
    layout = session.public.layout
    assert isinstance(layout, PatchLayout)
    # No rotation of the input: as many sections as there are, in few sums.
    assert layout.ciphertexts((10, 10, 1)) * layout.sections >= 9
    assert session.plan.rotations.diagonals[1].period == session.public.choice.slots


def test_split_serving_composes():
    circuit = network()
    features, head = circuit.split("first")
    session = Session(features, packing="batch")
    inputs = images(circuit.input_shape, 4, seed=3)
    scores = head.plain(session.ask(inputs))
    np.testing.assert_allclose(scores, circuit.plain(inputs), atol=0.05)


def test_score_noise_is_added_to_every_score():
    circuit = multilayer((7, 4, 3))
    session = Session(circuit, packing="batch", score_noise=0.3)
    inputs = images((7,), 2000, seed=3)
    error = session.ask(inputs) - circuit.plain(inputs)
    # 6,000 samples: the deviation is known to 1 %.
    assert error.std() == pytest.approx(0.3, rel=0.05)
    assert abs(error.mean()) < 0.02


@pytest.mark.parametrize("packing", ["single", "batch"])
@pytest.mark.parametrize("name", ["squares", "cubic", "padded convolution"])
def test_predicted_errors_are_above_measured_ones_but_not_far(name, packing):
    circuit = CIRCUITS[name]()
    session = Session(circuit, packing=packing, flooding_bits=0)
    count = 1 if packing == "single" else 200
    inputs = images(circuit.input_shape, count, seed=9)
    error = unflooded_slots(session, inputs) - expected_slots(session, inputs)
    measured = error.real.std()
    predicted = session.plan.schedule.error_std
    assert predicted / 64 < measured < predicted


def unflooded_slots(session, inputs):
    """What an answer's slots held if its noise were the evaluation's alone."""
    evaluator, querier, public = session.evaluator, session.querier, session.public
    request = querier.encrypt(inputs)
    size, most = public.request_bytes, public.images_per_request
    body, _ = public.body(request, REQUEST, size, most)
    scores = evaluator.encrypted_scores(evaluator.read_ciphertexts(body))
    key = querier.key_pair.secretKey
    return np.stack([querier.ckks.decrypted(number, key) for number in scores])


def expected_slots(session, inputs):
    """All slots of an answer: scores of images, the same in each period; or zero's."""
    public, circuit = session.public, session.circuit
    slots = public.choice.slots
    scale = session.plan.output_scale
    if public.packing == "single":
        period = np.zeros(public.period)
        period[: circuit.outputs] = circuit.plain(inputs)[0] / scale
        return np.tile(period, slots // public.period)[None]
    padded = np.zeros((slots, *circuit.input_shape))
    padded[: len(inputs)] = inputs
    return circuit.plain(padded).T / scale
