"""The client's side of `infer`: asks about images, prints and stores the answers."""

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import rich.table

from experiments import command
from experiments.command import OutputConfig
from experiments.reports.figures import prediction
from experiments.settings import flags
from fedjax_private import runs
from fedjax_private.choices import Choice, Settings, at_least, chosen, positive, setting
from fedjax_private.datasets import SOURCES, Source, load
from fedjax_private.encryption import ProtocolError
from fedjax_private.inference.serving.access import default_token_file, read_token
from fedjax_private.inference.serving.head import Head, fit
from fedjax_private.inference.serving.offer import Offer
from fedjax_private.inference.serving.remote import (
    RemoteModel,
    ServiceError,
    read_offer,
)

T = TypeVar("T")

QUERY_USAGE = """Asks a server about images, encrypted.

usage: python -m experiments.infer query --image=FILE.png | --dataset=NAME [flags]"""
FIT_USAGE = """Fits the client's own last layer on a server's encrypted features.

usage: python -m experiments.infer fit_head --dataset=NAME --head=FILE.npz [flags]"""

PREDICTIONS = "predictions.jsonl"
FIGURE = "prediction.png"
_ROWS_SHOWN = 20


def token_in(token_file: str | None, read: Callable[[Path], bytes]) -> bytes:
    """The access token in a file, or in the default one, as `read` returns it."""
    try:
        return read(Path(token_file) if token_file else default_token_file())
    except ValueError as error:
        raise ValueError(f"token_file: {error}") from error


@dataclasses.dataclass(frozen=True)
class ServerConfig(Settings):
    """Which server is asked."""

    url: str = setting("http://127.0.0.1:8443", "of the server")
    token_file: str | None = setting(
        None, f"file of the access token (default {default_token_file()})"
    )
    timeout: float = setting(300.0, "seconds that a request may take", positive)

    def token(self) -> bytes:
        """The access token. Raises ValueError as `read_token` does."""
        return token_in(self.token_file, read_token)

    def offer(self) -> Offer:
        """The server's offer. An address that does not answer is bad input."""
        return self._asked(lambda: read_offer(self.url, timeout=self.timeout))

    def connect(self, token: bytes) -> RemoteModel:
        """A session. A server that refuses it is bad input."""
        return self._asked(
            lambda: RemoteModel.connect(self.url, token, timeout=self.timeout)
        )

    def _asked(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except (ProtocolError, ServiceError) as error:
            flags.fail(f"--url={self.url}: {error}")
        except ValueError as error:  # of the URL itself
            flags.fail(str(error), ("url",))


@dataclasses.dataclass(frozen=True)
class QueryConfig(Settings):
    """What to ask about."""

    image: str | None = setting(None, "image file of the size that the model takes")
    dataset: "str | Source | Choice[Source] | None" = chosen(
        SOURCES, None, "whose test images are asked about instead"
    )
    count: int = setting(
        10, "how many of the data set's images, from the first", at_least(1)
    )
    head: str | None = setting(None, "file of a head for split serving; see fit_head")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.image is None) == (self.dataset is None):
            raise ValueError("give either image or dataset.")


@dataclasses.dataclass(frozen=True)
class FitConfig(Settings):
    """What to fit."""

    dataset: "str | Source | Choice[Source]" = chosen(
        SOURCES, "mnist_5k", "whose first training images are asked about"
    )
    count: int = setting(500, "how many images", at_least(2))
    head: str | None = setting(None, "file to write the head to")


@dataclasses.dataclass(frozen=True)
class _Images:
    """Images to ask about.

    Attributes:
        inputs: uint8 (B, H, W, C).
        labels: int32 (B,), if they are known.
    """

    inputs: npt.NDArray[Any]
    labels: npt.NDArray[np.int32] | None

    def check(self, offer: Offer, flag_name: str) -> None:
        """Ends the command if the model takes images of another size."""
        wanted, got = offer.plan.input_shape, self.inputs.shape[1:]
        if wanted != got:
            flags.fail(
                f"--{flag_name} has images {got} and the model takes {wanted} "
                "(height, width, channels): convert them."
            )


def query(argv: Sequence[str]) -> int:
    """The command `query`; returns its exit status."""
    parsed = flags.parse(QUERY_USAGE, (ServerConfig, QueryConfig, OutputConfig), argv)
    server, what = parsed[ServerConfig], parsed[QueryConfig]
    token = parsed.checked(server.token)
    asked = parsed.checked(lambda: _images(what))
    head = None
    if what.head is not None:
        head = parsed.checked(lambda: Head.load(Path(what.head or "")))
    directory = command.directory("query", parsed)
    offer = server.offer()
    asked.check(offer, "image" if what.image else "dataset")
    _check_head(offer, head)
    outputs, seconds, opening = _ask(server, token, asked.inputs)
    scores = outputs if head is None else head(outputs)
    rows = _rows(asked, scores, seconds)
    directory.write_config(
        {
            "command": "query",
            "argv": list(argv[1:]),
            "model": offer.model,
            "dataset": offer.dataset,
            "split": offer.split,
            "request_bytes": offer.plan.request_bytes,
            "answer_bytes": offer.plan.answer_bytes,
            "evaluation_key_bytes": offer.plan.evaluation_keys_bytes,
            "seconds_opening": opening,
            "versions": runs.environment.versions(),
        }
    )
    with (directory.path / PREDICTIONS).open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    console = command.console()
    console.print(_table(offer.model, rows))
    command.say(console, _summary(rows, opening))
    if len(rows) == 1 and asked.inputs.ndim == 4:  # a table is no picture
        classes = offer.classes or tuple(map(str, range(scores.shape[1])))
        prediction(directory.path / FIGURE, asked.inputs[0], scores[0], classes)
    command.say(console, f"written to {directory.path}")
    return 0


