"""The offer of a service: the public facts about its model, readable by anyone."""

import dataclasses
import json
from typing import Any

from fedjax_private.datasets.examples import Normalization
from fedjax_private.encryption.errors import WireError
from fedjax_private.inference.planning.public import PublicPlan

RUN_BYTES = 16
OFFER_BYTES = 1 << 20  # the longest offer that is read
_NAME_CHARACTERS = 200
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Offer:
    """The public facts about a served model.

    Attributes:
        run: (16,) random bytes that name this run of the server.
        model: the model's name.
        dataset: the data set that the model was trained on.
        normalization: of stored pixels, applied before they are encrypted.
        classes: names of the scores; none if features are returned.
        split: name of the layer whose outputs are returned, or None for the last.
        plan: how clients encrypt images and read scores.
    """

    run: bytes
    model: str
    dataset: str
    normalization: Normalization
    classes: tuple[str, ...]
    split: str | None
    plan: PublicPlan

    def to_bytes(self) -> bytes:
        """The offer as JSON."""
        return json.dumps(
            {
                "version": _VERSION,
                "run": self.run.hex(),
                "model": self.model,
                "dataset": self.dataset,
                "offset": self.normalization.offset,
                "scale": self.normalization.scale,
                "classes": self.classes,
                "split": self.split,
                "plan": self.plan.to_bytes().decode(),
            }
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Offer":
        """The offer in bytes from anyone.

        Raises:
            WireError: if it is not an offer, or `PublicPlan` refuses its plan.
        """
        if len(data) > OFFER_BYTES:
            raise WireError(f"an offer of {len(data)} bytes: at most {OFFER_BYTES}.")
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise WireError("the server's offer is no JSON.") from error
        if not isinstance(fields, dict) or fields.get("version") != _VERSION:
            raise WireError(f"not an offer of version {_VERSION}.")
        try:
            run = bytes.fromhex(_field(fields, "run", str))
            offset = float(_field(fields, "offset", int, float))
            scale = float(_field(fields, "scale", int, float))
            normalization = Normalization(offset, scale)
        except (OverflowError, ValueError) as error:
            raise WireError(f"the server's offer is malformed: {error}") from error
        if len(run) != RUN_BYTES:
            raise WireError("the server's offer does not name a run.")
        plan = _field(fields, "plan", str).encode(errors="replace")
        public = PublicPlan.from_bytes(plan)
        classes, split = _field(fields, "classes", list), fields.get("split")
        if len(classes) not in (0, public.outputs):
            raise WireError("the server's offer must name all of the scores, or none.")
        return cls(
            run,
            _shown(fields.get("model")),
            _shown(fields.get("dataset")),
            normalization,
            tuple(map(_shown, classes)),
            None if split is None else _shown(split),
            public,
        )


def _field(fields: dict[str, Any], name: str, *kinds: type) -> Any:
    if type(fields.get(name)) not in kinds:
        raise WireError(f"the server's offer lacks {name}.")
    return fields[name]


def _shown(name: Any) -> str:
    """The name, if it can be shown on the client's terminal."""
    if (
        not isinstance(name, str)
        or len(name) > _NAME_CHARACTERS
        or not name.isprintable()
    ):
        raise WireError("the server's offer has a name that cannot be shown.")
    return name
