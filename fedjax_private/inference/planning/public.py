"""`PublicPlan`: the part of a plan that clients get, to ask and to read answers."""

import dataclasses
import hashlib
import itertools
import json
import math
import struct
import typing
from types import UnionType
from typing import Any

from fedjax_private.encryption.errors import WireError
from fedjax_private.encryption.math.rings import Ring
from fedjax_private.inference.planning.layouts import (
    BatchLayout,
    Layout,
    PeriodicLayout,
)
from fedjax_private.inference.planning.rings import RingChoice
from fedjax_private.inference.planning.schedule import ANSWER_LIMBS

VERSION = 1
_MOST_BYTES = 2**20
_MOST_NUMBERS = 2**20

# The most that a client does for a plan, whoever made it.
_MOST_ROTATIONS = 256
_MOST_CIPHERTEXTS = 2**14
_MOST_PATCHED = 2**23  # slots of an image in patches

# Header of a message: magic, version, kind, digest of the plan, number of images.
HEADER = struct.Struct("<4sBB16sI")
MAGIC = b"FJPI"
KEYS, REQUEST, ANSWER = 1, 2, 3

# Keys and requests: the seed that half of the polynomials are expanded from.
SEED_BYTES = 32

# What parsing arbitrary bytes as a plan can raise.
_MALFORMED = (
    ArithmeticError,
    AttributeError,
    KeyError,
    RecursionError,
    TypeError,
    ValueError,
)


