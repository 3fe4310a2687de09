"""Serves a circuit in a process of its own, for the tests: see `services.Server`."""

import asyncio
import json
import os
import pickle
import sys
from pathlib import Path

from fedjax_private.datasets.examples import Normalization
from fedjax_private.inference import plan
from fedjax_private.inference.serving.access import Quota, read_token
from fedjax_private.inference.serving.offer import RUN_BYTES, Offer
from fedjax_private.inference.serving.service import Service
from fedjax_private.inference.serving.sessions import Limits
from fedjax_private.inference.serving.worker import Task


def main(folder: Path) -> None:
    options = json.loads((folder / "options.json").read_text())
    circuit = pickle.loads((folder / "circuit.pickle").read_bytes())
    planned = plan(circuit, packing=options["packing"])
    token = read_token(folder / "token")
    memory = options["limits"].pop("memory", 8 << 30)
    limits = Limits(**options["limits"])
    service = Service(
        Offer(
            os.urandom(RUN_BYTES),
            "tiny",
            "mnist_5k",
            Normalization(),
            (),
            options["split"],
            planned.public,
        ),
        Task(circuit, planned, options["score_noise"], memory),
        token,
        Quota(token, options["queries"], folder / "queries"),
        limits,
        lambda line: print(line, flush=True),
    )
    ready = service.run("127.0.0.1", 0, lambda port: print(f"port {port}", flush=True))
    asyncio.run(ready)
    assert "jax" not in sys.modules


if __name__ == "__main__":
    main(Path(sys.argv[1]))