def fit_head(argv: Sequence[str]) -> int:
    """The command `fit_head`; returns its exit status."""
    parsed = flags.parse(FIT_USAGE, (ServerConfig, FitConfig), argv)
    server, what = parsed[ServerConfig], parsed[FitConfig]
    if what.head is None:
        flags.fail("--head is missing: name the file to write the head to.")
    path = Path(what.head)
    if not path.parent.is_dir():
        flags.fail(f"--head={path}: there is no directory {path.parent}.")
    token = parsed.checked(server.token)
    dataset = parsed.checked(lambda: load(what.dataset))
    asked = parsed.checked(lambda: _first(dataset.train, what.count, "training"))
    offer = server.offer()
    asked.check(offer, "dataset")
    split = offer.split
    if split is None:
        flags.fail("the server returns scores, not features: serve --split.")
    features, _, _ = _ask(server, token, asked.inputs)
    labels, classes = asked.labels, dataset.num_classes
    head = parsed.checked(lambda: fit(features, labels, classes, split=split))
    try:
        head.save(path)
    except OSError as error:
        flags.fail(f"cannot write --head={path} ({error.strerror}): name another file.")
    right = float(np.mean(head(features).argmax(axis=1) == labels))
    command.say(
        command.console(),
        f"a head from {features.shape[1]} features of {split} to {classes} classes, "
        f"right on {right:.1%} of the {what.count} images that it was fitted to; "
        f"written to {path}",
    )
    return 0


def _images(what: QueryConfig) -> _Images:
    if what.dataset is not None:
        return _first(load(what.dataset).test, what.count, "test")
    return _Images(_read_image(Path(what.image or "")), None)


def _first(examples: Any, count: int, kind: str) -> _Images:
    if count > len(examples):
        raise ValueError(
            f"count={count}: the data set has {len(examples)} {kind} images."
        )
    return _Images(examples.inputs[:count], examples.labels[:count])


def _read_image(path: Path) -> npt.NDArray[np.uint8]:
    """The image in a file, uint8 (1, H, W, C); grey with one channel."""
    import PIL.Image

    try:
        with PIL.Image.open(path) as image:
            grey = image.mode in ("1", "L", "LA", "I", "I;16", "F")
            pixels = np.asarray(image.convert("L" if grey else "RGB"), np.uint8)
    except (OSError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise ValueError(
            f"image={path} cannot be read ({error}): name a PNG or JPEG file."
        ) from error
    return pixels.reshape(1, *pixels.shape[:2], -1)


def _check_head(offer: Offer, head: Head | None) -> None:
    split, outputs = offer.split, offer.plan.outputs
    if split is None and head is not None:
        flags.fail("--head is for split serving, and this server returns scores.")
    if split is not None and head is None:
        flags.fail(
            f"the server returns features of {split}: give --head, which `fit_head` "
            "makes."
        )
    if head is not None and (head.split, len(head.weights)) != (split, outputs):
        flags.fail(
            f"--head takes {len(head.weights)} features of {head.split}, and the "
            f"server returns {outputs} of {split}: fit one for it."
        )


def _ask(
    server: ServerConfig, token: bytes, images: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], list[float], float]:
    """Asks in a session of its own. A request that fails ends the command.

    Returns:
        The outputs (B, outputs), the seconds until each arrived, and those until the
        session was open.
    """
    outputs, seconds = [], []
    start = time.perf_counter()
    try:
        with server.connect(token) as model:
            opening = time.perf_counter() - start
            step = model.offer.plan.images_per_request
            for first in range(0, len(images), step):
                some = images[first : first + step]
                start = time.perf_counter()
                outputs.append(model.predict(some))
                seconds += [time.perf_counter() - start] * len(some)
    except (ServiceError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    return np.concatenate(outputs), seconds, opening


def _rows(
    asked: _Images, scores: npt.NDArray[np.float64], seconds: Sequence[float]
) -> list[dict[str, Any]]:
    labels = [None] * len(scores) if asked.labels is None else asked.labels.tolist()
    return [
        {
            "index": index,
            "label": label,
            "predicted": int(values.argmax()),
            "scores": values.tolist(),
            "seconds": taken,
        }
        for index, (label, values, taken) in enumerate(
            zip(labels, scores, seconds, strict=True)
        )
    ]


def _table(model: str, rows: Sequence[dict[str, Any]]) -> rich.table.Table:
    shown = rich.table.Table(title=f"{model}, on encrypted images")
    for column in ("index", "label", "predicted", "scores", "seconds"):
        shown.add_column(column, justify="right")
    for row in rows[:_ROWS_SHOWN]:
        label = "" if row["label"] is None else str(row["label"])
        right = row["label"] in (None, row["predicted"])
        shown.add_row(
            str(row["index"]),
            label,
            f"{row['predicted']}" if right else f"[red]{row['predicted']}[/red]",
            " ".join(f"{score:.2f}" for score in row["scores"]),
            f"{row['seconds']:.2f}",
        )
    if len(rows) > _ROWS_SHOWN:
        shown.add_row("...", "", "", f"all {len(rows)} are in {PREDICTIONS}", "")
    return shown


def _summary(rows: Sequence[dict[str, Any]], opening: float) -> str:
    parts = [f"session opened in {opening:.2f} s"]
    waiting = statistics.median(row["seconds"] for row in rows)
    parts.append(f"median of {waiting:.2f} s until an answer")
    labelled = [row for row in rows if row["label"] is not None]
    if labelled:
        right = sum(row["label"] == row["predicted"] for row in labelled)
        parts.append(
            f"accuracy {right / len(labelled):.2%} ({right} of {len(labelled)})"
        )
    return ", ".join(parts)
