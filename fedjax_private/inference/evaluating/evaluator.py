"""The server's side of a session: evaluates a model on images that it cannot read."""

import numpy as np

from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.math.entropy import gaussian
from fedjax_private.encryption.workers import Workers
from fedjax_private.inference.compiling.circuit import Circuit
from fedjax_private.inference.evaluating.batch import BatchProgram, Rows
from fedjax_private.inference.evaluating.ckks import Ckks, ckks_of
from fedjax_private.inference.evaluating.expansion import uniform
from fedjax_private.inference.evaluating.keys import KeyRing, PublicKey, forget_keys
from fedjax_private.inference.evaluating.single import SingleProgram, periodic
from fedjax_private.inference.planning.layouts import BatchLayout
from fedjax_private.inference.planning.plan import Plan, program_of
from fedjax_private.inference.planning.polynomials import Number
from fedjax_private.inference.planning.public import ANSWER, KEYS, REQUEST, SEED_BYTES


class Evaluator:
    """A model owner's side of one session: one client, one set of evaluation keys.

    OpenFHE keeps evaluation keys for the whole process, so one process serves one
    session at a time; `close` frees the keys.

    Formal guarantees. It holds no secret key, and learns of a query what `Querier`
    says. What the client learns of the model is in `planning.flooding`. `score_noise`
    is no part of that: it makes extraction from many queries costlier and proves
    nothing.

    Args:
        circuit: the model.
        plan: made for the circuit.
        score_noise: standard deviation of Gaussian noise on each score, in the scores'
            units, drawn afresh for each image; 0 adds none.

    Raises:
        ValueError: if the plan was made for another circuit, or the noise is negative.
    """

    def __init__(
        self, circuit: Circuit, plan: Plan, *, score_noise: float = 0.0
    ) -> None:
        if not 0.0 <= score_noise < float("inf"):
            raise ValueError(f"score_noise must not be negative, got {score_noise}.")
        self._public, self._plan = plan.public, plan
        self._score_noise = score_noise / plan.output_scale
        self._workers = Workers.start()
        self._ckks = ckks = ckks_of(plan.public.choice)
        self._keys = KeyRing(ckks, plan.public.rotations)
        self._public_key: PublicKey | None = None
        self._asked = 0
        layout, rotations = plan.public.layout, plan.rotations
        program = program_of(circuit, plan)
        self._program: SingleProgram | BatchProgram
        if isinstance(layout, BatchLayout):
            self._program = BatchProgram(ckks, program, plan.schedule, self._workers)
        else:
            assert rotations is not None
            sources = layout.sources(circuit.input_shape, ckks.slots)
            self._program = SingleProgram(
                ckks, program, plan.schedule, rotations, sources, self._workers
            )

    def load_keys(self, data: bytes) -> None:
        """Loads the client's evaluation keys.

        OpenFHE parses only objects of its own making, filled with the client's
        residues, each of which is checked to be below its prime.

        Raises:
            WireError: if these are not keys for this plan.
            RefusedError: if the session has keys already.
        """
        public = self._public
        if self._public_key is not None:
            raise RefusedError("a session takes its evaluation keys once.")
        body, _ = public.body(data, KEYS, public.evaluation_keys_bytes, 0)
        self._public_key = self._keys.load(body, self._workers)

    def evaluate(self, request: bytes) -> bytes:
        """Returns the answer to a request.

        Raises:
            WireError: if it is not a request for this plan.
            RefusedError: if no keys are loaded, or the plan's queries are used up.
        """
        public = self._public
        if self._public_key is None:
            raise RefusedError("a session needs its evaluation keys first.")
        body, count = public.body(
            request, REQUEST, public.request_bytes, public.images_per_request
        )
        # A client can put images into all slots, whatever count it states.
        asked = self._asked + public.images_per_request
        if asked > public.queries:
            raise RefusedError(
                f"a client may ask about {public.queries} images; a request counts as "
                f"{public.images_per_request}, and {self._asked} were asked about."
            )
        ciphertexts = self.read_ciphertexts(body)
        self._asked = asked
        scores = self.encrypted_scores(ciphertexts)
        ckks, key, std = self._ckks, self._public_key, self._plan.flooding_std

        def finished(index: int) -> bytes:
            number = flooded(ckks, key, self._with_score_noise(scores[index]), std)
            return public.answer_ring.pack(ckks.residues(number))

        parts = self._workers.map(finished, len(scores))
        return b"".join((public.header(ANSWER, count), *parts))

    def read_ciphertexts(self, body: memoryview) -> Rows:
        """The ciphertexts (n, 2, L, N) of a request.

        Args:
            body: the request after its header, its length checked.

        Raises:
            WireError: if a residue is not below its prime.
        """
        ring, size = self._public.ring, self._public.ring.polynomial_bytes
        seed, data = bytes(body[:SEED_BYTES]), body[SEED_BYTES:]
        count = self._public.request_ciphertexts
        rows = np.empty((count, 2, ring.limbs, ring.dimension), np.uint32)

        def unpack(index: int) -> None:
            rows[index, 0] = ring.unpack(data[index * size : (index + 1) * size])[0]
            rows[index, 1] = uniform(seed, index, ring)

        self._workers.map(unpack, count)
        return rows

    def encrypted_scores(self, ciphertexts: Rows) -> list[Number]:
        """The encrypted scores of a request, before any noise: not to be sent.

        Args:
            ciphertexts: (n, 2, L, N), the request's.
        """
        return self._program(ciphertexts, self._keys.tag)

    def _with_score_noise(self, number: Number) -> Number:
        if not self._score_noise:
            return number
        slots, public = self._ckks.slots, self._public
        if public.packing == "batch":
            noise = gaussian(slots, self._score_noise)
        else:
            # The same in every period, so that averaging over periods does not help.
            drawn = gaussian(public.outputs, self._score_noise)
            noise = periodic(drawn, public.period, slots)
        return self._ckks.add(number, noise)

    def close(self) -> None:
        """Frees the keys of this session, and of any other in the process."""
        self._public_key = None
        forget_keys(self._ckks)


def flooded(ckks: Ckks, public_key: PublicKey, number: Number, std: float) -> Number:
    """The number, masked and with noise on every coefficient; see `planning.flooding`.

    Args:
        ckks: the arithmetic.
        public_key: the client's.
        number: to be sent to the client.
        std: standard deviation of the real part of the noise in a slot, in the slots'
            units.
    """
    # Complex Gaussian slots are independent Gaussian coefficients of one deviation: the
    # embedding is orthogonal, times sqrt(N / 2). Encoding rounds them.
    noise = gaussian(2 * ckks.slots, std).view(np.complex128)
    zero = ckks.context.Encrypt(
        public_key, ckks.encode(noise, number.scale, number.limbs)
    )
    zero.SetKeyTag(number.ciphertext.GetKeyTag())
    return ckks.add(number, Number(zero, number.scale, number.limbs))
