"""Predictions on encrypted images: a server, and clients that ask it.

    python -m experiments.infer serve --model=runs/my_run
    python -m experiments.infer query --image=digit.png --out=seven
    python -m experiments.infer query --dataset=mnist_5k --count=10

`serve` takes the directory of a training run of a model that has an encrypted form,
such as polynomial_cnn. The first `serve` makes an access token, in a file that only its
owner can read; clients need a copy. By default it accepts connections from this machine
only: for others, put a server that terminates TLS in front, and give its https address
to `query`.

Split serving (Disabato et al., IJCNN 2020): `serve --split=LAYER` returns that layer's
outputs, encrypted; `fit_head` asks for those of labelled training images, and fits the
client's own last layer to them; `query --head=FILE` applies that layer.

"Formal guarantees" in `fedjax_private.inference.serving.service` says what clients and
server learn, and what many queries reveal of the model (Tramer et al., USENIX Security
2016).
"""

import asyncio
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import command
from experiments.query import fit_head, query, token_in
from experiments.settings import flags
from fedjax_private.choices import (
    Settings,
    at_least,
    between,
    not_negative,
    one_of,
    positive,
    setting,
)
from fedjax_private.encryption import OpenFHEUnavailable
from fedjax_private.inference.serving.access import (
    Quota,
    default_token_file,
    make_token,
)

USAGE = """Predictions on encrypted images.

usage: python -m experiments.infer serve --model=DIR [flags]
       python -m experiments.infer query --image=FILE.png | --dataset=NAME [flags]
       python -m experiments.infer fit_head --dataset=NAME --head=FILE.npz [flags]

Each of them takes --help."""
SERVE_USAGE = """Serves a trained model to clients who encrypt their images.

usage: python -m experiments.infer serve --model=DIR [flags]"""

PACKINGS = ("auto", "batch", "single")


@dataclasses.dataclass(frozen=True)
class ModelConfig(Settings):
    """What to serve."""

    model: str | None = setting(
        None,
        "directory of a training run",
        lambda path: (
            None
            if Path(path).is_dir()
            else "must be a directory that `python -m experiments.train` wrote"
        ),
    )
    checkpoint: str | None = setting(
        None, "name of the run, if the directory holds several"
    )
    split: str | None = setting(None, "return this layer's outputs, not the scores")
    packing: str = setting(
        "auto",
        "auto, batch (an image in each slot) or single (one image a request)",
        one_of(*PACKINGS),
    )
    images: int = setting(
        1,
        "images that a client usually asks about at a time; packing auto",
        at_least(1),
    )
    precision: float = setting(1e-2, "largest acceptable error of a score", positive)
    flooding_bits: int | None = setting(
        None,
        "how well noise on the answers hides the weights (default: enough for a "
        "statistical distance of 0.1 over all answers together)",
        between(0, 128),
    )
    score_noise: float = setting(
        0.0,
        "standard deviation of noise on each score, against extraction",
        not_negative,
    )


@dataclasses.dataclass(frozen=True)
class ServiceConfig(Settings):
    """Access and limits."""

    host: str = setting("127.0.0.1", "address to listen at; others need TLS in front")
    port: int = setting(8443, "to listen at; 0 takes a free one", between(0, 65535))
    token_file: str | None = setting(
        None,
        f"file of the access token, made if missing (default {default_token_file()})",
    )
    queries: int = setting(
        100_000,
        "images that holders of the token may ask about in all sessions; sizes the "
        "noise on the answers",
        at_least(1),
    )
    sessions: int = setting(16, "most sessions at a time", at_least(1))
    idle_seconds: float = setting(600.0, "after which an idle session ends", positive)
    work_seconds: float = setting(
        120.0, "most seconds of work on keys or on a request", positive
    )
    memory_gb: float = setting(8.0, "memory of a session's process", positive)


def serve(argv: Sequence[str]) -> int:
    """Serves until it is interrupted; returns the exit status."""
    parsed = flags.parse(SERVE_USAGE, (ModelConfig, ServiceConfig), argv)
    what, how = parsed[ModelConfig], parsed[ServiceConfig]
    if what.model is None:
        flags.fail("--model is missing: name the directory of a training run.")
    token = parsed.checked(lambda: token_in(how.token_file, make_token))
    counted = Path(f"{how.token_file or default_token_file()}.queries")
    quota = parsed.checked(lambda: Quota(token, how.queries, counted))
    service, summary = _service(parsed, token, quota)

    def ready(port: int) -> None:
        host = f"[{how.host}]" if ":" in how.host else how.host
        _say(f"serving {what.model} at http://{host}:{port} ({summary})")

    try:
        asyncio.run(service.run(how.host, how.port, ready))
    except OSError as error:
        flags.fail(
            f"cannot listen at {how.host}:{how.port} ({error.strerror}): give another "
            "--port or --host."
        )
    _say("stopped.")
    return 0


def _service(parsed: flags.Parsed, token: bytes, quota: Quota) -> tuple[Any, str]:
    """The service, and its sizes in words."""
    from experiments.serving import load_served
    from fedjax_private.inference import plan
    from fedjax_private.inference.serving.offer import RUN_BYTES, Offer
    from fedjax_private.inference.serving.service import Service
    from fedjax_private.inference.serving.sessions import Limits
    from fedjax_private.inference.serving.worker import Task

    what, how = parsed[ModelConfig], parsed[ServiceConfig]

    def compiled() -> Any:
        served = load_served(Path(what.model or ""), what.checkpoint)
        circuit = served.circuit
        if what.split is not None:
            circuit, _ = circuit.split(what.split)
        planned = plan(
            circuit,
            packing=what.packing,
            images=what.images,
            precision=what.precision,
            flooding_bits=what.flooding_bits,
            queries=how.queries,
        )
        return served.run, circuit, planned

    run, circuit, planned = parsed.checked(compiled)
    public = planned.public
    classes = run.class_names if what.split is None else ()
    offer = Offer(
        os.urandom(RUN_BYTES),
        run.name,
        run.dataset,
        run.normalization,
        classes,
        what.split,
        public,
    )
    memory = int(how.memory_gb * 2**30)
    limits = Limits(
        how.sessions, idle_seconds=how.idle_seconds, work_seconds=how.work_seconds
    )
    task = Task(circuit, planned, what.score_noise, memory)
    summary = (
        f"up to {public.images_per_request} at a time; requests of "
        f"{public.request_bytes / 1e6:.2f} MB, evaluation keys of "
        f"{public.evaluation_keys_bytes / 1e6:.1f} MB, {quota.left} queries left"
    )
    return Service(offer, task, token, quota, limits, _say), summary


def _say(line: str) -> None:
    print(line, flush=True)


COMMANDS = {"serve": serve, "query": query, "fit_head": fit_head}


def infer(argv: Sequence[str]) -> int:
    """The command; returns its exit status."""
    if len(argv) < 2 or argv[1] in ("--help", "-h", "-help", "--helpfull"):
        print(flags.as_called(USAGE, argv[0]))
        return 0 if len(argv) > 1 else flags.BAD_INPUT
    if argv[1] not in COMMANDS:
        flags.fail(f"unknown {argv[1]!r}: infer takes {', '.join(COMMANDS)}.")
    try:
        return COMMANDS[argv[1]]([f"{argv[0]} {argv[1]}", *argv[2:]])
    except OpenFHEUnavailable as error:
        flags.fail(str(error))


if __name__ == "__main__":
    command.main(infer)
