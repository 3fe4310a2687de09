import gc
import math
import os
import subprocess
import types
from pathlib import Path

import numpy as np
import pytest

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.math.entropy import gaussian
from fedjax_private.encryption.openfhe.backend import interpreter, load
from fedjax_private.inference import plan
from fedjax_private.inference.evaluating.ckks import ckks_of
from fedjax_private.inference.evaluating.evaluator import Evaluator, flooded
from fedjax_private.inference.evaluating.expansion import uniform
from fedjax_private.inference.evaluating.querier import Querier
from fedjax_private.inference.planning.polynomials import Number
from fedjax_private.inference.planning.public import (
    ANSWER,
    HEADER,
    KEYS,
    REQUEST,
    SEED_BYTES,
)
from fedjax_private.inference.planning.rings import RingChoice, ring_of
from tests.inference.networks import Session, images, multilayer, network

pytestmark = pytest.mark.needs_openfhe


@pytest.fixture(scope="module", params=["single", "batch"])
def session(request):
    return Session(network(), packing=request.param, queries=10**8)


@pytest.fixture(scope="module")
def asked(session):
    """Images, the request about them and its answer."""
    count = 1 if session.public.packing == "single" else 5
    inputs = images(session.circuit.input_shape, count, seed=4)
    request = session.querier.encrypt(inputs)
    return inputs, request, session.evaluator.evaluate(request)


def secret_of(querier):
    """The residues of a client's secret key."""
    return querier.ckks.secret_residues(querier.key_pair.secretKey)


def answer_slots(session, answer):
    return session.querier.slots(memoryview(answer)[HEADER.size :])


# What a client gets


