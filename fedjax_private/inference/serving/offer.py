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
            run = bytes.fromhex(_text(fields, "run"))
            normalization = Normalization(
                _number(fields, "offset"), _number(fields, "scale")
            )
        except ValueError as error:
            raise WireError(f"the server's offer is malformed: {error}") from error
        if len(run) != RUN_BYTES:
            raise WireError("the server's offer does not name a run.")
        plan, classes = fields.get("plan"), fields.get("classes")
        if not isinstance(plan, str) or not isinstance(classes, list):
            raise WireError("the server's offer lacks a plan or classes.")
        public = PublicPlan.from_bytes(plan.encode(errors="replace"))
        if len(classes) not in (0, public.outputs):
            raise WireError("the server's offer must name all of the scores, or none.")
        return cls(
            run,
            _text(fields, "model"),
            _text(fields, "dataset"),
            normalization,
            tuple(_text({"class": name}, "class") for name in classes),
            None if fields.get("split") is None else _text(fields, "split"),
            public,
        )


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    # Names are shown on the client's terminal.
    if (
        not isinstance(value, str)
        or len(value) > _NAME_CHARACTERS
        or not value.isprintable()
    ):
        raise WireError(f"the server's offer has no {name} that can be shown.")
    return value


def _number(fields: dict[str, Any], name: str) -> float:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WireError(f"the server's offer has no number {name}.")
    try:
        return float(value)
    except OverflowError as error:
        raise WireError(f"the server's offer has no number {name}.") from error
