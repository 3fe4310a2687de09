import numpy as np
import pytest

from fedjax_private.encryption.workers import Workers
from fedjax_private.inference.compiling.canonical import Step
from fedjax_private.inference.compiling.circuit import Circuit, Patches, Polynomial
from fedjax_private.inference.evaluating.batch import Weights
from fedjax_private.inference.evaluating.ckks import Number, RingChoice, ckks_of
from fedjax_private.inference.evaluating.expansion import fresh_seed, reseeded, uniform
from fedjax_private.inference.evaluating.keys import (
    KeyRing,
    automorphism,
    key_bytes,
    write_keys,
)
from fedjax_private.inference.evaluating.powers import monic
from fedjax_private.inference.planning.layouts import Diagonals, PatchLayout, sums
from fedjax_private.inference.planning.public import REQUEST
from fedjax_private.inference.planning.schedule import squarings, top_bits
from tests.inference.networks import (
    CUBIC,
    QUADRATIC,
    QUARTIC,
    Session,
    activation,
    convolution,
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


# Every layer in both packings


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
    assert session.plan.rotations.diagonals[0].period == session.public.choice.slots


def test_split_serving_composes():
    circuit = network()
    features, head = circuit.split("first")
    session = Session(features, packing="batch")
    inputs = images(circuit.input_shape, 4, seed=3)
    found = head.plain(session.ask(inputs))
    np.testing.assert_allclose(found, circuit.plain(inputs), atol=0.05)


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
    server, public = session.evaluator, session.public
    request = session.querier.encrypt(inputs)
    size, most = public.request_bytes, public.images_per_request
    body, _ = public.body(request, REQUEST, size, most)
    numbers = server._evaluated(server._unpacked(body))
    key = session.querier._pair.secretKey
    return np.stack([server._ckks.decrypted(number, key) for number in numbers])


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


# Their parts


@pytest.mark.parametrize("degree", range(2, 10))
def test_monic_polynomials(degree):
    ckks = ckks_of(RingChoice(8192, 30, 30, 7))
    random = np.random.default_rng(degree)
    pair = ckks.context.KeyGen()
    ckks.context.EvalMultKeyGen(pair.secretKey)
    x = random.uniform(-0.9, 0.9, ckks.slots)
    scale = 2.0**34
    made = ckks.context.Encrypt(pair.secretKey, ckks.encode(x, scale, 7))
    rows = random.uniform(-1, 1, (degree, ckks.slots))
    number = Number(made, scale, 7)
    for coefficients, expected in (
        (list(rows), sum(row * x**k for k, row in enumerate(rows))),
        ([0.5] * degree, sum(0.5 * x**k for k in range(degree))),
        ([0.0] * degree, 0.0),
    ):
        found = monic(ckks, number, coefficients)
        assert found.limbs == 7 - squarings(degree)
        assert np.log2(found.scale) == pytest.approx(top_bits(degree, 34, 30), abs=0.1)
        slots = ckks.decrypted(found, pair.secretKey)
        np.testing.assert_allclose(slots.real, expected + x**degree, atol=1e-3)


@pytest.mark.parametrize(
    ("outputs", "inputs", "period"),
    [(3, 8, 8), (8, 3, 4), (5, 7, 64), (16, 16, 16)],
)
def test_diagonals_multiply(outputs, inputs, period):
    random = np.random.default_rng(0)
    matrix = random.normal(size=(outputs, inputs))
    matrix[random.uniform(size=matrix.shape) < 0.5] = 0.0
    form, slots = Diagonals.of(matrix, period), 64
    x = random.normal(size=inputs)
    row = np.zeros(period)
    row[:inputs] = x
    held = np.tile(row, slots // period)
    total = np.zeros(slots)
    for diagonal in form.diagonals:
        baby = diagonal % form.block
        product = form.weights(matrix, diagonal, slots) * np.roll(held, -baby)
        total += np.roll(product, baby - diagonal)
    for step in form.doublings:
        total = total + np.roll(total, -step)
    expected = np.zeros(form.height)
    expected[:outputs] = matrix @ x
    np.testing.assert_allclose(total.reshape(-1, form.height) - expected, 0, atol=1e-12)
    used = {k % form.block for k in form.diagonals} | set(form.doublings)
    assert used - {0} <= form.rotations


def test_zero_diagonals_are_skipped():
    form = Diagonals.of(np.eye(8), 8)
    assert form.diagonals == (0,)
    assert not form.rotations


@pytest.mark.parametrize("count", range(1, 40))
def test_sums_of_neighbours(count):
    random = np.random.default_rng(0)
    blocks = random.normal(size=64)
    total, first = blocks.copy(), blocks
    for step, whole in sums(count):
        total = np.roll(total, -step) + (total if whole else first)
    np.testing.assert_allclose(total[0], blocks[:count].sum())


@pytest.mark.parametrize("bits", [10, 24, 30, 45])
@pytest.mark.parametrize("filled", [0.05, 1.0])
def test_products_modulo_a_prime_are_exact(filled, bits):
    random = np.random.default_rng(0)
    matrix = random.uniform(-1, 1, (9, 400))
    matrix[random.uniform(size=matrix.shape) >= filled] = 0.0
    step = Step(matrix, np.zeros(9), np.empty((0, 9)), 1.0, 1.0)
    weights, modulus = Weights.of(step, 2.0**bits), 2147352577
    residues = random.integers(modulus - 50, modulus, (400, 8)).astype(np.uint32)
    integers = np.rint(matrix * 2.0**bits).astype(np.int64).astype(object)
    expected = integers @ residues.astype(object) % modulus
    np.testing.assert_array_equal(weights.times(residues, modulus), expected)


# Keys


def test_uniform_polynomials_are_uniform_and_repeatable():
    ring = ckks_of(RingChoice(8192, 30, 30, 7)).ring
    seed = fresh_seed()
    first, second = uniform(seed, 0, ring), uniform(seed, 1, ring)
    assert (first != second).mean() > 0.99
    np.testing.assert_array_equal(first, uniform(seed, 0, ring))
    assert (first != uniform(fresh_seed(), 0, ring)).mean() > 0.99
    for row, modulus in zip(first, ring.moduli, strict=True):
        assert row.max() < modulus
        # 8,192 uniform samples: 5 deviations of mean and of each sixteenth.
        assert abs(row.mean() / modulus - 0.5) < 5 / np.sqrt(12 * 8192)
        counts = np.histogram(row, 16, (0, modulus))[0]
        assert np.abs(counts - 512).max() < 5 * np.sqrt(512)


def test_reseeding_keeps_what_a_pair_decrypts_to():
    ring = ckks_of(RingChoice(8192, 30, 30, 7)).ring
    seed = fresh_seed()
    secret, b, a, other = (uniform(seed, i, ring) for i in range(4))
    moduli = np.array(ring.moduli, object)[:, None]
    found = reseeded(ring, secret, np.stack([b, a]), other)
    s = secret.astype(object)
    left = (found.astype(object) + other.astype(object) * s) % moduli
    right = (b.astype(object) + a.astype(object) * s) % moduli
    np.testing.assert_array_equal(left, right)


def test_automorphisms_compose():
    polynomial = np.arange(64, dtype=np.uint64)[None]
    twice = automorphism(automorphism(polynomial, 5), 5)
    np.testing.assert_array_equal(twice, automorphism(polynomial, 25))
    inverse = pow(5, -1, 128)
    again = automorphism(automorphism(polynomial, 5), inverse)
    np.testing.assert_array_equal(again, polynomial)


def test_keys_from_bytes_rotate_and_relinearise():
    choice = RingChoice(8192, 31, 26, 4)
    ckks, rotations, workers = ckks_of(choice), (1, 7, 2048, 4095), Workers()
    pair = ckks.context.KeyGen()
    data = write_keys(ckks, pair, rotations, workers)
    assert len(data) == key_bytes(ckks.ring, len(rotations))
    ring = KeyRing(ckks, rotations)
    public = ring.load(memoryview(data), workers)
    x = np.random.default_rng(0).uniform(-1, 1, ckks.slots)
    made = ckks.context.Encrypt(public, ckks.encode(x, 2.0**60, 4))
    made.SetKeyTag(ring.tag)
    number = Number(made, 2.0**60, 4)

    def assert_holds(found, expected):
        slots = ckks.decrypted(found, pair.secretKey)
        np.testing.assert_allclose(slots.real, expected, atol=1e-3)

    turned = ckks.hoisted(number)
    for step in rotations:
        assert_holds(ckks.rotated(number, step), np.roll(x, -step))
        assert_holds(turned(step), np.roll(x, -step))
    small = Number(ckks.context.Encrypt(public, ckks.encode(x, 2.0**45, 4)), 2.0**45, 4)
    small.ciphertext.SetKeyTag(ring.tag)
    assert_holds(ckks.times(small, small), x * x)


def test_patches_of_several_ciphertexts_cover_every_offset():
    patches = Patches((3, 3), (1, 1), ((1, 1), (1, 1)))
    layer = convolution("conv", (6, 6, 1), patches, 2)
    layout = PatchLayout(patches, 2, 4)
    sources = layout.sources((6, 6, 1), 512)
    assert sources.shape == (3, 512)
    image = images((6, 6, 1), 1)[0].ravel()
    size = layout.section((6, 6, 1))
    total = np.zeros(size)
    for row in sources:
        for section in range(4):
            held = row[section * size : (section + 1) * size]
            outputs = np.flatnonzero(held >= 0)
            weights = layer.matrix[outputs, held[outputs]]
            total[outputs] += weights * image[held[outputs]]
    np.testing.assert_allclose(total + layer.bias, layer(image[None])[0])