@dataclasses.dataclass(frozen=True)
class PublicPlan:
    """What all clients of a service know of its model.

    It reveals the shape of the model, the rotations that it takes, and the range of its
    inputs and scores on the sample that it was planned with.

    Attributes:
        choice: the ring.
        moduli: the ring's primes.
        input_shape: of one image, whose numbers are sent as floats.
        outputs: scores of one image.
        layout: which number each slot holds.
        input_scale: largest absolute value of an input.
        encoding_bits: scale of a request.
        answer_scale: slots are scores times this.
        rotations: those that need evaluation keys, ascending.
        period: slots until scores repeat, in single packing.
        flooding_bits: log2 of the noise on answers over the evaluation's; see
            `flooding`.
        queries: images that one client may ask about in all.

    Raises:
        ValueError: on construction, if the numbers do not make a plan.
    """

    choice: RingChoice
    moduli: tuple[int, ...]
    input_shape: tuple[int, ...]
    outputs: int
    layout: Layout
    input_scale: float
    encoding_bits: float
    answer_scale: float
    rotations: tuple[int, ...]
    period: int
    flooding_bits: int
    queries: int

    def __post_init__(self) -> None:
        slots, inputs = self.choice.slots, math.prod(self.input_shape)
        bits = [self.choice.first_bits] + [self.choice.limb_bits] * self.choice.limbs
        valid = (
            len(self.moduli) == self.choice.limbs
            and len(set(self.moduli)) == len(self.moduli)
            and all(
                q % (2 * self.choice.dimension) == 1 and abs(math.log2(q) - b) < 0.1
                for q, b in zip(self.moduli, bits, strict=False)
            )
            and 1 <= len(self.input_shape) <= 4
            and all(1 <= size <= _MOST_NUMBERS for size in self.input_shape)
            and inputs <= _MOST_NUMBERS
            and 1 <= self.outputs <= slots
            and all(
                0 < number < math.inf
                for number in (self.input_scale, self.answer_scale)
            )
            and 10 <= self.encoding_bits <= self.choice.bits_of(self.choice.limbs)
            and all(0 < step < slots for step in self.rotations)
            and tuple(sorted(set(self.rotations))) == self.rotations
            and len(self.rotations) <= _MOST_ROTATIONS
            and 0 <= self.flooding_bits <= 128
            and 1 <= self.queries < 2**32
            and (self.packing == "batch" or self.outputs <= self.period <= slots)
        )
        if not valid or not self._layout_fits(slots, inputs):
            raise ValueError("the numbers do not make a plan of encrypted inference.")

    def _layout_fits(self, slots: int, inputs: int) -> bool:
        layout = self.layout
        if isinstance(layout, BatchLayout):
            used = layout.used
            return (
                0 < len(used) <= _MOST_CIPHERTEXTS
                and used == tuple(sorted(set(used)))
                and (used[0] >= 0 and used[-1] < inputs)
            )
        if isinstance(layout, PeriodicLayout):
            period = layout.period
            return inputs <= period <= slots and not slots % period
        patches = layout.patches
        sizes = (*patches.kernel, *patches.strides, *itertools.chain(*patches.padding))
        if min(layout.sections, layout.maps) < 1 or max(sizes) > _MOST_NUMBERS:
            return False
        offsets = math.prod(patches.kernel) * self.input_shape[-1]
        if offsets > slots or -(-offsets // layout.sections) * slots > _MOST_PATCHED:
            return False
        return layout.section(self.input_shape) * layout.sections <= slots

    @property
    def packing(self) -> str:
        """`batch` or `single`."""
        return "batch" if isinstance(self.layout, BatchLayout) else "single"

    @property
    def ring(self) -> Ring:
        """The ring of requests and keys, with the whole modulus."""
        return Ring(self.choice.dimension, self.moduli)

    @property
    def answer_ring(self) -> Ring:
        """The ring of answers."""
        return Ring(self.choice.dimension, self.moduli[:ANSWER_LIMBS])

    @property
    def images_per_request(self) -> int:
        """The most images in one request."""
        return self.choice.slots if self.packing == "batch" else 1

    @property
    def request_ciphertexts(self) -> int:
        """Ciphertexts of a request."""
        return self.layout.ciphertexts(self.input_shape)

    @property
    def answer_ciphertexts(self) -> int:
        """Ciphertexts of an answer."""
        return self.outputs if self.packing == "batch" else 1

    @property
    def request_bytes(self) -> int:
        """Bytes of a request, whatever is in it."""
        polynomials = self.request_ciphertexts * self.ring.polynomial_bytes
        return HEADER.size + SEED_BYTES + polynomials

    @property
    def answer_bytes(self) -> int:
        """Bytes of an answer."""
        ciphertext = 2 * self.answer_ring.polynomial_bytes
        return HEADER.size + self.answer_ciphertexts * ciphertext

    @property
    def evaluation_keys_bytes(self) -> int:
        """Bytes of the evaluation keys, sent once."""
        polynomials = 1 + self.ring.limbs * (1 + len(self.rotations))
        return HEADER.size + SEED_BYTES + polynomials * self.ring.polynomial_bytes

    @property
    def digest(self) -> bytes:
        """(16,) bytes that name the plan in messages."""
        return hashlib.sha256(self.to_bytes()).digest()[:16]

    def to_bytes(self) -> bytes:
        """The plan as JSON, for `from_bytes`."""
        fields = dataclasses.asdict(self)
        fields["layout"] = {
            "kind": type(self.layout).__name__,
            **dataclasses.asdict(self.layout),
        }
        fields["version"] = VERSION
        return json.dumps(fields, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "PublicPlan":
        """The plan in bytes that a server sent.

        Raises:
            WireError: if it is not a plan, or not one of 128 bits of security.
        """
        if not isinstance(data, bytes) or len(data) > _MOST_BYTES:
            raise WireError(f"a plan is at most {_MOST_BYTES} bytes.")
        try:
            fields = json.loads(data)
            if fields.pop("version") != VERSION:
                raise ValueError(f"not a plan of format version {VERSION}.")
            plan: PublicPlan = _parsed(cls, fields)
            return plan
        except _MALFORMED as error:
            raise WireError(f"not a plan of encrypted inference: {error}") from error

    def header(self, kind: int, count: int = 0) -> bytes:
        """The header of a message under this plan.

        Args:
            kind: `KEYS`, `REQUEST` or `ANSWER`.
            count: images that the message is about.
        """
        return HEADER.pack(MAGIC, VERSION, kind, self.digest, count)

    def body(
        self, data: bytes, kind: int, size: int, most: int
    ) -> tuple[memoryview, int]:
        """The bytes after a message's header, and the number of images in the header.

        Args:
            data: the message, from anyone.
            kind: the expected kind.
            size: the expected bytes of the whole message.
            most: the largest number of images; the smallest is 1, or 0 if this is 0.

        Raises:
            WireError: if the message is of another length, kind, plan or number.
        """
        if not isinstance(data, bytes) or len(data) != size:
            length = len(data) if isinstance(data, bytes) else "no"
            raise WireError(f"a message of {length} bytes where {size} were expected.")
        magic, version, sent_kind, digest, count = HEADER.unpack_from(data)
        if (magic, version, sent_kind) != (MAGIC, VERSION, kind):
            raise WireError("a message of another kind or format version.")
        if digest != self.digest:
            raise WireError("a message for another model, or another plan of it.")
        if not min(most, 1) <= count <= most:
            raise WireError(
                f"a message about {count} images where {most} are the most."
            )
        return memoryview(data)[HEADER.size :], count


def _parsed(kind: Any, value: Any) -> Any:
    """The value of type `kind` in JSON; dataclasses check their fields' values."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        types = typing.get_type_hints(kind)
        if set(value) != set(types):
            raise ValueError("fields are missing, or unknown.")
        return kind(**{name: _parsed(types[name], value[name]) for name in types})
    if isinstance(kind, UnionType):  # the layouts
        fields = dict(value)
        name = fields.pop("kind")
        for each in typing.get_args(kind):
            if each.__name__ == name:
                return _parsed(each, fields)
        raise ValueError("an unknown layout.")
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list) or len(value) > _MOST_NUMBERS:
            raise ValueError("a list is missing, or too long.")
        kinds = typing.get_args(kind)
        if kinds[-1] is ...:
            kinds = kinds[:1] * len(value)
        return tuple(_parsed(k, v) for k, v in zip(kinds, value, strict=True))
    if type(value) is not kind:
        raise ValueError(f"not of type {kind.__name__}.")
    return value