def test_every_slot_of_an_answer_is_a_score(session, asked):
    inputs, _, answer = asked
    slots = answer_slots(session, answer) * 1.0
    circuit, count = session.circuit, session.public.choice.slots
    if session.public.packing == "single":
        period = np.zeros(session.public.period)
        period[: circuit.outputs] = circuit.plain(inputs)[0]
        expected = np.tile(period, count // session.public.period)[None]
    else:
        padded = np.zeros((count, *circuit.input_shape))
        padded[: len(inputs)] = inputs
        expected = circuit.plain(padded).T
    # Noise of one size in all of them, real and imaginary: nothing else.
    error = slots - expected
    std = session.plan.error_std
    assert np.abs(error.real).max() < 7 * std
    assert np.abs(error.imag).max() < 7 * std
    assert error.imag.std() == pytest.approx(
        session.plan.flooding_std * session.plan.output_scale, rel=0.05
    )


def test_answers_carry_fresh_noise_and_fresh_masks(session, asked):
    _, request, answer = asked
    again = session.evaluator.evaluate(request)
    ring = session.public.answer_ring
    first, second = (ring.unpack(a[HEADER.size :]) for a in (answer, again))
    # Neither polynomial repeats, so the second is masked as well.
    assert (first != second).mean() > 0.999
    error = answer_slots(session, answer) - answer_slots(session, again)
    std = session.plan.flooding_std * session.plan.output_scale
    assert error.real.std() == pytest.approx(math.sqrt(2) * std, rel=0.05)


def test_flooding_is_gaussian_in_every_coefficient():
    ckks = ckks_of(RingChoice(8192, 31, 30, 3))
    pair = ckks.context.KeyGen()
    scale, std = 2.0**45, 1e-3
    made = ckks.context.Encrypt(
        pair.publicKey, ckks.encode(np.zeros(ckks.slots), scale, 2)
    )
    number = Number(made, scale, 2)
    noise = ckks.decrypted(flooded(ckks, pair.publicKey, number, std), pair.secretKey)
    # Slots to coefficients: the values of a real polynomial at half of the roots.
    count = ckks.dimension
    powers = np.array([pow(5, j, 2 * count) for j in range(ckks.slots)])
    spectrum = np.zeros(2 * count, np.complex128)
    spectrum[powers], spectrum[2 * count - powers] = noise, noise.conj()
    coefficients = np.fft.fft(spectrum)[:count].real / count * scale
    assert np.abs(np.fft.fft(spectrum)[:count].imag).max() / count < 1e-9
    # The embedding is orthogonal, times sqrt(N / 2).
    expected = std * scale / math.sqrt(count / 2)
    # 8,192 samples: the deviation is known to 0.8 %.
    assert coefficients.std() == pytest.approx(expected, rel=0.04)
    scaled = coefficients / expected
    assert abs(scaled.mean()) < 5 / math.sqrt(count)
    assert (scaled**4).mean() == pytest.approx(3.0, abs=0.5)
    for part in np.split(scaled, 8):
        assert part.std() == pytest.approx(1.0, rel=0.12)
    # Independent of one another, neighbours or not.
    for lag in (1, 2, 3, 4096):
        correlation = (scaled * np.roll(scaled, lag)).mean()
        assert abs(correlation) < 5 / math.sqrt(count)


def test_noise_without_flooding_depends_on_the_weights_and_with_it_does_not_show():
    # The negative control: what flooding hides is there.
    circuit = multilayer((9, 4))
    scales = []
    for flooding_bits in (0, 12):
        session = Session(circuit, packing="single", flooding_bits=flooding_bits)
        slots = answer_slots(session, session.evaluator.evaluate(
            session.querier.encrypt(images((9,), 1))
        ))  # fmt: skip
        unit = session.plan.schedule.error_std * session.plan.output_scale
        scales.append(slots.imag.std() / unit)
    assert scales[0] < 1.5
    assert scales[1] == pytest.approx(2.0**12, rel=0.1)


def test_another_clients_answer_is_unreadable(session, asked):
    inputs, _, answer = asked
    stranger = Querier(session.public)
    expected = session.circuit.plain(inputs)
    found = stranger.decrypt(answer, len(inputs))
    assert np.abs(found - expected).min() > 100 * session.plan.error_std
    right = session.querier.decrypt(answer, len(inputs))
    assert np.abs(right - expected).max() < 7 * session.plan.error_std


# What a server gets


def test_equal_images_give_different_requests(session, asked):
    inputs, request, _ = asked
    again = session.querier.encrypt(inputs)
    ring = session.public.ring
    start = HEADER.size + SEED_BYTES
    first, second = (ring.unpack(r[start:]) for r in (request, again))
    assert (first != second).mean() > 0.999
    assert request[HEADER.size : start] != again[HEADER.size : start]


def test_requests_look_uniform(session, asked):
    _, request, _ = asked
    ring = session.public.ring
    rows = ring.unpack(request[HEADER.size + SEED_BYTES :])
    for limb, modulus in enumerate(ring.moduli):
        counts = np.histogram(rows[:, limb], 16, (0, modulus))[0]
        expected = rows[:, limb].size / 16
        assert np.abs(counts - expected).max() < 5.5 * math.sqrt(expected)


def test_messages_hold_no_image_and_no_secret_key(session):
    value = np.float64(0.1234567890123)
    inputs = np.full((1, *session.circuit.input_shape), value)
    querier = session.querier
    secret = secret_of(querier)
    sent = (session.keys, querier.encrypt(inputs), session.public.to_bytes())
    forms = [
        value.tobytes(),
        np.float32(value).tobytes(),
        secret[0].tobytes()[:64],
        secret[0].astype("<u4").tobytes()[:64],
        session.public.ring.pack(secret[None])[:64],
    ]
    for message in sent:
        for form in forms:
            assert form not in message
    # The control: they would be found.
    assert forms[4] in b"x" + session.public.ring.pack(secret[None])


def test_evaluation_keys_alone_decrypt_nothing(session, asked):
    """The public key's halves are not the secret, nor is any other key's."""
    secret = secret_of(session.querier)
    ring = session.public.ring
    rows = ring.unpack(session.keys[HEADER.size + SEED_BYTES :])
    moduli = np.array(ring.moduli, np.uint64)[:, None]
    for row in rows:
        assert (row == secret).mean() < 0.01
        assert ((row + secret) % moduli == 0).mean() < 0.01


def reachable(value):
    """Everything that an object leads to, but for classes and modules."""
    seen, waiting = {}, [value]
    while waiting:
        current = waiting.pop()
        opaque = (type, types.ModuleType)
        if id(current) not in seen and not isinstance(current, opaque):
            seen[id(current)] = current
            waiting += gc.get_referents(current)
    return list(seen.values())


def test_an_evaluator_holds_no_secret_key(session):
    kind = load().openfhe.PrivateKey
    held = reachable(session.evaluator)
    assert not [value for value in held if isinstance(value, kind)]
    secret = secret_of(session.querier)
    for value in held:
        assert not isinstance(value, bytes) or secret[0].tobytes() not in value
    # The control: a client does.
    keys = [
        v for v in reachable([session.querier.key_pair]) if "KeyPair" in str(type(v))
    ]
    assert keys


# What is refused


def mutations(message, count, seed):
    """Changed copies of a message: bits, bytes, cuts, additions, runs of ones."""
    random = np.random.default_rng(seed)
    for number in range(count):
        data = bytearray(message)
        at = int(random.integers(len(data)))
        match number % 6:
            case 0:  # in the header, but for the count, which may be another
                data[at % (HEADER.size - 4)] ^= 1 << int(random.integers(8))
            case 1:
                del data[at:]
            case 2:
                data += bytes(int(random.integers(1, 99)))
            case 3:
                # A residue of ones, in a polynomial that stores 32 bits of each plane.
                start = HEADER.size + SEED_BYTES
                data[start:] = b"\xff" * (len(data) - start)
            case 4:
                data = bytearray(random.bytes(at))
            case 5:
                data[:4] = random.bytes(4)
        if bytes(data) != message:
            yield bytes(data)


def test_mutated_requests_are_refused_and_the_session_goes_on(session, asked):
    inputs, request, _ = asked
    refused = 0
    for data in mutations(request, 120, 0):
        with pytest.raises(WireError):
            session.evaluator.evaluate(data)
        refused += 1
    assert refused > 100
    answer = session.evaluator.evaluate(request)
    found = session.querier.decrypt(answer, len(inputs))
    expected = session.circuit.plain(inputs)
    assert np.abs(found - expected).max() < 7 * session.plan.error_std


def test_changed_residues_within_range_are_answered_with_nonsense(session, asked):
    inputs, request, _ = asked
    data = bytearray(request)
    for at in range(HEADER.size + SEED_BYTES, len(data), 4001):
        data[at] ^= 1
    try:
        answer = session.evaluator.evaluate(bytes(data))
    except WireError:
        return  # a residue was not below its prime any more
    found = session.querier.decrypt(answer, len(inputs))
    assert np.abs(found - session.circuit.plain(inputs)).max() > 0.1


def test_mutated_keys_are_refused():
    circuit = multilayer((9, 4, 3))
    made = plan(circuit, packing="single", flooding_bits=2)
    evaluator, querier = Evaluator(circuit, made), Querier(made.public)
    keys = querier.evaluation_keys()
    for data in mutations(keys, 60, 1):
        with pytest.raises(WireError):
            evaluator.load_keys(data)
    request = querier.encrypt(images((9,), 1))
    with pytest.raises(RefusedError, match="needs its evaluation keys"):
        evaluator.evaluate(request)
    evaluator.load_keys(keys)
    evaluator.evaluate(request)
    with pytest.raises(RefusedError, match="once"):
        evaluator.load_keys(keys)


def test_mutated_answers_are_refused_by_the_client(session, asked):
    inputs, _, answer = asked
    for data in mutations(answer, 60, 2):
        if data[HEADER.size :] == answer[HEADER.size :] or len(data) != len(answer):
            with pytest.raises(WireError):
                session.querier.decrypt(data, len(inputs))
    with pytest.raises(WireError):
        session.querier.decrypt(answer, len(inputs) + 1)


@pytest.mark.parametrize("value", [None, 7, "text", bytearray(9), memoryview(b"x")])
def test_what_is_not_bytes_is_refused(session, value):
    for receive in (session.evaluator.evaluate, session.evaluator.load_keys):
        with pytest.raises((WireError, RefusedError)):
            receive(value)
    with pytest.raises(WireError):
        session.querier.decrypt(value, 1)


def test_messages_of_another_kind_or_plan_are_refused(session, asked):
    _, request, _ = asked
    body, count = request[HEADER.size :], 1
    for kind in (KEYS, ANSWER, 0, 255):
        with pytest.raises(WireError, match="another kind"):
            session.evaluator.evaluate(session.public.header(kind, count) + body)
    header = bytearray(session.public.header(REQUEST, count))
    header[10] ^= 1
    with pytest.raises(WireError, match="another model"):
        session.evaluator.evaluate(bytes(header) + body)
    for wrong in (0, session.public.images_per_request + 1, 2**32 - 1):
        with pytest.raises(WireError, match="images"):
            session.evaluator.evaluate(session.public.header(REQUEST, wrong) + body)


def test_queries_are_counted():
    circuit = multilayer((9, 4))
    session = Session(circuit, packing="single", queries=2)
    request = session.querier.encrypt(images((9,), 1))
    session.evaluator.evaluate(request)
    with pytest.raises(WireError):
        session.evaluator.evaluate(request[:-1])  # costs nothing
    session.evaluator.evaluate(request)
    with pytest.raises(RefusedError, match="may ask about 2 images"):
        session.evaluator.evaluate(request)


def test_a_batch_counts_as_all_that_may_be_in_it():
    circuit = multilayer((9, 4))
    session = Session(circuit, packing="batch", queries=10000, flooding_bits=0)
    slots = session.public.images_per_request
    request = session.querier.encrypt(images((9,), 1))
    for _ in range(10000 // slots):
        session.evaluator.evaluate(request)
    with pytest.raises(RefusedError, match=f"counts as {slots}"):
        session.evaluator.evaluate(request)


CLOSING = """
from tests.inference.networks import Session, images, multilayer
from fedjax_private.encryption.errors import RefusedError

session = Session(multilayer((4, 3)), packing="single", flooding_bits=0)
request = session.querier.encrypt(images((4,), 1))
session.evaluator.evaluate(request)
session.evaluator.close()
try:
    session.evaluator.evaluate(request)
except RefusedError:
    print("refused")
# The process can serve the next session.
again = Session(multilayer((4, 3)), packing="single", flooding_bits=0)
again.evaluator.evaluate(again.querier.encrypt(images((4,), 1)))
print("answered")
"""


def test_closing_frees_the_keys():
    # Of all sessions in a process, so in one of its own.
    done = subprocess.run(
        [*interpreter(), "-c", CLOSING],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout.split() == ["refused", "answered"], done.stderr


def test_noise_has_no_seed():
    assert not np.array_equal(gaussian(8, 1.0), gaussian(8, 1.0))
    ring = ring_of(RingChoice(8192, 31, 30, 3))
    assert uniform(bytes(32), 0, ring).max() < max(ring.moduli)
